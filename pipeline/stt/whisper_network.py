"""The networks of Whisper: a spectrogram to tokens, and how probable they are.

The encoder hears the whole sound, the decoder says one token after another. Most of its time is the reading of its
weights, which a pass over many tokens does once. So a draft, what was understood of the beginning of the same sound, is
checked in one pass, and only what is new is found token by token: by a beam search, for the likeliest token is often
not part of the likeliest text.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.onnx import open_session
from pipeline.stt.whisper_weights import HEADS, WIDTH, Floats, Weights, layers

BEAM = 5
"""Texts that are followed at a time."""

MOST_TOKENS = 128
"""Of one text: 12 s of fast speech have some 70 in Spanish."""

DOUBT = math.log(0.5)
"""A token of a draft that is so much less likely than the likeliest one is not believed."""

LOOP = 12
"""Letters that no text says twice in a row: it goes round in circles."""

NEVER = np.float32(-1e9)
"""Added to the likeness of what must not be seen."""

Integers = NDArray[np.int64]


class Special(NamedTuple):
    """Tokens that are no text."""

    begin: int
    transcribe: int
    no_times: int
    no_speech: int
    end: int
    forbidden: list[int]
    """Never part of a text."""
    no_beginning: list[int]
    """Never the first of a text."""


class Decoding(NamedTuple):
    tokens: list[int]
    """Of the text alone."""
    likelihood: float
    """The mean log probability of the tokens, that of the end among them."""
    no_speech: float
    """The probability that nobody speaks, 0 to 1."""


class _Text(NamedTuple):
    likelihood: float
    """The sum of the tokens' log probabilities."""
    tokens: list[int]


class Network:
    """Not thread-safe. Raises ``EngineError`` when the library is missing."""

    def __init__(self, weights: Weights, special: Special, spelled: Sequence[bytes]) -> None:
        """``spelled``: what each token stands for, in UTF-8."""
        from pipeline.stt import whisper_graph  # only the worker process needs what builds graphs

        self._special, self._spelled = special, spelled
        self._embeddings = weights["decoder/embeddings/weight"].copy()  # the file may go
        self._places = weights["decoder/position_encodings/encodings"].astype(np.float32)
        self._encoder = open_session(whisper_graph.encoder(weights))
        self._decoder = open_session(whisper_graph.decoder(weights, special.forbidden))
        self._layers = layers(weights, "decoder")

    def decode(self, mel: Floats, language: int, draft: Sequence[int] = ()) -> Decoding:
        """What is said in a spectrogram, shape (BANDS, n), in a language, which has a token, too.

        ``draft``: tokens that may begin the text. A good one saves time, a bad one costs little.
        """
        special = self._special
        prompt = [special.begin, language, special.transcribe, special.no_times]
        speaker = self._speaker(mel)
        draft = draft[: MOST_TOKENS - 1]
        likelihoods, tokens = speaker.say(np.array([prompt + list(draft)], np.int64))
        no_speech = float(speaker.first[special.no_speech])
        likelihoods, tokens = likelihoods[0, len(prompt) - 1 :], tokens[0, len(prompt) - 1 :]
        likelihoods[0] = _without(special.no_beginning, likelihoods[0], tokens[0])
        begun = _believed(draft, likelihoods, tokens)
        place = len(begun.tokens)
        speaker.forget(len(prompt) + place)
        text = self._search(speaker, begun, likelihoods[place : place + 1], tokens[place : place + 1])
        return Decoding(text.tokens, text.likelihood / (len(text.tokens) + 1), no_speech)

    def languages(self, mel: Floats) -> Floats:
        """The probability of each token right behind the beginning, where languages stand: shape (vocabulary,)."""
        speaker = self._speaker(mel)
        speaker.say(np.array([[self._special.begin]]))
        return speaker.first

    def _speaker(self, mel: Floats) -> _Speaker:
        names = [each.name for each in self._encoder.get_outputs()]
        heard = dict(zip(names, self._encoder.run(names, {"mel": mel[np.newaxis]}), strict=True))
        return _Speaker(self._decoder, heard, self._embeddings, self._places, self._layers)

    def _search(self, speaker: _Speaker, begun: _Text, likelihoods: Floats, tokens: Integers) -> _Text:
        """The likeliest text with this beginning; what may follow has the shape (1, CANDIDATES)."""
        texts, done = [begun], list[_Text]()
        while True:
            sums = likelihoods + np.array([[text.likelihood] for text in texts], np.float32)
            going: list[_Text] = []
            origins: list[int] = []
            for rank, which in enumerate(np.argsort(-sums, axis=None)):
                origin, candidate = divmod(int(which), sums.shape[1])
                token, text = int(tokens[origin, candidate]), texts[origin]
                longer = _Text(float(sums[origin, candidate]), [*text.tokens, token])
                if token == self._special.end:
                    if rank < BEAM:
                        done.append(_Text(longer.likelihood, text.tokens))
                elif not self._goes_round(longer.tokens):
                    going.append(longer)
                    origins.append(origin)
                    if len(going) == BEAM:
                        break
            best = max(done, key=_mean, default=None)
            if not going or len(going[0].tokens) >= MOST_TOKENS:
                return best or max(going, key=_mean, default=begun)
            if best and (len(done) >= BEAM or _mean(best) >= _mean(going[0])):
                return best
            texts = going
            speaker.choose(origins)
            likelihoods, tokens = speaker.say(np.array([text.tokens[-1:] for text in texts]))
            likelihoods, tokens = likelihoods[:, 0], tokens[:, 0]

    def _goes_round(self, tokens: list[int]) -> bool:
        """Whether it ends in twice the same, whatever stands between."""
        text = b"".join(self._spelled[token] for token in tokens).decode(errors="ignore").casefold()
        letters = "".join(filter(str.isalnum, text))
        longest = len(letters) // 2
        return any(letters[-size:] == letters[-2 * size : -size] for size in range(LOOP, longest + 1))


