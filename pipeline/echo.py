"""Is what the microphone hears the bot's own voice? Browsers cancel echo, but not all, and not in the first seconds.

Echo is late, soft and coloured, yet rises and falls with what was played. So the loudness of some bands over the last
third of a second is compared with what was said before it, at every delay that a loudspeaker and a network may add.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from media.audio import FRAME_MS, INPUT_FRAME, INPUT_RATE, OUTPUT_FRAME, OUTPUT_RATE, Pcm

COMPARED = 480 // FRAME_MS
"""Frames of the microphone that are compared."""

DELAYS = 600 // FRAME_MS
"""Frames between sending and hearing, at most: network, jitter buffer, loudspeaker, air and back."""

EDGES = (200, 400, 650, 950, 1350, 1900, 2700, 3900)
"""Borders of the bands, Hz: what a small loudspeaker gives and a microphone takes."""

SMOOTHING = 0.05
"""Weight of one comparison in what is known of the delay."""

KNOWN = 0.4
"""Smoothed likeness from which a delay is known: any two beginnings of speech are alike for a quarter of a second."""

FLOOR = 1e-7
"""Power below which everything is equally silent."""


class Echo:
    """Compares the last frames of both directions."""

    def __init__(self) -> None:
        self._heard = np.tile(_QUIET, (COMPARED, 1))  # log powers, the newest last
        self._played = np.tile(_QUIET, (COMPARED + DELAYS, 1))
        self._likely = np.zeros(DELAYS + 1)  # of each delay, the smoothed likeness
        self._silent = COMPARED + DELAYS + 1  # frames since the bot was heard

    def hear(self, heard: Pcm, played: Pcm | None) -> None:
        """20 ms of the microphone, shape ``(INPUT_FRAME,)``, and what was sent in that time, ``(OUTPUT_FRAME,)``, if
        anything was.
        """
        self._silent = self._silent + 1 if played is None else 0
        if not self.possible:
            return
        self._heard[:-1] = self._heard[1:]
        self._heard[-1] = _powers(heard, _INPUT)
        self._played[:-1] = self._played[1:]
        self._played[-1] = _QUIET if played is None else _powers(played, _OUTPUT)

    @property
    def possible(self) -> bool:
        """The bot spoke lately; else nothing is computed."""
        return self._silent <= COMPARED + DELAYS

    def likeness(self) -> float:
        """How alike they are: 0 to 1, at the delay that was found; 0 until one was.

        Costs some 130 us: ask only about voices.
        """
        if not self.possible:
            return 0.0
        windows = np.lib.stride_tricks.sliding_window_view(self._played, COMPARED, axis=0)  # (delays, bands, frames)
        windows = windows - windows.mean(axis=2, keepdims=True)
        heard = self._heard.T - self._heard.T.mean(axis=1, keepdims=True)
        alike = windows.reshape(len(windows), -1) @ heard.reshape(-1)
        norms = np.sqrt(np.sum(windows * windows, axis=(1, 2)) * np.sum(heard * heard))
        alike = alike / np.maximum(norms, 1e-6)
        self._likely += SMOOTHING * (alike - self._likely)
        best = int(np.argmax(self._likely))
        if self._likely[best] < KNOWN:
            return 0.0
        return float(max(0.0, alike[max(0, best - 1) : best + 2].max()))


def _powers(frame: Pcm, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log power of each band."""
    spectrum = np.fft.rfft(frame.astype(np.float32))
    powers: NDArray[np.float32] = np.log10((spectrum.real**2 + spectrum.imag**2) @ matrix + FLOOR)
    return powers


def _matrix(samples: int, rate: int) -> NDArray[np.float32]:
    """Sums a power spectrum, shape ``(samples // 2 + 1,)``, to the mean power in each band, full scale being 1."""
    frequencies = np.fft.rfftfreq(samples, 1 / rate)
    bands = [(frequencies >= low) & (frequencies < high) for low, high in pairwise(EDGES)]
    return (np.array(bands) * (2 / samples**2 / 32768**2)).T.astype(np.float32)


BANDS = len(EDGES) - 1
_INPUT = _matrix(INPUT_FRAME, INPUT_RATE)
_OUTPUT = _matrix(OUTPUT_FRAME, OUTPUT_RATE)
_QUIET = np.full(BANDS, np.log10(FLOOR), np.float32)
