"""The media clock: one per process, one tick each 20 ms for every session."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

from media.audio import FRAME_MS

logger = logging.getLogger(__name__)

Tick = Callable[[float], None]

PERIOD = FRAME_MS / 1000
"""Seconds between two ticks of a session."""

SLOTS = 4
"""Parts of the period over which the sessions are spread, so that they do not all work and send at the same moment."""

_WIDTH = PERIOD / SLOTS
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

    def __init__(self, on_slot: Tick | None = None) -> None:
        """``on_slot`` is called four times a period, before the ticks of each slot, while anybody listens."""
        self.lateness = LatenessStats()
        self._on_slot = on_slot
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
        self._wake()

    def remove(self, tick: Tick) -> None:
        """Do not call ``tick`` any more; nothing happens when it is not there."""
        for slot in self._slots:
            slot.pop(tick, None)

    def start(self) -> None:
        """Begin to tick on the running loop."""
        if self._origin is None:
            self._origin = asyncio.get_running_loop().time()
            self._wake()

    async def close(self) -> None:
        """Stop and forget all ticks."""
        self._origin = None
        for slot in self._slots:
            slot.clear()
        if self._handle:
            self._handle.cancel()
            self._handle = None

    def _wake(self) -> None:
        """Leave the sleep that begins when nobody listens, at the next slot to come."""
        if self._origin is not None and not self._handle:
            elapsed = asyncio.get_running_loop().time() - self._origin
            self._next = math.ceil(elapsed / _WIDTH)
            self._arm(self._origin)

    def _arm(self, origin: float) -> None:
        """Set the timer to the next slot that somebody listens in."""
        self._handle = None
        if any(self._slots):
            while not (self._on_slot or self._slots[self._next % SLOTS]):
                self._next += 1
            self._handle = asyncio.get_running_loop().call_at(origin + self._next * _WIDTH, self._fire, origin)

    def _fire(self, origin: float) -> None:
        loop = asyncio.get_running_loop()
        slot = self._slots[self._next % SLOTS]
        late = loop.time() - (origin + self._next * _WIDTH)
        missed = max(0, int(late / PERIOD))
        self.lateness.record(late)
        self.lateness.slipped += missed
        self._next += missed * SLOTS + 1
        if self._on_slot:
            try:
                self._on_slot(loop.time())
            except Exception:
                logger.exception("what comes before the ticks failed")
        for tick in tuple(slot):
            if tick not in slot:  # removed by one before it
                continue
            try:
                tick(loop.time())
            except Exception:
                logger.exception("a tick failed and was taken off the media clock")
                slot.pop(tick, None)
        if self._origin is not None:  # a tick may close the clock
            self._arm(origin)
