"""Audio files of any kind as utterances, decoded in a process of their own: what strangers send may crash a decoder."""

from __future__ import annotations

import resource
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, suppress
from typing import Any, BinaryIO, NamedTuple

from media.audio import INPUT_RATE, Pcm
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


class Found(NamedTuple):
    """An utterance in the file of samples."""

    start: int
    end: int
    """Samples, from the beginning of the audio."""
    offset: int
    size: int
    """Bytes in the file."""


class AudioFiles:
    """Decodes files. A ``Background`` part: all share one process."""

    def __init__(self) -> None:
        self._worker = Worker("pipeline.cutting:Cutter", name="the audio decoder", concurrency=2)

    async def start(self) -> None:
        await self._worker.start()

    async def cut(self, source: str, target: str, longest: float) -> AsyncGenerator[Found | int, None]:
        """Write the utterances of ``source`` into ``target``, mono at ``INPUT_RATE``, and tell of each. The last value
        is the number of all samples, silence included.

        Raises ``UnreadableError``, ``TooLongError`` above ``longest`` seconds, and ``EngineError`` (which is also what
        becomes of a file that crashes the decoder).
        """
        async with aclosing(self._worker.stream("cut", source, target, longest)) as values:
            async for kind, *value in values:
                if kind == FOUND:
                    yield Found(*value)
                elif kind == END:
                    yield value[0]
                elif kind == LONG:
                    raise TooLongError(f"The audio is longer than {longest / 60:g} minutes")
                elif kind == MUTE:
                    raise UnreadableError("The file holds no audio that can be read")

    async def aclose(self) -> None:
        await self._worker.aclose()


class Cutter:
    """Lives in the worker process. Keeps nothing from one file to the next."""

    def __init__(self) -> None:
        import av

        self._av = av
        av.logging.set_level(None)
        if sys.platform == "linux":  # a header of a few bytes can ask for any amount of memory
            resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))

    def cut(self, source: str, target: str, longest: float) -> Iterator[tuple[Any, ...]]:
        """Tagged values, as ``AudioFiles.cut`` understands them."""
        segmenter, told = Segmenter(), 0
        with open(target, "wb") as out:
            for pcm in self._pieces(source):
                for segment in segmenter.feed(pcm):
                    yield FOUND, *_write(segment, out)
                    told = segmenter.samples
                if segmenter.samples > longest * INPUT_RATE:
                    yield (LONG,)
                    return
                if segmenter.samples - told > PROGRESS_EVERY:
                    told = segmenter.samples
                    yield (PROGRESS,)
            for segment in segmenter.finish():
                yield FOUND, *_write(segment, out)
        yield (END, segmenter.samples) if segmenter.samples else (MUTE,)

    def _pieces(self, source: str) -> Iterator[Pcm]:
        """The samples, as far as they can be read: what is damaged is left out, as any player does."""
        resampler = self._av.AudioResampler("s16", "mono", INPUT_RATE)
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
        with suppress(self._av.error.FFmpegError), self._av.open(source, container_options=options) as container:
            for packet in container.demux(container.streams.audio[:1]) if container.streams.audio else ():
                with suppress(self._av.error.FFmpegError):
                    for frame in packet.decode():
                        for part in resampler.resample(frame):
                            yield part.to_ndarray()[0]
            for part in resampler.resample(None):
                yield part.to_ndarray()[0]


def _write(segment: Segment, out: BinaryIO) -> tuple[int, int, int, int]:
    data, offset = segment.pcm.astype("<i2", copy=False).tobytes(), out.tell()
    out.write(data)
    out.flush()
    return segment.start, segment.end, offset, len(data)
