"""What Whisper and its descendants hear: the loudness of 80 mel bands every 10 ms, scaled as in their training.

Source: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2.2; the bands are Slaney's
(Auditory Toolbox, 1998): linear to 1 kHz, logarithmic above, each of unit area.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from media.audio import INPUT_RATE

WINDOW, HOP, BANDS = 400, 160, 80
"""Samples, samples, bands: 25 ms every 10 ms."""

RANGE = 8.0
"""Powers of ten below the loudest value that are told apart."""

LINEAR_HZ, LINEAR_MEL, STEP = 1000.0, 15.0, np.log(6.4) / 27
"""Where the scale turns from linear to logarithmic, in both units, and how much a mel is above."""


def log_mel(pcm: NDArray[np.int16], length: int) -> NDArray[np.float32]:
    """The spectrogram of mono audio at ``INPUT_RATE``, followed by silence up to ``length`` samples (a whole number of
    hops). Shape (BANDS, length / HOP), values about -1 to 1.
    """
    half = WINDOW // 2  # each window is centred on its time
    samples = np.zeros(length + WINDOW, np.float32)
    samples[half : half + len(pcm)] = pcm.astype(np.float32) / 32768
    heard = len(pcm) // HOP + 3  # windows that see any of it
    return scaled_loudness(samples, length // HOP, min(heard, length // HOP))


def scaled_loudness(samples: NDArray[np.float32], hops: int, heard: int) -> NDArray[np.float32]:
    """The spectrogram of audio that has half a window more on either side. Shape (BANDS, hops).

    Only the first ``heard`` windows are looked at; the caller knows that the others are silent.
    """
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[: heard * HOP : HOP]
    power = np.square(np.abs(np.fft.rfft(frames * _hann())))
    loudness = np.full((BANDS, hops), -10, np.float32)
    loudness[:, : len(frames)] = np.log10(np.maximum(_bands() @ power.T, 1e-10))
    np.maximum(loudness, loudness.max() - RANGE, out=loudness)
    scaled: NDArray[np.float32] = (loudness + np.float32(4)) / np.float32(4)
    return scaled


@cache
def _hann() -> NDArray[np.float32]:
    phase = 2 * np.pi * np.arange(WINDOW) / WINDOW
    return (0.5 - 0.5 * np.cos(phase)).astype(np.float32)


@cache
def _bands() -> NDArray[np.float64]:
    """How much each bin of the spectrum counts for each band: triangles that end in the middle of their neighbours."""
    highest = LINEAR_MEL + np.log(INPUT_RATE / 2 / LINEAR_HZ) / STEP
    mel = np.linspace(0, highest, BANDS + 2)
    above = LINEAR_HZ * np.exp((mel - LINEAR_MEL) * STEP)
    hz = np.where(mel < LINEAR_MEL, mel * LINEAR_HZ / LINEAR_MEL, above)
    left, middle, right = (hz[i : i + BANDS, np.newaxis] for i in range(3))
    bins = np.fft.rfftfreq(WINDOW, 1 / INPUT_RATE)
    triangles = np.minimum((bins - left) / (middle - left), (right - bins) / (right - middle))
    bands: NDArray[np.float64] = np.maximum(triangles, 0) * 2 / (right - left)
    return bands
