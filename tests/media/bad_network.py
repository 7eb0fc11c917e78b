"""A network that loses, delays, repeats and holds back what it carries. It has no clock and no sockets."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass
class BadNetwork:
    """One direction of a line. ``fates`` tells of each packet when it arrives; seconds, shares 0 to 1.

    ``loss`` is random and independent; ``burst`` packets are lost in a row, from ``burst_share`` of all on. ``jitter``
    delays each packet by a uniform random time below it, so that what is sent within it may overtake.
    """

    loss: float = 0.0
    burst: int = 0
    burst_share: float = 0.0
    jitter: float = 0.0
    duplicates: float = 0.0
    seed: int = 1
    lost: int = 0
    carried: int = 0
    _held_until: float = field(default=0.0, init=False)
    _burst_left: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)

    def stall(self, now: float, seconds: float) -> None:
        """What comes from now on is held back so long, and then delivered at once."""
        self._held_until = now + seconds

    def drop(self, count: int) -> None:
        """The next ``count`` packets are lost."""
        self._burst_left = count

    def fates(self, now: float) -> list[float]:
        """When a packet that is sent now arrives: never, once or twice."""
        if self.burst and not self._burst_left and self._chance.random() < self.burst_share:
            self._burst_left = self.burst
        if self._burst_left:
            self._burst_left -= 1
            self.lost += 1
            return []
        if self._chance.random() < self.loss:
            self.lost += 1
            return []
        self.carried += 1
        copies = 2 if self._chance.random() < self.duplicates else 1
        return [max(self._held_until, now + self._chance.random() * self.jitter) for _ in range(copies)]
