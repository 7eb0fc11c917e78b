"""Local engines in processes of their own, so that no inference, no GIL and no crash can touch the media clock."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import msgpack

from pipeline.engine import EngineError
from pipeline.worker_process import CANCEL, END, ERROR, HEADER, ITEM, LOAD, MAX_FRAME, READY, RESULT, RUN, pack

logger = logging.getLogger(__name__)

LOAD_TIMEOUT = 120.0
"""Seconds that a process may take to load its model."""

MAX_BACKLOG = 32 << 20
"""Bytes of results that may wait for whoever asked for them."""

OVERHEAD = 256
"""Bytes that a waiting result costs beyond its own."""

HEALTHY = 60.0
"""A process that lived for so many seconds is replaced at once, any other with a growing pause."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds between two attempts."""

BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from pipeline import worker_process as w; "
BOOT += "w.main(*map(int, sys.argv[2:]))"

# Keys and secrets of the server stay in the server.
ENVIRONMENT = ("HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ")
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)

NICENESS, BACKGROUND_NICENESS = 5, 15
"""Inference gives way to the media clock when a core is short, and what no caller waits for gives way to that."""

_niceness = ContextVar("niceness", default=NICENESS)


@contextmanager
def in_background() -> Iterator[None]:
    """The processes of every ``Worker`` that is made inside run when nothing of a call wants the core."""
    before = _niceness.set(BACKGROUND_NICENESS)
    try:
        yield
    finally:
        _niceness.reset(before)


@dataclass(slots=True, eq=False)
class Job:
    """One request, from the queue to its last result."""

    id: int
    priority: int
    frame: bytes
    results: asyncio.Queue[tuple[int, Any, int]] = field(default_factory=asyncio.Queue)
    """(ITEM | END | ERROR, value, bytes it came in)"""
    backlog: int = 0
    abandoned: bool = False
    deadline: asyncio.TimerHandle | None = None

    def __lt__(self, other: Job) -> bool:
        return (self.priority, self.id) < (other.priority, other.id)

    def put(self, kind: int, value: Any, size: int = 0) -> None:
        if self.abandoned:
            return
        self.backlog += size + OVERHEAD
        if self.backlog > MAX_BACKLOG:
            kind, value, self.abandoned = ERROR, "nobody took its results", True
        self.results.put_nowait((kind, value, size))


