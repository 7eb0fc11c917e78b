from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable

import pytest
import redis.asyncio

from tests.redis_server import RedisServer
from tokens.errors import LedgerFull, LedgerUnavailable, MetadataError
from tokens.ledger import Ledger, MemoryLedger, RedisLedger, open_ledger
from tokens.record import MAX_METADATA, Record
from tokens.token import Channel

RECORD = Record(
    "default", "mara", Channel.WEBRTC, {"user": {"name": "Zoë", "ids": [1, 2.5, None]}}, origin="http://a.b"
)


@pytest.fixture
def jti() -> str:
    return uuid.uuid4().hex


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


# The contract, on both ledgers.


async def test_a_record_comes_back_as_it_was(ledger: Ledger, jti: str) -> None:
    await ledger.put(jti, RECORD, 60)
    assert await ledger.spend(jti) == RECORD


async def test_a_record_is_spent_once(ledger: Ledger, jti: str) -> None:
    await ledger.put(jti, RECORD, 60)
    assert await ledger.spend(jti) is not None
    assert await ledger.spend(jti) is None
    assert await ledger.read(jti) is None


async def test_reading_leaves_a_record(ledger: Ledger, jti: str) -> None:
    await ledger.put(jti, RECORD, 60)
    assert await ledger.read(jti) == await ledger.read(jti) == await ledger.spend(jti) == RECORD


async def test_an_unknown_id_has_no_record(ledger: Ledger, jti: str) -> None:
    assert await ledger.spend(jti) is None
    assert await ledger.read(jti) is None


async def test_an_id_is_taken_once(ledger: Ledger, jti: str) -> None:
    await ledger.put(jti, RECORD, 60)
    with pytest.raises(ValueError, match="taken"):
        await ledger.put(jti, Record("evil", "mara", Channel.WEBRTC), 60)
    assert await ledger.spend(jti) == RECORD


async def test_a_record_expires(ledger: Ledger, jti: str) -> None:
    await ledger.put(jti, RECORD, 0.02)

    async def gone() -> bool:
        return await ledger.read(jti) is None

    await eventually(gone)
    assert await ledger.spend(jti) is None


async def test_of_200_racing_spends_one_wins(ledger: Ledger, jti: str) -> None:
    await ledger.put(jti, RECORD, 60)
    answers = await asyncio.gather(*(ledger.spend(jti) for _ in range(200)))
    assert [answer for answer in answers if answer is not None] == [RECORD]


async def test_what_is_put_later_into_the_metadata_is_not_sealed(ledger: Ledger, jti: str) -> None:
    metadata = {"role": "user"}
    await ledger.put(jti, Record("default", "mara", Channel.CHAT, metadata), 60)
    metadata["role"] = "admin"
    spent = await ledger.spend(jti)
    assert spent is not None
    assert spent.metadata == {"role": "user"}


async def test_large_metadata_is_refused(ledger: Ledger, jti: str) -> None:
    with pytest.raises(MetadataError):
        await ledger.put(jti, Record("default", "mara", Channel.CHAT, {"a": "x" * MAX_METADATA}), 60)
    assert await ledger.read(jti) is None


async def test_a_server_with_a_redis_uses_it(redis_url: str) -> None:
    shared = open_ledger(redis_url)
    assert isinstance(shared, RedisLedger)
    assert isinstance(open_ledger(None), MemoryLedger)
    await shared.aclose()


# In memory.


async def test_the_memory_is_bounded_and_freed_by_expiry() -> None:
    now = 0.0
    ledger = MemoryLedger(capacity=3, clock=lambda: now)
    for number in range(3):
        await ledger.put(str(number), RECORD, 10)
    with pytest.raises(LedgerFull, match="Too many tokens"):
        await ledger.put("3", RECORD, 10)
    now = 9.9
    assert len(ledger) == 3
    now = 10.0
    assert len(ledger) == 0
    await ledger.put("3", RECORD, 10)


async def test_the_memory_is_bounded_when_every_token_is_spent() -> None:
    now = 0.0
    ledger = MemoryLedger(capacity=3, clock=lambda: now)
    for number in range(12):
        await ledger.put(str(number), RECORD, 10)
        await ledger.spend(str(number))
    with pytest.raises(LedgerFull):
        await ledger.put("one more", RECORD, 10)
    now = 10.0
    await ledger.put("again", RECORD, 10)


