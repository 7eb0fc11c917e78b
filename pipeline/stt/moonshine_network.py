"""The networks of Moonshine: sound to tokens, and how probable the tokens are. Source: https://arxiv.org/abs/2410.15608

The encoder hears the whole sound, the decoder says one token after another. Most of its time is the reading of its
weights, which a pass over many tokens does once. So a draft, what was understood of the beginning of the same sound, is
checked in one pass, and only what is new is found token by token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from media.audio import INPUT_RATE
from pipeline.onnx import open_session

ENCODER, DECODER, VOCABULARY = FILES = ("encoder_model.ort", "decoder_model_merged.ort", "tokenizer.bin")

BEGIN, END = 1, 2
"""Tokens that begin and end every text."""

FIRST_SPELLED = 3
"""Tokens before this one spell nothing."""

TOKENS_PER_SECOND = 6.5
"""Nobody speaks faster; what it says beyond that goes round in circles."""

SHORTEST = INPUT_RATE // 10
"""Samples; the encoder makes nothing of less than 56 ms."""

HEADS, WIDTH = 8, 36
"""Of the decoder's attention."""

Floats = NDArray[np.float32]


class Decoding(NamedTuple):
    tokens: list[int]
    """Without those that begin and end the text."""
    probability: float
    """The geometric mean of the tokens' probabilities, that of the end among them, 0 to 1."""


class Encoder:
    """Not thread-safe. Raises ``EngineError`` when a file or the library is missing."""

    def __init__(self, folder: Path) -> None:
        """``folder`` holds ``FILES``."""
        self._session = open_session(folder / ENCODER)

    def states(self, samples: Floats) -> Floats:
        """One for each 24 ms, shape ``(frames, 288)``, of mono samples at ``INPUT_RATE``, -1 to 1, shape ``(n,)``.

        Some 13 ms for each second. None of less than ``SHORTEST``.
        """
        if len(samples) < SHORTEST:
            return np.zeros((0, HEADS * WIDTH), np.float32)
        heard = np.ones((1, len(samples)), np.int64)  # all of it counts
        [[states]] = self._session.run(None, {"input_values": samples[np.newaxis], "attention_mask": heard})
        found: Floats = states
        return found


class Network:
    """Not thread-safe. Raises ``EngineError`` when a file or the library is missing."""

    def __init__(self, folder: Path) -> None:
        """``folder`` holds ``FILES``."""
        self._encoder, self._decoder = Encoder(folder), open_session(folder / DECODER)

    def decode(self, samples: Floats, draft: Sequence[int] = ()) -> Decoding:
        """Mono samples at ``INPUT_RATE``, -1 to 1, shape ``(n,)``, as the likeliest token at each place.

        ``draft``: tokens that may begin the text. A good one saves time, a bad one costs little. Either decides only
        between tokens that are as good as equal: the weights are of 8 bits, and a pass over many tokens rounds anew.
        """
        states = self._encoder.states(samples)
        if not len(states):
            return Decoding([], 1.0)
        most = math.ceil(len(samples) / INPUT_RATE * TOKENS_PER_SECOND)
        speaker = _Speaker(
            self._decoder,
            {
                "encoder_hidden_states": states[np.newaxis],
                "encoder_attention_mask": np.ones((1, len(samples)), np.int64),
            },
        )
        guess = [BEGIN, *draft[: most - 1]]
        logits = speaker.begin(guess)
        tokens = logits.argmax(-1).tolist()
        right = _agreement(guess[1:], tokens)
        speaker.forget(right + 1)
        tokens, logits = tokens[: right + 1], logits[: right + 1]
        likelihoods = _log_likelihoods(logits)
        while tokens[-1] != END and len(tokens) < most:
            logits = speaker.go_on(tokens[-1])
            tokens.append(int(logits.argmax()))
            likelihoods += _log_likelihoods(logits)
        return Decoding([token for token in tokens if token != END], math.exp(sum(likelihoods) / len(likelihoods)))


class _Speaker:
    """The decoder at one text, with what it remembers of the tokens so far."""

    def __init__(self, session: Any, sound: dict[str, Any]) -> None:
        """``sound``: the inputs that stay the same."""
        self._session = session
        self._inputs = dict(sound)
        memory = [each.name for each in session.get_inputs() if each.name.startswith("past_key_values")]
        self._of_sound = [name for name in memory if ".encoder." in name]
        self._of_text = [name for name in memory if ".decoder." in name]

    def begin(self, tokens: list[int]) -> Floats:
        """Say these. Returns what may follow each of them, shape ``(len(tokens), vocabulary)``."""
        empty = np.zeros((1, HEADS, 0, WIDTH), np.float32)
        self._inputs |= dict.fromkeys(self._of_sound + self._of_text, empty)
        return self._run(tokens, self._of_sound + self._of_text, onward=False)

    def go_on(self, token: int) -> Floats:
        """Say one more. Returns what may follow, shape ``(1, vocabulary)``."""
        return self._run([token], self._of_text, onward=True)  # of the sound nothing new is remembered

    def forget(self, after: int) -> None:
        """Unsay all but so many tokens."""
        for name in self._of_text:
            self._inputs[name] = np.ascontiguousarray(self._inputs[name][:, :, :after])

    def _run(self, tokens: list[int], memory: list[str], *, onward: bool) -> Floats:
        wanted = ["logits", *(name.replace("past_key_values", "present") for name in memory)]
        asked = {"input_ids": np.array([tokens], np.int64), "use_cache_branch": np.array([onward])}
        logits, *remembered = self._session.run(wanted, self._inputs | asked)
        self._inputs |= dict(zip(memory, remembered, strict=True))
        found: Floats = logits[0]
        return found


def _agreement(draft: list[int], found: list[int]) -> int:
    """How many tokens of the draft are what the network says."""
    for number, (one, other) in enumerate(zip(draft, found, strict=False)):
        if one != other:
            return number
    return len(draft)


def _log_likelihoods(logits: Floats) -> list[float]:
    """Log probability of the likeliest token at each place."""
    below = logits - logits.max(-1, keepdims=True)
    likelihoods: list[float] = (-np.log(np.exp(below).sum(-1))).tolist()
    return likelihoods


class Vocabulary:
    """What the tokens spell."""

    def __init__(self, path: Path) -> None:
        """``path`` of the file ``VOCABULARY``: of each token its length in one byte, and its bytes."""
        content, at = path.read_bytes(), 0
        self._spelled: list[bytes] = []
        while at < len(content):
            end = at + 1 + content[at]
            self._spelled.append(content[at + 1 : end])
            at = end

    def text(self, tokens: Sequence[int]) -> str:
        spelled = (self._spelled[token] for token in tokens if token >= FIRST_SPELLED)
        # "<<ST_42>>" and the like are no words. A low line is a space.
        content = b"".join(piece for piece in spelled if not piece.startswith(b"<<"))
        return content.decode(errors="ignore").replace("\u2581", " ").strip()
