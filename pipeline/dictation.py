"""One voice written down as it speaks: no turns, no answers, only its words."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from typing import Protocol

import numpy as np

from media.audio import INPUT_FRAME, Pcm
from media.vad import WebRtcVad
from pipeline.engine import EngineError
from pipeline.segmenting import BREATH, PRE_ROLL, Endpointer, Mark, seconds
from pipeline.stt import SpeechToText, Transcript
from pipeline.tts import WordTime, later

logger = logging.getLogger(__name__)

MOST_OWED = 1
"""Utterances that the recogniser may still be working on while another is heard."""


class Reader(Protocol):
    """Whom the words are for. No method may block or raise."""

    def on_partial(self, text: str) -> None:
        """What is being said so far; empty: it was nothing."""

    def on_final(self, text: str, start: float, end: float, words: tuple[WordTime, ...]) -> None:
        """What was said, and when: seconds of audio. ``words`` is empty when the recogniser does not tell."""

    def on_failed(self, error: EngineError) -> None:
        """Nothing more will come."""


class Dictation:
    """Cuts what it hears into utterances and has each understood. Belongs to one event loop."""

    def __init__(self, engine: SpeechToText, language: str, reader: Reader) -> None:
        """Raises ``EngineError``."""
        self._reader = reader
        self._stream = engine.stream(language)
        self._vad = WebRtcVad()
        self._endpointer = Endpointer()
        self._rest: Pcm = np.zeros(0, np.int16)
        self._before: deque[Pcm] = deque(maxlen=PRE_ROLL)
        self._samples = 0  # heard
        self._frames = 0  # judged
        self._start = 0  # frame at which the utterance begins
        self._told = self._told_before = 0  # samples that the recogniser has heard, and before the utterance
        self._owed: deque[tuple[float, float, float]] = deque()
        """Of utterances whose final has not come: start, end, and how much earlier the recogniser heard them."""
        self._partial = ""
        self._moved = asyncio.Event()  # a final has come, or nothing more will
        self._over = False
        self._task = asyncio.create_task(self._read(), name="dictation")

    @property
    def heard(self) -> float:
        """Seconds of audio."""
        return seconds(self._samples)

    def write(self, pcm: Pcm) -> None:
        """Hear more: mono at ``INPUT_RATE``, any length."""
        self._samples += len(pcm)
        pcm = np.concatenate([self._rest, pcm])
        whole = len(pcm) // INPUT_FRAME * INPUT_FRAME
        self._rest = pcm[whole:]
        for frame in pcm[:whole].reshape(-1, INPUT_FRAME):
            self._hear(frame)

    def finalize(self) -> None:
        """What has been said so far is all of it: its final will come."""
        if self._endpointer.speaking:
            self._write(self._rest)
            self._rest = np.zeros(0, np.int16)
            self._endpointer.reset()
            self._flush()

    async def room(self) -> None:
        """Wait until the recogniser keeps up: nothing is lost of a voice that comes faster than it was spoken."""
        await self._wait(MOST_OWED)

    async def finish(self, patience: float) -> None:
        """End with what was said so far. Within ``patience`` seconds its words have been told, at worst as they were
        understood half-way.
        """
        self.finalize()
        try:
            async with asyncio.timeout(patience):
                await self._wait(0)
        except TimeoutError:
            logger.info("a dictation ends before all of it was understood")
            if self._partial:
                self._tell(self._partial, ())

    async def aclose(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._stream.aclose()

    def _hear(self, frame: Pcm) -> None:
        self._frames += 1
        mark = self._endpointer.hear(self._vad.is_speech(frame))
        if mark is Mark.BEGIN:
            self._start, self._told_before = self._frames - 1 - len(self._before), self._told
            while self._before:
                self._write(self._before.popleft())
        if mark is Mark.END or self._endpointer.speaking:
            self._write(frame)
        else:
            self._before.append(frame)
        if mark is Mark.PAUSE:
            self._stream.pause()
        elif mark is Mark.END:
            self._flush()

    def _write(self, pcm: Pcm) -> None:
        self._told += len(pcm)
        self._stream.write(pcm)

    def _flush(self) -> None:
        end = min(self._frames - self._endpointer.quiet + BREATH // 2, self._frames)
        start = self._start * INPUT_FRAME
        self._owed.append((seconds(start), seconds(end * INPUT_FRAME), seconds(start - self._told_before)))
        self._stream.flush()

    async def _wait(self, owed: int) -> None:
        while len(self._owed) > owed and not self._over:
            self._moved.clear()
            await self._moved.wait()

    async def _read(self) -> None:
        try:
            results: AsyncIterator[object] = aiter(self._stream)
            async for result in results:
                if isinstance(result, Transcript):
                    self._take(result)
            error = EngineError("the recogniser ended")
        except EngineError as failure:
            error = failure
        except Exception:
            logger.exception("A speech recogniser broke")
            error = EngineError("The speech recogniser broke")
        self._over = True
        self._moved.set()
        self._reader.on_failed(error)

    def _take(self, result: Transcript) -> None:
        if result.final:
            self._tell(result.text, result.words)
            self._moved.set()
        elif result.text != self._partial:
            self._partial = result.text
            self._reader.on_partial(result.text)

    def _tell(self, text: str, words: tuple[WordTime, ...]) -> None:
        start, end, shift = self._owed.popleft() if self._owed else (0.0, self.heard, 0.0)
        if text:
            self._reader.on_final(text, start, end, later(words, shift))
        elif self._partial:
            self._reader.on_partial("")
        self._partial = ""
