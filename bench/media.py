"""What a session costs and how well it is served, media alone: `python -m bench.media`, one JSON object a line.

The server has one core and the callers have another; ``ms_per_s`` is CPU time of the server's process in ms per second
and session. ``ratio_aiortc`` compares with aiortc's peer connection, measured in the same run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import re
import statistics
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import numpy as np

from bench.audio import voice
from media import level, opus, rtp
from media.audio import FRAME_MS, INPUT_RATE
from media.call_report import CallReport
from media.caller import Voice
from pipeline.silero import WINDOW
from server.crowd import CrowdProcess, Snapshot, Target
from server.speech import Monologue, encode, trim

SECONDS = 6.0
INTERVAL = 0.1
QUICK = 0.04
SETTLE = 1.0
AIORTC_SESSIONS = 8
CONNECT_PATIENCE = 60.0
TICK = FRAME_MS / 1000
LOAD = 0.8
MOST_SESSIONS = 250
INTERRUPTERS = 10
LISTEN_FRAMES, WORD_FRAMES = 100, 25
AUDIBLE = -40.0
"""dBFS."""
RATE = 48_000


def show(name: str, **figures: Any) -> None:
    rounded = {key: round(value, 2) if isinstance(value, float) else value for key, value in figures.items()}
    print(json.dumps({"bench": name, **rounded}), flush=True)


class Interrupter:
    """Listens, says a word, listens: notes when each word began."""

    def __init__(self, payloads: list[bytes], silence: bytes, number: int) -> None:
        self._cycle = [silence] * LISTEN_FRAMES + payloads
        self._position = number * 11
        self.onsets: list[float] = []

    def next_payload(self, now: float) -> bytes:
        position = self._position % len(self._cycle)
        self._position += 1
        if position == LISTEN_FRAMES:
            self.onsets.append(now)
        return self._cycle[position]

    def on_event(self, frame: dict[str, Any], now: float) -> None:
        pass

    def on_bot_voice(self, now: float) -> None:
        pass


@dataclass(frozen=True)
class Interrupters:
    payloads: list[bytes]
    silence: bytes

    def __call__(self, number: int, report: CallReport) -> Voice:
        return Interrupter(self.payloads, self.silence, number)


@dataclass(frozen=True)
class Monologues:
    payloads: list[bytes]

    def __call__(self, number: int, report: CallReport) -> Voice:
        return Monologue(self.payloads, number)


def cores() -> tuple[int | None, int | None]:
    """One for the server, one for the callers; ``None`` where the system does not tell or has but one."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    mine = sorted(os.sched_getaffinity(0))
    return (mine[0], mine[1]) if len(mine) > 1 else (None, None)


@dataclass
class Stage:
    """A server and its callers."""

    url: str
    crowd: CrowdProcess
    http: aiohttp.ClientSession
    sessions: int = 0

    async def stats(self) -> dict[str, Any]:
        async with self.http.get(f"{self.url}/stats") as response:
            body: dict[str, Any] = await response.json()
            return body

    async def unsettled(self) -> bool:
        """Whether somebody has not connected yet. Raises ``RuntimeError`` when one cannot."""
        progress = await self.crowd.progress()
        if progress.failed:
            raise RuntimeError(f"{progress.failed} sessions did not connect")
        return progress.connected < self.sessions

    async def grow(self, count: int, interval: float = INTERVAL) -> None:
        """Have ``count`` sessions in all, one more each ``interval`` s."""
        await self.crowd.add(count - self.sessions, interval)
        self.sessions = count
        async with asyncio.timeout(CONNECT_PATIENCE + count * interval):
            while await self.unsettled():  # noqa: ASYNC110 - it is another process that changes
                await asyncio.sleep(0.1)

    async def measure(self, seconds: float = SECONDS) -> dict[str, Any]:
        """What ``seconds`` of the present sessions took and brought."""
        await asyncio.sleep(SETTLE)
        server, callers = await self.stats(), await self.crowd.snapshot()
        await asyncio.sleep(seconds)
        server_after, callers_after = await self.stats(), await self.crowd.snapshot()
        return figures(server, server_after, callers, callers_after)


def figures(
    server: dict[str, Any], server_after: dict[str, Any], callers: Snapshot, callers_after: Snapshot
) -> dict[str, Any]:
    """The differences, per second and session."""
    count = len(callers_after.reports)
    wall = server_after["at"] - server["at"]
    heard = {
        name: sum(getattr(report, name) for report in callers_after.reports)
        - sum(getattr(report, name) for report in callers.reports)
        for name in ("sent", "received", "lost", "late", "gaps", "events")
    }
    duration = callers_after.at - callers.at
    expected = count * duration * 1000 / FRAME_MS
    decoded = (server_after["frames"] - server_after["concealed"]) - (server["frames"] - server["concealed"])
    return {
        "sessions": count,
        "ms_per_s": (server_after["cpu"] - server["cpu"]) * 1000 / wall / count,
        "kernel_ms_per_s": (server_after["kernel"] - server["kernel"]) * 1000 / wall / count,
        "load_pct": (server_after["cpu"] - server["cpu"]) * 100 / wall,
        "sent_pct": heard["received"] * 100 / expected,
        "asked_pct": (server_after.get("asked", 0) - server.get("asked", 0))
        * WINDOW
        * 100
        / (wall * INPUT_RATE * count),
        "decoded_pct": decoded / wall * duration * 100 / heard["sent"],
        "late_pct": heard["late"] * 100 / max(1, heard["received"]),
        "lost": heard["lost"],
        "gaps": heard["gaps"],
        "events_per_s": heard["events"] / duration / count,
        "callers_ms_per_s": (callers_after.cpu_seconds - callers.cpu_seconds) * 1000 / duration / count,
        "callers_late_pct": (callers_after.late_beats - callers.late_beats)
        * 100
        / max(1, callers_after.beats - callers.beats),
    }


