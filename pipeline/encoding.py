"""Speech as bytes of a format while it is spoken. What costs is done in a process that gives way to the calls."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Protocol

import numpy as np

from media.audio import Pcm
from media.encoding import Format, Mp3, encoder
from pipeline.background import Background
from pipeline.engine import EngineError
from pipeline.worker import Worker

KEY = ("file", "mp3")

MAX_OPEN = 256
"""Streams of the process; more than are ever at work."""


class Codec(Protocol):
    """Encodes one stream. Raises ``EngineError``."""

    content_type: str

    async def encode(self, pcm: Pcm) -> bytes:
        """More samples at ``OUTPUT_RATE``. What comes back may be empty."""

    async def finish(self) -> bytes:
        """The rest. Nothing may follow."""


@asynccontextmanager
async def encoding(background: Background, form: Format, rate: int) -> AsyncIterator[Codec]:
    """A codec of one stream; ``rate`` of what comes out, Hz. Raises ``EngineError``."""
    if form != "mp3":
        yield _InThread(form, rate)
        return
    async with background.borrow(KEY, Mp3Process) as lent:
        codec: _InProcess = lent.engine.open(rate)
        try:
            yield codec
        finally:
            await codec.close()


class Mp3Process:
    """All streams share one process: a second of speech costs 15 ms, which the event loop would feel as a thread."""

    def __init__(self) -> None:
        self._worker = Worker("pipeline.encoding:Encoders", name="the MP3 encoder")
        self._ids = itertools.count()

    async def start(self) -> None:
        await self._worker.start()

    def open(self, rate: int) -> _InProcess:
        return _InProcess(self._worker, next(self._ids), rate)

    async def aclose(self) -> None:
        await self._worker.aclose()


class Encoders:
    """Lives in the worker process, with the state of each stream by its number."""

    def __init__(self) -> None:
        self._open: dict[int, Mp3] = {}

    def encode(self, number: int, rate: int, pcm: bytes) -> bytes:
        if number not in self._open and len(self._open) < MAX_OPEN:
            self._open[number] = Mp3(rate)
        return self._open[number].encode(np.frombuffer(pcm, "<i2").astype(np.int16))

    def finish(self, number: int) -> bytes:
        stream = self._open.pop(number, None)
        return stream.finish() if stream else b""


class _InProcess:
    content_type = Mp3.content_type

    def __init__(self, worker: Worker, number: int, rate: int) -> None:
        self._worker, self._number, self._rate = worker, number, rate
        self._begun = False

    async def encode(self, pcm: Pcm) -> bytes:
        self._begun = True
        data = pcm.astype("<i2", copy=False).tobytes()
        encoded: bytes = await self._worker.call("encode", self._number, self._rate, data)
        return encoded

    async def finish(self) -> bytes:
        self._begun = False
        rest: bytes = await self._worker.call("finish", self._number)
        return rest

    async def close(self) -> None:
        """Forget a stream that was not finished."""
        if self._begun:
            with suppress(EngineError):
                await self.finish()


class _InThread:
    def __init__(self, form: Format, rate: int) -> None:
        self._encoder = encoder(form, rate)
        self.content_type = self._encoder.content_type

    async def encode(self, pcm: Pcm) -> bytes:
        return await asyncio.to_thread(self._encoder.encode, pcm)

    async def finish(self) -> bytes:
        return await asyncio.to_thread(self._encoder.finish)
