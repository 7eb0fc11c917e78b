"""Recordings as files of many kinds."""

from __future__ import annotations

import io
import wave

import av
import numpy as np

from media.audio import INPUT_RATE, Pcm

KINDS = {
    "wav": ("wav", "pcm_s16le", 44_100),
    "flac": ("flac", "flac", 48_000),
    "mp3": ("mp3", "libmp3lame", 44_100),
    "ogg": ("ogg", "libopus", 48_000),
    "webm": ("webm", "libopus", 48_000),
    "m4a": ("mp4", "aac", 44_100),
}
"""By the usual ending of a name: container, codec and rate."""


def wav(pcm: Pcm, rate: int = INPUT_RATE) -> bytes:
    """As it is."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(pcm.astype("<i2").tobytes())
    return file.getvalue()


def encoded(pcm: Pcm, kind: str) -> bytes:
    """Mono samples at ``INPUT_RATE`` as a stereo file of one of ``KINDS``."""
    container, codec, rate = KINDS[kind]
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout="stereo")
        frame = av.AudioFrame.from_ndarray(pcm[np.newaxis], format="s16", layout="mono")
        frame.sample_rate = INPUT_RATE
        resampler = av.AudioResampler(stream.format.name, "stereo", rate, frame_size=stream.frame_size or 1024)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            part.pts = None
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))
    return file.getvalue()
