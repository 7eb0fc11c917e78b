"""What a synthetic caller heard, and when each part of it arrived."""

from __future__ import annotations

import numpy as np

from media.audio import FRAME_MS, Pcm

RATE = 48_000
"""Rate of what a caller says and hears, Hz."""

LOUD = 10 ** (-50 / 20) * 32768
"""RMS of a 20 ms frame above which somebody is heard: -50 dBFS."""

HELD_SECONDS = 4 * FRAME_MS / 1000
"""aiortc's audio receiver hands a frame over when four newer ones have come; sound counts from its arrival."""


class Recording:
    """What was heard, placed by RTP time, and when it was heard."""

    def __init__(self, most_seconds: float = 600.0) -> None:
        self._frames: dict[int, Pcm] = {}  # by position, samples at RATE
        self._most = int(most_seconds * RATE)
        self._origin: float | None = None  # monotonic time of position 0: the earliest that any frame allows

    def add(self, position: int, pcm: Pcm, at: float) -> None:
        """Keep mono PCM whose first sample stands at ``position``, handed over at ``at``. Late audio is dropped."""
        if not 0 <= position < self._most:
            return
        self._frames[position] = pcm
        origin = at - HELD_SECONDS - position / RATE
        self._origin = origin if self._origin is None else min(self._origin, origin)

    def pcm(self) -> Pcm:
        """Everything heard: mono, ``RATE``, gaps as silence, beginning with the first packet."""
        if not self._frames:
            return np.zeros(0, np.int16)
        out = np.zeros(max(p + len(f) for p, f in self._frames.items()), np.int16)
        for position, pcm in self._frames.items():
            out[position : position + len(pcm)] = pcm
        return out

    def loud_after(self, moment: float) -> float | None:
        """When the first loud frame at or after ``moment`` was heard, both in seconds of ``time.monotonic()``."""
        for at, loud in self.loudness():
            if loud and at >= moment:
                return at
        return None

    def loudness(self) -> list[tuple[float, bool]]:
        """For each frame heard: when, and whether it was loud. In order."""
        if self._origin is None:
            return []
        return [(self._origin + position / RATE, rms(pcm) > LOUD) for position, pcm in sorted(self._frames.items())]


def rms(pcm: Pcm) -> float:
    return float(np.sqrt(np.mean(pcm.astype(np.float64) ** 2))) if len(pcm) else 0.0
