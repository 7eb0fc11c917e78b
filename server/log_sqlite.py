"""The logs of one process in an SQLite file, which survives the process.

One thread writes, one reads; the event loop waits for neither. A write-ahead log keeps what was committed when the
process is killed; what a power failure takes is the last moments, since not every commit is flushed to the disk.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TypeVar

from server.log_store import (
    MAX_PAGE,
    Deliver,
    Doubt,
    Draft,
    Line,
    LogInfo,
    LogKey,
    Page,
    StoreError,
    feed_of,
    filled,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

FILE = "calls.sqlite"
BUSY_SECONDS = 1.0
"""How long another process may hold the file, a backup for example."""

SWEEP = 20
"""Calls that are deleted at once; other commits wait meanwhile."""

TRIM = 500
"""Entries of an agent's log, likewise."""

SHARE = 0.05
"""Of the calls, the oldest, that go when there is too much."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS logs (
  id INTEGER PRIMARY KEY, org TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, agent TEXT NOT NULL,
  last INTEGER NOT NULL, floor INTEGER NOT NULL DEFAULT 0, live INTEGER NOT NULL, touched REAL NOT NULL,
  UNIQUE (org, kind, name)
);
CREATE INDEX IF NOT EXISTS oldest ON logs (kind, live, touched);
CREATE TABLE IF NOT EXISTS entries (
  log INTEGER NOT NULL, seq INTEGER NOT NULL, ts REAL NOT NULL, body TEXT NOT NULL, PRIMARY KEY (log, seq)
) WITHOUT ROWID;
"""
_APPEND = """
INSERT INTO logs (org, kind, name, agent, last, live, touched) VALUES (?1, ?2, ?3, ?4, ?5, coalesce(?6, 0), ?7)
ON CONFLICT (org, kind, name) DO UPDATE
SET agent = ?4, last = last + ?5, live = coalesce(?6, live), touched = max(touched, ?7)
RETURNING id, last
"""
_INFO = "SELECT id, agent, last, floor, live FROM logs WHERE org = ? AND kind = ? AND name = ?"


class InUseError(StoreError):
    """Another process has the file."""


