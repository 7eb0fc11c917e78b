"""The shared parts: addresses, port, certificate, many calls at once."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import re
import socket

import pytest
from aiortc.rtcdtlstransport import RTCCertificate
from aiortc.sdp import SessionDescription

from media.address import local_addresses
from media.engine import MediaEngine
from tests.media.peers import BarePeer, Recorder, running_engine, until


async def candidates(engine: MediaEngine) -> list[tuple[str, int]]:
    session = await engine.accept(BarePeer().offer, Recorder())
    announced = SessionDescription.parse(session.answer).media[0].ice_candidates
    await session.close()
    return [(each.ip, each.port) for each in announced]


async def test_the_addresses_of_this_machine_are_announced() -> None:
    async with running_engine() as engine:
        assert await candidates(engine) == [(address, engine.port) for address in local_addresses()]


async def test_addresses_can_be_chosen_and_public_ones_come_first() -> None:
    async with running_engine(addresses=["127.0.0.2", "127.0.0.1"], public_ips=["203.0.113.7", "127.0.0.1"]) as engine:
        hosts = [host for host, _ in await candidates(engine)]
        assert hosts == ["203.0.113.7", "127.0.0.1", "127.0.0.2"]


@pytest.mark.parametrize("setting", [{"addresses": ["0.0.0.0"]}, {"public_ips": ["example.org"]}])
def test_a_wrong_address_is_refused_at_once(setting: dict[str, list[str]]) -> None:
    with pytest.raises(ValueError, match=re.escape(next(iter(setting.values()))[0])):
        MediaEngine(**setting)  # type: ignore[arg-type]


async def test_a_port_can_be_fixed() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with running_engine(port=port, addresses=["127.0.0.1"]) as engine:
        assert engine.port == port
        second = MediaEngine(port=port, addresses=["127.0.0.1"])
        with pytest.raises(OSError, match=f"udp port {port} of 127.0.0.1"):
            await second.start()


async def test_a_new_address_gets_a_socket_with_the_next_offer(monkeypatch: pytest.MonkeyPatch) -> None:
    present = ["127.0.0.1"]
    monkeypatch.setattr("media.address.local_addresses", lambda: list(present))
    async with running_engine() as engine:
        assert await candidates(engine) == [("127.0.0.1", engine.port)]
        present.insert(0, "127.0.0.2")
        peer = BarePeer()
        await peer.open(engine)
        peer.server = ("127.0.0.2", engine.port)
        peer.check()
        await until(lambda: peer.stun)
        assert await candidates(engine) == [("127.0.0.2", engine.port), ("127.0.0.1", engine.port)]
        present.pop(0)
        assert await candidates(engine) == [("127.0.0.1", engine.port)]
        present.clear()
        with pytest.raises(OSError, match="no network address"):
            await engine.accept(peer.offer, Recorder())
        await peer.close()


async def test_an_engine_that_does_not_run_accepts_nothing() -> None:
    engine = MediaEngine(addresses=["127.0.0.1"])
    assert engine.port == 0
    with pytest.raises(RuntimeError, match="not running"):
        await engine.accept(BarePeer().offer, Recorder())
    await engine.start()
    await engine.close()
    with pytest.raises(RuntimeError, match="not running"):
        await engine.accept(BarePeer().offer, Recorder())
    await engine.close()


async def test_many_calls_at_once_and_all_end_with_the_engine() -> None:
    async with running_engine(addresses=["127.0.0.1"]) as engine:
        peers = [BarePeer() for _ in range(30)]
        await asyncio.gather(*(peer.connect(engine, sctp=True) for peer in peers))
        assert engine.sessions == 30
        for peer in peers:
            peer.send(peer.rtp())
        await until(lambda: all(peer.recorder.frames for peer in peers))
        assert engine.clock.lateness.count > 0
        await engine.close()
        assert [peer.recorder.reason for peer in peers] == ["closed"] * 30
        await asyncio.gather(*(peer.close() for peer in peers))


async def test_a_certificate_about_to_expire_is_replaced_for_new_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_engine(addresses=["127.0.0.1"]) as engine:
        first, again = BarePeer(), BarePeer()
        await first.connect(engine)
        soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
        monkeypatch.setattr(RTCCertificate, "expires", property(lambda self: soon))
        await again.connect(engine)
        fingerprints = {re.findall("a=fingerprint:.*", peer.session.answer)[0] for peer in (first, again)}
        assert len(fingerprints) == 2
        await asyncio.gather(first.close(), again.close())


async def test_offers_are_values() -> None:
    """Two sessions of one offer share nothing."""
    async with running_engine(addresses=["127.0.0.1"]) as engine:
        offer = BarePeer().offer
        one, two = [await engine.accept(dataclasses.replace(offer), Recorder()) for _ in range(2)]
        assert one.id != two.id
        assert len({re.findall("a=ice-ufrag:.*", session.answer)[0] for session in (one, two)}) == 2
