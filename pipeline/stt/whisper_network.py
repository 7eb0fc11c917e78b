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

LETTERS_PER_SECOND = 25
"""Nobody speaks faster, marks and spaces included; what a text says beyond that goes round in circles."""

ROUNDS, LONGEST_ROUND = 5, 12
"""So often no text says the same letters in a row, so many of them at most."""

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
    spelled: bytes
    """In UTF-8."""

    def longer(self, likelihood: float, token: int, spelled: bytes) -> _Text:
        return _Text(likelihood, [*self.tokens, token], self.spelled + spelled)


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

    def decode(self, mel: Floats, language: int, seconds: float, draft: Sequence[int] = ()) -> Decoding:
        """What is said in so many seconds of a spectrogram, shape (BANDS, n), in a language, which has a token, too.

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
        begun, ended = self._believed(draft, likelihoods, tokens)
        place = len(begun.tokens)
        speaker.forget(len(prompt) + place)
        most = round(seconds * LETTERS_PER_SECOND)
        following = likelihoods[place : place + 1], tokens[place : place + 1]
        text = self._search(speaker, begun, ended, following, most)
        if draft and len(text.tokens) >= MOST_TOKENS:
            return self.decode(mel, language, seconds)  # it led astray
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

    def _believed(self, draft: Sequence[int], likelihoods: Floats, tokens: Integers) -> tuple[_Text, _Text | None]:
        """The beginning of a draft, of which each token is likely enough to follow those before it. And the likeliest
        text that ends somewhere in it: one that goes round in circles is sure of each step.
        """
        begun, ended = _Text(0.0, [], b""), None
        for number, token in enumerate(draft):
            known = dict(zip(tokens[number].tolist(), likelihoods[number].tolist(), strict=True))
            whole = begun.likelihood + known.get(self._special.end, -math.inf)
            if whole > (ended.likelihood if ended else -math.inf):
                ended = begun._replace(likelihood=whole)
            if known.get(token, -math.inf) < max(known.values()) + DOUBT:
                break
            begun = begun.longer(begun.likelihood + known[token], token, self._spelled[token])
        return begun, ended

    def _search(
        self, speaker: _Speaker, begun: _Text, ended: _Text | None, following: tuple[Floats, Integers], most: int
    ) -> _Text:
        """The likeliest text: ``ended`` or one with this beginning, of so many letters at most. ``following``: log
        probabilities and tokens of what may stand behind the beginning, shape (1, CANDIDATES).

        All tokens of a text count, not their mean: else the longer one wins, which says the same once more.
        """
        texts, (likelihoods, tokens) = [begun], following
        while True:
            sums = likelihoods + np.array([[text.likelihood] for text in texts], np.float32)
            going: list[_Text] = []
            origins: list[int] = []
            for which in np.argsort(-sums, axis=None):
                origin, candidate = divmod(int(which), sums.shape[1])
                likelihood, token, text = float(sums[origin, candidate]), int(tokens[origin, candidate]), texts[origin]
                if token == self._special.end:
                    if ended is None or likelihood > ended.likelihood:
                        ended = text._replace(likelihood=likelihood)
                elif not _goes_round(longer := text.longer(likelihood, token, self._spelled[token]), most):
                    going.append(longer)
                    origins.append(origin)
                if len(going) == BEAM:
                    break
            if ended and (not going or ended.likelihood >= going[0].likelihood):
                return ended
            if not going or len(going[0].tokens) >= MOST_TOKENS:
                return going[0] if going else begun
            texts = going
            speaker.choose(origins)
            likelihoods, tokens = speaker.say(np.array([text.tokens[-1:] for text in texts]))
            likelihoods, tokens = likelihoods[:, 0], tokens[:, 0]


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


def _goes_round(text: _Text, most: int) -> bool:
    """Whether it says the same in a row too often, or more than so many letters."""
    letters = text.spelled.decode(errors="ignore")
    sizes = range(2, min(len(letters) // ROUNDS, LONGEST_ROUND) + 1)  # a number may have many noughts
    return len(letters) > most or any(letters.endswith(letters[-size:] * ROUNDS) for size in sizes)


def _without(forbidden: Collection[int], likelihoods: Floats, tokens: Integers) -> Floats:
    """The log probabilities of one place if these tokens could not be there."""
    there = np.isin(tokens, list(forbidden))
    rest = math.log(max(1 - float(np.exp(likelihoods[there]).sum()), 1e-9))
    return np.where(there, -np.inf, likelihoods - rest).astype(np.float32)
