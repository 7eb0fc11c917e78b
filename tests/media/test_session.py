"""Whole calls over real sockets: audio and messages both ways, every way to end, and what must not disturb."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import random
from collections.abc import AsyncIterator

import numpy as np
import pytest

from media import rtcp
from media.audio import OUTPUT_RATE
from media.channel import MAX_BUFFERED, MAX_RATE
from media.engine import MediaEngine
from media.session import State
from tests.media.peers import AiortcClient, BarePeer, Recorder, running_engine, until

SECOND_OF_TONE = (np.sin(2 * np.pi * 300 * np.arange(OUTPUT_RATE) / OUTPUT_RATE) * 9000).astype(np.int16)


@pytest.fixture
async def engine() -> AsyncIterator[MediaEngine]:
    async with running_engine(addresses=["127.0.0.1"]) as engine:
        yield engine


@pytest.fixture
async def peer(engine: MediaEngine) -> AsyncIterator[BarePeer]:
    peer = BarePeer()
    yield peer
    await peer.close()


async def talk(peer: BarePeer, *, count: int) -> None:
    """Send that many RTP packets and wait until the server has them."""
    before = peer.session.stats.packets_in
    for _ in range(count):
        peer.send(peer.rtp())
    await until(lambda: peer.session.stats.packets_in == before + count)


async def test_a_call_with_aiortc() -> None:
    """With all addresses of this machine, as in production."""
    async with running_engine() as engine:
        client, recorder = AiortcClient(), Recorder()
        session = await client.connect(engine, recorder)
        assert session.send("first")
        assert session.send("second")
        await until(lambda: {"connected", "open", "audio"} <= set(recorder.events))
        assert recorder.events[0] == "connected"
        session.playout.write(SECOND_OF_TONE)
        assert client.channel
        client.channel.send("ping")
        client.channel.send("hello")
        await until(lambda: client.messages == ["first", "second"] and recorder.messages == ["hello"])
        await until(lambda: recorder.played == OUTPUT_RATE and client.peak > 3000 and recorder.level > -20)
        times = [frame.time for frame in recorder.frames]
        assert times == pytest.approx(np.arange(len(times)) * 0.02)
        assert all(frame.pcm.shape == (320,) for frame in recorder.frames)
        assert any(frame.is_speech for frame in recorder.frames)
        await until(lambda: session.quality.round_trip is not None)
        await client.close()
        await until(lambda: recorder.reason)
        assert recorder.reason == "disconnected"
        assert session.state is State.CLOSED
        assert not session.send("late")


async def test_close_by_the_server_reaches_the_client(engine: MediaEngine) -> None:
    client, recorder = AiortcClient(), Recorder()
    session = await client.connect(engine, recorder)
    await until(lambda: "open" in recorder.events)
    assert client.channel
    await asyncio.gather(session.close(), session.close())
    assert recorder.reason == "closed"
    assert engine.sessions == 0
    await until(lambda: client.connection.connectionState == "closed")
    await session.close()
    await client.close()


async def test_an_offer_without_a_channel(engine: MediaEngine) -> None:
    client, recorder = AiortcClient(channel=False), Recorder()
    session = await client.connect(engine, recorder)
    await until(lambda: "audio" in recorder.events)
    assert session.send("nobody will read this")
    await client.close()
    await until(lambda: recorder.reason == "disconnected")
    assert "open" not in recorder.events


async def test_a_listener_gets_no_audio(engine: MediaEngine, peer: BarePeer) -> None:
    peer.offer = dataclasses.replace(peer.offer, direction="recvonly")
    await peer.connect(engine)
    peer.session.playout.write(SECOND_OF_TONE)
    await until(lambda: peer.recorder.played > 4800)  # the clock of the call goes on
    assert all(192 <= data[1] < 224 for data in peer.datagrams)


async def test_reports_are_sent_and_heard(engine: MediaEngine, peer: BarePeer) -> None:
    await peer.connect(engine)
    peer.sequence = 10
    await talk(peer, count=5)
    peer.sequence += 5  # lost
    await talk(peer, count=5)

    def blocks() -> list[rtcp.ReportBlock]:
        compound = [data for data in peer.datagrams if 192 <= data[1] < 224]
        peer.datagrams.clear()
        facts = [fact for data in compound for fact in rtcp.parse(peer.dtls._rx_srtp.unprotect_rtcp(data))]
        return [fact for fact in facts if isinstance(fact, rtcp.ReportBlock)]

    await until(lambda: any(block.ssrc == 1 and block.cumulative_lost == 5 for block in blocks()))

    ours = peer.session._sender.ssrc
    block = rtcp.ReportBlock(ours, 0.25, 3, 100, 0, 0, 0)
    report = rtcp._packet(201, 1, (1).to_bytes(4, "big") + rtcp._pack_block(block))
    peer.send(peer.dtls._tx_srtp.protect_rtcp(report))
    await until(lambda: peer.session.quality.far_loss == 0.25)


# Ends


async def test_an_answer_nobody_follows_up(
    engine: MediaEngine, peer: BarePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("media.session.CONNECT_LIMIT", 0.1)
    await peer.open(engine)
    await until(lambda: peer.recorder.reason)
    assert peer.recorder.reason == "timeout"
    assert peer.recorder.events == ["closed"]


async def test_a_handshake_that_stops_half_way(
    engine: MediaEngine, peer: BarePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("media.session.CONNECT_LIMIT", 0.5)
    await peer.open(engine)
    peer.check()
    await until(lambda: peer.stun)
    peer.send(b"\x16\xfe\xff" + bytes(40))
    await until(lambda: peer.recorder.reason)
    assert peer.recorder.reason in ("timeout", "failed")
    assert peer.recorder.events == ["closed"]


async def test_another_certificate_than_the_offered_one(engine: MediaEngine, peer: BarePeer) -> None:
    peer.offer = dataclasses.replace(peer.offer, fingerprints=(("sha-256", ":".join(["00"] * 32)),))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await peer.connect(engine)
    assert peer.recorder.reason == "failed"
    assert peer.recorder.events == ["closed"]


async def test_a_browser_that_vanishes_while_it_talks(engine: MediaEngine, peer: BarePeer) -> None:
    await peer.connect(engine)
    await talk(peer, count=3)
    loop = asyncio.get_running_loop()
    last = loop.time()
    await until(lambda: peer.recorder.reason)
    assert peer.recorder.reason == "disconnected"
    assert 4.9 < loop.time() - last < 8


async def test_a_browser_that_never_talked_has_more_time(engine: MediaEngine, peer: BarePeer) -> None:
    await peer.connect(engine)
    now = asyncio.get_running_loop().time()
    peer.session.tick(now + 14.5)
    assert peer.recorder.reason is None
    peer.session.tick(now + 16)
    await until(lambda: peer.recorder.reason == "disconnected")


@pytest.mark.parametrize("sign", ["consent", "audio", "reports", "messages"])
async def test_any_authenticated_datagram_is_a_sign_of_life(engine: MediaEngine, peer: BarePeer, sign: str) -> None:
    await peer.connect(engine, sctp=True)
    await talk(peer, count=1)
    agent = peer.session._ice
    agent.heard = asyncio.get_running_loop().time() - 4
    before = agent.heard
    if sign == "consent":
        peer.check(nominate=False)
    elif sign == "audio":
        peer.send(peer.rtp())
    elif sign == "reports":
        peer.send(peer.dtls._tx_srtp.protect_rtcp(bytes.fromhex("80c9000100000001")))
    else:
        peer.sctp._sack_duplicates = []
        await peer.sctp._send_sack()
    await until(lambda: agent.heard and agent.heard > before + 3)


async def test_an_aborted_association_is_a_goodbye(engine: MediaEngine, peer: BarePeer) -> None:
    await peer.connect(engine, sctp=True)
    await peer.sctp._abort()
    await until(lambda: peer.recorder.reason == "disconnected", deadline=2)


@pytest.mark.parametrize("method", ["on_connected", "on_audio", "on_played", "on_channel_open", "on_message"])
async def test_an_observer_that_fails_loses_only_its_own_call(
    engine: MediaEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    other = BarePeer()
    await other.connect(engine)

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    client, recorder = AiortcClient(), Recorder()
    monkeypatch.setattr(recorder, method, fail)
    session = await client.connect(engine, recorder)
    session.playout.write(SECOND_OF_TONE)
    assert client.channel
    client.channel.on("open", functools.partial(client.channel.send, "hello"))
    await until(lambda: recorder.reason == "failed")
    ours = [record.levelname for record in caplog.records if record.name.startswith("media")]
    assert ours == ["ERROR"]
    assert engine.sessions == 1
    await talk(other, count=2)
    await until(lambda: other.recorder.frames)
    await client.close()
    await other.close()


# What must not disturb


async def test_noise_and_strangers(engine: MediaEngine, peer: BarePeer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await peer.connect(engine)
    await talk(peer, count=3)
    stranger = BarePeer()
    stranger.session, stranger.server = peer.session, peer.server
    await stranger.rebind()
    chance = random.Random(1)
    genuine = peer.rtp()
    answered, received = engine.ice_stats.answered, engine.udp_stats.received
    for sender in (peer, stranger):
        for _ in range(200):
            sender.send(chance.randbytes(chance.randrange(1500)))
        for size in (1500, 1501, 2048, 9000):  # more than a frame of Ethernet, and more than is read
            for kind in (b"\x00\x01", b"\x16\xfe", b"\x80\x6f", b"\x80\xc8"):
                sender.send(kind + chance.randbytes(size - 2))
        for _ in range(200):
            sender.send(bytes([chance.choice([0, 1, 22, 128, 144, 200])]) + chance.randbytes(chance.randrange(60)))
        sender.check(password="wrong" * 6)
        sender.check(username="nobody:bare")
        await asyncio.sleep(0)
    stranger.send(genuine)  # a copy of real audio from an address that was never validated
    await until(lambda: engine.udp_stats.received >= received + 837)
    assert engine.ice_stats.answered == answered
    assert engine.ice_stats.malformed > 0
    assert engine.udp_stats.strangers > 200
    assert peer.session.stats.packets_in == 3
    assert peer.session._ice.selected
    assert peer.session._ice.selected.remote == peer.transport.get_extra_info("sockname")
    peer.send(genuine)
    await until(lambda: peer.session.stats.packets_in == 4)
    assert peer.recorder.reason is None
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    await stranger.close()


async def test_replayed_packets_are_heard_once(engine: MediaEngine, peer: BarePeer) -> None:
    await peer.connect(engine)
    packets = [peer.rtp() for _ in range(5)]
    for _ in range(4):
        for packet in packets:
            peer.send(packet)
    await until(lambda: peer.session.stats.rejected == 15)
    assert peer.session.stats.packets_in == 5
    assert peer.session.stats.receiver.duplicate == 0


async def test_packets_before_the_handshake_are_dropped(engine: MediaEngine, peer: BarePeer) -> None:
    await peer.open(engine)
    peer.check()
    await until(lambda: peer.stun)
    for kind in (0, 200):
        peer.send(bytes([0x80, kind]) + bytes(30))
    peer.send(b"\x80")
    await until(lambda: peer.session.stats.rejected == 3)


async def test_the_call_follows_its_browser_to_another_port(engine: MediaEngine, peer: BarePeer) -> None:
    await peer.connect(engine)
    await talk(peer, count=2)
    await peer.rebind()
    peer.stun.clear()
    peer.check(nominate=False)
    await until(lambda: peer.stun)
    here = peer.transport.get_extra_info("sockname")
    agent = peer.session._ice

    def moved() -> bool:
        peer.send(peer.rtp())
        return agent.selected is not None and agent.selected.remote == here

    assert not moved()  # a check alone proves nothing, and the old path was heard just now
    await until(moved)
    peer.datagrams.clear()
    peer.session.playout.write(SECOND_OF_TONE)
    await until(lambda: len(peer.datagrams) > 5)


# The channel


async def test_only_small_texts_on_the_right_channel_are_heard(engine: MediaEngine) -> None:
    client, recorder = AiortcClient(), Recorder()
    await client.connect(engine, recorder)
    await until(lambda: "open" in recorder.events)
    assert client.channel
    assert client.connection.sctp
    client.connection.sctp._remote_max_message_size = 0  # our limit is not the client's
    other = client.connection.createDataChannel("other")
    again = client.connection.createDataChannel("events")
    await until(lambda: other.readyState == again.readyState == "open")
    other.send("wrong label")
    again.send("second of that name")
    client.channel.send(b"binary")
    client.channel.send("x" * 65537)
    client.channel.send("é" * 32768)
    client.channel.send("")
    client.channel.send("last")
    await until(lambda: recorder.messages[-1:] == ["last"])
    assert recorder.messages == ["é" * 32768, "", "last"]
    assert recorder.events.count("open") == 1
    await client.close()


async def test_a_channel_that_was_closed_may_be_opened_again(engine: MediaEngine) -> None:
    client, recorder = AiortcClient(), Recorder()
    session = await client.connect(engine, recorder)
    await until(lambda: "open" in recorder.events)
    assert client.channel
    client.channel.close()
    await until(lambda: not session.send("nobody hears this"))
    again = client.connection.createDataChannel("events")
    heard: list[str] = []
    again.on("message", heard.append)
    await until(lambda: session.send("hello"))
    await until(lambda: "hello" in heard)
    again.send("still here")
    await until(lambda: recorder.messages == ["still here"])
    await client.close()


async def test_a_flood_of_messages_is_thinned(engine: MediaEngine) -> None:
    client, recorder = AiortcClient(), Recorder()
    session = await client.connect(engine, recorder)
    channel = client.channel
    assert channel
    await until(lambda: channel.readyState == "open" and "open" in recorder.events)
    loop = asyncio.get_running_loop()
    started = loop.time()
    for number in range(1000):
        channel.send(str(number))
    await until(lambda: len(recorder.messages) + session._channel.dropped == 1000)
    assert MAX_RATE <= len(recorder.messages) <= MAX_RATE * (1 + loop.time() - started) + 1
    assert recorder.messages[: int(MAX_RATE)] == [str(number) for number in range(int(MAX_RATE))]
    await client.close()


async def test_what_waits_for_the_channel_is_bounded_and_stays_in_order(
    engine: MediaEngine, caplog: pytest.LogCaptureFixture
) -> None:
    client, recorder = AiortcClient(), Recorder()
    session = await client.connect(engine, recorder)
    size = 32 * 1024
    texts = [str(number).ljust(size, ".") for number in range(MAX_BUFFERED // size)]
    assert all(session.send(text) for text in texts)
    assert not session.send("one too many")
    assert not session.send("x" * 65537)  # aiortc takes 65536
    await until(lambda: len(client.messages) == len(texts), deadline=60)
    assert client.messages == texts
    assert session.send("room again")
    await until(lambda: client.messages[-1] == "room again")
    assert len(caplog.records) == 1
    assert "too many" not in caplog.text
    await client.close()
