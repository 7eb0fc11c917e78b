"""Signals and payloads for the media tests: recorded speech, noise, and Opus packets of any length."""

from __future__ import annotations

import ctypes
from pathlib import Path

import av
import numpy as np

from media import opus
from media.audio import Pcm

DATA = Path(__file__).parents[1] / "data"


def speech(name: str = "en-00", rate: int = 16_000) -> Pcm:
    """A recorded voice, mono, at ``rate`` Hz."""
    resampler = av.AudioResampler("s16", "mono", rate)
    with av.open(str(DATA / f"{name}.flac")) as container:
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
        frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray().ravel() for frame in frames]).astype(np.int16)


def tone(samples: int, rate: int, frequency: float = 440, amplitude: float = 8000) -> Pcm:
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(samples) / rate)).astype(np.int16)


def pink_noise(samples: int, dbfs: float, seed: int = 1) -> Pcm:
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(samples))
    spectrum[0] = 0
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    noise = np.fft.irfft(spectrum, samples)
    noise *= 32768 * 10 ** (dbfs / 20) / np.sqrt(np.mean(noise**2))
    return np.clip(noise, -32768, 32767).astype(np.int16)


def payloads(
    pcm: Pcm,
    ms: float = 20,
    *,
    rate: int = 16_000,
    channels: int = 1,
    loss: int = 0,
    bitrate: int = 32_000,
    dtx: bool = False,
) -> list[bytes]:
    """``pcm`` (interleaved when stereo) as Opus payloads of ``ms`` each, as a browser would send them."""
    library = opus.load()
    state = ctypes.create_string_buffer(library.opus_encoder_get_size(channels))
    assert library.opus_encoder_init(state, rate, channels, 2048) == 0
    for request, value in ((4002, bitrate), (4012, int(loss > 0)), (4014, loss), (4016, int(dtx))):
        assert library.opus_encoder_ctl(state, request, ctypes.c_int(value)) == 0
    count = int(rate * ms / 1000)
    out = np.zeros(1500, np.uint8)
    packets = []
    for start in range(0, len(pcm) - count * channels + 1, count * channels):
        block = np.ascontiguousarray(pcm[start : start + count * channels])
        size = library.opus_encode(state, block.ctypes.data, count, out.ctypes.data, len(out))
        assert size > 0
        packets.append(out[:size].tobytes())
    return packets


def likeness(heard: Pcm, said: Pcm, search: int = 800) -> float:
    """Best correlation, 0 to 1, over the first ``search`` samples of delay."""
    length = min(len(heard), len(said))
    one, other = (pcm[:length].astype(np.float64) for pcm in (heard, said))
    size = 2 * length  # room for all delays without wrapping
    products = np.fft.irfft(np.fft.rfft(one, size) * np.conj(np.fft.rfft(other, size)), size)
    norm = float(np.sqrt(np.sum(one**2) * np.sum(other**2)))
    return float(products[:search].max()) / norm if norm else 0.0
