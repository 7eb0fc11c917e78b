"""How the voice ends: who is done lets its pitch fall, who goes on holds it up. In every language that we know of.

The oldest cue of turn taking (Duncan 1972), and one that the turn model makes little of. Pitch by autocorrelation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from media.audio import INPUT_RATE, Pcm

RATE = INPUT_RATE // 2
"""Twice the highest frequency that is looked at: enough for pitch, and half the work."""

LONGEST = 3 * INPUT_RATE
"""Samples that are looked at: the last ones. They tell how high the speaker goes, too."""

HOP, WINDOW, SPECTRUM = RATE // 100, RATE // 25, 1024
"""Samples at ``RATE``: 10 and 40 ms, and what is transformed."""

LOWEST, HIGHEST = 70, 450
"""Hz that a voice may have."""

VOICED = 0.6
"""Likeness of a window with itself, a period later, from which it is voiced."""

QUIET = 22.0
"""What is so much softer, dB, than the loudest twentieth is no voice."""

LAST = 8
"""Windows of the last voice whose pitch counts as its end."""

FEWEST = 8
"""Voiced windows without which nothing is known."""

STRAY = 11.0
"""Semitones from the middle beyond which a window was measured wrongly."""


def fall(pcm: Pcm) -> float | None:
    """How far the last voice lies below the high notes (nine tenths) of what was said, in semitones; at ``INPUT_RATE``.

    Some 9 where a statement ends, 0 where the voice stays up. ``None`` where there is hardly any voice. Takes some
    10 ms.
    """
    sound = pcm[-LONGEST:].astype(np.float32)
    sound = sound[: len(sound) // 2 * 2].reshape(-1, 2).mean(axis=1)
    if len(sound) < 2 * WINDOW:
        return None
    pitch, voiced = _pitch(sound)
    if voiced.sum() < FEWEST:
        return None
    at = np.flatnonzero(voiced)
    notes = 12 * np.log2(pitch[at])
    kept = np.abs(notes - np.median(notes)) < STRAY
    at, notes = at[kept], notes[kept]
    if len(at) < FEWEST:
        return None
    end = np.median(notes[at > at[-1] - LAST])
    return float(np.percentile(notes, 90) - end)


def _pitch(sound: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Of each window: Hz, and whether it is voiced."""
    windows = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP]
    windows = windows - windows.mean(axis=1, keepdims=True)
    loudness = 10 * np.log10(np.mean(windows**2, axis=1) + 1)
    spectra = np.fft.rfft(windows * _HANN, SPECTRUM, axis=1)
    likeness = np.fft.irfft(spectra.real**2 + spectra.imag**2, axis=1)[:, : _LAGS[-1] + 1]
    likeness = likeness / np.maximum(likeness[:, :1], 1e-9) / _TAPER
    periods = likeness[:, _LAGS] - _SHORTER
    best = periods.argmax(axis=1)
    voiced = (periods[np.arange(len(best)), best] > VOICED) & (loudness > np.percentile(loudness, 95) - QUIET)
    return RATE / _LAGS[best], voiced


_HANN = np.hanning(WINDOW)
_LAGS = np.arange(RATE // HIGHEST, RATE // LOWEST + 1)
_TAPER = np.fft.irfft(np.abs(np.fft.rfft(_HANN, SPECTRUM)) ** 2)[: _LAGS[-1] + 1]
_TAPER = _TAPER / _TAPER[0]
"""The likeness of the window function with itself, which makes longer periods look less alike."""
_SHORTER = 0.0004 * _LAGS
"""Of two periods that fit, the shorter one is the pitch."""
