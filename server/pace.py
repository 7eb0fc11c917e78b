"""How fast frames are taken from one connection, so that nobody takes the others' turns."""

from __future__ import annotations

from collections.abc import Callable

FRAMES_PER_SECOND = 1000.0
BYTES_PER_FRAME = 1024
"""A frame counts once for each of these that it has."""
BURST = 2000.0


class Pace:
    """How fast frames are taken from one connection: a bucket of frames that fills evenly. What comes faster waits in
    the sender's own socket.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left = BURST
        self._at = clock()

    def take(self, size: int) -> float:
        """Count a frame of ``size`` characters: the seconds to wait before the next is taken."""
        now = self._clock()
        self._left = min(BURST, self._left + (now - self._at) * FRAMES_PER_SECOND) - 1 - size / BYTES_PER_FRAME
        self._at = now
        return max(0.0, -self._left / FRAMES_PER_SECOND)
