"""The synthetic browser against the real engine, and its check of the numbers that packets carry."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.audio import OUTPUT_FRAME
from media.call_report import CallReport, Ear
from media.caller import Caller, ConnectError
from media.ortc import new_certificate
from media.rtp import TICK_SAMPLES
from media.sdp import parse_offer
from tests.media.peers import Recorder, running_engine, until
from tests.voices import recording

SILENCE = b"\xf8\xff\xfe"
TICK = 0.020


class Mute:
    """Says nothing and remembers what it was told."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.spurts = 0

    def next_payload(self, now: float) -> bytes:
        return SILENCE

    def on_event(self, frame: dict[str, Any], now: float) -> None:
        self.frames.append(frame)

    def on_bot_voice(self, now: float) -> None:
        self.spurts += 1


async def test_a_caller_is_served_as_a_browser_is() -> None:
    async with running_engine(addresses=["127.0.0.1"]) as engine:
        observer, voice, report = Recorder(), Mute(), CallReport()
        caller = Caller(new_certificate(), voice, report)
        session = await engine.accept(parse_offer(caller.offer()), observer)
        await caller.connect(session.answer, asyncio.Semaphore(1), patience=30)
        session.send('{"event": "first"}')
        session.send("no JSON")
        pcm = recording("human-00.flac")
        session.playout.write(pcm[: 60 * OUTPUT_FRAME])
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(30):
            while session.playout.pending or report.events < 2 or len(observer.frames) < 100:
                caller.beat(loop.time())
                await asyncio.sleep(TICK)
        caller.beat(loop.time())
        assert report.connect_seconds is not None
        assert report.answer_seconds is not None
        assert report.first_audio_seconds is not None
        assert voice.frames == [{"event": "first"}]
        assert voice.spurts == 1
        assert report.received >= 60
        assert report.lost == report.forged == 0
        assert sum(report.lateness) >= 55
        assert session.stats.rejected == 0
        await until(lambda: session.stats.packets_in == report.sent)
        assert session.quality.round_trip is not None
        await caller.close()
        await until(lambda: observer.reason is not None)
        assert observer.reason == "disconnected"


async def test_the_callers_reports_tell_the_server_what_was_lost() -> None:
    async with running_engine(addresses=["127.0.0.1"]) as engine:
        observer, report = Recorder(), CallReport()
        caller = Caller(new_certificate(), Mute(), report)
        session = await engine.accept(parse_offer(caller.offer()), observer)
        await caller.connect(session.answer, asyncio.Semaphore(1), patience=30)
        loop = asyncio.get_running_loop()
        session.playout.write(recording("human-00.flac")[: 400 * OUTPUT_FRAME])
        protect, count = session._peer.protect, 0

        def lossy(packet: bytes) -> bytes:
            nonlocal count
            count += 1
            return b"" if count % 4 == 0 else protect(packet)

        session._peer.protect = lossy  # type: ignore[method-assign]
        async with asyncio.timeout(30):
            while not session.quality.far_loss:
                caller.beat(loop.time())
                await asyncio.sleep(TICK)
        assert report.lost > 0
        assert report.gaps > 0
        await caller.close()


@pytest.mark.parametrize("answer", ["", "v=0\r\n", "nonsense"])
async def test_an_answer_that_is_none_is_told_in_words(answer: str) -> None:
    caller = Caller(new_certificate(), Mute(), CallReport())
    caller.offer()
    with pytest.raises(ConnectError):
        await caller.connect(answer, asyncio.Semaphore(1), patience=5)
    await caller.close()


async def test_a_server_that_does_not_reply_ends_the_patience() -> None:
    async with running_engine(addresses=["127.0.0.1"]) as engine:
        observer, report = Recorder(), CallReport()
        caller = Caller(new_certificate(), Mute(), report)
        session = await engine.accept(parse_offer(caller.offer()), observer)
        await session.close()
        with pytest.raises(ConnectError, match=r"No connection within 0\.3 s"):
            await caller.connect(session.answer, asyncio.Semaphore(1), patience=0.3)
        await caller.close()


def packet(index: int, *, marker: bool = False, start: int = 0) -> bytes:
    sequence, timestamp = (start + index) % 0x10000, (start * TICK_SAMPLES + index * TICK_SAMPLES) % 2**32
    return struct.pack("!BBHII", 0x80, 0x80 | 111 if marker else 111, sequence, timestamp, 1) + b"\x00"


def hear(arrivals: list[tuple[int, float]], start: int = 0) -> CallReport:
    report = CallReport()
    ear = Ear(report)
    for index, at in arrivals:
        ear.hear(packet(index, start=start), at)
    return report


@given(start=st.integers(0, 2**32), order=st.permutations(range(30)), lost=st.sets(st.integers(1, 28), max_size=10))
def test_loss_is_what_never_came_whatever_the_order_and_the_wrap(start: int, order: list[int], lost: set[int]) -> None:
    arrivals = [(0, 0.0)] + [(index, 0.02 * index) for index in order if index and index not in lost]
    report = hear([*arrivals, (30, 0.7)], start)
    assert report.lost == len(lost)
    assert report.received == 31 - len(lost)


@given(jitter=st.lists(st.floats(0, 0.009), min_size=2, max_size=50))
def test_jitter_below_the_limit_is_not_late(jitter: list[float]) -> None:
    report = hear([(index, 5 + 0.02 * index + delay) for index, delay in enumerate(jitter)])
    assert (report.late, report.gaps, report.lost) == (0, 0, 0)


def test_one_late_packet_is_late_and_the_next_is_not() -> None:
    report = hear([(index, 0.02 * index + (0.015 if index == 5 else 0.0)) for index in range(10)])
    assert (report.late, report.gaps) == (1, 0)
    assert report.lateness[14] + report.lateness[15] == 1


def test_a_stall_is_one_gap() -> None:
    """A listener's buffer grows by it, and what follows at the new pace is in time."""
    report = hear([(index, 0.02 * index + (0.2 if index >= 5 else 0.0)) for index in range(20)])
    assert (report.late, report.gaps) == (1, 1)
