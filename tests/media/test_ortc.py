"""The seam to aiortc: the private names it leans on, the handshake, and a peer that breaks the rules of SCTP."""

from __future__ import annotations

import asyncio
import inspect
import struct
from importlib.metadata import requires, version

import pytest
from aiortc import rtcdtlstransport, rtcsctptransport
from aiortc.rtcdatachannel import RTCDataChannel
from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsFingerprint, RTCDtlsParameters, RTCDtlsTransport
from aiortc.rtcsctptransport import (
    DATA_CHANNEL_OPEN,
    WEBRTC_DCEP,
    WEBRTC_STRING,
    DataChunk,
    RTCSctpTransport,
    SackChunk,
)

from media.ortc import MAX_CHANNELS, MAX_DATAGRAMS, MAX_SSRCS, RECEIVE_WINDOW, DtlsPeer, fingerprint
from tests.media.peers import BarePeer, running_engine, until


def test_the_versions_are_the_ones_this_was_written_for() -> None:
    pins = requires("voice-server") or []
    for name in ("aiortc", "aioice"):
        assert f"{name}=={version(name)}" in pins


async def test_the_private_names_of_aiortc() -> None:
    dtls = RTCDtlsTransport(None, [RTCCertificate.generateCertificate()])  # type: ignore[arg-type]
    assert {"_rx_srtp", "_tx_srtp", "_task", "_role"} <= vars(dtls).keys()
    assert list(inspect.signature(dtls._set_role).parameters) == ["role"]
    source = inspect.getsource(rtcdtlstransport.RTCDtlsTransport)
    assert {"_recv_next", "_set_state"} <= vars(RTCDtlsTransport).keys()
    assert {"CONNECTED", "CLOSED"} <= rtcdtlstransport.State.__members__.keys()
    assert "self.transport._recv()" in source
    assert "self.transport._send(data)" in source
    used = {line.split("self.transport.")[1].split("(")[0] for line in source.splitlines() if "self.transport." in line}
    assert {name.split(" ")[0].rstrip(":,") for name in used} == {"_recv", "_send", "role"}

    sctp = RTCSctpTransport(dtls)
    names = {"_advertised_rwnd", "_association_state", "_data_channels", "_inbound_streams", "_inbound_streams_max"}
    assert names | {"_sack_misordered"} <= vars(sctp).keys()
    for method, parameters in (("_handle_data", ["data"]), ("_receive_chunk", ["chunk"]), ("_send_chunk", ["chunk"])):
        assert list(inspect.signature(getattr(sctp, method)).parameters) == parameters
    assert sctp.State.CLOSED.name == "CLOSED"
    assert vars(rtcsctptransport.InboundStream()).keys() >= {"reassembly"}


class Wires:
    """Two DTLS ends in one process: the server is ours, the client is aiortc's as it comes."""

    role = "controlling"
    state = "completed"

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.lost: list[bool] = []
        self.heard = 0
        certificate = RTCCertificate.generateCertificate()
        self.server = DtlsPeer(
            certificate,
            send=self.queue.put_nowait,
            on_channel=lambda channel: None,
            on_heard=self._hear,
            on_lost=self.lost.append,
        )
        self.expected = RTCDtlsParameters([RTCDtlsFingerprint("sha-256", fingerprint(certificate))])
        self.client_certificate = RTCCertificate.generateCertificate()
        self.client = RTCDtlsTransport(self, [self.client_certificate])  # type: ignore[arg-type]
        self.client._set_role("client")

    def _hear(self) -> None:
        self.heard += 1

    async def connect(self, claimed: str | None = None) -> bool:
        claimed = claimed or fingerprint(self.client_certificate)
        both = (
            self.server.handshake([("sha-256", claimed)], asyncio.Semaphore(1)),
            self.client.start(self.expected),
        )
        return (await asyncio.gather(*both))[0]

    async def close(self) -> None:
        pump = self.client._task
        await self.server.close()
        await self.client.stop()
        if pump:
            await asyncio.gather(pump, return_exceptions=True)

    async def _recv(self) -> bytes:
        return await self.queue.get()

    async def _send(self, data: bytes) -> None:
        self.server.receive(data)


