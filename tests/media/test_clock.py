from __future__ import annotations

import asyncio
import itertools
import logging
import time
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.clock import PERIOD, SLOTS, Clock, LatenessStats
from tests import virtual_time


def test_every_tick_comes_once_a_period_without_drift() -> None:
    async def main() -> None:
        clock = Clock()
        calls: list[list[float]] = [[] for _ in range(7)]
        for times in calls:
            clock.add(times.append)
        clock.start()
        await asyncio.sleep(10)
        await clock.close()
        for times in calls:
            assert len(times) in {500, 501}
            assert all(b - a == pytest.approx(PERIOD) for a, b in itertools.pairwise(times))
        assert len({round(times[0] % PERIOD, 6) for times in calls}) == SLOTS  # spread over the period
        assert clock.lateness.late == clock.lateness.slipped == 0

    virtual_time.run(main())


def test_a_failing_tick_is_logged_once_and_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        clock = Clock()
        good: list[float] = []

        def bad(now: float) -> None:
            raise RuntimeError("broken session")

        neighbours = [partial(good.append) for _ in range(SLOTS)]  # so that some share its slot
        for neighbour in neighbours:
            clock.add(neighbour)
        clock.add(bad)
        clock.start()
        await asyncio.sleep(1)
        await clock.close()
        assert len(good) in range(50 * SLOTS, 51 * SLOTS + 1)

    with caplog.at_level(logging.ERROR):
        virtual_time.run(main())
    assert len(caplog.records) == 1


def test_ticks_may_add_and_remove_while_the_clock_walks() -> None:
    async def main() -> None:
        clock = Clock()
        seen: list[str] = []

        def once(now: float) -> None:
            seen.append("once")
            clock.remove(once)
            clock.remove(neighbour)
            clock.add(late_comer)

        def neighbour(now: float) -> None:
            seen.append("neighbour")

        def late_comer(now: float) -> None:
            seen.append("late comer")

        clock.add(once)
        for _ in range(SLOTS - 1):
            clock.add(lambda now: None)
        clock.add(neighbour)  # the same slot as ``once``
        clock.start()
        await asyncio.sleep(0.1)
        await clock.close()
        assert seen[0] == "once"
        assert "neighbour" not in seen
        assert seen.count("once") == 1
        assert seen.count("late comer") >= 4

    virtual_time.run(main())


def test_the_same_tick_twice_is_refused() -> None:
    clock = Clock()
    clock.add(print)
    with pytest.raises(ValueError, match="already"):
        clock.add(print)


def test_it_sleeps_when_nobody_listens_and_wakes_on_time() -> None:
    async def main() -> None:
        clock = Clock()
        clock.start()
        await asyncio.sleep(5)
        assert clock.lateness.count == 0
        times: list[float] = []
        clock.add(times.append)
        await asyncio.sleep(0.5)
        clock.remove(times.append)
        count = clock.lateness.count
        await asyncio.sleep(5)
        assert clock.lateness.count <= count + 1
        clock.add(times.append)
        await asyncio.sleep(0.1)
        await clock.close()
        assert 5 <= times[0] <= 5 + PERIOD
        assert clock.lateness.max < 0.001  # waking up is not being late

    virtual_time.run(main())


def test_a_tick_may_close_the_clock() -> None:
    async def main() -> None:
        clock = Clock()
        closing: list[asyncio.Task[None]] = []
        clock.add(lambda now: closing.append(asyncio.create_task(clock.close())))
        clock.start()
        await asyncio.sleep(1)
        assert len(closing) == 1
        await closing[0]
        clock.start()
        await clock.close()

    virtual_time.run(main())


async def test_a_blocked_loop_slips_and_is_counted() -> None:
    clock = Clock()
    times: list[float] = []
    clock.add(times.append)
    clock.start()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 20
    while not times and loop.time() < deadline:
        await asyncio.sleep(0.005)
    before = len(times)
    time.sleep(0.25)  # somebody blocks the loop for twelve periods
    blocked_until = loop.time()
    while len(times) < before + 4 and loop.time() < deadline:
        await asyncio.sleep(0.005)
    await clock.close()
    assert clock.lateness.slipped >= 10
    assert clock.lateness.late >= 1
    assert clock.lateness.max >= 200
    # The missed ticks did not come in a burst: at most the one that was due, then the grid again.
    after = [moment for moment in times[before:] if moment < blocked_until + PERIOD]
    assert len(after) <= 2 or clock.lateness.slipped > 13  # the machine itself was busy


async def test_close_leaves_no_timer() -> None:
    clock = Clock()
    called: list[float] = []
    clock.add(called.append)
    clock.start()
    await clock.close()
    await asyncio.sleep(0)
    count = len(called)
    loop = asyncio.get_running_loop()
    end = loop.time() + 3 * PERIOD
    while loop.time() < end:
        await asyncio.sleep(PERIOD)
    assert len(called) == count


@settings(deadline=None)
@given(st.lists(st.floats(0, 0.3), min_size=1, max_size=300))
def test_percentiles(values: list[float]) -> None:
    stats = LatenessStats()
    for value in values:
        stats.record(value)
    ordered = sorted(value * 1000 for value in values)
    assert stats.count == len(values)
    assert stats.max == pytest.approx(ordered[-1])
    for share in (0.5, 0.99):
        exact = ordered[max(0, -int(-share * len(ordered) // 1) - 1)]
        measured = stats.percentile(share)
        assert measured >= exact - 1e-6
        assert measured <= exact + 0.2501 or exact >= 100
    assert LatenessStats().p99 == 0


def test_what_comes_before_the_ticks_comes_in_every_slot_while_anybody_listens(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        calls: list[str] = []

        def before(now: float) -> None:
            calls.append("before")
            if len(calls) == 5:
                raise RuntimeError("broken reader")

        def tick(now: float) -> None:
            calls.append("tick")

        clock = Clock(before)
        clock.start()
        await asyncio.sleep(1)
        assert not calls
        clock.add(tick)
        await asyncio.sleep(1)
        assert calls.count("tick") in {50, 51}
        assert calls.count("before") in range(50 * SLOTS, 51 * SLOTS + 1)
        assert all(calls[index - 1] == "before" for index, call in enumerate(calls) if call == "tick")
        clock.remove(tick)
        calls.clear()
        await asyncio.sleep(1)
        assert len(calls) <= 1
        await clock.close()

    with caplog.at_level(logging.ERROR):
        virtual_time.run(main())
    assert len(caplog.records) == 1