async def test_an_id_may_come_back_after_it_was_spent_and_lives_its_full_time() -> None:
    now = 0.0
    ledger = MemoryLedger(clock=lambda: now)
    await ledger.put("a", RECORD, 10)
    await ledger.spend("a")
    now = 5.0
    await ledger.put("a", RECORD, 10)
    now = 12.0  # the first life's expiry has passed
    assert await ledger.spend("a") == RECORD


# On Redis.


async def test_two_servers_share_a_ledger(redis_url: str, jti: str) -> None:
    here, there = RedisLedger(redis_url, timeout=60), RedisLedger(redis_url, timeout=60)
    await here.put(jti, RECORD, 60)
    answers = await asyncio.gather(*(ledger.spend(jti) for _ in range(100) for ledger in (here, there)))
    assert [answer for answer in answers if answer is not None] == [RECORD]
    await here.aclose()
    await there.aclose()


async def test_redis_itself_expires_the_record(redis_url: str, jti: str) -> None:
    ledger, client = RedisLedger(redis_url), redis.asyncio.Redis.from_url(redis_url)
    await ledger.put(jti, RECORD, 60)
    assert 50_000 < await client.pttl(f"voice:token:{jti}") <= 60_000
    await ledger.aclose()
    await client.aclose()


async def test_a_killed_redis_lets_nobody_in_and_a_new_one_does(
    own_redis: RedisServer, jti: str, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = RedisLedger(own_redis.url)
    await ledger.put(jti, RECORD, 60)
    own_redis.kill()
    with caplog.at_level(logging.WARNING):
        for attempt in (ledger.spend(jti), ledger.read(jti), ledger.put("b", RECORD, 60)):
            with pytest.raises(LedgerUnavailable, match="not available"):
                await attempt
    assert "Redis does not answer" in caplog.text
    own_redis.start()
    assert await ledger.spend(jti) is None  # it went down with the old one
    await ledger.put(jti, RECORD, 60)
    assert await ledger.spend(jti) == RECORD
    await ledger.aclose()


async def test_many_waiting_on_a_dead_redis_are_all_refused(own_redis: RedisServer) -> None:
    ledger = RedisLedger(own_redis.url)
    own_redis.kill()
    answers = await asyncio.gather(*(ledger.spend(str(number)) for number in range(200)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {LedgerUnavailable}
    await ledger.aclose()


async def test_a_redis_that_hangs_is_given_up(jti: str) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    ledger = RedisLedger(f"redis://:hunter2@127.0.0.1:{port}", timeout=0.05)
    with pytest.raises(LedgerUnavailable) as caught:
        await ledger.spend(jti)
    assert "hunter2" not in str(caught.value)
    await ledger.aclose()
    server.close()
    await server.wait_closed()


async def test_what_redis_refuses_lets_nobody_in(redis_url: str, jti: str) -> None:
    ledger, client = RedisLedger(redis_url), redis.asyncio.Redis.from_url(redis_url)
    await client.lpush(f"voice:token:{jti}", "a list")
    with pytest.raises(LedgerUnavailable):
        await ledger.spend(jti)
    for damaged in ("{", "[]", "5", '{"org":"x"}', '{"org":"x","agent":"a","channel":"phone"}'):
        await client.set(f"voice:token:{jti}", damaged)
        with pytest.raises(LedgerUnavailable):
            await ledger.spend(jti)
    await ledger.aclose()
    await client.aclose()


async def test_a_cancelled_caller_does_not_cross_the_answers_of_others(redis_url: str) -> None:
    ledger = RedisLedger(redis_url, timeout=60, connections=2)
    records = {uuid.uuid4().hex: Record(str(number), "mara", Channel.CHAT) for number in range(50)}
    for jti, record in records.items():
        await ledger.put(jti, record, 60)
    for jti in records:
        reader = asyncio.create_task(ledger.read(jti))
        for _ in range(3):  # somewhere between the question and its answer
            await asyncio.sleep(0)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
    assert {jti: await ledger.spend(jti) for jti in records} == records
    await ledger.aclose()
