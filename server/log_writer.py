"""What waits to be appended to the call log: bounded, so that a slow store costs entries and never a call."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Sequence

from server.log_entries import encode, gap
from server.log_store import GAP_TAIL, Draft, LogKey, LogStore, StoreError

logger = logging.getLogger(__name__)

BATCH_SECONDS = 0.04
"""What is appended within so long goes to the store together."""

MAX_BATCH = 1024
MAX_DRAFTS = 20_000
MAX_CHARACTERS = 16 << 20
"""What may wait. What comes then is lost, and the log says so."""

HARD_LIMIT = 2 * MAX_DRAFTS
"""Of what is never given up otherwise."""

RETRY_SECONDS = 2.0
"""How long a store may fail before what it did not take is given up."""

FIRST_DELAY = 0.05
LONGEST_DELAY = 1.0
FAREWELL_SECONDS = 5.0


class LogWriter:
    """Batches go to the store one after the other, in the order in which they were appended.

    An async context manager that owns the task which writes; leaving it writes what is left.
    """

    def __init__(self, store: LogStore) -> None:
        self.lost = 0
        """Entries that were given up so far, live ones included."""
        self._store = store
        self._waiting: list[Draft] = []
        self._characters = 0
        self._gaps: dict[LogKey, Draft] = {}  # of each log the one that waits behind all else of it
        self._more = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def settle(self) -> None:
        """Until nothing waits, and nothing is being written."""
        await self._idle.wait()

    def append(self, draft: Draft) -> None:
        """On the event loop. Never waits."""
        room = len(self._waiting) < MAX_DRAFTS and self._characters + len(draft.body) <= MAX_CHARACTERS
        if not room and not (draft.is_kept and len(self._waiting) < HARD_LIMIT):
            self.lost += 1
            _lose(draft, self._waiting, self._gaps)
            return
        self._waiting.append(draft)
        self._characters += len(draft.body)
        self._gaps.pop(draft.log, None)
        self._more.set()
        self._idle.clear()

    async def __aenter__(self) -> LogWriter:
        self._task = asyncio.create_task(self._run(), name="call log")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        if self._task is None:
            return
        self._more.set()
        await asyncio.wait({self._task}, timeout=FAREWELL_SECONDS)
        if not self._task.done():
            logger.error("the call log could not be written to its end")
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._more.wait()
            if not self._closing:
                await asyncio.sleep(BATCH_SECONDS)
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            self._characters -= sum(len(draft.body) for draft in batch)
            for draft in batch:
                if self._gaps.get(draft.log) is draft:  # what is being written does not grow any more
                    del self._gaps[draft.log]
            await self._commit(batch)
            if not self._waiting:
                self._more.clear()
                self._idle.set()
                if self._closing:
                    return

    async def _commit(self, batch: list[Draft]) -> None:
        loop = asyncio.get_running_loop()
        token = uuid.uuid4().hex
        deadline, delay, failures = loop.time() + RETRY_SECONDS, FIRST_DELAY, 0
        while batch:
            try:
                await self._store.commit(batch, token)
                break
            except StoreError as error:
                failures += 1
                if failures == 1:
                    logger.warning("the call log is not written: %s", error)
            if loop.time() > deadline:
                batch = self._thinned(batch)
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY)
        if failures:
            logger.warning("the call log is written again; %d entries were lost so far", self.lost)

    def _thinned(self, batch: Sequence[Draft]) -> list[Draft]:
        """Without what can be given up."""
        thinned: list[Draft] = []
        gaps: dict[LogKey, Draft] = {}
        for draft in batch:
            if draft.lost and draft.log in gaps:
                gaps[draft.log].lost += draft.lost
            elif draft.lost:
                thinned.append(draft)
                gaps[draft.log] = draft
            elif draft.is_kept:
                thinned.append(draft)
                gaps.pop(draft.log, None)
            else:
                self.lost += 1
                _lose(draft, thinned, gaps)
        return thinned


def _lose(draft: Draft, waiting: list[Draft], gaps: dict[LogKey, Draft]) -> None:
    """Put a gap in its place, or widen the one that is there. Nobody misses what is ephemeral."""
    if draft.ephemeral:
        return
    if (there := gaps.get(draft.log)) is not None:
        there.lost += 1
        return
    call = draft.log.name if draft.log.kind == "call" else None
    body = encode(gap(draft.ts, 0, 0), call=call, agent=draft.agent)
    if not body.endswith(GAP_TAIL):
        raise AssertionError("a gap is encoded in another way")
    gaps[draft.log] = widening = Draft(draft.log, draft.agent, body, draft.ts, lost=1)
    waiting.append(widening)
