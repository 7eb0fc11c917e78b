"""Calls one after the other, with the real engine: when they are over, the process is what it was before."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from media.call_report import CallReport
from media.caller import Caller
from media.engine import MediaEngine
from media.ortc import new_certificate
from media.sdp import parse_offer
from tests.media.peers import Recorder, readers, running_engine, until
from tests.media.signals import pink_noise

CALLS = 100
WARM_UP = 20
BLOCKS_PER_CALL = 25
"""Memory blocks of Python that a call may leave: caches still fill, a leak of a session has thousands."""

PCM = pink_noise(4800, dbfs=-20)


class Talker:
    """Says the same short packet each time."""

    def next_payload(self, now: float) -> bytes:
        return b"\xf8\xff\xfe"

    def on_event(self, frame: dict[str, Any], now: float) -> None:
        pass

    def on_bot_voice(self, now: float) -> None:
        pass


@dataclass(frozen=True)
class Footprint:
    tasks: int
    watched: int
    descriptors: int
    timers: int
    objects: Counter[str]
    """Ours and aiortc's, by class."""


async def footprint(engine: MediaEngine) -> Footprint:
    """What there is once the clock sleeps because nobody calls."""
    await until(lambda: engine.clock._handle is None)
    gc.collect()
    loop: Any = asyncio.get_running_loop()
    kinds = (type(each) for each in gc.get_objects())
    return Footprint(
        tasks=len(asyncio.all_tasks()),
        watched=readers(),
        descriptors=len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0,
        timers=sum(not handle.cancelled() for handle in loop._scheduled),
        objects=Counter(
            f"{kind.__module__}.{kind.__name__}"
            for kind in kinds
            if str(kind.__module__).startswith(("media.", "aiortc.", "aioice.", "pylibsrtp", "OpenSSL"))
        ),
    )


async def one_call(engine: MediaEngine, certificate: Any, number: int) -> None:
    """Connect, talk both ways, send an event, and end it from one side or the other."""
    observer, report = Recorder(), CallReport()
    caller = Caller(certificate, Talker(), report)
    session = await engine.accept(parse_offer(caller.offer()), observer)
    await caller.connect(session.answer, asyncio.Semaphore(1), patience=30)
    session.playout.write(PCM)
    session.send('{"event": "hello"}')

    def served() -> bool:
        caller.beat(asyncio.get_running_loop().time())
        return bool(report.received and report.events and observer.frames)

    await until(served)
    if number % 2:
        await session.close()
    await caller.close()
    await until(lambda: observer.reason is not None)


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "udp beside tcp"])
async def test_calls_one_after_the_other_leave_nothing(tcp: bool) -> None:
    async with running_engine(addresses=["127.0.0.1"], tcp_port=0 if tcp else None) as engine:
        certificate = new_certificate()
        for number in range(WARM_UP):
            await one_call(engine, certificate, number)
        before, blocks = await footprint(engine), sys.getallocatedblocks()
        for number in range(CALLS if not tcp else 10):
            await one_call(engine, certificate, number)
        after = await footprint(engine)
        assert after == before
        assert sys.getallocatedblocks() - blocks < BLOCKS_PER_CALL * CALLS
        assert len(engine._handshakes) == 0


async def test_an_address_that_passed_no_check_gets_not_one_byte() -> None:
    """Nobody can have the server send to somebody else: a forged sender knows no password of a call."""
    async with running_engine(addresses=["127.0.0.1"]) as engine:
        caller = Caller(new_certificate(), Talker(), CallReport())
        session = await engine.accept(parse_offer(caller.offer()), Recorder())
        got: list[bytes] = []

        class Stranger(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                got.append(data)

        made = await asyncio.get_running_loop().create_datagram_endpoint(
            Stranger, remote_addr=("127.0.0.1", engine.port)
        )
        hello = b"\x16\xfe\xff" + bytes(10) + b"\x01" + bytes(200)
        before = engine.udp_stats.received
        for data in (hello, b"\x80\x6f" + bytes(50), b"\x80\xc8" + bytes(50), b"\x00\x01\x00\x00\x21\x12\xa4\x42" * 4):
            for _ in range(20):
                made[0].sendto(data)
        await until(lambda: engine.udp_stats.received == before + 80)
        assert engine.udp_stats.sent == 0
        assert not got
        made[0].close()
        await session.close()
        await caller.close()
