"""Audio files of any kind as utterances, decoded in a process of their own: what strangers send may crash a decoder."""

from __future__ import annotations

import itertools
import resource
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from media.audio import INPUT_RATE, Pcm
from pipeline.engine import EngineError
from pipeline.segmenting import Segment, Segmenter
from pipeline.worker import Worker

FORMATS = "aac,ac3,aiff,amr,asf,au,avi,caf,flac,flv,matroska,mov,mp3,mpeg,mpegts,ogg,w64,wav,webm"
"""The containers that are read (names of FFmpeg's demuxers). Not among them are lists that name other files."""

MUTE, LONG, PROGRESS, FOUND, END = range(5)

MAX_MEMORY = 4 << 30
"""Bytes of address space, most of which is never touched."""

PROGRESS_EVERY = 60 * INPUT_RATE
"""Samples without an utterance between two signs of life."""


class UnreadableError(Exception):
    """No file of audio, or damaged. The text is fit for a person."""


class TooLongError(Exception):
    """There is more audio in the file than is taken."""


class AudioFiles:
    """Decodes files. A ``Background`` part: all share one process."""

    def __init__(self) -> None:
        self._worker = Worker("pipeline.cutting:Cutter", name="the audio decoder", concurrency=2)
        self._numbers = itertools.count()

    async def start(self) -> None:
        await self._worker.start()

    async def cut(self, path: str, longest: float) -> AsyncGenerator[Segment | int, None]:
        """The utterances of a file, each decoded when it is asked for; at last the number of all samples.

        Raises ``UnreadableError``, ``TooLongError`` above ``longest`` seconds, and ``EngineError`` (which is also what
        becomes of a file that crashes the decoder).
        """
        number = next(self._numbers)
        try:
            while True:
                kind, *value = await self._worker.call("next", number, path, longest)
                if kind == FOUND:
                    start, end, pcm = value
                    yield Segment(start, end, np.frombuffer(pcm, "<i2").astype(np.int16))
                elif kind == END:
                    yield value[0]
                    return
                elif kind == LONG:
                    raise TooLongError(f"The audio is longer than {longest / 60:g} minutes")
                elif kind == MUTE:
                    raise UnreadableError("The file holds no audio that can be read")
        finally:
            with suppress(EngineError):
                await self._worker.call("drop", number)

    async def aclose(self) -> None:
        await self._worker.aclose()


class Cutter:
    """Lives in the worker process, with the files that are open by their numbers."""

    def __init__(self) -> None:
        import av

        self._av = av
        self._open: dict[int, Iterator[tuple[Any, ...]]] = {}
        av.logging.set_level(None)
        if sys.platform == "linux":  # a header of a few bytes can ask for any amount of memory
            resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))

    def next(self, number: int, path: str, longest: float) -> tuple[Any, ...]:
        """A tagged value, as ``AudioFiles.cut`` understands it."""
        cuts = self._open.get(number)
        if cuts is None:
            cuts = self._open[number] = self._cut(path, longest)
        return next(cuts)

    def drop(self, number: int) -> None:
        """Close a file; if its next utterance is just being looked for, then after that."""
        self._open.pop(number, None)

    def _cut(self, path: str, longest: float) -> Iterator[tuple[Any, ...]]:
        segmenter, told = Segmenter(), 0
        for pcm in self._pieces(path, longest):
            if pcm is None or segmenter.samples > longest * INPUT_RATE:
                yield (LONG,)
                return
            for segment in segmenter.feed(pcm):
                yield FOUND, *_packed(segment)
                told = segmenter.samples
            if segmenter.samples - told > PROGRESS_EVERY:
                told = segmenter.samples
                yield (PROGRESS,)
        for segment in segmenter.finish():
            yield FOUND, *_packed(segment)
        yield (END, segmenter.samples) if segmenter.samples else (MUTE,)

    def _pieces(self, path: str, longest: float) -> Iterator[Pcm | None]:
        """The samples, as far as they can be read: what is damaged is left out, as any player does. ``None``: the file
        says itself that it is too long.
        """
        resampler = self._av.AudioResampler("s16", "mono", INPUT_RATE)
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
        with suppress(self._av.error.FFmpegError), self._av.open(path, container_options=options) as container:
            if (container.duration or 0) > longest * self._av.time_base:
                yield None
            for packet in container.demux(container.streams.audio[:1]) if container.streams.audio else ():
                with suppress(self._av.error.FFmpegError):
                    for frame in packet.decode():
                        for part in resampler.resample(frame):
                            yield part.to_ndarray()[0]
            for part in resampler.resample(None):
                yield part.to_ndarray()[0]


def _packed(segment: Segment) -> tuple[int, int, bytes]:
    return segment.start, segment.end, segment.pcm.astype("<i2", copy=False).tobytes()