class Worker:
    """One child process that hosts an engine, an ordinary class whose methods are called with plain values.

    ``target`` names the class as ``"module:Class"``; the child imports the module and makes the class with ``options``
    as keywords, which loads the model. A method returns one value or is a generator of values; arguments and values are
    what msgpack carries (audio as bytes).

    ``concurrency`` methods run at a time, on threads of the child; ``queue`` more jobs may wait here, the lowest
    ``priority`` first, then in order of arrival. When a job yields nothing for ``timeout`` seconds the process is
    killed. After a crash the jobs in flight fail; those that wait go to the next process.

    Every method belongs to one event loop.
    """

    def __init__(
        self,
        target: str,
        options: dict[str, Any] | None = None,
        *,
        name: str,
        concurrency: int = 1,
        queue: int = 64,
        timeout: float = 30.0,
    ) -> None:
        self.name = name
        self._target, self._options = target, options or {}
        self._concurrency, self._queue, self._timeout = concurrency, queue, timeout
        self._niceness = _niceness.get()
        self._ids = itertools.count(1)
        self._waiting: list[Job] = []  # a heap
        self._running: dict[int, Job] = {}
        self._process: _Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._trouble = "is not running"  # why jobs are refused, or empty

    @property
    def pid(self) -> int | None:
        """Process id of the child, ``None`` while there is none."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start the process and wait until the model is loaded.

        Raises ``EngineError`` when a library or a model is missing or the process dies; may be called again then.
        """
        if self._supervisor is None:
            process = await self._spawn()
            self._adopt(process)
            self._supervisor = asyncio.create_task(self._supervise(process), name=f"worker {self.name}")

    async def stream(self, method: str, *args: Any, priority: int = 0) -> AsyncGenerator[Any, None]:
        """Call a method and give its values as they come. Closing the iterator cancels the job between two values.

        Raises ``EngineError`` when the queue is full, an argument too large, the engine raises or the process dies.
        """
        job = self._submit(method, args, priority)
        try:
            while True:
                kind, value, size = await job.results.get()
                if kind == END:
                    return
                if kind == ERROR:
                    raise EngineError(f"{self.name}: {value}")
                job.backlog -= size + OVERHEAD
                yield value
        finally:
            self._release(job)

    async def call(self, method: str, *args: Any, priority: int = 0) -> Any:
        """Call a method for its (first) value. Raises ``EngineError`` as ``stream``. Cancelling cancels the job."""
        async with aclosing(self.stream(method, *args, priority=priority)) as values:
            async for value in values:
                return value
        return None

    async def aclose(self) -> None:
        """End the process; every job fails with ``EngineError``. Nothing is left afterwards."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor:
            supervisor.cancel()
            with suppress(asyncio.CancelledError):
                await supervisor
        process, self._process = self._process, None
        if process:  # the supervisor was cancelled before its first step, and closed nothing
            await process.aclose()
        self._trouble = "is not running"
        self._fail(self._trouble, waiting=True)

    def _submit(self, method: str, args: tuple[Any, ...], priority: int) -> Job:
        if self._trouble:
            raise EngineError(f"{self.name}: {self._trouble}")
        if len(self._waiting) >= self._queue:
            raise EngineError(f"{self.name}: busy, {self._queue} requests wait already")
        number = next(self._ids)
        try:
            job = Job(number, priority, pack(RUN, number, method, args))
        except ValueError as error:
            raise EngineError(f"{self.name}: {error}") from None
        heapq.heappush(self._waiting, job)
        self._dispatch()
        return job

    def _dispatch(self) -> None:
        while self._process and self._waiting and len(self._running) < self._concurrency:
            job = heapq.heappop(self._waiting)
            self._running[job.id] = job
            self._process.write(job.frame)
            job.frame = b""
            self._arm(job)

    def _arm(self, job: Job) -> None:
        if job.deadline:
            job.deadline.cancel()
        job.deadline = asyncio.get_running_loop().call_later(self._timeout, self._hung)

    def _hung(self) -> None:
        if self._process:
            logger.warning("%s did nothing for %.0f s and is stopped", self.name, self._timeout)
            self._process.kill()

    def _release(self, job: Job) -> None:
        """Nobody wants more of this job."""
        if job.id in self._running:
            job.abandoned = True
            if self._process:
                self._process.write(pack(CANCEL, job.id))
        elif job in self._waiting:
            self._waiting.remove(job)
            heapq.heapify(self._waiting)

    def _finish(self, job: Job, kind: int, value: Any) -> None:
        if job.deadline:
            job.deadline.cancel()
        job.put(kind, value)

    def _fail(self, text: str, *, waiting: bool) -> None:
        jobs = list(self._running.values())
        self._running.clear()
        if waiting:
            jobs += self._waiting
            self._waiting.clear()
        for job in jobs:
            self._finish(job, ERROR, text)

    async def _supervise(self, process: _Process) -> None:
        """Own the process: serve it until it dies, start another, without end."""
        clock = asyncio.get_running_loop().time
        pause = 0.0
        while True:
            began = clock()
            try:
                await self._serve(process)
            finally:
                self._process = None
                self._fail("its process ended", waiting=False)
                await process.aclose()
            logger.warning("%s: its process ended (%s) and is started again", self.name, process.verdict)
            pause = 0.0 if clock() - began > HEALTHY else min(max(FIRST_PAUSE, 2 * pause), LONGEST_PAUSE)
            while True:
                await asyncio.sleep(pause)
                try:
                    process = await self._spawn()
                    self._adopt(process)
                    break
                except EngineError as error:
                    logger.warning("%s", error)
                    self._trouble = "could not be started again"
                    self._fail(self._trouble, waiting=True)
                    pause = min(max(FIRST_PAUSE, 2 * pause), LONGEST_PAUSE)

    def _adopt(self, process: _Process) -> None:
        self._process, self._trouble = process, ""
        self._dispatch()

    async def _serve(self, process: _Process) -> None:
        while (message := await process.read()) is not None:
            (kind, number, value), size = message
            job = self._running.get(number)
            if job is None:
                continue
            if kind == ITEM:
                job.put(ITEM, value, size)
                self._arm(job)
            else:
                del self._running[number]
                if kind == RESULT:
                    job.put(ITEM, value, size)
                    kind = END
                self._finish(job, kind, value)
                self._dispatch()

    async def _spawn(self) -> _Process:
        process = await _Process.start(self._niceness)
        try:
            process.write(pack(LOAD, self._target, self._options, self._concurrency))
            async with asyncio.timeout(LOAD_TIMEOUT):
                message = await process.read()
            if message and message[0][0] == READY:
                return process
            trouble = message[0][2] if message else ""
        except TimeoutError:
            trouble = f"its model did not load in {LOAD_TIMEOUT:.0f} s"
        except BaseException:
            await process.aclose()
            raise
        await process.aclose()
        raise EngineError(f"{self.name} could not start: {trouble or f'its process ended ({process.verdict})'}")


class _Process:
    """The operating system's side: a Python process that inherits nothing but one end of a socket pair."""

    def __init__(
        self, child: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._child, self._reader, self._writer = child, reader, writer
        self.pid = child.pid

    @classmethod
    async def start(cls, niceness: int) -> _Process:
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            try:
                # On the loop's own thread: the kernel's parent-death signal comes when the thread that forked ends.
                child = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-c", BOOT, json.dumps(sys.path)),
                    *map(str, (theirs.fileno(), os.getpid(), niceness)),
                    stdin=asyncio.subprocess.DEVNULL,
                    # Native libraries print what they like, perhaps what somebody said.
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.DEVNULL,
                    env={key: os.environ[key] for key in ENVIRONMENT if key in os.environ} | ONE_THREAD,
                    pass_fds=(theirs.fileno(),),
                    process_group=0,
                )
            except BaseException as error:
                writer.close()
                if isinstance(error, OSError):
                    raise EngineError(f"no process for a local engine: {error.strerror}") from None
                raise
        return cls(child, reader, writer)

    @property
    def verdict(self) -> str:
        """How it ended, for a person."""
        code = self._child.returncode
        return signal.Signals(-code).name if code and code < 0 else f"exit status {code}"

    def write(self, frame: bytes) -> None:
        """Queue a frame; what waits is bounded by the number of jobs that may run."""
        self._writer.write(frame)

    async def read(self) -> tuple[tuple[int, int, Any], int] | None:
        """The next (kind, job, value) and its size in bytes; ``None`` when the process is gone."""
        try:
            (length,) = HEADER.unpack(await self._reader.readexactly(HEADER.size))
            if length > MAX_FRAME:
                return None
            kind, *fields = msgpack.unpackb(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        number, value = (*fields, None, None)[:2]
        return (kind, number, value), length

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._child.kill()

    async def aclose(self) -> None:
        """Kill it and wait until it is gone: it holds no state worth saving."""
        self._writer.close()
        if self._reader.at_eof():  # it is ending by itself, and a signal could hide how
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._child.wait()
        self.kill()
        await self._child.wait()
        with suppress(ConnectionError):
            await self._writer.wait_closed()
