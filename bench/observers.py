"""One call and very many who watch it: `python -m bench.observers`, one JSON object a line.

A real server with scripted engines, a caller who types a question every few seconds, and observers on `/v1/attach` in a
process of their own. What counts is how late the server's timers fire: the media clock is one of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import statistics
import sys
import tempfile
import time
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from bench.engines import show
from config.settings import Settings
from media.clock import Clock
from server.lifecycle import running
from server.peer import Peer

OBSERVERS = (0, 100, 1000)
SECONDS = 6.0
QUESTION_SECONDS = 3.0
KEY = "pk_of_the_benchmark"
READING = 5
"""Observers that read what they get, and when; the others count it."""

START_SECONDS = 60.0
SETTLE_SECONDS = 4.0
NUMBER = re.compile(rb'\{"seq":(\d+)')


def allow_many_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def serve(folder: str) -> None:
    """The server: prints its address, then, for each line on its standard input, what happened since the last one."""
    engines = {"stt": "instant", "llm": "instant", "tts": "instant"}
    limits = {"mint_rate": 0, "offer_rate": 0, "max_observers": 10_000}
    here = {"port": 0, "udp_port": 0, "udp_addresses": ("127.0.0.1",), "data_dir": folder, "api_keys": (KEY,)}
    settings = Settings.model_validate({**engines, **limits, **here})
    loop = asyncio.get_running_loop()
    asked: asyncio.Queue[str] = asyncio.Queue()
    loop.add_reader(sys.stdin, lambda: asked.put_nowait(sys.stdin.readline()))
    async with running(settings) as server:
        print(json.dumps({"url": server.url}), flush=True)
        cpu, at = time.process_time(), loop.time()
        clock = Clock(lambda _: None)  # as the media clock is: a timer each 5 ms
        while await asked.get():
            await clock.close()
            now = {"cpu_ms_per_s": (time.process_time() - cpu) * 1e3 / (loop.time() - at)}
            lateness = clock.lateness
            now |= {"tick_p50_ms": lateness.p50, "tick_p99_ms": lateness.p99, "tick_max_ms": lateness.max}
            print(json.dumps({**now, "ticks": lateness.count, "late_ticks": lateness.late}), flush=True)
            cpu, at = time.process_time(), loop.time()
            clock = Clock(lambda _: None)
            clock.add(lambda _: None)
            clock.start()
        loop.remove_reader(sys.stdin)


class Counting(asyncio.Protocol):
    """An observer that costs next to nothing. While anybody watches, a log's numbers have no holes."""

    def __init__(self, head: bytes) -> None:
        self._head = head
        self.last = self.lines = self.missed = 0

    def begin(self) -> None:
        self.lines = self.missed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._head)

    def data_received(self, data: bytes) -> None:
        for found in NUMBER.findall(data):
            seq = int(found)
            self.lines += 1
            self.missed += seq - self.last - 1
            self.last = seq


async def watch(url: str, call: str, token: str, observers: int) -> None:
    """All observers but one process: prints when they are there; what they got, when its standard input is closed."""
    allow_many_files()
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    upgrade = [
        f"GET /v1/attach?call={call}&token={token} HTTP/1.1",
        *("Host: localhost", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"),
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]
    head = "\r\n".join([*upgrade, "", ""]).encode()
    loop = asyncio.get_running_loop()
    crowd = [Counting(head) for _ in range(observers - READING)]
    for one in crowd:
        await loop.create_connection(partial(_itself, one), host, port)
    delays: list[float] = []
    async with aiohttp.ClientSession(url) as http:
        reading = [asyncio.create_task(read(http, call, token, delays)) for _ in range(READING)]
        await asyncio.sleep(SETTLE_SECONDS)
        for one in crowd:
            one.begin()
        delays.clear()
        print(json.dumps({"ready": observers}), flush=True)
        closed = asyncio.Event()
        loop.add_reader(sys.stdin, closed.set)
        await closed.wait()
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    cuts = statistics.quantiles(delays, n=100)
    got = {"lines_per_s": statistics.mean(one.lines for one in crowd) / SECONDS}
    got |= {"delay_p50_ms": cuts[49] * 1e3, "delay_p99_ms": cuts[98] * 1e3, "missed": sum(one.missed for one in crowd)}
    print(json.dumps(got), flush=True)


def _itself(protocol: Counting) -> Counting:
    return protocol


async def read(http: aiohttp.ClientSession, call: str, token: str, delays: list[float]) -> None:
    async with http.ws_connect("/v1/attach", params={"call": call, "token": token}) as socket:
        async for message in socket:
            delays.append(time.time() - json.loads(message.data)["ts"])  # noqa: PERF401  they are read meanwhile


class Process:
    """One of ours, which answers a line with a line."""

    def __init__(self, *command: str, cpu: int | None) -> None:
        self._command = command
        self._cpu = cpu

    async def __aenter__(self) -> Process:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("VOICE_")}
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.observers", *self._command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=clean,
        )
        if self._cpu is not None:
            os.sched_setaffinity(self._process.pid, {self._cpu})
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.terminate()
        await self._process.wait()

    async def ask(self, line: str = "") -> dict[str, Any]:
        """The next line, after ``line`` was written; an empty one is not."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if line:
            self._process.stdin.write(f"{line}\n".encode())
        async with asyncio.timeout(START_SECONDS):
            told: dict[str, Any] = json.loads(await self._process.stdout.readline())
        return told

    def close_input(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()


async def converse(peer: Peer) -> None:
    while True:
        await asyncio.sleep(QUESTION_SECONDS)
        peer.act("inject_text", text="What is seven plus five, and why does nobody ask for more than that?")


async def measure(server: Process, url: str, observers: int) -> None:
    async with Peer(url, "demo", api_key=KEY) as peer:
        await peer.connect()
        talking = asyncio.create_task(converse(peer))
        key = {"Authorization": f"Bearer {KEY}"}
        async with (
            aiohttp.ClientSession(url, headers=key) as http,
            http.get("/stream/token", params={"agent_id": "demo"}) as response,
        ):
            token = (await response.json())["token"]
        got: dict[str, Any] = {}
        if observers:
            await server.ask("begin")
            async with Process("watch", url, peer.session_id, token, str(observers), cpu=1) as watching:
                await watching.ask()
                coming = await server.ask("begin")
                await asyncio.sleep(SECONDS)
                took = await server.ask("end")
                watching.close_input()
                got = await watching.ask()
                got |= {
                    f"coming_{name}": coming[name] for name in ("tick_p99_ms", "tick_max_ms", "late_ticks", "ticks")
                }
        else:
            await server.ask("begin")
            await asyncio.sleep(SECONDS)
            took = await server.ask("end")
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
    show("observers", observers=observers, **took, **got)


async def main() -> None:
    allow_many_files()
    os.sched_setaffinity(0, {1})
    try:
        with tempfile.TemporaryDirectory() as folder:
            async with Process("serve", folder, cpu=0) as server:
                url = (await server.ask())["url"].rstrip("/")
                for observers in OBSERVERS:
                    await measure(server, url, observers)
    finally:
        os.sched_setaffinity(0, range(os.cpu_count() or 1))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", folder]:
            allow_many_files()
            asyncio.run(serve(folder))
        case ["watch", url, call, token, observers]:
            asyncio.run(watch(url, call, token, int(observers)))
        case _:
            asyncio.run(main())
