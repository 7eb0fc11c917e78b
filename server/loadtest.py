"""`voice-server loadtest`: many synthetic callers at once, and how well each of them was served."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import numpy as np

from media.audio import FRAME_MS
from media.call_report import CallReport
from media.caller import Voice
from server.crowd import CrowdProcess, Progress, Snapshot, Target
from server.peer import PeerError
from server.recording import RATE
from server.speech import Questioner, encode, trim
from server.talk import local_key, read_audio
from server.usage import Usage, find_server, read_usage

PER_PROCESS = 100
"""Callers of one process: more would take a core of their own."""

PROGRESS_SECONDS = 0.5
GRACE_SECONDS = 30.0
"""How long the last calls may still connect after the ramp."""

BEHIND_SHARE = 0.01
"""Share of late beats above which the generator was the bottleneck, not the server."""

FAILED, NO_CALL = 1, 3


@dataclass(frozen=True, slots=True)
class Questions:
    """Makes callers that ask and listen. It travels to the processes of the callers."""

    payloads: list[bytes]
    silence: bytes

    def __call__(self, number: int, report: CallReport) -> Voice:
        return Questioner(self.payloads, self.silence, report)


@click.command()
@click.option("--url", default="http://localhost:8080", show_default=True, help="Base address of the server.")
@click.option("--agent", default="demo", show_default=True, help="Agent to call.")
@click.option("--sessions", default=10, show_default=True, type=click.IntRange(1, 10_000), help="Calls at once.")
@click.option("--ramp", default=10.0, show_default=True, type=click.FloatRange(0), help="Seconds to start them in.")
@click.option("--seconds", default=30.0, show_default=True, type=click.FloatRange(1), help="Seconds after the ramp.")
@click.option(
    "--audio",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What each caller says: WAV, FLAC, Ogg. Without it they only listen.",
)
@click.option("--api-key", help="Secret key; of a server on this machine it is found.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line per call, then one of all.")
def loadtest(
    *,
    url: str,
    agent: str,
    sessions: int,
    ramp: float,
    seconds: float,
    audio: Path | None,
    api_key: str | None,
    as_json: bool,
) -> None:
    """Call an agent many times at once and tell how well each call was served.

    The callers connect as browsers do and speak a recording; they run in processes of their own. Exits 0 when every
    call was good, 1 when one failed, 3 when none connected. The server's limits count for them too: VOICE_OFFER_RATE,
    VOICE_MINT_RATE and VOICE_MAX_CALLS.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise click.BadParameter(f"{url!r} is no http or https address", param_hint="--url")
    said = trim(read_audio(audio)) if audio is not None else np.zeros(0, np.int16)
    silence = encode(np.zeros(RATE // 5, np.int16))[-1]
    questions = Questions(encode(said) if len(said) else [], silence)
    target = Target(url.rstrip("/"), agent, api_key or local_key(url), GRACE_SECONDS)
    try:
        outcome = asyncio.run(run(target, questions, Load(sessions, ramp, seconds)))
    except PeerError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(NO_CALL)
    except KeyboardInterrupt:
        sys.exit(130)
    (print_json if as_json else print_table)(outcome)
    sys.exit(NO_CALL if not outcome.connected else FAILED if outcome.errors else 0)


@dataclass(frozen=True, slots=True)
class Load:
    sessions: int
    ramp: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a load test found. ``server`` is what the server took while all calls were up, where that can be read."""

    reports: list[CallReport]
    snapshots: list[Snapshot]
    duration: float
    server: Usage | None

    @property
    def connected(self) -> int:
        return sum(report.connect_seconds is not None for report in self.reports)

    @property
    def errors(self) -> Counter[str]:
        return Counter(report.error for report in self.reports if report.error)

    @property
    def generator_late(self) -> float:
        """Share of its own 20 ms beats for which the generator was late."""
        return sum(each.late_beats for each in self.snapshots) / max(1, sum(each.beats for each in self.snapshots))

    def summary(self) -> dict[str, Any]:
        """The whole as one JSON object: times in ms as p50, p95 and p99."""
        reports = self.reports
        received = sum(report.received for report in reports)
        facts: dict[str, Any] = {
            "sessions": len(reports),
            "connected": self.connected,
            "answer_ms": spread(report.answer_seconds for report in reports),
            "connect_ms": spread(report.connect_seconds for report in reports),
            "first_audio_ms": spread(report.first_audio_seconds for report in reports),
            "questions": sum(report.questions for report in reports),
            "answers": sum(report.answers for report in reports),
            "response_ms": spread(each for report in reports for each in report.response_seconds),
            "received": received,
            "lost_pct": percent(sum(report.lost for report in reports), received),
            "late_pct": percent(sum(report.late for report in reports), received),
            "lateness_ms": pace(reports),
            "gaps": sum(report.gaps for report in reports),
            "errors": dict(self.errors),
            "generator": {
                "late_pct": round(self.generator_late * 100, 2),
                "late_p99_ms": round(max((each.late_p99_ms for each in self.snapshots), default=0.0), 1),
                "bottleneck": self.generator_late > BEHIND_SHARE,
            },
        }
        if self.server is not None:
            facts["server"] = {
                "cpu_pct": percent(self.server.process_seconds, self.duration),
                "workers_cpu_pct": percent(self.server.workers_seconds, self.duration),
                "memory_mb": round(self.server.memory_mb),
            }
            if self.connected:
                each = self.server.process_seconds * 1000 / self.duration / self.connected
                facts["server"]["ms_per_s_and_call"] = round(each, 2)
        return facts


async def run(target: Target, questions: Questions, load: Load) -> Outcome:
    """Play the load. Raises ``PeerError`` when a process of callers breaks."""
    count = min(math.ceil(load.sessions / PER_PROCESS), os.cpu_count() or 1)
    interval = load.ramp / load.sessions
    async with contextlib.AsyncExitStack() as stack:
        crowds = [await stack.enter_async_context(CrowdProcess(target, questions)) for _ in range(count)]
        began = time.monotonic()
        for index, crowd in enumerate(crowds):
            await crowd.add(len(range(index, load.sessions, count)), interval * count, delay=interval * index)
        with Display(load, began) as display:
            await _watch(crowds, display, load, began + load.ramp + GRACE_SECONDS, until_settled=True)
            pid = find_server(target.url)
            before, measured = read_usage(pid) if pid else None, time.monotonic()
            await _watch(crowds, display, load, measured + load.seconds, until_settled=False)
        snapshots = [await crowd.snapshot() for crowd in crowds]
        after, duration = read_usage(pid) if pid else None, time.monotonic() - measured
    reports = [report for snapshot in snapshots for report in snapshot.reports]
    return Outcome(reports, snapshots, duration, _difference(before, after))


async def _watch(
    crowds: Sequence[CrowdProcess], display: Display, load: Load, end: float, *, until_settled: bool
) -> None:
    """Show the progress until ``end``, or until every call is connected or failed, or every one failed."""
    while (left := end - time.monotonic()) > 0:
        states = [await crowd.progress() for crowd in crowds]
        whole = Progress(*(sum(values) for values in zip(*(state.counts for state in states), strict=True)))
        display(whole)
        if whole.failed == load.sessions or (until_settled and whole.connected + whole.failed == load.sessions):
            return
        await asyncio.sleep(min(PROGRESS_SECONDS, left))


def _difference(before: Usage | None, after: Usage | None) -> Usage | None:
    if before is None or after is None:
        return None
    return Usage(
        after.process_seconds - before.process_seconds,
        after.workers_seconds - before.workers_seconds,
        after.memory_mb,
    )


class Display:
    """One line that is written over, on a terminal only."""

    def __init__(self, load: Load, began: float) -> None:
        self._load = load
        self._began = began
        self._shown = sys.stderr.isatty()

    def __call__(self, progress: Progress) -> None:
        if self._shown:
            line = (
                f"{time.monotonic() - self._began:6.1f} s   {progress.connected} of {self._load.sessions} connected, "
                f"{progress.failed} failed, {progress.answers} answers"
            )
            click.echo(f"\r{line:<70}", err=True, nl=False)

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            click.echo(err=True)


# Figures -------------------------------------------------------------------------------------------------------------


def spread(seconds: Any) -> dict[str, int] | None:
    """p50, p95 and p99 in ms; ``None`` of nothing."""
    values = [value for value in seconds if value is not None]
    if not values:
        return None
    return {f"p{share}": round(1000 * float(np.percentile(values, share))) for share in (50, 95, 99)}


def pace(reports: Sequence[CallReport]) -> dict[str, int] | None:
    """How late the packets of the bot's voice were, ms, from the histograms of all calls."""
    total = np.sum([report.lateness for report in reports], axis=0) if reports else np.zeros(1)
    if not total.sum():
        return None
    reached = np.cumsum(total) / total.sum()
    return {f"p{share}": int(np.searchsorted(reached, share / 100)) for share in (50, 95, 99)}


def percent(part: float, whole: float) -> float:
    return round(part * 100 / whole, 3) if whole else 0.0


def print_json(outcome: Outcome) -> None:
    for number, report in enumerate(outcome.reports):
        facts = asdict(report)
        facts["lateness_ms"] = pace([report])
        del facts["lateness"]
        click.echo(json.dumps({"call": number, **facts}))
    click.echo(json.dumps({"total": outcome.summary()}))


def print_table(outcome: Outcome) -> None:
    facts = outcome.summary()
    click.echo(f"{facts['connected']} of {facts['sessions']} calls connected, {outcome.duration:.0f} s measured\n")
    click.echo(f"{'':<34} {'p50':>7} {'p95':>7} {'p99':>7}")
    for key, title in (
        ("answer_ms", "offer → answer, ms"),
        ("connect_ms", "offer → audio and channel open, ms"),
        ("first_audio_ms", "offer → first bot audio, ms"),
        ("response_ms", "end of question → bot audio, ms"),
        ("lateness_ms", "packets behind their pace, ms"),
    ):
        row = facts[key]
        click.echo(f"{title:<34} " + (" ".join(f"{value:>7}" for value in row.values()) if row else f"{'none':>7}"))
    click.echo(f"\npackets {facts['received']}, lost {facts['lost_pct']} %, late {facts['late_pct']} %", nl=False)
    click.echo(f" (over {FRAME_MS // 2} ms), gaps {facts['gaps']}")
    click.echo(f"questions {facts['questions']}, answered {facts['answers']}")
    if "server" in facts:
        click.echo("server: " + ", ".join(f"{key} {value}" for key, value in facts["server"].items()))
    else:
        click.echo("server: not on this machine, or not visible; nothing is known of its CPU and memory")
    for message, count in outcome.errors.most_common():
        click.echo(f"{count} × {message}")
    if facts["generator"]["bottleneck"]:
        click.echo(
            f"The callers themselves were late in {facts['generator']['late_pct']} % of their beats: this machine was "
            "the bottleneck. Run them on another one."
        )
