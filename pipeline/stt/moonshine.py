"""Speech recognition with Moonshine tiny, an English model that runs on one core (of ``moonshine-voice``, MIT)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from config.identity import base_language
from media.audio import INPUT_RATE, Pcm
from pipeline.engine import EngineError
from pipeline.stt.moonshine_network import FILES, VOCABULARY, Encoder, Floats, Network, Vocabulary
from pipeline.stt.redecoding import Heard, RedecodingStream
from pipeline.worker import Worker

PACKAGE, FOLDER = "moonshine_voice", Path("assets", "tiny-en")
"""Where the model is. The library beside it is not used, see docs/decisions/0007."""


class Moonshine:
    """A ``SpeechToText``. The streams of all calls share one worker process, which holds no state of theirs."""

    name = "moonshine"
    models = ("tiny",)

    def __init__(self) -> None:
        # One decoding at a time: a second core would only be taken from others.
        self._worker = Worker("pipeline.stt.moonshine:Recognizer", name=self.name, queue=256)

    @property
    def available(self) -> bool:
        return find_spec(PACKAGE) is not None

    async def start(self) -> None:
        await self._worker.start()

    def stream(self, language: str) -> RedecodingStream:
        """Raises ``EngineError`` for any language but English."""
        if base_language(language) != "en":
            raise EngineError(f"{self.name} understands English only, not {language!r}")
        return RedecodingStream(self._transcribe, language)

    async def aclose(self) -> None:
        await self._worker.aclose()

    async def _transcribe(self, pcm: bytes, priority: int, draft: Sequence[int]) -> Heard:
        return Heard(*await self._worker.call("transcribe", pcm, draft, priority=priority))


class Recognizer:
    """The model. Lives in the worker process, called by one thread."""

    def __init__(self) -> None:
        folder = _folder()
        self._network = Network(folder)
        self._vocabulary = Vocabulary(folder / VOCABULARY)
        self.transcribe(bytes(2 * INPUT_RATE))  # the first run is slow

    def transcribe(self, pcm: bytes, draft: Sequence[int] = ()) -> Heard:
        """What mono int16 audio at ``INPUT_RATE`` says. ``draft``: the tokens of what its beginning said."""
        tokens, probability = self._network.decode(to_samples(np.frombuffer(pcm, "<i2")), draft)
        text = self._vocabulary.text(tokens).lstrip("\"' ")  # it likes to open a quotation
        return Heard(text, round(probability, 3), tokens) if text else Heard("")


def to_samples(pcm: Pcm) -> Floats:
    """int16 as the network wants it, -1 to 1."""
    return pcm.astype(np.float32) * np.float32(1 / 32768)


def encoder() -> Encoder:
    """That of the model. Raises ``EngineError``."""
    return Encoder(_folder())


def _folder() -> Path:
    spec = find_spec(PACKAGE)
    for place in (spec and spec.submodule_search_locations) or ():
        if all((Path(place) / FOLDER / name).exists() for name in FILES):
            return Path(place) / FOLDER
    raise EngineError("its model is missing; the package moonshine-voice holds one in version 0.1.0 only")
