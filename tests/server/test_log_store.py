"""What every store of logs does, and what the one in a file does when its disk fails."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import redis

from server.log_entries import Entry, encode, gap
from server.log_redis import RedisStore
from server.log_sqlite import FILE, InUseError, SqliteStore
from server.log_store import MAX_PAGE, Draft, Line, LogKey, LogStore, StoreError, feed_of
from tests.redis_server import RedisServer

CALL, OTHER, AGENT = LogKey("acme", "call", "c1"), LogKey("globex", "call", "c1"), LogKey("acme", "agent", "mara")
FEED = feed_of(CALL, "mara")
DAY = 86400.0


def draft(log: LogKey, note: str, *, ts: float = 1000.0, ephemeral: bool = False, size: int = 0) -> Draft:
    kind = {"start": "call.started", "end": "call.summary"}.get(note, "skill.loaded")
    entry = Entry(kind, ts, {"note": note, "fill": "x" * size}, ephemeral)
    call = log.name if log.kind == "call" else None
    of_call = log.kind == "call"
    body = encode(entry, call=call, agent="mara")
    return Draft(log, "mara", body, ts, ephemeral, opens=of_call and note == "start", closes=of_call and note == "end")


def lost(log: LogKey, count: int) -> Draft:
    return Draft(log, "mara", encode(gap(1000.0, 0, 0), call=log.name, agent="mara"), 1000.0, lost=count)


def notes(lines: Sequence[Line]) -> list[tuple[int, str]]:
    """Number and note of each; every text is an envelope with that number."""
    envelopes = [json.loads(line.text) for line in lines]
    assert [envelope["seq"] for envelope in envelopes] == [line.seq for line in lines]
    return [(envelope["seq"], envelope["data"].get("note", envelope["type"])) for envelope in envelopes]


class Stored:
    """A store, and what it delivered."""

    def __init__(self, store: LogStore) -> None:
        self.store = store
        self.delivered: list[tuple[LogKey, list[Line]]] = []
        self.doubts = 0

    async def commit(self, *drafts: Draft) -> None:
        await self.store.commit(drafts, uuid.uuid4().hex)

    async def notes(self, log: LogKey, after: int = 0, limit: int = 100) -> list[tuple[int, str]]:
        page = await self.store.read(log, after, limit)
        return [] if page is None else notes(page.lines)

    async def heard(self, log: LogKey, count: int) -> list[tuple[int, str]]:
        """The first ``count`` lines that were delivered of a log."""
        async with asyncio.timeout(20):
            while len(lines := [line for key, group in self.delivered if key == log for line in group]) < count:
                await asyncio.sleep(0.005)
        return notes(lines)

    def doubt(self) -> None:
        self.doubts += 1

    async def deliver(self, log: LogKey, lines: Sequence[Line]) -> None:
        self.delivered.append((log, list(lines)))


Open = Callable[..., AbstractAsyncContextManager[Stored]]


@pytest.fixture(params=["sqlite", "redis"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the store, again and again if asked."""
    url = request.getfixturevalue("own_redis").url if request.param == "redis" else ""

    @asynccontextmanager
    async def open_(*, max_age: float = DAY, max_bytes: int = 1 << 30) -> AsyncIterator[Stored]:
        kept = {"max_age": max_age, "max_bytes": max_bytes}
        stored = Stored(RedisStore(url, **kept) if url else SqliteStore(tmp_path, **kept))
        await stored.store.start(stored.deliver, stored.doubt)
        try:
            yield stored
        finally:
            await stored.store.aclose()

    return open_


async def test_each_log_counts_for_itself(opened: Open) -> None:
    async with opened() as stored:
        await stored.commit(draft(CALL, "start"), draft(AGENT, "start"), draft(CALL, "a"), draft(OTHER, "start"))
        await stored.commit(draft(CALL, "b"))
        assert await stored.notes(CALL) == [(1, "start"), (2, "a"), (3, "b")]
        assert await stored.notes(AGENT) == [(1, "start")]
        assert await stored.notes(OTHER) == [(1, "start")], "calls of two organisations may have one id"
        assert await stored.store.read(LogKey("acme", "call", "c2"), 0, 10) is None
        assert await stored.store.find(LogKey("acme", "call", "c2")) is None