class SqliteStore:
    """Implements ``server.log_store.LogStore``."""

    def __init__(self, folder: Path, *, max_age: float, max_bytes: int) -> None:
        """``max_age``: seconds for which a finished call is kept. ``max_bytes``: of the file, about."""
        self._path = folder / FILE
        self._max_age = max_age
        self._max_bytes = max_bytes
        self._lock: IO[bytes] | None = None
        self._writing = ThreadPoolExecutor(1, "log writer")
        self._reading = ThreadPoolExecutor(1, "log reader")
        self._writer: sqlite3.Connection
        self._reader: sqlite3.Connection
        self._deliver: Deliver
        self._left: list[tuple[LogKey, str]] = []
        self._watched: Counter[LogKey] = Counter()  # none of them 0

    async def start(self, deliver: Deliver, doubt: Doubt) -> None:
        """Raises ``StoreError`` when the file cannot be used, ``InUseError`` when another server uses it."""
        self._deliver = deliver
        try:
            await self._run(self._writing, self._open)
            await self._run(self._reading, self._open_reader)
        except BaseException:
            await self.aclose()
            raise

    async def commit(self, drafts: Sequence[Draft], token: str) -> None:
        lines = await self._run(self._writing, lambda: self._commit(drafts))
        watched: defaultdict[LogKey, list[Line]] = defaultdict(list)
        for line in lines:
            if line.log in self._watched:
                watched[line.log].append(line)
            if line.log.kind == "call" and (feed := feed_of(line.log, line.agent)) in self._watched:
                watched[feed].append(line)
        for log, group in watched.items():
            await self._deliver(log, group)

    async def find(self, log: LogKey) -> LogInfo | None:
        return await self._run(self._reading, lambda: self._find(log))

    async def read(self, log: LogKey, after: int, limit: int) -> Page | None:
        return await self._run(self._reading, lambda: self._read(log, after, limit))

    async def watch(self, log: LogKey) -> None:
        self._watched[log] += 1

    async def unwatch(self, log: LogKey) -> None:
        self._watched[log] -= 1
        if not self._watched[log]:
            del self._watched[log]

    def is_watched(self, log: LogKey) -> bool:
        return log in self._watched

    async def expire(self, now: float) -> bool:
        return await self._run(self._writing, lambda: self._expire(now))

    async def orphans(self) -> Sequence[tuple[LogKey, str]]:
        left, self._left = self._left, []
        return left

    async def aclose(self) -> None:
        loop = asyncio.get_running_loop()
        for pool, name in ((self._reading, "_reader"), (self._writing, "_writer")):
            await loop.run_in_executor(pool, self._close, name)
            pool.shutdown(wait=False)
        if self._lock is not None:
            self._lock.close()

    async def _run(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, work)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{type(error).__name__}: {error}") from None

    # --- in the thread that writes

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = self._path.with_suffix(".lock").open("wb")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUseError("another server uses it") from None
        try:
            self._writer = self._prepare()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            aside = self._path.with_suffix(".damaged")
            logger.error("the call log is damaged (%s) and begins anew; what was there is in %s", error, aside)
            self._path.replace(aside)
            for tail in ("-wal", "-shm"):
                Path(f"{self._path}{tail}").unlink(missing_ok=True)
            self._writer = self._prepare()
        rows = self._writer.execute("SELECT org, name, agent FROM logs WHERE kind = 'call' AND live").fetchall()
        self._left = [(LogKey(org, "call", name), agent) for org, name, agent in rows]

    def _prepare(self) -> sqlite3.Connection:
        """The file holds what people said: nobody else may read it."""
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before there are tables
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_SCHEMA)
        connection.execute("SELECT count(*) FROM logs").fetchone()
        return connection

    def _commit(self, drafts: Sequence[Draft]) -> list[Line]:
        groups: defaultdict[LogKey, list[int]] = defaultdict(list)
        for place, draft in enumerate(drafts):
            groups[draft.log].append(place)
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            lines: dict[int, Line] = {}
            for places in groups.values():
                lines |= zip(places, self._append([drafts[place] for place in places]), strict=True)
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:  # a full disk may have ended it
                self._writer.execute("ROLLBACK")
            raise
        return [lines[place] for place in range(len(drafts))]

    def _append(self, group: Sequence[Draft]) -> list[Line]:
        """Of one log."""
        log, agent = group[0].log, group[0].agent
        live = next((draft.opens for draft in reversed(group) if draft.opens or draft.closes), None)
        count = sum(draft.numbers for draft in group)
        row = self._writer.execute(_APPEND, (*log, agent, count, live, group[-1].ts)).fetchone()
        number, seq = row[0], row[1] - count
        lines = []
        for draft in group:
            seq += draft.numbers
            lines.append(Line(log, agent, seq, filled(draft, seq), draft.closes))
        rows = [
            (number, line.seq, draft.ts, line.body)
            for line, draft in zip(lines, group, strict=True)
            if not draft.ephemeral
        ]
        self._writer.executemany("INSERT INTO entries (log, seq, ts, body) VALUES (?, ?, ?, ?)", rows)
        return lines

    def _expire(self, now: float) -> bool:
        cutoff, too_much = now - self._max_age, False
        if self._used() > self._max_bytes:
            [ended] = self._writer.execute("SELECT count(*) FROM logs WHERE kind = 'call' AND NOT live").fetchone()
            row = self._writer.execute(
                "SELECT touched FROM logs WHERE kind = 'call' AND NOT live ORDER BY touched LIMIT 1 OFFSET ?",
                (min(int(ended * SHARE), SWEEP - 1),),
            ).fetchone()
            if row is not None:
                too_much, cutoff = True, max(cutoff, row[0])
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            gone = self._delete_calls(cutoff)
            trimmed = self._trim_agents(cutoff)
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise
        self._writer.execute("PRAGMA incremental_vacuum(1000)").fetchall()
        return gone == SWEEP or trimmed or (too_much and self._used() > self._max_bytes)

    def _delete_calls(self, cutoff: float) -> int:
        rows = self._writer.execute(
            "SELECT id FROM logs WHERE kind = 'call' AND NOT live AND touched <= ? ORDER BY touched LIMIT ?",
            (cutoff, SWEEP),
        ).fetchall()
        self._writer.executemany("DELETE FROM entries WHERE log = ?", rows)
        self._writer.executemany("DELETE FROM logs WHERE id = ?", rows)
        return len(rows)

    def _trim_agents(self, cutoff: float) -> bool:
        """What happened to calls that are gone. The logs themselves stay, so that their numbers go on."""
        again = False
        for (log,) in self._writer.execute("SELECT id FROM logs WHERE kind = 'agent'").fetchall():
            oldest = "SELECT seq, ts FROM entries WHERE log = ? ORDER BY seq LIMIT ?"
            first = self._writer.execute(oldest, (log, 1)).fetchone()
            if first is None or first[1] > cutoff:
                continue
            old = [seq for seq, ts in self._writer.execute(oldest, (log, TRIM)).fetchall() if ts <= cutoff]
            if old:
                self._writer.execute("DELETE FROM entries WHERE log = ? AND seq <= ?", (log, old[-1]))
                self._writer.execute("UPDATE logs SET floor = ? WHERE id = ?", (old[-1], log))
                again = again or len(old) == TRIM
        return again

    def _used(self) -> int:
        pages, free, size = (
            self._writer.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def _close(self, name: str) -> None:
        if (connection := getattr(self, name, None)) is not None:
            connection.close()

    # --- in the thread that reads

    def _open_reader(self) -> None:
        self._reader = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        self._reader.execute("PRAGMA query_only = 1")

    def _find(self, log: LogKey) -> LogInfo | None:
        row = self._reader.execute(_INFO, log).fetchone()
        return None if row is None else LogInfo(row[1], row[2], row[3], bool(row[4]))

    def _read(self, log: LogKey, after: int, limit: int) -> Page | None:
        self._reader.execute("BEGIN")  # one state of the file for both questions
        try:
            row = self._reader.execute(_INFO, log).fetchone()
            if row is None:
                return None
            info = LogInfo(row[1], row[2], row[3], bool(row[4]))
            lines: list[Line] = []
            size = 0
            found = self._reader.execute(
                "SELECT seq, body FROM entries WHERE log = ? AND seq > ? ORDER BY seq LIMIT ?",
                (row[0], after, limit + 1),
            )
            more = False
            for seq, body in found:
                more = len(lines) == limit or (bool(lines) and size + len(body) > MAX_PAGE)
                if more:
                    break
                lines.append(Line(log, info.agent, seq, body))
                size += len(body)
            found.close()
            return Page(info, lines, more)
        finally:
            self._reader.execute("COMMIT")
