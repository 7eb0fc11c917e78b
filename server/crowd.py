"""Many synthetic callers in one thread of a process of their own, told what to do through a pipe."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import aiohttp

from media.audio import FRAME_MS
from media.call_report import CallReport
from media.caller import Caller, ConnectError, Voice
from media.clock import LatenessStats
from media.ortc import new_certificate
from server.peer import PeerError, json_answer, origin_of

SLOTS = 20
"""Parts of the 20 ms over which the callers are spread: real ones talk in no common time."""

HANDSHAKES = 8
"""Handshakes that run at once: they are the dearest part of a call."""

STOP_SECONDS = 20.0

_WIDTH = FRAME_MS / 1000 / SLOTS

VoiceMaker = Callable[[int, CallReport], Voice]
"""Makes the voice of the caller of a number, which may note in its report. It must be possible to pickle it."""


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to call: base address, agent, secret key if any, and the longest wait for a connection, s."""

    url: str
    agent: str
    api_key: str = ""
    patience: float = 30.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a crowd is."""

    dialled: int = 0
    connected: int = 0
    failed: int = 0
    answers: int = 0

    @property
    def counts(self) -> tuple[int, int, int, int]:
        return self.dialled, self.connected, self.failed, self.answers


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All reports so far, and what the crowd itself took: CPU seconds, and the lateness of its own beat, ms."""

    at: float
    reports: list[CallReport]
    cpu_seconds: float
    beats: int
    late_beats: int
    late_p99_ms: float


