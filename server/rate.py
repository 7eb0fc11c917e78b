"""How often something may be asked for, counted in this process or on the Redis that several share. Protocol 9.6.

The count is the generic cell rate algorithm (ITU-T I.371, annex A): of each key only the moment is kept at which all
that was let in is paid off. A minute's worth of requests may come at once; then the right to more comes back evenly.
"""

from __future__ import annotations

import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import Protocol

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from server.http import ApiError

logger = logging.getLogger(__name__)

MAX_KEYS = 10_000
"""Remembered by one process; the one that has been silent longest is forgotten first."""

MINUTE = 60.0
SLACK = 1e-3
"""Seconds that rounding may cost."""

REDIS_SECONDS = 0.5
"""The longest wait for Redis: what it counts is not worth more."""

RETRY_SECONDS = 5.0
"""A Redis that did not answer is not asked for so long."""


class Counter(Protocol):
    """Counts requests per key. Every key has one rate, and always the same."""

    async def take(self, key: str, per_minute: int) -> float:
        """Count one request: 0 when it is let in, else the seconds until the next one would be. ``per_minute`` > 0."""

    async def aclose(self) -> None: ...


class MemoryCounter:
    """For one process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._paid: OrderedDict[str, float] = OrderedDict()

    async def take(self, key: str, per_minute: int) -> float:
        now = self._clock()
        paid = max(self._paid.pop(key, now), now)
        wait = paid + MINUTE / per_minute - MINUTE - now
        allowed = wait <= SLACK
        self._paid[key] = paid + MINUTE / per_minute if allowed else paid
        if len(self._paid) > MAX_KEYS:
            self._paid.popitem(last=False)
        return 0.0 if allowed else wait

    async def aclose(self) -> None:
        self._paid.clear()

    def __len__(self) -> int:
        return len(self._paid)


# The clock is that of Redis, so that servers need not agree; times in microseconds, which a double holds exactly.
_TAKE = """
local time = redis.call('TIME')
local now, cost, minute = time[1] * 1000000 + time[2], tonumber(ARGV[1]), 60000000
local paid = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
local wait = paid + cost - minute - now
if wait > 1000 then return math.ceil(wait) end
redis.call('SET', KEYS[1], string.format('%.0f', paid + cost), 'PX', math.ceil((paid + cost - now) / 1000))
return 0
"""


class RedisCounter:
    """For a fleet. One atomic script per request; a key expires when it is paid off.

    While Redis does not answer, this process counts alone: a limit is no reason to let nobody in.
    """

    def __init__(
        self, url: str, *, timeout: float = REDIS_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``timeout``: seconds for each wait."""
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=8,
            timeout=timeout,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis = Redis.from_pool(pool)
        self._script = self._redis.register_script(_TAKE)
        self._clock = clock
        self._alone = MemoryCounter(clock)
        self._alone_until = -math.inf

    async def take(self, key: str, per_minute: int) -> float:
        if self._clock() < self._alone_until:
            return await self._alone.take(key, per_minute)
        try:
            wait = await self._script(keys=[f"voice:rate:{key}"], args=[1e6 * MINUTE / per_minute])
        except (RedisError, OSError, TimeoutError) as error:
            # The class alone: some texts of the library repeat the address, and that may hold a password.
            logger.warning("Redis does not answer (%s): rates are counted here", type(error).__name__)
            self._alone_until = self._clock() + RETRY_SECONDS
            return await self._alone.take(key, per_minute)
        return float(wait) / 1e6

    async def aclose(self) -> None:
        await self._redis.aclose()


def open_counter(redis_url: str | None) -> Counter:
    """The counter of a server: Redis when it has one. Connects at the first use."""
    return RedisCounter(redis_url) if redis_url else MemoryCounter()


class RateLimit:
    """One limit: ``per_minute`` requests for each of those who are told apart by ``who``; 0 is none."""

    def __init__(self, counter: Counter, name: str, per_minute: int, refusal: str) -> None:
        self._counter = counter
        self._name = name
        self._per_minute = per_minute
        self._refusal = refusal

    async def check(self, who: str) -> None:
        """Count one request. Raises ``ApiError`` 429 with ``Retry-After`` when it is one too many."""
        if not self._per_minute:
            return
        wait = await self._counter.take(f"{self._name}:{who}", self._per_minute)
        if wait:
            raise ApiError(429, self._refusal, "RATE_LIMITED", {"Retry-After": str(math.ceil(wait))})


def network_of(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 of an IPv6 one, of which any host may take every address.

    An IPv4 address in IPv6 clothes (RFC 4291, 2.5.5.2) is the IPv4 address. Empty for what is no address.
    """
    try:
        ip = ip_address(address)
    except ValueError:
        return ""
    ip = (ip.version == 6 and ip.ipv4_mapped) or ip
    return str(ip) if isinstance(ip, IPv4Address) else str(IPv6Network((int(ip) >> 64 << 64, 64)))