async def test_what_is_live_only_has_numbers_and_is_not_kept(opened: Open) -> None:
    async with opened() as stored:
        await stored.commit(draft(CALL, "start"), draft(CALL, "word", ephemeral=True), draft(CALL, "a"))
        await stored.commit(draft(CALL, "word", ephemeral=True))
        assert await stored.notes(CALL) == [(1, "start"), (3, "a")]
    async with opened() as stored:
        await stored.commit(draft(CALL, "b"))
        assert await stored.notes(CALL, 3) == [(5, "b")], "a number that somebody has seen is not given again"


async def test_pages(opened: Open) -> None:
    async with opened() as stored:
        await stored.commit(*[draft(CALL, str(number)) for number in range(1, 8)], draft(CALL, "word", ephemeral=True))
        seen, after, ends = [], 0, []
        while page := await stored.store.read(CALL, after, 3):
            seen += notes(page.lines)
            after = page.end
            ends.append((page.end, page.more))
            if not page.more:
                break
        assert seen == [(number, str(number)) for number in range(1, 8)]
        assert ends == [(3, True), (6, True), (8, False)]
        last = await stored.store.read(CALL, 99, 3)
        assert last is not None
        assert (last.lines, last.more, last.info.last) == ([], False, 8)


async def test_a_page_is_bounded(opened: Open) -> None:
    async with opened() as stored:
        await stored.commit(*[draft(CALL, str(number), size=16_000) for number in range(100)])
        page = await stored.store.read(CALL, 0, 100)
        assert page is not None
        assert page.more
        assert MAX_PAGE - 17_000 < sum(len(line.body) for line in page.lines) <= MAX_PAGE


async def test_a_session_is_live_from_its_first_entry_to_its_last(opened: Open) -> None:
    async with opened() as stored:
        for note, live in (("start", True), ("a", True), ("end", False), ("start", True)):
            await stored.commit(draft(CALL, note))
            info = await stored.store.find(CALL)
            assert info is not None
            assert (info.live, info.agent) == (live, "mara")
        await stored.commit(draft(AGENT, "start"))
        assert (await stored.store.find(AGENT)) is not None


async def test_a_gap_stands_for_what_was_lost(opened: Open) -> None:
    async with opened() as stored:
        await stored.commit(draft(CALL, "start"), lost(CALL, 5), draft(CALL, "a"))
        page = await stored.store.read(CALL, 0, 10)
        assert page is not None
        assert [line.seq for line in page.lines] == [1, 6, 7]
        envelope = json.loads(page.lines[1].text)
        assert (envelope["type"], envelope["data"]) == ("log.gap", {"from": 2, "resume_from": 7})


async def test_what_is_watched_is_delivered_once_it_is_safe(opened: Open) -> None:
    async with opened() as stored:
        await stored.commit(draft(CALL, "start"))
        await stored.store.watch(CALL)
        await stored.store.watch(CALL)
        await stored.store.watch(FEED)
        await stored.commit(draft(CALL, "a"), draft(OTHER, "a"), draft(AGENT, "a"), draft(CALL, "w", ephemeral=True))
        assert await stored.heard(CALL, 2) == [(2, "a"), (3, "w")]
        assert await stored.heard(FEED, 2) == [(2, "a"), (3, "w")]
        await stored.store.unwatch(CALL)
        await stored.store.watch(AGENT)
        await stored.commit(draft(CALL, "end"), draft(AGENT, "b"))
        assert (await stored.heard(CALL, 3))[-1] == (4, "end")
        assert await stored.heard(AGENT, 1) == [(2, "b")], "nothing of before it was watched"
        assert [line.closes for key, lines in stored.delivered if key == CALL for line in lines] == [False, False, True]
        assert [json.loads(line.unnumbered)["data"]["note"] for line in stored.delivered[-1][1]]
        await stored.store.unwatch(CALL)
        await stored.store.unwatch(FEED)
        await stored.store.unwatch(AGENT)


async def test_bytes_are_the_same_live_and_later(opened: Open) -> None:
    async with opened() as stored:
        await stored.store.watch(CALL)
        await stored.commit(Draft(CALL, "mara", encode(Entry("x", 1.5, {"t": "¿é\ud83d "}), call="c1", agent="m"), 1.5))
        await stored.heard(CALL, 1)
        page = await stored.store.read(CALL, 0, 1)
        assert page is not None
        assert page.lines[0].text == stored.delivered[0][1][0].text