async def test_handshake_and_audio_both_ways() -> None:
    wires = Wires()
    assert await wires.connect()
    packet = struct.pack("!BBHII", 0x80, 111, 1, 960, 7) + b"audio"
    assert wires.client._rx_srtp.unprotect(wires.server.protect(packet)) == packet
    sealed = wires.client._tx_srtp.protect(packet)
    assert wires.server.unprotect(sealed) == packet
    assert wires.server.unprotect(sealed) is None  # replayed
    assert wires.server.unprotect(sealed[:-1]) is None
    report = struct.pack("!BBHI", 0x80, 201, 1, 7)
    assert wires.client._rx_srtp.unprotect_rtcp(wires.server.protect_rtcp(report)) == report
    assert wires.server.unprotect_rtcp(wires.client._tx_srtp.protect_rtcp(report)) == report
    await wires.close()
    assert wires.lost == []


async def test_a_datagram_is_handled_before_it_is_taken() -> None:
    """Without a task of its own: what the loop would have to wake up for is done at once."""
    wires = Wires()
    assert await wires.connect()
    await wires.server.start_sctp(5000, 65536)
    tasks = asyncio.all_tasks()
    wires.client._ssl.send(b"no SCTP packet, but heard")
    wires.server.receive(wires.client._ssl.bio_read(1500))
    assert (wires.heard, wires.lost) == (1, [])
    wires.client._ssl.shutdown()
    wires.server.receive(wires.client._ssl.bio_read(1500))
    assert wires.lost == [False]
    assert asyncio.all_tasks() == tasks
    await wires.close()


async def test_nothing_is_decrypted_before_the_handshake() -> None:
    wires = Wires()
    assert wires.server.unprotect(bytes(40)) is None
    assert wires.server.unprotect_rtcp(b"\x80") is None
    await wires.close()


async def test_a_certificate_that_is_not_the_offered_one_is_refused() -> None:
    wires = Wires()
    assert not await wires.connect(claimed=":".join(["00"] * 32))
    await wires.close()


async def test_close_notify_of_the_peer_is_heard_at_once() -> None:
    wires = Wires()
    await wires.connect()
    await wires.client.stop()
    await until(lambda: wires.lost)
    assert wires.lost == [False]
    await wires.close()


async def test_closing_while_the_handshake_waits() -> None:
    wires = Wires()
    handshake = asyncio.create_task(wires.server.handshake([("sha-256", "00")], asyncio.Semaphore(1)))
    await asyncio.sleep(0)
    await wires.server.close()
    assert not await handshake


async def test_handshakes_wait_for_their_turn_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("media.ortc.HANDSHAKE_SLOT", 0.05)
    gate = asyncio.Semaphore(1)
    stalled, lively = Wires(), Wires()
    stalled.server.receive(b"\x16hello?")  # keeps its slot, and never goes on
    stuck = asyncio.create_task(stalled.server.handshake([("sha-256", fingerprint(stalled.client_certificate))], gate))
    await until(gate.locked)
    claimed = [("sha-256", fingerprint(lively.client_certificate))]
    done, _ = await asyncio.gather(lively.server.handshake(claimed, gate), lively.client.start(lively.expected))
    assert done
    assert not stuck.done()
    await stalled.close()
    assert not await stuck
    await lively.close()


async def test_the_queue_is_bounded() -> None:
    wires = Wires()
    assert [wires.server.receive(b"\x16") for _ in range(MAX_DATAGRAMS + 1)] == [True] * MAX_DATAGRAMS + [False]
    await wires.close()


async def test_sources_are_bounded() -> None:
    wires = Wires()
    await wires.connect()
    results = []
    for ssrc in range(MAX_SSRCS + 2):
        packet = struct.pack("!BBHII", 0x80, 111, 1, 960, ssrc) + b"audio"
        results.append(wires.server.unprotect(wires.client._tx_srtp.protect(packet)) is not None)
    assert results == [True] * MAX_SSRCS + [False] * 2
    await wires.close()


