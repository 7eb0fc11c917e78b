"""Whole calls with the real engine over a bad network, datagram by datagram, in real time.

The bounds are wide: a busy machine is one more bad network. What is exact stands in ``test_bad_networks.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from media import opus, rtp
from media.audio import INPUT_FRAME, Pcm
from media.call_report import CallReport
from media.caller import Caller
from media.ortc import new_certificate
from media.sdp import parse_offer
from media.session import Session
from tests.media.bad_network import BadNetwork
from tests.media.peers import Recorder, running_engine, until
from tests.media.signals import likeness, payloads, speech
from tests.media.udp_relay import UdpRelay

TICK = 0.020
VOICE = speech()
EARLIER = 5 * INPUT_FRAME


class Reader:
    """Says the recording again and again, as a browser encodes it that was told of loss."""

    def __init__(self) -> None:
        self.said = 0
        self._payloads = payloads(VOICE, loss=10, bitrate=40_000)

    def next_payload(self, now: float) -> bytes:
        self.said += 1
        return self._payloads[(self.said - 1) % len(self._payloads)]

    def on_event(self, frame: dict[str, Any], now: float) -> None:
        pass

    def on_bot_voice(self, now: float) -> None:
        pass


class Call:
    """A caller behind a relay, and the server's side of it."""

    def __init__(self, relay: UdpRelay, caller: Caller, voice: Reader) -> None:
        self.relay = relay
        self.caller = caller
        self.voice = voice
        self.recorder = Recorder()
        self.session: Session
        self._next = 0.0

    async def talk(self, seconds: float) -> None:
        """Let the caller speak so long, at its pace whatever the loop does."""
        loop = asyncio.get_running_loop()
        self._next = self._next or loop.time()
        for _ in range(round(seconds / TICK)):
            self._next += TICK
            await asyncio.sleep(self._next - loop.time())
            self.caller.beat(loop.time())

    @property
    def pcm(self) -> Pcm:
        return np.concatenate([frame.pcm for frame in self.recorder.frames])

    def check_time(self, slack: float = 0.5) -> None:
        """Media time has no gaps and kept up with the caller."""
        times = [frame.time for frame in self.recorder.frames]
        assert times == pytest.approx(np.arange(len(times)) * TICK)
        assert abs(len(times) * TICK - self.voice.said * TICK) < slack

    def likeness(self, start: float) -> float:
        """How much what was heard from a moment of the call on (s) is what was said from then on."""
        first = round(start / TICK) * INPUT_FRAME
        heard = self.pcm[first:]
        # The first packets may have been lost or overtaken: then all that was heard lies a little earlier.
        first += EARLIER
        said = np.resize(VOICE[: len(VOICE) // INPUT_FRAME * INPUT_FRAME], first + len(heard))[first:]
        return likeness(heard, said, search=EARLIER + INPUT_FRAME * 3)


@asynccontextmanager
async def calling() -> AsyncIterator[Call]:
    async with running_engine(addresses=["127.0.0.1"]) as engine, UdpRelay(engine.port) as relay:
        voice = Reader()
        call = Call(relay, Caller(new_certificate(), voice, CallReport()), voice)
        call.session = await engine.accept(parse_offer(call.caller.offer()), call.recorder)
        await call.caller.connect(relay.through(call.session.answer), asyncio.Semaphore(1), patience=30)
        await until(lambda: "open" in call.recorder.events)
        try:
            yield call
        finally:
            await call.caller.close()
        await until(lambda: call.recorder.reason)


@pytest.mark.parametrize(
    ("network", "heard"),
    [
        (BadNetwork(jitter=0.04), 0.7),
        (BadNetwork(loss=0.05, jitter=0.03, duplicates=0.1), 0.6),
        (BadNetwork(burst=4, burst_share=0.01, jitter=0.02), 0.5),
    ],
    ids=["jitter and reordering", "loss, jitter and copies", "bursts of loss"],
)
async def test_speech_is_understood_and_time_stays_straight(network: BadNetwork, heard: float) -> None:
    async with calling() as call:
        call.relay.up = network
        await call.talk(5)
        call.check_time()
        assert call.likeness(0.0) > heard
        quality = call.session.quality
        assert 0.002 < quality.jitter < 0.05
        assert 0 <= network.lost - quality.lost <= 5  # the last ones cannot be noticed yet
        assert quality.recovered + quality.concealed >= (quality.lost - 5) * TICK
        if network.loss:
            assert quality.recovered > 0
        assert quality.round_trip is not None
        assert call.session.stats.rejected == 0 or network.duplicates  # copies are stopped by SRTP


async def test_after_a_stall_the_call_goes_on_without_delay() -> None:
    async with calling() as call:
        await call.talk(1.5)
        call.relay.up.stall(asyncio.get_running_loop().time(), 0.5)
        await call.talk(2.5)
        call.check_time()
        assert 0.2 < call.session.quality.concealed < 0.7
        assert call.likeness(2.2) > 0.6


async def test_a_call_goes_on_when_its_address_changes() -> None:
    async with calling() as call:
        await call.talk(1)
        await call.relay.move()
        agent, (before, now) = call.session._ice, call.relay.ways

        def moved() -> bool:
            return agent.selected is not None and agent.selected.remote[1] == now

        assert before != now
        for _ in range(200):  # until the next consent check
            if moved():
                break
            await call.talk(0.1)
        assert moved()
        call.session.playout.write(np.tile(speech(rate=24_000), 2))
        before_received = call.caller.report.received
        await call.talk(1.5)
        assert call.caller.report.received > before_received + 40
        assert call.recorder.reason is None
        call.check_time(slack=8)


async def test_a_caller_that_loses_packets_gets_redundancy_and_later_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("media.caller.CHORES_INTERVAL", 0.25)  # reports come faster, and so does what follows them
    async with calling() as call:
        call.session.playout.write(np.tile(speech(rate=24_000), 8))
        call.caller.kept = kept = []
        call.relay.down = BadNetwork(loss=0.06)
        await call.talk(2)
        assert share(kept, opus.has_fec) > 0.3
        far_loss, far_lost = call.session.quality.far_loss, call.session.quality.far_lost
        assert far_loss is not None
        assert far_lost is not None
        assert 0 < far_lost <= call.relay.down.lost
        call.relay.down = BadNetwork()
        for _ in range(30):
            kept.clear()
            await call.talk(0.5)
            if not share(kept, opus.has_fec):
                break
        assert not share(kept, opus.has_fec)
        assert call.session.quality.far_loss == 0


def share(kept: list[tuple[float, bytes]], condition: Callable[[bytes], bool]) -> float:
    parsed = [packet for packet in (rtp.parse(data) for _, data in kept) if packet is not None]
    return sum(condition(packet.payload) for packet in parsed) / max(1, len(parsed))