async def test_everything_survives_a_restart(opened: Open) -> None:
    async with opened() as stored:
        await stored.commit(draft(CALL, "start"), draft(AGENT, "start"), draft(CALL, "a"))
    async with opened() as stored:
        assert await stored.notes(CALL) == [(1, "start"), (2, "a")]
        await stored.commit(draft(CALL, "b"), draft(AGENT, "b"))
        assert await stored.notes(CALL, 2) == [(3, "b")]
        assert await stored.notes(AGENT, 1) == [(2, "b")]


async def sweep(stored: Stored, now: float) -> None:
    while await stored.store.expire(now):
        pass


async def test_old_calls_are_forgotten_and_live_ones_are_not(opened: Open) -> None:
    async with opened(max_age=DAY) as stored:
        old, live = LogKey("acme", "call", "old"), LogKey("acme", "call", "live")
        for log in (old, live):
            await stored.commit(draft(log, "start"), draft(AGENT, f"{log.name} starts"))
        await stored.commit(draft(old, "end"), draft(AGENT, "old ends"))
        await stored.commit(draft(CALL, "start", ts=DAY), draft(CALL, "end", ts=DAY), draft(AGENT, "c1 ends", ts=DAY))
        await sweep(stored, 2 * DAY - 1)
        assert await stored.store.find(old) is None
        assert await stored.notes(old) == []
        assert await stored.notes(live) == [(1, "start")]
        assert await stored.notes(CALL) == [(1, "start"), (2, "end")]
        info = await stored.store.find(AGENT)
        assert info is not None
        assert (info.floor, info.last) == (3, 4)
        assert await stored.notes(AGENT) == [(4, "c1 ends")]
        await sweep(stored, 9 * DAY)
        await stored.commit(draft(AGENT, "goes on", ts=9 * DAY))
        assert await stored.notes(AGENT) == [(5, "goes on")]


async def test_too_much_makes_the_oldest_calls_go(opened: Open) -> None:
    async with opened(max_bytes=600_000) as stored:
        for number in range(40):
            log = LogKey("acme", "call", f"c{number}")
            ts = 1000.0 + number
            fill = draft(log, "fill", ts=ts, size=30_000)
            await stored.commit(draft(log, "start", ts=ts), fill, draft(log, "end", ts=ts), draft(AGENT, "x", ts=ts))
        await sweep(stored, 1100.0)
        kept = [number for number in range(40) if await stored.notes(LogKey("acme", "call", f"c{number}"))]
        assert 10 <= len(kept) <= 20
        assert kept == list(range(40 - len(kept), 40)), "the newest"
        assert len(await stored.notes(AGENT)) == len(kept)


async def test_numbers_are_given_once_to_many_at_once(opened: Open) -> None:
    async with opened() as stored:
        await asyncio.gather(*(stored.commit(draft(AGENT, f"{n}"), draft(AGENT, f"{n}")) for n in range(30)))
        found = await stored.notes(AGENT)
        assert [seq for seq, _ in found] == list(range(1, 61))
        assert [found[at][1] for at in range(0, 60, 2)] == [found[at][1] for at in range(1, 60, 2)], "batch by batch"


# --- a file


async def test_sessions_of_a_crash_are_found_once(tmp_path: Path) -> None:
    for _ in range(2):
        store = SqliteStore(tmp_path, max_age=DAY, max_bytes=1 << 30)
        stored = Stored(store)
        await store.start(stored.deliver, stored.doubt)
        found = await store.orphans()
        assert await store.orphans() == []
        await stored.commit(draft(CALL, "start"), draft(OTHER, "start"), draft(OTHER, "end"))
        await store.aclose()
    assert found == [(CALL, "mara")]


