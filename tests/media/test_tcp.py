"""Media by TCP: framing, bounds, back-pressure, and a whole call of a peer whose every byte is ours."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
from typing import Any

import numpy as np
import pytest

from media.audio import OUTPUT_RATE
from media.engine import MediaEngine
from media.sdp import LocalTransport, build_answer
from media.tcp import MEDIA_BACKLOG, TcpPort
from tests.media.peers import BarePeer, Recorder, running_engine, until

TONE = (np.sin(2 * np.pi * 300 * np.arange(OUTPUT_RATE) / OUTPUT_RATE) * 9000).astype(np.int16)


class TcpPeer(BarePeer):
    """A bare peer over one connection. ``chop``: what is sent comes in pieces of random sizes."""

    chop = False

    async def open(self, engine: MediaEngine) -> None:
        self.session = await engine.accept(self.offer, self.recorder)
        assert engine.tcp_port is not None
        self.server = ("127.0.0.1", engine.tcp_port)
        await self.rebind()

    async def rebind(self) -> None:
        if hasattr(self, "connection"):
            self.connection.abort()
        made = await asyncio.get_running_loop().create_connection(lambda: _Stream(self), *self.server)
        self.connection: Any = made[0]
        self.transport = self.connection  # which is closed in the same way
        self.chance = random.Random(1)

    def send(self, data: bytes) -> None:
        framed = len(data).to_bytes(2, "big") + data
        while framed:
            size = self.chance.randrange(1, 40) if self.chop else len(framed)
            self.connection.write(framed[:size])
            framed = framed[size:]


class _Stream(asyncio.Protocol):
    def __init__(self, peer: TcpPeer) -> None:
        self._peer = peer
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while len(self._rest) >= 2 and len(self._rest) >= (end := 2 + int.from_bytes(self._rest[:2], "big")):
            frame, self._rest = self._rest[2:end], self._rest[end:]
            self._peer.datagram_received(frame, None)


def only(engine: MediaEngine) -> TcpPort:
    assert engine._tcp is not None
    return engine._tcp


@pytest.mark.parametrize("chop", [False, True])
async def test_a_whole_call_and_its_end(chop: bool) -> None:
    async with running_engine(addresses=["127.0.0.1"], tcp_port=0) as engine:
        peer = TcpPeer()
        peer.chop = chop
        await peer.connect(engine, sctp=True)
        for _ in range(20):
            peer.send(peer.rtp())
        await until(lambda: peer.session.stats.packets_in == 20)
        peer.session.playout.write(TONE)
        await until(lambda: len(peer.datagrams) > 30)
        assert peer.recorder.frames
        assert peer.session.quality.lost == 0
        assert len(only(engine)) == 1
        await peer.session.close()
        await until(lambda: not len(only(engine)))
        assert peer.recorder.reason == "closed"
        assert engine.udp_stats.received == 0
        await peer.close()


async def test_the_answer_tells_of_both_ways_the_better_one_first() -> None:
    async with running_engine(addresses=["127.0.0.1"], public_ips=["203.0.113.7"], tcp_port=0) as engine:
        session = await engine.accept(BarePeer().offer, Recorder())
        found = re.findall(
            r"a=candidate:(\S+) 1 (udp|tcp) (\d+) (\S+) (\d+) typ host( tcptype passive)?\r", session.answer
        )
        hosts = ["203.0.113.7", "127.0.0.1"]
        assert [(kind, host, int(port), kind == "tcp") for _, kind, _, host, port, _ in found] == [
            *(("udp", host, engine.port, False) for host in hosts),
            *(("tcp", host, engine.tcp_port, True) for host in hosts),
        ]
        assert [bool(passive) for *_, passive in found] == [False, False, True, True]
        assert len({foundation for foundation, *_ in found}) == 4
        priorities = [int(priority) for _, _, priority, *_ in found]
        assert priorities == sorted(set(priorities), reverse=True)
        assert priorities[0] < 1 << 31


async def test_without_a_tcp_port_nothing_is_told_of_it() -> None:
    local = LocalTransport("u" * 8, "p" * 24, ":".join(["AB"] * 32), [("192.0.2.7", 40000)], 1, "name")
    assert "tcptype" not in build_answer(BarePeer().offer, local)


async def test_a_call_goes_on_over_another_connection() -> None:
    async with running_engine(addresses=["127.0.0.1"], tcp_port=0) as engine:
        peer = TcpPeer()
        await peer.connect(engine)
        await peer.rebind()
        peer.stun.clear()
        peer.check()
        await until(lambda: peer.stun)
        peer.send(peer.rtp())
        await until(lambda: peer.session.stats.packets_in == 1)
        await until(lambda: len(only(engine)) == 1)
        assert peer.recorder.reason is None
        await peer.close()


@pytest.mark.parametrize(
    "said",
    [b"GET / HTTP/1.1\r\n\r\n", b"\xff\xff" + bytes(100), b"\x00\x14\x16\xfe\xfd" + bytes(17), b"\x00\x00"],
    ids=["http", "too large", "dtls", "empty"],
)
async def test_who_does_not_begin_with_ice_is_cut_off(said: bytes) -> None:
    async with running_engine(addresses=["127.0.0.1"], tcp_port=0) as engine:
        reader, writer = await asyncio.open_connection("127.0.0.1", engine.tcp_port)
        writer.write(said)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        await until(lambda: not len(only(engine)))
        assert engine.tcp_stats.refused == 1
        assert engine.tcp_stats.sent == 0  # nothing is said to strangers


async def test_a_silent_connection_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("media.tcp.UNKNOWN_SECONDS", 0.1)
    async with running_engine(addresses=["127.0.0.1"], tcp_port=0) as engine:
        _, writer = await asyncio.open_connection("127.0.0.1", engine.tcp_port)
        await until(lambda: engine.tcp_stats.refused == 1 and not len(only(engine)))
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def test_connections_of_one_address_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("media.tcp.MOST_OF_ADDRESS", 3)
    async with running_engine(addresses=["127.0.0.1"], tcp_port=0) as engine:
        opened = [await asyncio.open_connection("127.0.0.1", engine.tcp_port) for _ in range(5)]
        await until(lambda: engine.tcp_stats.refused == 2 and len(only(engine)) == 3)
        for _, writer in opened:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in opened), return_exceptions=True)
        await until(lambda: not len(only(engine)))
        assert not only(engine)._hosts


async def test_audio_is_dropped_when_the_network_takes_nothing() -> None:
    """A peer that stops reading costs no memory, and hears what is new when it reads again."""
    async with running_engine(addresses=["127.0.0.1"], tcp_port=0) as engine:
        peer = TcpPeer()
        await peer.connect(engine)
        path = peer.session._ice.selected
        assert path is not None
        peer.connection.pause_reading()
        data = b"\x80" + bytes(1000)
        for _ in range(20_000):  # 20 MB, more than the buffers of both sides take
            if not path.send(data):
                break
        assert not path.send(data)
        assert engine.tcp_stats.send_dropped > 0
        (connection,) = only(engine)._connections
        assert connection._transport is not None
        assert connection._transport.get_write_buffer_size() <= MEDIA_BACKLOG + len(data) + 2
        peer.connection.resume_reading()

        def sends() -> bool:
            return path.send(data)

        await until(sends)
        await peer.close()


async def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        engine = MediaEngine(addresses=["127.0.0.1"], tcp_port=port)
        with pytest.raises(OSError, match=re.escape(f"tcp port {port} of 127.0.0.1")):
            await engine.start()