class _Speaker:
    """The decoder at several texts about one sound, with what it remembers of the tokens so far."""

    def __init__(self, session: Any, heard: dict[str, Floats], embeddings: Floats, places: Floats, layers: int) -> None:
        """``heard``: what the encoder found."""
        self._session, self._heard, self._embeddings, self._places = session, heard, embeddings, places
        names = [f"{kind}.{number}" for kind in ("keys", "values") for number in range(layers)]
        self._memory = {name: np.zeros((1, HEADS, 0, WIDTH), np.float32) for name in names}
        self.first: Floats
        """The probability of each token behind the first one that was said."""

    def say(self, tokens: Integers) -> tuple[Floats, Integers]:
        """Go on in each text with these, shape (texts, new). Returns what may follow each of them, the likeliest first:
        log probabilities and tokens, shape (texts, new, CANDIDATES).
        """
        past, new = next(iter(self._memory.values())).shape[2], tokens.shape[1]
        mask = np.zeros((new, past + new), np.float32)
        mask[:, past:] = np.triu(np.full((new, new), NEVER), 1)
        states = self._embeddings[tokens].astype(np.float32) + self._places[past : past + new]
        remembered = {f"past_{name}": memory for name, memory in self._memory.items()}
        wanted = ["likelihoods", "tokens", *([] if past else ["first"]), *self._memory]
        results = self._session.run(wanted, {"x": states, "mask": mask} | remembered | self._heard)
        found = dict(zip(wanted, results, strict=True))
        if not past:
            self.first = found["first"][0]
        self._memory = {name: found[name] for name in self._memory}
        return found["likelihoods"], found["tokens"]

    def choose(self, texts: list[int]) -> None:
        """Go on with these texts, in this order; one may be there twice."""
        self._memory = {name: memory[texts] for name, memory in self._memory.items()}

    def forget(self, after: int) -> None:
        """Unsay all but so many tokens."""
        self._memory = {name: np.ascontiguousarray(memory[:, :, :after]) for name, memory in self._memory.items()}


def _believed(draft: Sequence[int], likelihoods: Floats, tokens: Integers) -> _Text:
    """The beginning of a draft, of which each token is likely enough to follow those before it."""
    total = 0.0
    for number, token in enumerate(draft):
        known = dict(zip(tokens[number].tolist(), likelihoods[number].tolist(), strict=True))
        if known.get(token, -math.inf) < max(known.values()) + DOUBT:
            return _Text(total, list(draft[:number]))
        total += known[token]
    return _Text(total, list(draft))


def _without(forbidden: Collection[int], likelihoods: Floats, tokens: Integers) -> Floats:
    """The log probabilities of one place if these tokens could not be there."""
    there = np.isin(tokens, list(forbidden))
    rest = math.log(max(1 - float(np.exp(likelihoods[there]).sum()), 1e-9))
    return np.where(there, -np.inf, likelihoods - rest).astype(np.float32)


def _mean(text: _Text) -> float:
    return text.likelihood / (len(text.tokens) + 1)
