"""Who may shake hands now: a DTLS handshake takes some 5 ms of CPU on the loop of the audio clock."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

AT_ONCE = 4
"""Handshakes that run at the same time."""

EACH = 2
"""Of these, from one address: a peer that stalls, or an office behind one router, leaves room for all others."""

RATE = 50.0
"""Handshakes that begin in a second; a quarter of a core."""

BURST = 10
"""Handshakes that may begin at once after a pause."""


@dataclass(slots=True)
class _Address:
    places: asyncio.Semaphore
    users: int = 0


class Handshakes:
    """Nobody is refused, they wait; a session that waits too long ends by its own limit. Event loop only."""

    def __init__(self, *, at_once: int = AT_ONCE, each: int = EACH, rate: float = RATE, burst: int = BURST) -> None:
        self._slots = asyncio.Semaphore(at_once)
        self._each = each
        self._interval = 1 / rate
        self._slack = (burst - 1) * self._interval
        self._next = 0.0  # when the next one may begin, if they came evenly
        self._addresses: dict[str, _Address] = {}

    def __len__(self) -> int:
        """Addresses of which somebody waits or shakes hands."""
        return len(self._addresses)

    @contextlib.asynccontextmanager
    async def turn(self, address: Callable[[], str]) -> AsyncIterator[None]:
        """Wait for a turn and keep it. ``address`` is asked on entry, when the peer has been heard."""
        name = address()
        entry = self._addresses.setdefault(name, _Address(asyncio.Semaphore(self._each)))
        entry.users += 1
        try:
            async with entry.places, self._slots:
                await self._pace()
                yield
        finally:
            entry.users -= 1
            if not entry.users:
                del self._addresses[name]

    async def _pace(self) -> None:
        now = asyncio.get_running_loop().time()
        begin = max(self._next, now - self._slack)
        self._next = begin + self._interval
        if begin > now:
            await asyncio.sleep(begin - now)
