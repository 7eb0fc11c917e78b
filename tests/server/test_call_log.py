"""The call log of a server: where it is kept when its place is taken, and what it finds at the start."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings
from pipeline import events
from server import call_log
from server.call_log import CallLog, open_call_log
from server.feed import Feed
from server.log_sqlite import SqliteStore
from server.log_store import LogKey, Page, StoreError
from server.registry import AgentKey
from tests.redis_server import RedisServer
from tests.server.backends import SECONDS

MARA, CALL = AgentKey("acme", "mara"), LogKey("acme", "call", "c1")


def begin(log: CallLog) -> Feed:
    feed = Feed("c1", log.sink(MARA, "c1"))
    feed.publish(events.CallStarted(language="en"))
    feed.publish(events.ChatMessage(message_id="u1", text="Hi"))
    return feed


async def kinds(log: CallLog, key: LogKey = CALL) -> list[str]:
    page = await log.read(key, 0, 100)
    return [] if page is None else [json.loads(line.text)["type"] for line in page.lines]


async def test_a_folder_that_is_in_use_costs_the_past_and_the_future_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(data_dir=tmp_path)
    async with open_call_log(settings) as first, open_call_log(settings) as second:
        for log in (first, second):
            begin(log)
            await log.settle(SECONDS)
            assert (await kinds(log))[0] == "call.started"
        assert "is forgotten at its end" in caplog.text
        elsewhere = Path(second._store._path).parent
        assert elsewhere != tmp_path
    assert not elsewhere.exists()
    assert (tmp_path / "calls.sqlite").exists()


async def test_what_a_crash_cut_short_gets_its_end_once(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    for _ in range(3):
        async with open_call_log(settings) as log:
            if await log.find(CALL) is None:
                begin(log)
                await log.settle(SECONDS)  # and then the server is gone
                continue
            await until_ended(log)
            assert (await kinds(log))[-3:] == ["turn.end", "call.ended", "call.summary"]
            assert (await kinds(log)).count("call.summary") == 1
            assert await kinds(log, LogKey("acme", "agent", "mara")) == ["call.started", "call.ended"]


async def test_an_end_that_could_not_be_written_comes_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data_dir=tmp_path)
    async with open_call_log(settings) as log:
        begin(log)
        await log.settle(SECONDS)
    monkeypatch.setattr(call_log, "SWEEP_SECONDS", 0.01)
    read, failures = SqliteStore.read, [StoreError("busy"), StoreError("busy")]

    async def fail_first(store: SqliteStore, *asked: Any) -> Page | None:
        if failures:
            raise failures.pop()
        return await read(store, *asked)

    monkeypatch.setattr(SqliteStore, "read", fail_first)
    async with open_call_log(settings) as log:
        async with asyncio.timeout(SECONDS):
            while failures:
                await asyncio.sleep(0.01)
        await until_ended(log)
        assert (await kinds(log))[-2:] == ["call.ended", "call.summary"]


async def test_another_server_ends_what_one_that_is_gone_has_left(own_redis: RedisServer, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, redis_url=own_redis.url)
    async with open_call_log(settings) as gone:
        begin(gone)
        await gone.settle(SECONDS)
        await gone._store._redis.zadd("voice:log-servers", {gone._store._server: 1.0})
        async with open_call_log(settings) as other:
            await until_ended(other)
            assert (await kinds(other))[-2:] == ["call.ended", "call.summary"]


async def until_ended(log: CallLog) -> None:
    async with asyncio.timeout(SECONDS):
        while (info := await log.find(CALL)) is None or info.live:
            await asyncio.sleep(0.01)
