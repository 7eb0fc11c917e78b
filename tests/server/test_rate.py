from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator

import pytest
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st

from server import rate
from server.http import ApiError
from server.rate import Counter, MemoryCounter, RateLimit, RedisCounter, network_of, open_counter
from tests.redis_server import RedisServer


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["memory", "redis"])
async def counter(request: pytest.FixtureRequest) -> AsyncIterator[Counter]:
    """Either counter: what is tested with it holds for both."""
    in_memory = request.param == "memory"
    # The long time-out is for busy machines.
    made = MemoryCounter() if in_memory else RedisCounter(request.getfixturevalue("redis_url"), timeout=60)
    yield made
    await made.aclose()


@pytest.fixture
def key() -> str:
    return uuid.uuid4().hex


# The contract, on both counters.


async def test_so_many_at_once_and_then_the_wait_for_the_next(counter: Counter, key: str) -> None:
    assert [await counter.take(key, 2) for _ in range(2)] == [0, 0]
    assert 0 < await counter.take(key, 2) <= 30
    assert 0 < await counter.take(key, 2) <= 30  # what is refused costs nothing
    assert await counter.take(f"{key} of another", 2) == 0


async def test_of_racing_requests_so_many_are_let_in(counter: Counter, key: str) -> None:
    waits = await asyncio.gather(*(counter.take(key, 3) for _ in range(100)))
    assert waits.count(0) == 3


async def test_after_the_wait_the_next_is_let_in(counter: Counter, key: str) -> None:
    per_minute = 120
    while not (wait := await counter.take(key, per_minute)):
        pass
    began = time.monotonic()
    await asyncio.sleep(wait)
    while await counter.take(key, per_minute):
        assert time.monotonic() - began < 20
        await asyncio.sleep(0.01)
    assert time.monotonic() - began >= wait - 0.01


async def test_a_server_with_a_redis_uses_it(redis_url: str) -> None:
    shared = open_counter(redis_url)
    assert isinstance(shared, RedisCounter)
    assert isinstance(open_counter(None), MemoryCounter)
    await shared.aclose()


# In memory.


async def test_a_burst_then_an_even_refill() -> None:
    clock = Clock()
    counter = MemoryCounter(clock)

    async def allowed(times: int) -> int:
        return [await counter.take("a", 60) for _ in range(times)].count(0)

    assert await allowed(61) == 60
    clock.now += 1
    assert await allowed(2) == 1
    clock.now += 3600
    assert await allowed(61) == 60


@given(st.lists(st.floats(0, 30), max_size=200), st.floats(0, 1e7), st.integers(1, 7))
async def test_never_more_than_the_limit_and_its_refill(gaps: list[float], start: float, per_minute: int) -> None:
    clock = Clock()
    clock.now = start
    counter = MemoryCounter(clock)
    let_in: list[float] = []
    for gap in gaps:
        clock.now += gap
        wait = await counter.take("a", per_minute)
        if wait == 0:
            let_in.append(clock.now)
        assert 0 <= wait <= 60 / per_minute + 1e-6
    for begin in let_in:
        # A full burst at once, then what is refilled in the minute.
        assert sum(begin <= at < begin + 60 for at in let_in) <= 2 * per_minute
    assert not let_in or let_in[0] == start + gaps[0]


async def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate, "MAX_KEYS", 100)
    counter = MemoryCounter()
    for number in range(200):
        await counter.take(str(number), 1)
        await counter.take("busy", 1)
    assert len(counter) == 100
    assert await counter.take("busy", 1) > 0


# On Redis.


async def test_two_servers_count_together(redis_url: str, key: str) -> None:
    here, there = RedisCounter(redis_url, timeout=60), RedisCounter(redis_url, timeout=60)
    waits = await asyncio.gather(*(counter.take(key, 3) for _ in range(20) for counter in (here, there)))
    assert waits.count(0) == 3
    await here.aclose()
    await there.aclose()


async def test_redis_forgets_by_itself(redis_url: str, key: str) -> None:
    counter, client = RedisCounter(redis_url, timeout=60), redis.asyncio.Redis.from_url(redis_url)
    await counter.take(key, 1)
    assert 30_000 < await client.pttl(f"voice:rate:{key}") <= 60_000
    await counter.aclose()
    await client.aclose()


async def test_without_its_redis_a_server_counts_alone_until_it_is_back(
    own_redis: RedisServer, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    counter = RedisCounter(own_redis.url, timeout=60, clock=clock)
    assert await counter.take(key, 1) == 0
    own_redis.kill()
    with caplog.at_level(logging.WARNING):
        assert [await counter.take(key, 1) == 0 for _ in range(20)] == [True] + 19 * [False]
    assert len(caplog.records) == 1  # not one for each request
    own_redis.start()
    assert await counter.take(key, 1) > 0
    clock.now += rate.RETRY_SECONDS
    assert await counter.take(key, 1) == 0  # the new Redis knows of nothing
    assert await counter.take(key, 1) > 0
    await counter.aclose()


async def test_a_redis_that_hangs_is_given_up() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    counter = RedisCounter(f"redis://:hunter2@127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout=0.05)
    waits = await asyncio.gather(*(counter.take("a", 3) for _ in range(40)))
    assert waits.count(0) == 3
    await counter.aclose()
    server.close()
    await server.wait_closed()


# Limits.


async def test_a_refusal_says_when_to_come_back() -> None:
    clock = Clock()
    counter = MemoryCounter(clock)
    offers, tokens = RateLimit(counter, "offer", 4, "Too many offers"), RateLimit(counter, "token", 4, "Too many")
    for _ in range(4):
        await offers.check("a")
    with pytest.raises(ApiError, match=r"^Too many offers$") as caught:
        await offers.check("a")
    assert (caught.value.status, caught.value.code) == (429, "RATE_LIMITED")
    assert caught.value.headers == {"Retry-After": "15"}
    clock.now += 14.9
    with pytest.raises(ApiError) as caught:
        await offers.check("a")
    assert caught.value.headers == {"Retry-After": "1"}
    await offers.check("b")
    await tokens.check("a")


async def test_a_limit_of_zero_is_none() -> None:
    limit = RateLimit(MemoryCounter(), "offer", 0, "Too many offers")
    for _ in range(1000):
        await limit.check("a")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("192.0.2.7", "::ffff:192.0.2.7"),
        ("2001:db8::1", "2001:db8:0:0:ffff::9"),
        ("fe80::1", "fe80::2%eth0"),
        ("", "no address"),
    ],
)
def test_these_are_one_client(one: str, other: str) -> None:
    assert network_of(one) == network_of(other)


def test_these_are_not() -> None:
    addresses = ["192.0.2.7", "192.0.2.8", "2001:db8::1", "2001:db8:0:1::1", "::192.0.2.7", ""]
    assert len({network_of(address) for address in addresses}) == len(addresses)


@given(st.text(max_size=50) | st.ip_addresses().map(str))
def test_any_text_is_bounded(text: str) -> None:
    assert len(network_of(text)) <= 50