def chunk(peer: BarePeer, data: bytes, *, protocol: int = WEBRTC_STRING, stream: int = 1, flags: int = 3) -> DataChunk:
    made = DataChunk(flags=flags)
    made.tsn, made.stream_id, made.stream_seq = peer.sctp._local_tsn, stream, 0
    made.protocol, made.user_data = protocol, data
    peer.sctp._local_tsn += 1
    return made


def opening(label: bytes, declared: int | None = None) -> bytes:
    return struct.pack("!BBHLHH", DATA_CHANNEL_OPEN, 0, 0, 0, len(label) if declared is None else declared, 0) + label


async def deaf(*_: object) -> None:
    """The peer's own aiortc would stumble over the acknowledgements of channels it does not know."""


async def misbehave(peer: BarePeer, how: str) -> None:
    sctp = peer.sctp
    sctp._receive = deaf  # type: ignore[method-assign,assignment]
    if how == "opens a channel twice":
        for _ in range(2):
            await sctp._send_chunk(chunk(peer, opening(b"events"), protocol=WEBRTC_DCEP))
    elif how == "label that is not UTF-8":
        await sctp._send_chunk(chunk(peer, opening(b"\xff\xfe"), protocol=WEBRTC_DCEP))
    elif how == "text that is not UTF-8":
        await sctp._send_chunk(chunk(peer, opening(b"events"), protocol=WEBRTC_DCEP))
        await sctp._send_chunk(chunk(peer, b"\xff\xfe\xfd"))
    elif how == "acknowledges everything there is":
        sack = SackChunk()
        sack.cumulative_tsn, sack.gaps = sctp._last_received_tsn, [(1, 65535)] * 250
        await sctp._send_chunk(sack)
    elif how == "never ends a message":
        for count in range(RECEIVE_WINDOW // 1000 + 2):
            await sctp._send_chunk(chunk(peer, bytes(1000), flags=0))
            if count % 32 == 0:  # more at once than the queue of datagrams holds would be dropped
                await asyncio.sleep(0.02)
    elif how == "opens channels without end":
        for stream in range(MAX_CHANNELS + 1):
            await sctp._send_chunk(chunk(peer, opening(b"x"), protocol=WEBRTC_DCEP, stream=2 * stream))
    elif how == "half a chunk":
        broken = chunk(peer, b"")
        broken.__class__ = type("Half", (DataChunk,), {"__bytes__": lambda self: struct.pack("!BBHL", 0, 3, 8, 1)})
        await sctp._send_chunk(broken)


@pytest.mark.parametrize(
    "how",
    [
        "opens a channel twice",
        "label that is not UTF-8",
        "text that is not UTF-8",
        "acknowledges everything there is",
        "never ends a message",
        "opens channels without end",
        "half a chunk",
    ],
)
async def test_breaking_the_rules_of_sctp_ends_that_session_alone(how: str, caplog: pytest.LogCaptureFixture) -> None:
    async with running_engine(addresses=["127.0.0.1"]) as engine:
        other, peer = BarePeer(), BarePeer()
        await other.connect(engine, sctp=True)
        await peer.connect(engine, sctp=True)
        await misbehave(peer, how)
        await until(lambda: peer.recorder.reason)
        assert peer.recorder.reason == "failed"
        assert other.recorder.reason is None
        assert engine.sessions == 1
        await peer.close()
        await other.close()
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR", "CRITICAL")]


async def test_a_good_channel_still_opens() -> None:
    async with running_engine(addresses=["127.0.0.1"]) as engine:
        peer = BarePeer()
        await peer.connect(engine, sctp=True)
        peer.sctp._receive = deaf  # type: ignore[method-assign,assignment]
        await peer.sctp._send_chunk(chunk(peer, opening(b"events"), protocol=WEBRTC_DCEP))
        await until(lambda: "open" in peer.recorder.events)
        assert isinstance(peer.session._channel._channel, RTCDataChannel)
        await peer.close()
