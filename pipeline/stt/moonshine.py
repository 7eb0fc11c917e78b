"""Speech recognition with Moonshine tiny, an English model that runs on one core (package ``moonshine-voice``, MIT)."""

from __future__ import annotations

import ctypes
import os
from importlib.util import find_spec

import numpy as np

from config.identity import base_language
from media.audio import INPUT_RATE
from pipeline.engine import EngineError
from pipeline.stt.redecoding import RedecodingStream
from pipeline.worker import Worker


class Moonshine:
    """A ``SpeechToText``. The streams of all calls share one worker process, which holds no state of theirs."""

    name = "moonshine"
    models = ("tiny",)

    def __init__(self) -> None:
        # One decoding at a time: the model is not thread-safe.
        self._worker = Worker("pipeline.stt.moonshine:Recognizer", name=self.name, queue=256)

    @property
    def available(self) -> bool:
        return find_spec("moonshine_voice") is not None

    async def start(self) -> None:
        await self._worker.start()

    def stream(self, language: str) -> RedecodingStream:
        """Raises ``EngineError`` for any language but English."""
        if base_language(language) != "en":
            raise EngineError(f"{self.name} understands English only, not {language!r}")
        return RedecodingStream(self._transcribe, language)

    async def aclose(self) -> None:
        await self._worker.aclose()

    async def _transcribe(self, pcm: bytes, priority: int) -> str:
        text: str = await self._worker.call("transcribe", pcm, priority=priority)
        return text


class Recognizer:
    """The model. Lives in the worker process, called by one thread."""

    def __init__(self) -> None:
        # By itself it takes two threads that spin while they wait for each other: hardly faster on two free cores, and
        # up to eight times slower when one of them is taken.
        os.environ["MOONSHINE_ORT_SINGLE_THREAD"] = "1"
        from moonshine_voice.errors import MoonshineError, check_error
        from moonshine_voice.moonshine_api import ModelArch, TranscriptC
        from moonshine_voice.transcriber import Transcriber
        from moonshine_voice.utils import get_model_path

        self._check, self._transcript = check_error, TranscriptC
        # Its own segmentation costs words; ours is the call's turn taking.
        options = {"vad_threshold": "0", "return_audio_data": "false"}
        try:
            self._model = Transcriber(str(get_model_path("tiny-en")), ModelArch.TINY, options=options)
        except MoonshineError:
            text = "its model is missing; the package moonshine-voice holds one in version 0.1.0 only"
            raise EngineError(text) from None
        self.transcribe(bytes(2 * INPUT_RATE))  # the first run is slow

    def transcribe(self, pcm: bytes) -> str:
        """Text of mono int16 audio at ``INPUT_RATE``."""
        samples = np.frombuffer(pcm, "<i2").astype(np.float32) / 32768
        result = ctypes.POINTER(self._transcript)()
        # What Transcriber.transcribe_without_streaming does, without a Python float for each sample.
        pointer = samples.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        call = self._model._lib.moonshine_transcribe_without_streaming
        self._check(call(self._model._handle, pointer, len(samples), INPUT_RATE, 0, ctypes.byref(result)))
        if not result:
            return ""
        lines = (result.contents.lines[i].text for i in range(result.contents.line_count))
        text = " ".join(ctypes.string_at(line).decode(errors="ignore").strip() for line in lines if line)
        return text.lstrip("\"' ")  # it likes to open a quotation