async def test_two_servers_do_not_share_a_file(tmp_path: Path) -> None:
    first, second = (SqliteStore(tmp_path, max_age=DAY, max_bytes=1 << 30) for _ in range(2))
    stored = Stored(first)
    await first.start(stored.deliver, stored.doubt)
    with pytest.raises(InUseError):
        await second.start(stored.deliver, stored.doubt)
    await stored.commit(draft(CALL, "start"))
    await first.aclose()
    third = SqliteStore(tmp_path, max_age=DAY, max_bytes=1 << 30)
    await third.start(stored.deliver, stored.doubt)
    assert await third.find(CALL) is not None
    await third.aclose()


@pytest.mark.parametrize("opened", ["sqlite"], indirect=True)
async def test_nobody_else_may_read_the_file(opened: Open, tmp_path: Path) -> None:
    async with opened() as stored:
        await stored.commit(draft(CALL, "start"))
        modes = {path.name: path.stat().st_mode & 0o077 for path in tmp_path.iterdir() if path.suffix != ".lock"}
        assert modes
        assert not any(modes.values()), modes


async def test_a_file_that_is_damaged_is_put_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE).write_bytes(b"this is no database" * 1000)
    store = SqliteStore(tmp_path, max_age=DAY, max_bytes=1 << 30)
    stored = Stored(store)
    await store.start(stored.deliver, stored.doubt)
    await stored.commit(draft(CALL, "start"))
    assert await stored.notes(CALL) == [(1, "start")]
    await store.aclose()
    assert "damaged" in caplog.text
    assert (tmp_path / "calls.damaged").read_bytes().startswith(b"this is no")


async def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = SqliteStore(tmp_path / "file" / "below", max_age=DAY, max_bytes=1 << 30)
    with pytest.raises(StoreError):
        await store.start(Stored(store).deliver, lambda: None)


@pytest.mark.parametrize("opened", ["sqlite"], indirect=True)
async def test_a_busy_file_takes_nothing_until_it_is_free(opened: Open, tmp_path: Path) -> None:
    async with opened() as stored:
        await stored.commit(draft(CALL, "start"))
        other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            await stored.commit(draft(CALL, "a"), draft(AGENT, "a"))
        assert await stored.notes(CALL) == [(1, "start")], "and can be read meanwhile"
        other.execute("ROLLBACK")
        other.close()
        await stored.commit(draft(CALL, "b"))
        assert await stored.notes(CALL) == [(1, "start"), (2, "b")]
        assert await stored.store.find(AGENT) is None


async def test_a_full_disk_takes_all_of_a_batch_or_nothing(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, max_age=DAY, max_bytes=1 << 30)
    stored = Stored(store)
    await store.start(stored.deliver, stored.doubt)
    await stored.commit(draft(CALL, "start"))
    store._writer.execute("PRAGMA max_page_count = 20").fetchall()
    await store.watch(CALL)
    with pytest.raises(StoreError, match="full"):
        await stored.commit(draft(CALL, "small"), *[draft(CALL, "large", size=20_000) for _ in range(10)])
    assert stored.delivered == []
    await stored.commit(draft(CALL, "a"))
    assert await stored.notes(CALL) == [(1, "start"), (2, "a")]
    await store.aclose()


# --- a Redis


@asynccontextmanager
async def on_redis(url: str, **options: float) -> AsyncIterator[Stored]:
    stored = Stored(RedisStore(url, max_age=DAY, max_bytes=1 << 30, timeout=1.0, **options))
    await stored.store.start(stored.deliver, stored.doubt)
    try:
        yield stored
    finally:
        await stored.store.aclose()


async def test_servers_read_and_follow_what_others_write(own_redis: RedisServer) -> None:
    async with on_redis(own_redis.url) as one, on_redis(own_redis.url) as other:
        for log in (CALL, AGENT, FEED):
            await other.store.watch(log)
        await one.commit(draft(CALL, "start"), draft(AGENT, "a"), draft(CALL, "w", ephemeral=True))
        await other.commit(draft(AGENT, "b"))
        assert await other.heard(CALL, 2) == [(1, "start"), (2, "w")]
        assert await other.heard(AGENT, 2) == [(1, "a"), (2, "b")], "one count for all of them"
        assert len(await other.heard(FEED, 2)) == 2
        assert await other.notes(CALL) == await one.notes(CALL) == [(1, "start")]
        assert one.delivered == []


