"""Where tokens wait to be used: in this process, or on a Redis that several share. Protocol 9.1."""

from __future__ import annotations

import heapq
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from tokens.errors import LedgerFull, LedgerUnavailable
from tokens.record import Record

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Ledger(Protocol):
    """Records under token ids. Every method may raise ``LedgerUnavailable``."""

    async def put(self, jti: str, record: Record, ttl: float) -> None:
        """Keep a record for ``ttl`` seconds. An id is used once: ``ValueError`` when it is taken.

        Raises ``MetadataError`` when the record is too large.
        """

    async def spend(self, jti: str) -> Record | None:
        """Take a record out. Of any number of callers at the same time, on any machine, one gets it."""

    async def read(self, jti: str) -> Record | None:
        """Look at a record and leave it: for tokens that may be used more than once."""

    async def aclose(self) -> None: ...


class MemoryLedger:
    """For one process. Bounded: when ``capacity`` unexpired records wait, ``put`` raises ``LedgerFull``."""

    def __init__(self, *, capacity: int = 10_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._clock = clock
        self._records: dict[str, tuple[float, str]] = {}
        self._expiries: list[tuple[float, str]] = []

    async def put(self, jti: str, record: Record, ttl: float) -> None:
        text = record.to_json()
        self._expire()
        if jti in self._records:
            raise ValueError("the token id is taken")
        # Spent tokens leave their expiry behind until its time, hence the second bound.
        if len(self._records) >= self._capacity or len(self._expiries) >= 4 * self._capacity:
            raise LedgerFull
        expiry = self._clock() + ttl
        self._records[jti] = expiry, text
        heapq.heappush(self._expiries, (expiry, jti))

    async def spend(self, jti: str) -> Record | None:
        self._expire()
        kept = self._records.pop(jti, None)
        return None if kept is None else Record.from_json(kept[1])

    async def read(self, jti: str) -> Record | None:
        self._expire()
        kept = self._records.get(jti)
        return None if kept is None else Record.from_json(kept[1])

    async def aclose(self) -> None:
        self._records.clear()
        self._expiries.clear()

    def __len__(self) -> int:
        self._expire()
        return len(self._records)

    def _expire(self) -> None:
        now = self._clock()
        while self._expiries and self._expiries[0][0] <= now:
            _, jti = heapq.heappop(self._expiries)
            if jti in self._records and self._records[jti][0] <= now:  # an id may have been spent and put again
                del self._records[jti]


class RedisLedger:
    """For a fleet. The expiry is Redis' own; taking a record out is one ``GETDEL`` (Redis 6.2 or newer)."""

    def __init__(self, url: str, *, timeout: float = 2.0, connections: int = 16) -> None:
        """``timeout``: seconds for each wait (a connection of the pool, the connect, an answer)."""
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=connections,
            timeout=timeout,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            # A GETDEL whose answer was lost has spent the token: asked again, it would say "used" instead of 503.
            retry=Retry(NoBackoff(), 0),
        )
        self._redis = Redis.from_pool(pool)

    async def put(self, jti: str, record: Record, ttl: float) -> None:
        text = record.to_json()
        if not await _ask(self._redis.set(_key(jti), text, px=max(1, round(ttl * 1000)), nx=True)):
            raise ValueError("the token id is taken")

    async def spend(self, jti: str) -> Record | None:
        return _record(await _ask(self._redis.getdel(_key(jti))))

    async def read(self, jti: str) -> Record | None:
        return _record(await _ask(self._redis.get(_key(jti))))

    async def aclose(self) -> None:
        await self._redis.aclose()


def open_ledger(redis_url: str | None) -> MemoryLedger | RedisLedger:
    """The ledger of a server: Redis when it has one. Connects at the first use."""
    return RedisLedger(redis_url) if redis_url else MemoryLedger()


def _key(jti: str) -> str:
    return f"voice:token:{jti}"


async def _ask(command: Awaitable[T]) -> T:
    try:
        return await command
    except (RedisError, OSError, TimeoutError) as error:
        # The class alone: some texts of the library repeat the address, and that may hold a password.
        logger.warning("Redis does not answer: %s", type(error).__name__)
        raise LedgerUnavailable from None


def _record(text: object) -> Record | None:
    if text is None:
        return None
    try:
        return Record.from_json(text if isinstance(text, bytes) else str(text))
    except ValueError:
        logger.warning("a record in Redis is damaged")
        raise LedgerUnavailable from None