class Crowd:
    """The callers of one process and the beat that they share. An async context manager; event loop only."""

    def __init__(self, target: Target, make_voice: VoiceMaker) -> None:
        self.callers: list[Caller] = []
        self.lateness = LatenessStats()
        self._target = target
        self._make_voice = make_voice
        self._certificate = new_certificate()
        self._gate = asyncio.Semaphore(HANDSHAKES)
        self._slots: list[list[Caller]] = [[] for _ in range(SLOTS)]
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._origin = self._loop.time()
        self._next = 0
        self._handle: asyncio.TimerHandle | None = None
        self._http: aiohttp.ClientSession

    async def __aenter__(self) -> Crowd:
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._arm()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._handle:
            self._handle.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(caller.close() for caller in self.callers))
        await self._http.close()

    def add(self, count: int, interval: float, delay: float) -> None:
        """Begin ``count`` calls, one each ``interval`` s, the first one after ``delay`` s."""
        for index in range(count):
            self._run(self._call(delay + index * interval))

    @property
    def progress(self) -> Progress:
        return Progress(
            len(self.callers),
            sum(caller.connected for caller in self.callers),
            sum(bool(caller.report.error) for caller in self.callers),
            sum(caller.report.answers for caller in self.callers),
        )

    def snapshot(self) -> Snapshot:
        return Snapshot(
            time.monotonic(),
            [caller.report for caller in self.callers],
            time.process_time(),
            self.lateness.count,
            self.lateness.late,
            self.lateness.p99,
        )

    async def _call(self, delay: float) -> None:
        await asyncio.sleep(delay)
        number = len(self.callers)
        report = CallReport()
        caller = Caller(self._certificate, self._make_voice(number, report), report)
        self.callers.append(caller)
        try:
            async with asyncio.timeout(self._target.patience):
                await self._connect(caller)
        except (PeerError, ConnectError) as error:
            report.error = str(error)
        except TimeoutError:
            report.error = f"No connection within {self._target.patience:g} s"
        except aiohttp.ClientError as error:
            report.error = f"{self._target.url} does not answer: {error}"
        else:
            min(self._slots, key=len).append(caller)

    async def _connect(self, caller: Caller) -> None:
        """Mint a token, offer, follow the answer."""
        url, key = self._target.url.rstrip("/"), self._target.api_key
        headers = {"Authorization": f"Bearer {key}"} if key else {"Origin": origin_of(url)}
        query = {"agent_id": self._target.agent}
        minted = await json_answer(self._http.get(f"{url}/webrtc/token", params=query, headers=headers), "No token")
        offer = {"sdp": caller.offer(), "type": "offer", "token": minted.get("token")}
        answer = await json_answer(self._http.post(f"{url}/webrtc/offer", json=offer, headers=headers), "Refused")
        await caller.connect(str(answer.get("sdp")), self._gate, patience=self._target.patience)

    def _run(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _arm(self) -> None:
        self._handle = self._loop.call_at(self._origin + self._next * _WIDTH, self._beat)

    def _beat(self) -> None:
        """Every slot whose time has come, also those that were missed: a browser sends late rather than not."""
        while (now := self._loop.time()) >= (due := self._origin + self._next * _WIDTH):
            slot = self._slots[self._next % SLOTS]
            self._next += 1
            if not slot:
                continue
            self.lateness.record(now - due)
            for caller in slot:
                if caller.connected:
                    caller.beat(now)
        self._arm()


class CrowdProcess:
    """A crowd in a process of its own, as its parent sees it. An async context manager; one command at a time."""

    def __init__(self, target: Target, make_voice: VoiceMaker, *, cpu: int | None = None) -> None:
        """``cpu``: the only core that it may use (Linux)."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_main, args=(theirs, target, make_voice, cpu), daemon=True)
        self._process.start()
        theirs.close()

    async def add(self, count: int, interval: float, *, delay: float = 0.0) -> None:
        """Begin ``count`` calls, one each ``interval`` s, the first one after ``delay`` s."""
        await self._ask("add", count, interval, delay)

    async def progress(self) -> Progress:
        answer: Progress = await self._ask("progress")
        return answer

    async def snapshot(self) -> Snapshot:
        answer: Snapshot = await self._ask("snapshot")
        return answer

    async def keep(self) -> None:
        """Keep from now on what the callers hear."""
        await self._ask("keep")

    async def kept(self) -> list[tuple[Voice, list[tuple[float, bytes]]]]:
        """Of each caller the voice as it is now, and the packets that it heard, each with its monotonic moment."""
        answer: list[tuple[Voice, list[tuple[float, bytes]]]] = await self._ask("kept")
        return answer

    async def __aenter__(self) -> CrowdProcess:
        await self._ask("progress")
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(PeerError):
            await self._ask("stop")
        self._pipe.close()
        await asyncio.to_thread(self._process.join, STOP_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            await asyncio.to_thread(self._process.join)

    async def _ask(self, *command: Any) -> Any:
        def exchange() -> Any:
            self._pipe.send(command)
            return self._pipe.recv()

        try:
            return await asyncio.to_thread(exchange)
        except (EOFError, OSError):
            raise PeerError("A process of callers ended unexpectedly") from None


def _main(pipe: Connection, target: Target, make_voice: VoiceMaker, cpu: int | None) -> None:
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    with contextlib.suppress(KeyboardInterrupt):  # the parent gets it too, and ends this process in order
        asyncio.run(_serve(pipe, target, make_voice))


async def _serve(pipe: Connection, target: Target, make_voice: VoiceMaker) -> None:
    """Obey the parent until it says stop or is gone."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    async with Crowd(target, make_voice) as crowd:

        def obey() -> None:
            try:
                name, *arguments = pipe.recv()
            except (EOFError, OSError):
                over.set()
                return
            match name:
                case "add":
                    crowd.add(*arguments)
                    pipe.send(None)
                case "progress":
                    pipe.send(crowd.progress)
                case "snapshot":
                    pipe.send(crowd.snapshot())
                case "keep":
                    for caller in crowd.callers:
                        caller.kept = []
                    pipe.send(None)
                case "kept":
                    pipe.send([(caller.voice, caller.kept or []) for caller in crowd.callers])
                case "stop":
                    over.set()

        loop.add_reader(pipe.fileno(), obey)
        await over.wait()
        loop.remove_reader(pipe.fileno())
    with contextlib.suppress(OSError):
        pipe.send(None)
