"""What waits for a store that is slow, busy or full. In virtual time."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import log_writer
from server.log_store import Draft, LogKey, LogStore, StoreError, filled, with_seq
from server.log_writer import BATCH_SECONDS, FAREWELL_SECONDS, RETRY_SECONDS, LogWriter
from tests import virtual_time
from tests.server.test_log_store import AGENT, CALL, OTHER, draft


class Disk:
    """A store that takes everything, unless it fails or takes its time."""

    def __init__(self) -> None:
        self.commits: list[list[Draft]] = []
        self.tokens: list[str] = []
        self.fails = False
        self.seconds = 0.001
        self.told: defaultdict[LogKey, list[str]] = defaultdict(list)
        self._last: defaultdict[LogKey, int] = defaultdict(int)

    async def commit(self, drafts: Sequence[Draft], token: str) -> None:
        self.tokens.append(token)
        await asyncio.sleep(self.seconds)
        if self.fails:
            raise StoreError("disk is full")
        self.commits.append(list(drafts))
        for each in drafts:
            self._last[each.log] += each.numbers
            if not each.ephemeral:
                envelope = json.loads(with_seq(self._last[each.log], filled(each, self._last[each.log])))
                missing = envelope["data"]
                gap = f"gap {missing.get('from')}-{missing.get('resume_from')}"
                self.told[each.log].append(missing.get("note", gap))


def played(scene: Callable[[LogWriter, Disk], Awaitable[None]]) -> tuple[LogWriter, Disk]:
    async def main() -> tuple[LogWriter, Disk]:
        disk = Disk()
        writer = LogWriter(cast(LogStore, disk))
        async with writer:
            await scene(writer, disk)
        return writer, disk

    return virtual_time.run(main())


def test_what_comes_together_is_written_together() -> None:
    async def scene(writer: LogWriter, disk: Disk) -> None:
        began = asyncio.get_running_loop().time()
        for number in range(10):
            writer.append(draft(CALL, str(number)))
            writer.append(draft(AGENT, str(number)))
        await writer.settle()
        assert asyncio.get_running_loop().time() - began < BATCH_SECONDS + 0.01
        assert len(disk.commits) == 1
        await asyncio.sleep(1)
        assert len(disk.commits) == 1, "silence costs nothing"
        writer.append(draft(CALL, "last"))

    writer, disk = played(scene)
    assert disk.told[CALL] == [*map(str, range(10)), "last"], "leaving writes what waits"
    assert (disk.told[AGENT], writer.lost) == ([*map(str, range(10))], 0)


def test_a_large_backlog_goes_in_pieces() -> None:
    async def scene(writer: LogWriter, disk: Disk) -> None:
        for number in range(5000):
            writer.append(draft(CALL, str(number)))

    _, disk = played(scene)
    assert disk.told[CALL] == [*map(str, range(5000))]
    assert max(map(len, disk.commits)) <= log_writer.MAX_BATCH


def test_a_store_that_is_busy_for_a_moment_loses_nothing() -> None:
    async def scene(writer: LogWriter, disk: Disk) -> None:
        disk.fails = True
        writer.append(draft(CALL, "start"))
        await asyncio.sleep(0.5)
        writer.append(draft(CALL, "a"))
        await asyncio.sleep(0.5)
        disk.fails = False

    writer, disk = played(scene)
    assert (disk.told[CALL], writer.lost) == (["start", "a"], 0)
    first = disk.tokens.count(disk.tokens[0])
    assert first > 2, "the same batch is the same batch each time"


def test_a_store_that_fails_for_long_costs_entries_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(writer: LogWriter, disk: Disk) -> None:
        disk.fails = True
        for note in ("start", "a", "b"):
            writer.append(draft(CALL, note))
        writer.append(draft(CALL, "w", ephemeral=True))
        writer.append(draft(OTHER, "x"))
        writer.append(draft(AGENT, "lifecycle"))
        writer.append(draft(CALL, "end"))
        await asyncio.sleep(RETRY_SECONDS + 5)
        writer.append(draft(CALL, "later"))
        disk.fails = False

    writer, disk = played(scene)
    assert disk.told[CALL] == ["start", "gap 2-4", "end", "later"]
    assert (disk.told[OTHER], disk.told[AGENT], writer.lost) == (["gap 1-2"], ["lifecycle"], 4)
    assert [record.getMessage() for record in caplog.records] == [
        "the call log is not written: disk is full",
        "the call log is written again; 4 entries were lost so far",
    ]


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "MAX_DRAFTS", 100)
    monkeypatch.setattr(log_writer, "HARD_LIMIT", 110)

    async def scene(writer: LogWriter, disk: Disk) -> None:
        disk.fails = True
        for number in range(98):
            writer.append(draft(CALL, str(number)))
        writer.append(draft(OTHER, "start"))
        writer.append(draft(CALL, "w", ephemeral=True))
        for _ in range(50):
            writer.append(draft(CALL, "lost"))
            writer.append(draft(OTHER, "lost"))
            writer.append(draft(CALL, "w", ephemeral=True))
        writer.append(draft(OTHER, "end"))
        writer.append(draft(CALL, "lost too"))
        writer.append(draft(OTHER, "a lost one behind the end"))
        for _ in range(50):
            writer.append(draft(AGENT, "too many of them"))
        assert len(writer._waiting) <= 115
        disk.fails = False

    writer, disk = played(scene)
    assert disk.told[CALL] == [*map(str, range(98)), "gap 100-151"], "the last live word had number 99"
    assert disk.told[OTHER] == ["start", "gap 2-52", "end", "gap 53-54"]
    assert disk.told[AGENT][-1].startswith("gap")
    assert writer.lost > 150


def test_a_store_that_never_answers_does_not_hold_the_server(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(writer: LogWriter, disk: Disk) -> None:
        disk.seconds = 1e6
        writer.append(draft(CALL, "start"))
        await asyncio.sleep(1)

    async def main() -> float:
        loop = asyncio.get_running_loop()
        disk = Disk()
        async with LogWriter(cast(LogStore, disk)) as writer:
            await scene(writer, disk)
            began = loop.time()
        return loop.time() - began

    assert virtual_time.run(main()) < FAREWELL_SECONDS + 0.1
    assert "could not be written" in caplog.text


KINDS = st.sampled_from(["start", "end", "a", "b", "live"])


@given(
    st.lists(st.tuples(st.sampled_from([CALL, OTHER]), KINDS, st.sampled_from([0.0, 0.1, 1.5])), max_size=40), st.data()
)
def test_what_is_not_told_is_counted(steps: list[tuple[LogKey, str, float]], data: st.DataObject) -> None:
    """Whatever fails when: each log has all its entries in order, or a gap of the right width in their place."""
    written: defaultdict[LogKey, list[str]] = defaultdict(list)

    async def scene(writer: LogWriter, disk: Disk) -> None:
        for number, (log, kind, pause) in enumerate(steps):
            disk.fails = data.draw(st.booleans())
            live = kind == "live"
            note = kind if kind in ("start", "end") else str(number)
            writer.append(draft(log, note, ephemeral=live))
            if not live:
                written[log].append(note)
            await asyncio.sleep(pause)
        disk.fails = False

    _, disk = played(scene)
    for log, notes in written.items():
        at = 0
        for told in disk.told[log]:
            if told.startswith("gap"):
                first, after = map(int, told[4:].split("-"))
                assert not {"start", "end"} & set(notes[at : at + after - first])
                at += after - first
            else:
                assert told == notes[at]
                at += 1
        assert at == len(notes)
