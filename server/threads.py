"""Chats that go on where they ended, when the page names the thread. Source: protocol 5.1.

Kept in an SQLite file that only the server's user can read, and forgotten after a while.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from pipeline.llm import Message

logger = logging.getLogger(__name__)

MAX_THREADS = 10_000
"""Of one organisation. Beyond that the ones that were not used for the longest time are forgotten."""

MAX_SIZE = 256 * 1024
"""Characters of JSON of one thread; beyond that its beginning is forgotten."""

SWEEP_EVERY = 100
"""Of so many writes one forgets what is old."""

SCHEMA = """
create table if not exists threads (
    org text, agent text, thread text, used real, messages text,
    primary key (org, agent, thread)
);
create index if not exists threads_by_use on threads (used);
"""

FORGET_EXCESS = """
delete from threads where org = ? and used <=
    (select used from threads where org = ? order by used desc limit 1 offset ?)
"""

Result = TypeVar("Result")


class ThreadKey(NamedTuple):
    """``thread`` is what somebody chose: who knows it may read on. Two agents never share one."""

    org: str
    agent: str
    thread: str


class Threads:
    """Works in a thread of its own. When the file fails, chats begin anew: never an error for who types."""

    def __init__(self, file: Path | None, *, days: float = 30.0) -> None:
        """``file``: ``None`` keeps them in memory. ``days`` without use after which a thread is forgotten."""
        self._file = file
        self._age = days * 86_400
        self._writes = 0
        self._connection: sqlite3.Connection | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="threads")

    async def load(self, key: ThreadKey) -> list[Message]:
        """What was said in the thread; nothing when it is new."""
        text = await self._do(lambda database: _read(database, key, time.time() - self._age), None)
        return list(json.loads(text)) if text else []

    async def save(self, key: ThreadKey, messages: Sequence[Message]) -> None:
        """What was said so far, in place of what was there."""
        await self._do(lambda database: self._write(database, key, _fitting(messages)), None)

    async def aclose(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._worker, self._close)
        self._worker.shutdown()

    async def _do(self, work: Callable[[sqlite3.Connection], Result], otherwise: Result) -> Result:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._worker, lambda: work(self._open()))
        except (sqlite3.Error, OSError) as error:
            logger.warning("threads of chats cannot be kept: %s", error)
            return otherwise

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            if self._file is not None:
                self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._file.touch(mode=0o600)
            self._connection = sqlite3.connect(self._file or ":memory:", isolation_level=None)
            self._connection.execute("pragma journal_mode = wal")
            self._connection.executescript(SCHEMA)
        return self._connection

    def _write(self, database: sqlite3.Connection, key: ThreadKey, text: str) -> None:
        now = time.time()
        database.execute("insert or replace into threads values (?, ?, ?, ?, ?)", (*key, now, text))
        if self._writes % SWEEP_EVERY == 0:
            database.execute("delete from threads where used < ?", (now - self._age,))
            database.execute(FORGET_EXCESS, (key.org, key.org, MAX_THREADS))
        self._writes += 1

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _read(database: sqlite3.Connection, key: ThreadKey, oldest: float) -> str | None:
    query = "select messages from threads where org = ? and agent = ? and thread = ? and used >= ?"
    row = database.execute(query, (*key, oldest)).fetchone()
    return row[0] if row else None


def _fitting(messages: Sequence[Message]) -> str:
    """As JSON the last of them, from a line of the user on, so that no result of a tool stands without its call."""
    texts: list[str] = []
    kept, size = 0, 0
    for position in reversed(range(len(messages))):
        texts.append(json.dumps(messages[position], ensure_ascii=False))
        size += len(texts[-1]) + len(", ")
        if size > MAX_SIZE:
            break
        if position == 0 or messages[position]["role"] == "user":
            kept = len(texts)
    return f"[{', '.join(reversed(texts[:kept]))}]"
