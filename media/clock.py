"""The media clock: one per process, one tick each 20 ms for every session."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from media.audio import FRAME_MS

logger = logging.getLogger(__name__)

Tick = Callable[[float], None]

PERIOD = FRAME_MS / 1000
"""Seconds between two ticks of a session."""

SLOTS = 4
"""Parts of the period over which the sessions are spread, so that they do not all work and send at the same moment."""

_BUCKET_MS = 0.25
_BUCKETS = 400  # up to 100 ms


class LatenessStats:
    """How late the clock fired: a histogram, and what is read from it."""

    def __init__(self) -> None:
        self.count = 0
        """Times that the clock fired."""
        self.late = 0
        """Times that it was later than half a period."""
        self.slipped = 0
        """Periods that were left out because it was later than a whole one."""
        self.max = 0.0
        """The worst, ms."""
        self._buckets = [0] * (_BUCKETS + 1)

    def record(self, seconds: float) -> None:
        """Count one firing that came ``seconds`` after its deadline."""
        ms = max(0.0, seconds * 1000)
        self.count += 1
        self.max = max(self.max, ms)
        if ms > FRAME_MS / 2:
            self.late += 1
        self._buckets[min(_BUCKETS, int(ms / _BUCKET_MS))] += 1

    def percentile(self, share: float) -> float:
        """The lateness in ms that ``share`` (0 to 1) of the firings did not exceed, to 0.25 ms; 0 before the first."""
        rank = share * self.count
        seen = 0
        for index, count in enumerate(self._buckets):
            seen += count
            if count and seen >= rank:
                return min(self.max, (index + 1) * _BUCKET_MS) if index < _BUCKETS else self.max
        return 0.0

    @property
    def p50(self) -> float:
        """Median lateness, ms."""
        return self.percentile(0.5)

    @property
    def p99(self) -> float:
        """99th percentile of lateness, ms."""
        return self.percentile(0.99)


class Clock:
    """Calls each tick every 20 ms on the event loop, by deadlines that do not drift. Asleep when nobody listens.

    Nothing is awaited and no task is made: the clock is one timer handle. When the loop was blocked for longer than a
    period, the missed ticks are left out; senders and receivers catch up by the time that they are told.
    """

    def __init__(self) -> None:
        self.lateness = LatenessStats()
        self._slots: list[dict[Tick, None]] = [{} for _ in range(SLOTS)]  # dicts: ordered sets
        self._handle: asyncio.TimerHandle | None = None
        self._origin: float | None = None  # loop time of the first period; None before start
        self._next = 0  # number of the slot that fires next, counted from the origin

    def add(self, tick: Tick) -> None:
        """Call ``tick(now)``, now in seconds of the loop's clock, from the next period on.

        A tick that raises is logged once and removed; no other one notices.
        """
        if any(tick in slot for slot in self._slots):
            raise ValueError("this tick is already on the clock")
        min(self._slots, key=len)[tick] = None
        if self._origin is not None:
            self._arm()

    def remove(self, tick: Tick) -> None:
        """Do not call ``tick`` any more; nothing happens when it is not there."""
        for slot in self._slots:
            slot.pop(tick, None)

    def start(self) -> None:
        """Begin to tick on the running loop."""
        if self._origin is None:
            self._origin = asyncio.get_running_loop().time()
            self._arm()

    async def close(self) -> None:
        """Stop and forget all ticks."""
        self._origin = None
        for slot in self._slots:
            slot.clear()
        if self._handle:
            self._handle.cancel()
            self._handle = None

    def _arm(self) -> None:
        """Set the timer to the next slot that somebody listens in."""
        if self._handle or self._origin is None or not any(self._slots):
            return
        loop = asyncio.get_running_loop()
        width = PERIOD / SLOTS
        missed = loop.time() - (self._origin + self._next * width)
        if missed > PERIOD:
            self._next += int(missed / PERIOD) * SLOTS
        while not self._slots[self._next % SLOTS]:
            self._next += 1
        self._handle = loop.call_at(self._origin + self._next * width, self._fire)

    def _fire(self) -> None:
        if self._origin is None:
            return
        self._handle = None
        loop = asyncio.get_running_loop()
        slot = self._slots[self._next % SLOTS]
        late = loop.time() - (self._origin + self._next * PERIOD / SLOTS)
        self.lateness.record(late)
        self.lateness.slipped += int(late / PERIOD)
        self._next += 1
        for tick in tuple(slot):
            if tick not in slot:  # removed by one before it
                continue
            try:
                tick(loop.time())
            except Exception:
                logger.exception("a tick failed and was taken off the media clock")
                slot.pop(tick, None)
        self._arm()
