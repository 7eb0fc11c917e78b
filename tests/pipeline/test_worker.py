"""The worker process: results, order, bounds, crashes, and what is left when it is gone."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine import EngineError
from pipeline.worker import MAX_BACKLOG, Worker
from pipeline.worker_process import MAX_FRAME, pack

ECHO = "tests.pipeline.engines:Echo"


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Poll a condition; fail when it does not become true in time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def open_files() -> set[str]:
    return {f"{fd}:{os.readlink(f'/proc/self/fd/{fd}')}" for fd in os.listdir("/proc/self/fd") if fd_exists(fd)}


def fd_exists(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


@pytest.fixture
async def echo() -> AsyncIterator[Worker]:
    worker = Worker(ECHO, name="echo", queue=4)
    await worker.start()
    yield worker
    await worker.aclose()


async def test_values_cross_unchanged(echo: Worker) -> None:
    for value in (None, True, -1, 2**40, 0.5, "ñ 🎉", b"\0\xff", [1, [2]], {"a": {"b": None}}):
        assert await echo.call("echo", value) == value


async def test_a_generator_streams(echo: Worker) -> None:
    async with aclosing(echo.stream("count", 1000)) as numbers:
        assert [number async for number in numbers] == list(range(1000))


async def test_a_minute_of_speech_crosses(echo: Worker) -> None:
    assert len(await echo.call("zeros", 60 * 24_000 * 2)) == 60 * 24_000 * 2
    assert await echo.call("size", bytes(60 * 16_000 * 2)) == 60 * 16_000 * 2


async def test_too_large_a_frame_is_refused_both_ways_and_costs_nothing_else(echo: Worker) -> None:
    with pytest.raises(EngineError, match="too large"):
        await echo.call("size", bytes(MAX_FRAME + 1))
    with pytest.raises(EngineError, match="ValueError"):
        await echo.call("zeros", MAX_FRAME + 1)
    assert await echo.call("echo", 1) == 1


async def test_options_reach_the_engine() -> None:
    worker = Worker("tests.pipeline.engines:Echo", {"nonsense": 1}, name="echo")
    with pytest.raises(EngineError, match="echo could not start: unexpected TypeError"):
        await worker.start()


async def test_closing_the_iterator_closes_the_generator(echo: Worker) -> None:
    async with aclosing(echo.stream("count", 10**9)) as numbers:
        assert await anext(numbers) == 0
    assert await echo.call("log") == ["closed"]


async def test_the_text_of_an_error(echo: Worker) -> None:
    with pytest.raises(EngineError, match=r"^echo: too tired$"):
        await echo.call("refuse")
    with pytest.raises(EngineError) as caught:
        await echo.call("quarrel", "what somebody said")
    assert str(caught.value) == "echo: unexpected ValueError"
    with pytest.raises(EngineError, match="AttributeError"):
        await echo.call("no_such_method")


async def test_urgent_jobs_overtake(echo: Worker, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with asyncio.TaskGroup() as group:
        group.create_task(echo.call("wait", str(gate)))
        await asyncio.sleep(0)
        for name, priority in (("late", 2), ("early", 0), ("middle", 1), ("early too", 0)):
            group.create_task(echo.call("echo", name, priority=priority))
            await asyncio.sleep(0)
        gate.touch()
    assert await echo.call("log") == ["early", "early too", "middle", "late"]


async def test_a_full_queue_refuses_and_a_cancelled_job_leaves_it(echo: Worker, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    busy = asyncio.create_task(echo.call("wait", str(gate)))
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(echo.call("echo", n)) for n in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(EngineError, match="busy"):
        await echo.call("echo", "refused")
    waiting[1].cancel()
    await asyncio.wait([waiting[1]])
    waiting.append(asyncio.create_task(echo.call("echo", 4)))
    await asyncio.sleep(0)
    gate.touch()
    assert await busy == str(gate)
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert [d for d in done if isinstance(d, int)] == [0, 2, 3, 4]
    assert await echo.call("log") == ["0", "2", "3", "4"]


async def test_jobs_run_beside_each_other_when_allowed(tmp_path: Path) -> None:
    worker = Worker(ECHO, name="echo", concurrency=2)
    await worker.start()
    try:
        gate = tmp_path / "gate"
        blocked = asyncio.create_task(worker.call("wait", str(gate)))
        assert await worker.call("echo", "meanwhile") == "meanwhile"
        gate.touch()
        await blocked
    finally:
        await worker.aclose()


async def test_results_that_nobody_takes_are_bounded(echo: Worker) -> None:
    stream = echo.stream("count", 10**9)
    assert await anext(stream) == 0
    await until(lambda: next(iter(echo._running.values())).abandoned, 60)
    job = next(iter(echo._running.values()))
    assert job.backlog <= MAX_BACKLOG + 1000
    with pytest.raises(EngineError, match="nobody took"):
        async for _ in stream:
            pass
    assert await echo.call("echo", 1) == 1


@pytest.mark.parametrize(
    ("engine", "text"),
    [
        ("NoLibrary", "a_library_that_is_not_there.*make setup"),
        ("NoModel", "its model is missing"),
        ("Dies", "exit status 3"),
        ("NotThere", "AttributeError"),
    ],
)
async def test_an_engine_that_does_not_load(engine: str, text: str) -> None:
    worker = Worker(f"tests.pipeline.engines:{engine}", name="poor")
    before = open_files()
    for _ in range(2):
        with pytest.raises(EngineError, match=f"poor could not start: .*{text}"):
            await worker.start()
    assert worker.pid is None
    await until(lambda: open_files() == before)
    with pytest.raises(EngineError, match="not running"):
        await worker.call("echo", 1)
    await worker.aclose()


async def test_a_crash_fails_the_job_in_flight_and_no_other(echo: Worker) -> None:
    first = echo.pid
    crash, after = asyncio.create_task(echo.call("crash")), asyncio.create_task(echo.call("echo", "after"))
    with pytest.raises(EngineError):
        await crash
    assert await after == "after"
    assert echo.pid not in (None, first)


async def test_killed_from_outside(echo: Worker, tmp_path: Path) -> None:
    for _ in range(2):
        job = asyncio.create_task(echo.call("wait", str(tmp_path / "never")))
        await asyncio.sleep(0)
        assert echo.pid
        os.kill(echo.pid, signal.SIGKILL)
        with pytest.raises(EngineError, match="its process ended"):
            await job
        assert await echo.call("echo", 1) == 1


async def test_a_hung_engine_is_replaced(tmp_path: Path) -> None:
    worker = Worker(ECHO, name="echo", timeout=0.3)
    await worker.start()
    try:
        with pytest.raises(EngineError):
            await worker.call("wait", str(tmp_path / "never"))
        assert await worker.call("echo", 1) == 1
    finally:
        await worker.aclose()


async def test_an_engine_that_cannot_come_back_says_so(tmp_path: Path) -> None:
    worker = Worker("tests.pipeline.engines:DiesLater", {"path": str(tmp_path / "once")}, name="poor")
    await worker.start()
    try:
        with pytest.raises(EngineError):
            await worker.call("crash")
        with pytest.raises(EngineError, match="could not be started again"):
            await worker.call("echo", 1)
        (tmp_path / "once").unlink()
        await until(lambda: worker.pid, 60)
        assert await worker.call("echo", 1) == 1
    finally:
        await worker.aclose()


async def test_the_child_inherits_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOICE_SECRET", "s")
    monkeypatch.setenv("OPENAI_API_KEY", "s")
    with (tmp_path / "secret").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        worker = Worker(ECHO, name="echo")
        await worker.start()
        world = await worker.call("world")
        await worker.aclose()
    assert not {"VOICE_SECRET", "OPENAI_API_KEY"} & set(world["environment"])
    assert world["environment"]["OMP_NUM_THREADS"] == "1"
    assert {f.partition(":")[0] for f in world["files"]} <= {"/dev/null", "socket", "/dev/urandom"}, world["files"]
    assert sum(f.startswith("socket") for f in world["files"]) == 1
    assert world["nice"] >= 5
    assert world["core"] == 0


async def test_signals_for_the_server_do_not_end_the_child(echo: Worker) -> None:
    assert echo.pid
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(echo.pid, number)
    assert await echo.call("echo", 1) == 1
    assert os.getpgid(echo.pid) != os.getpgid(0)


async def test_closing_at_once_ends_the_process() -> None:
    worker = Worker(ECHO, name="echo")
    await worker.start()
    assert worker.pid is not None
    pid = worker.pid
    await worker.aclose()  # its supervisor has not run yet
    assert worker.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_nothing_is_left_after_closing(tmp_path: Path) -> None:
    files, threads, tasks = open_files(), threading.active_count(), len(asyncio.all_tasks())
    worker = Worker(ECHO, name="echo")
    await worker.start()
    pid = worker.pid
    assert pid
    jobs = [asyncio.create_task(worker.call("wait", str(tmp_path / "never"))) for _ in range(3)]
    await asyncio.sleep(0)
    await worker.aclose()
    assert all(isinstance(error, EngineError) for error in await asyncio.gather(*jobs, return_exceptions=True))
    assert not alive(pid)
    assert len(asyncio.all_tasks()) == tasks
    await until(lambda: open_files() == files and threading.active_count() == threads)
    await worker.aclose()


async def test_starting_can_be_cancelled() -> None:
    files = open_files()
    worker = Worker(ECHO, name="echo")
    for delay in (0, 0.001, 0.02, 0.1):
        starting = asyncio.create_task(worker.start())
        await asyncio.wait([starting], timeout=delay)
        starting.cancel()
        await asyncio.wait([starting])
    await worker.aclose()
    await until(lambda: open_files() == files)


PARENT = """
import asyncio, sys
from pipeline.worker import Worker
async def main():
    worker = Worker("tests.pipeline.engines:Echo", name="echo")
    await worker.start()
    print(worker.pid, flush=True)
    await worker.call("wait", "/nowhere")
asyncio.run(main())
"""


async def test_the_child_dies_with_its_parent() -> None:
    root = Path(__file__).parents[2]
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=root, stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout
        pid = int(await asyncio.to_thread(parent.stdout.readline))
        assert alive(pid)
        parent.kill()
    await until(lambda: not alive(pid))


async def test_the_loop_runs_on_while_the_child_holds_its_interpreter(echo: Worker) -> None:
    job = asyncio.create_task(echo.call("spin", 0.5))
    ticks = 0
    while not job.done():
        await asyncio.sleep(0.01)
        ticks += 1
    assert ticks >= 5  # an inference on the loop would leave one


@given(st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63), st.text(), st.binary())))
def test_a_frame_tells_its_length(values: list[Any]) -> None:
    frame = pack(*values)
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
