"""The call log: every session written down as it happens, and read by whoever may. Source: protocol 6.4."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from config.settings import Settings
from server.feed import Fact, Sink
from server.log_entries import Entry, Scribe, cut_short, encode, lifecycle
from server.log_redis import RedisStore
from server.log_sqlite import SqliteStore
from server.log_store import Draft, LogInfo, LogKey, LogStore, Page, StoreError, feed_of
from server.log_tail import Fanout, Follower
from server.log_writer import LogWriter
from server.registry import AgentKey

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0
PAUSE_SECONDS = 0.2
"""Between two steps of the same sweep: entries are written in between."""

PAGE = 500
"""Entries read at once to find out how a log ended."""


class CallLog:
    """What the server knows of its store. An async context manager that owns the tasks of the log."""

    def __init__(self, store: LogStore) -> None:
        self._store = store
        self._fanout = Fanout()
        self._writer = LogWriter(store)
        self._sweeper: asyncio.Task[None] | None = None
        self._orphans: list[tuple[LogKey, str]] = []  # without an end, and nobody else's to end

    @property
    def lost(self) -> int:
        """Entries that were given up because the store did not take them in time."""
        return self._writer.lost

    async def settle(self, seconds: float) -> None:
        """Until everything that happened so far is written or given up, ``seconds`` at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._writer.settle()

    def sink(self, key: AgentKey, session_id: str) -> Sink:
        """Writes one session down. Give it to the session's ``Feed``."""
        scribe = Scribe()
        log, of_agent = LogKey(key.org, "call", session_id), LogKey(key.org, "agent", key.slug)
        feed = feed_of(log, key.slug)

        def take(fact: Fact) -> None:
            for entry in scribe.take(fact):
                if not entry.ephemeral or self._store.is_watched(log) or self._store.is_watched(feed):
                    self._append(log, key.slug, entry)
                if (short := lifecycle(entry, session_id)) is not None:
                    self._append(of_agent, key.slug, short)

        return take

    async def find(self, log: LogKey) -> LogInfo | None:
        """Raises ``StoreError``, as do the others."""
        return await self._store.find(log)

    async def read(self, log: LogKey, after: int, limit: int) -> Page | None:
        return await self._store.read(log, after, limit)

    @asynccontextmanager
    async def following(self, log: LogKey, follower: Follower) -> AsyncIterator[None]:
        """While in it, ``follower`` is told of everything that is appended."""
        await self._store.watch(log)
        self._fanout.add(log, follower)
        try:
            yield
        finally:
            self._fanout.remove(log, follower)
            await self._store.unwatch(log)

    async def __aenter__(self) -> CallLog:
        """Raises ``StoreError`` when the store cannot be used."""
        await self._store.start(self._fanout.deliver, self._fanout.doubt)
        await self._writer.__aenter__()
        self._sweeper = asyncio.create_task(self._sweep(), name="retention of the call log")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        await self._writer.__aexit__()
        await self._store.aclose()

    def _append(self, log: LogKey, agent: str, entry: Entry) -> None:
        call = log.name if log.kind == "call" else None
        of_call = log.kind == "call"
        self._writer.append(
            Draft(
                log,
                agent,
                encode(entry, call=call, agent=agent),
                entry.ts,
                ephemeral=entry.ephemeral,
                opens=of_call and entry.type == "call.started",
                closes=of_call and entry.type == "call.summary",
            )
        )

    async def _sweep(self) -> None:
        """End what a crash has left without an end; delete what is too old or too much."""
        while True:
            try:
                self._orphans += await self._store.orphans()
                while self._orphans:
                    await self._finish(*self._orphans[-1])
                    self._orphans.pop()
                there_is_more = True
                while there_is_more:
                    there_is_more = await self._store.expire(time.time())
                    await asyncio.sleep(PAUSE_SECONDS)
            except StoreError as error:
                logger.warning("the call log was not swept: %s", error)
            await asyncio.sleep(SWEEP_SECONDS)

    async def _finish(self, log: LogKey, agent: str) -> None:
        stored, after = [], 0
        while (page := await self._store.read(log, after, PAGE)) is not None:
            stored += [json.loads(line.text) for line in page.lines]
            after = page.end
            if not page.more:
                break
        if not stored:
            return
        of_agent = LogKey(log.org, "agent", agent)
        for entry in cut_short(stored):
            self._append(log, agent, entry)
            if (short := lifecycle(entry, log.name)) is not None:
                self._append(of_agent, agent, short)
        logger.info("the log of call %s, which a crash cut short, has its end", log.name)


@asynccontextmanager
async def open_call_log(settings: Settings) -> AsyncIterator[CallLog]:
    """The call log of a server. One whose store cannot be used does without what was before and what will be after."""
    async with AsyncExitStack() as stack:
        log = CallLog(_store(settings, settings.data_dir))
        try:
            await stack.enter_async_context(log)
        except StoreError as error:
            logger.warning("the call log in data_dir cannot be used: %s; this run's is forgotten at its end", error)
            folder = tempfile.mkdtemp(prefix="voice-server-")
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            log = await stack.enter_async_context(CallLog(_store(settings, Path(folder))))
        yield log


def _store(settings: Settings, folder: Path) -> LogStore:
    max_age, max_bytes = settings.call_log_days * 86400, settings.call_log_mb << 20
    if settings.redis_url is not None:
        return RedisStore(settings.redis_url.get_secret_value(), max_age=max_age, max_bytes=max_bytes)
    return SqliteStore(folder, max_age=max_age, max_bytes=max_bytes)
