"""How the end of what was said sounds, for a network that judges whether it is one: bands, pitch and voicing.

Nothing above 3.6 kHz is looked at, so that telephones, narrow microphones and Opus at any bandwidth are the same.
Pitch is told against the speaker's own middle, loudness against their own loudest: who speaks does not matter.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from media.audio import INPUT_RATE, Pcm

RATE = INPUT_RATE // 2
HOP, WINDOW, SPECTRUM = RATE // 100, RATE // 25, 1024
"""Samples at ``RATE``: 10 and 40 ms, and what is transformed."""

FRAMES = 320
"""Windows that are looked at: the last 3.2 s."""

BANDS, LOWEST_BAND, HIGHEST_BAND = 32, 60, 3600
"""How many, and where they begin and end, Hz. The scale is O'Shaughnessy's mel: 2595 log10(1 + f / 700)."""

CHANNELS = BANDS + 4
"""The bands, the pitch, whether there is one, how sure it is, and the loudness."""

LOWEST_PITCH, HIGHEST_PITCH = 65, 450
"""Hz that a voice may have."""

VOICED = 0.55
"""Likeness of a window with itself, a period later, from which it is voiced."""

QUIET = 24.0
"""What is so much softer, dB, than the loudest twentieth is no voice."""

STRAY = 11.0
"""Semitones from the middle beyond which a window was measured wrongly."""

FEWEST = 5
"""Voiced windows without which there is no middle."""

SEMITONES, DECIBELS = 6.0, 20.0
"""One unit of pitch and of loudness."""

SILENT, LOUD = -2.5, 1.5
"""Loudness is not told beyond these; 1 is that of the loudest twentieth. The first also stands before the sound."""

LENGTH = FRAMES * HOP * 2 + 2 * (WINDOW - HOP)
"""Samples at ``INPUT_RATE`` that are looked at."""


def prosody(pcm: Pcm) -> NDArray[np.float32]:
    """The last windows of sound at ``INPUT_RATE``, up to its end; shape (FRAMES, CHANNELS). Takes some 10 ms."""
    seen = np.zeros((FRAMES, CHANNELS), np.float32)
    seen[:, :BANDS] = seen[:, BANDS + 3] = SILENT
    sound = pcm[-LENGTH:].astype(np.float32) / 32768
    sound = sound[len(sound) % 2 :].reshape(-1, 2).mean(axis=1)
    count = min(FRAMES, (len(sound) - WINDOW) // HOP + 1)
    if count < 1:
        return seen
    sound = sound[len(sound) - ((count - 1) * HOP + WINDOW) :]
    windows = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP]
    windows = windows - windows.mean(axis=1, keepdims=True)
    spectra = np.fft.rfft(windows * _hann(), SPECTRUM, axis=1)
    power = np.square(np.abs(spectra), dtype=np.float32)
    bands = 10 * np.log10(power @ _bands() + np.float32(1e-7))
    loudness = 10 * np.log10(np.mean(windows**2, axis=1) + np.float32(1e-9))
    pitch, voiced, likeness = _pitch(power, loudness)
    last = seen[FRAMES - count :]
    last[:, :BANDS] = _told(bands)
    last[:, BANDS] = pitch / SEMITONES
    last[:, BANDS + 1] = voiced
    last[:, BANDS + 2] = np.clip(likeness, 0, 1)
    last[:, BANDS + 3] = _told(loudness)
    return seen


def _told(loudness: NDArray[np.float32]) -> NDArray[np.float32]:
    told: NDArray[np.float32] = np.clip((loudness - np.percentile(loudness, 95)) / DECIBELS + 1, SILENT, LOUD)
    return told


def _pitch(
    power: NDArray[np.float32], loudness: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float32]]:
    """Of each window: semitones above the middle of all (0 without voice), whether it is voiced, how sure that is."""
    lags = np.arange(RATE // HIGHEST_PITCH, RATE // LOWEST_PITCH + 1)
    likeness = np.fft.irfft(power, axis=1)[:, : lags[-1] + 1]
    likeness = likeness / np.maximum(likeness[:, :1], 1e-9) / _taper(int(lags[-1]) + 1)
    periods = likeness[:, lags] - 0.0004 * lags  # of two that fit, the shorter one is the pitch
    best = periods.argmax(axis=1)
    surest = periods[np.arange(len(best)), best]
    voiced = (surest > VOICED) & (loudness > np.percentile(loudness, 95) - QUIET)
    notes = 12 * np.log2(RATE / lags[best])
    if voiced.sum() < FEWEST:
        return np.zeros(len(notes)), voiced, surest
    notes = notes - np.median(notes[voiced])
    voiced &= np.abs(notes) < STRAY
    return np.where(voiced, notes, 0), voiced, surest


@cache
def _hann() -> NDArray[np.float32]:
    hann: NDArray[np.float32] = np.hanning(WINDOW).astype(np.float32)
    return hann


@cache
def _taper(lags: int) -> NDArray[np.float32]:
    """The likeness of the window function with itself, which makes longer periods look less alike."""
    taper = np.fft.irfft(np.abs(np.fft.rfft(_hann(), SPECTRUM)) ** 2)[:lags]
    scaled: NDArray[np.float32] = (taper / taper[0]).astype(np.float32)
    return scaled


@cache
def _bands() -> NDArray[np.float32]:
    """How much each bin of the spectrum counts for each band: triangles that sum to 1. Shape (bins, BANDS)."""
    lowest, highest = (2595 * np.log10(1 + hz / 700) for hz in (LOWEST_BAND, HIGHEST_BAND))
    mel = np.linspace(lowest, highest, BANDS + 2)
    hz = 700 * (10 ** (mel / 2595) - 1)
    left, middle, right = (hz[i : i + BANDS] for i in range(3))
    bins = np.fft.rfftfreq(SPECTRUM, 1 / RATE)[:, np.newaxis]
    triangles = np.maximum(0, np.minimum((bins - left) / (middle - left), (right - bins) / (right - middle)))
    bands: NDArray[np.float32] = (triangles / triangles.sum(axis=0)).astype(np.float32)
    return bands