async def test_a_batch_whose_answer_was_lost_is_appended_once(own_redis: RedisServer) -> None:
    async with on_redis(own_redis.url) as stored:
        for token in ("one", "one", "two", "one"):
            await stored.store.commit([draft(CALL, token)], token)
        assert await stored.notes(CALL) == [(1, "one"), (2, "two")]


async def test_sessions_of_a_server_that_is_gone_are_given_to_one(own_redis: RedisServer) -> None:
    async with on_redis(own_redis.url) as gone, on_redis(own_redis.url) as one, on_redis(own_redis.url) as other:
        await gone.commit(draft(CALL, "start"), draft(OTHER, "start"), draft(OTHER, "end"))
        await one.commit(draft(LogKey("acme", "call", "mine:1"), "start"))
        assert await other.store.orphans() == await one.store.orphans() == [], "all are alive"
        with redis.Redis.from_url(own_redis.url) as client:
            client.zadd("voice:log-servers", {gone.store._server: 1.0})
        found = await asyncio.gather(one.store.orphans(), other.store.orphans())
        assert sorted(found) == [[], [(CALL, "mara")]]
        assert await one.store.orphans() == []


async def test_a_lost_subscription_is_told_of_and_made_again(own_redis: RedisServer) -> None:
    async with on_redis(own_redis.url) as stored:
        await stored.store.watch(CALL)
        with redis.Redis.from_url(own_redis.url) as client:
            before = stored.doubts
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await stored.commit(draft(CALL, "perhaps missed"))
            async with asyncio.timeout(20):
                while stored.doubts == before:
                    await asyncio.sleep(0.01)
        assert await stored.notes(CALL) == [(1, "perhaps missed")], "and can be read at once"
        await stored.store.watch(AGENT)
        await stored.commit(draft(CALL, "heard again"), draft(AGENT, "too"))
        assert await stored.heard(AGENT, 1) == [(1, "too")]
        assert (await stored.heard(CALL, 1))[-1] == (2, "heard again")


async def test_who_leaves_before_the_subscription_is_confirmed_leaves_nothing(own_redis: RedisServer) -> None:
    async with on_redis(own_redis.url) as stored:
        await stored.store.watch(AGENT)
        leaving = [asyncio.create_task(stored.store.watch(CALL)) for _ in range(3)]
        await asyncio.sleep(0)
        for each in leaving:
            each.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        await stored.store.watch(FEED)
        assert sorted(stored.store._watched) == sorted([AGENT, FEED])
        with redis.Redis.from_url(own_redis.url) as client:
            channels = [channel.decode() for channel in client.pubsub_channels("voice:log:*")]
        assert channels == ["voice:log:acme:agent:mara"]


async def test_what_a_stranger_publishes_costs_nothing_but_the_connection(own_redis: RedisServer) -> None:
    async with on_redis(own_redis.url) as stored:
        await stored.store.watch(CALL)
        async with asyncio.timeout(20):
            while stored.doubts < 1:
                await asyncio.sleep(0.01)
            with redis.Redis.from_url(own_redis.url) as client:
                client.publish("voice:log:acme:call:c1", "nonsense")
            while stored.doubts < 2:
                await asyncio.sleep(0.01)
        await stored.commit(draft(CALL, "heard again"))
        assert await stored.heard(CALL, 1) == [(1, "heard again")]


async def test_a_redis_that_is_not_there_or_full(own_redis: RedisServer) -> None:
    async with on_redis(own_redis.url) as stored:
        await stored.commit(draft(CALL, "start"))
        with redis.Redis.from_url(own_redis.url) as client:
            client.config_set("maxmemory", 1)
            with pytest.raises(StoreError):
                await stored.commit(draft(CALL, "a"))
            client.config_set("maxmemory", 0)
        await stored.commit(draft(CALL, "b"))
        assert await stored.notes(CALL) == [(1, "start"), (2, "b")]
        own_redis.kill()
        for failing in (stored.commit(draft(CALL, "c")), stored.store.find(CALL), stored.store.read(CALL, 0, 1)):
            with pytest.raises(StoreError, match="Redis: ConnectionError"):
                await failing
        with pytest.raises(StoreError):
            await stored.store.watch(CALL)
        own_redis.start()
        await stored.commit(draft(CALL, "anew"))
        await stored.store.watch(CALL)