@contextlib.asynccontextmanager
async def stage(kind: str, work: str, make_voice: Any) -> AsyncIterator[Stage]:
    """A fresh server and a fresh crowd."""
    server_cpu, callers_cpu = cores()
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.media_server", kind, work, "-" if server_cpu is None else str(server_cpu)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        port = int(await server.stdout.readline())
        target = Target(f"http://127.0.0.1:{port}", "bench", patience=CONNECT_PATIENCE)
        async with CrowdProcess(target, make_voice, cpu=callers_cpu) as crowd, aiohttp.ClientSession() as http:
            yield Stage(target.url, crowd, http)
    finally:
        server.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(server.wait(), 10)
        if server.returncode is None:
            server.kill()
            await server.wait()


async def aiortc(make_voice: Monologues) -> float:
    """CPU time of a session on aiortc's peer connection, ms per second."""
    async with stage("aiortc", "w1", make_voice) as scene:
        await scene.grow(AIORTC_SESSIONS)
        measured = await scene.measure()
        show("aiortc", **measured)
        return float(measured["ms_per_s"])


async def speaking(work: str, sizes: Sequence[int], make_voice: Monologues, reference: float) -> list[dict[str, Any]]:
    """One server and ever more sessions; of W1 also as many as take 80 % of the core."""
    found: list[dict[str, Any]] = []
    paced = work != "w1"
    async with stage("own", work, make_voice) as scene:
        for size in sizes:
            if not paced and len(found) > 1 and filling(found) < size:
                await pacing(scene, filling(found))
                paced = True
            await scene.grow(size)
            measured = await scene.measure()
            if work == "w2":
                del measured["sent_pct"]  # half of the time nothing is due
            else:
                measured["ratio_aiortc"] = reference / measured["ms_per_s"]
            show(work, **measured)
            found.append(measured)
        offers = (await scene.stats())["offer_ms"]
        show("offer to answer", work=work, offers=len(offers), p50_ms=median(offers), p95_ms=percentile(offers, 95))
        if not paced:
            await pacing(scene, min(MOST_SESSIONS, filling(found)))
    return found


def filling(found: Sequence[dict[str, Any]]) -> int:
    """How many sessions take ``LOAD`` of a core, by the last two measurements: each costs, and so does the clock."""
    before, last = found[-2:]
    slope = (last["load_pct"] - before["load_pct"]) / (last["sessions"] - before["sessions"])
    return max(int(last["sessions"]), round(last["sessions"] + (LOAD * 100 - last["load_pct"]) / slope))


async def pacing(scene: Stage, sessions: int) -> None:
    """How punctual the packets are at that load."""
    await scene.grow(sessions, QUICK)
    show("pacing", **await scene.measure())


async def interrupting(payloads: list[bytes], silence: bytes) -> None:
    """From the caller's first packet with a voice until the last packet of the bot that is not silent."""
    async with stage("own", "barge-in", Interrupters(payloads[:WORD_FRAMES], silence)) as scene:
        await scene.grow(INTERRUPTERS)
        await scene.crowd.keep()
        await asyncio.sleep(SECONDS)
        heard = await scene.crowd.kept()
    found = [ms for voice, packets in heard if isinstance(voice, Interrupter) for ms in silenced(voice.onsets, packets)]
    show("barge-in", count=len(found), p50_ms=median(found), p95_ms=percentile(found, 95), max_ms=max(found))


def silenced(onsets: list[float], packets: list[tuple[float, bytes]]) -> list[float]:
    """How long the bot was still heard after each onset, ms."""
    decoder = opus.Decoder()
    loud = []
    for at, packet in packets:
        parsed = rtp.parse(packet)
        if parsed is not None and level.dbfs(decoder.decode(parsed.payload)) > AUDIBLE:
            loud.append(at)
    spans = [(onset, [at for at in loud if onset < at < onset + WORD_FRAMES * TICK]) for onset in onsets]
    return [(after[-1] - onset) * 1e3 for onset, after in spans if after and loud[0] < onset < loud[-1] - 1.0]


def percentile(values: list[float], share: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1] if len(values) > 1 else values[0]


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cpuinfo = Path("/proc/cpuinfo")
    models = re.findall(r"^model name\s*: (.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else []
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


async def main() -> None:
    show("machine", **machine())
    said = trim(voice(RATE))
    payloads = encode(said)
    reference = await aiortc(Monologues(encode(said, bitrate=32_000, band=20_000)))
    found = await speaking("w1", (10, 50, 100), Monologues(payloads), reference)
    show("growth", work="w1", pct=(found[-1]["ms_per_s"] / found[0]["ms_per_s"] - 1) * 100)
    await speaking("w1-silero", (50,), Monologues(payloads), reference)
    await speaking("w2", (50,), Monologues(payloads), reference)
    await interrupting(payloads, encode(np.zeros(RATE // 5, np.int16))[-1])


if __name__ == "__main__":
    asyncio.run(main())
