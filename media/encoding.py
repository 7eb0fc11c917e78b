"""Speech as files and streams of others: raw samples, WAV and MP3, each piece as soon as it is there."""

from __future__ import annotations

import struct
from typing import Any, Literal, Protocol

import av
import numpy as np

from media.audio import OUTPUT_RATE, Pcm

Format = Literal["pcm", "wav", "mp3"]

MP3_BITS = 64_000
"""Bits a second, for one voice."""

UNKNOWN = 0xFFFFFFFF
"""Stands for the length in the header of a WAV that is sent while it is made. Readers take it for "until the end"."""


class Encoder(Protocol):
    """Encodes one stream. Costs CPU time: 15 ms for a second of MP3, so it belongs into a thread."""

    content_type: str

    def encode(self, pcm: Pcm) -> bytes:
        """More samples at ``OUTPUT_RATE``. What comes back may be empty and lags behind by some ms."""

    def finish(self) -> bytes:
        """The rest. Nothing may follow."""


def encoder(form: Format, rate: int) -> Encoder:
    """``rate`` of what comes out, Hz."""
    return Mp3(rate) if form == "mp3" else Raw(rate, wav=form == "wav")


class Raw:
    """Mono samples of 16 bits, little-endian, with or without the header of a WAV in front."""

    def __init__(self, rate: int, *, wav: bool) -> None:
        self.content_type = "audio/wav" if wav else "audio/pcm"
        self._resampler = Resampler(OUTPUT_RATE, rate)
        self._head = wav_header(rate) if wav else b""

    def encode(self, pcm: Pcm) -> bytes:
        head, self._head = self._head, b""
        return head + self._resampler.feed(pcm).astype("<i2", copy=False).tobytes()

    def finish(self) -> bytes:
        head, self._head = self._head, b""
        return head + self._resampler.flush().astype("<i2", copy=False).tobytes()


class Mp3:
    content_type = "audio/mpeg"

    def __init__(self, rate: int) -> None:
        self._resampler = Resampler(OUTPUT_RATE, rate)
        self._rate = rate
        self._codec: Any = av.CodecContext.create("libmp3lame", "w")
        self._codec.sample_rate, self._codec.layout, self._codec.format = rate, "mono", "s16p"
        self._codec.bit_rate = MP3_BITS
        self._codec.open()
        self._fifo = av.AudioFifo()

    def encode(self, pcm: Pcm) -> bytes:
        self._write(self._resampler.feed(pcm))
        return self._read()

    def finish(self) -> bytes:
        self._write(self._resampler.flush())
        found = self._read()
        if rest := self._fifo.read(0, partial=True):
            found += b"".join(map(bytes, self._codec.encode(rest)))
        return found + b"".join(map(bytes, self._codec.encode(None)))

    def _write(self, pcm: Pcm) -> None:
        if len(pcm):
            self._fifo.write(_frame(pcm, self._rate))

    def _read(self) -> bytes:
        found = b""
        while frame := self._fifo.read(self._codec.frame_size):
            found += b"".join(map(bytes, self._codec.encode(frame)))
        return found


class Resampler:
    """Mono samples of a stream at another rate."""

    def __init__(self, source: int, target: int) -> None:
        self._source = source
        self._resampler = None if source == target else av.AudioResampler("s16p", "mono", target)

    def feed(self, pcm: Pcm) -> Pcm:
        if self._resampler is None or not len(pcm):
            return pcm
        return _joined(self._resampler.resample(_frame(pcm, self._source)))

    def flush(self) -> Pcm:
        """What the filter still holds. Nothing may follow."""
        return np.zeros(0, np.int16) if self._resampler is None else _joined(self._resampler.resample(None))


def wav_header(rate: int) -> bytes:
    """Of mono samples of 16 bits, of a length that nobody knows yet."""
    layout = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", UNKNOWN, b"WAVE") + layout + struct.pack("<4sI", b"data", UNKNOWN)


def _frame(pcm: Pcm, rate: int) -> Any:
    frame = av.AudioFrame.from_ndarray(pcm[np.newaxis], format="s16p", layout="mono")
    frame.sample_rate = rate
    return frame


def _joined(frames: list[Any]) -> Pcm:
    parts = [frame.to_ndarray()[0] for frame in frames]
    return np.concatenate(parts) if parts else np.zeros(0, np.int16)
