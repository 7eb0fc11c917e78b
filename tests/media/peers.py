"""What the transport tests talk to the server with: an aiortc client, and a bare peer whose every datagram is ours."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import av
import numpy as np
from aioice import stun
from aiortc import RTCDataChannel, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError, MediaStreamTrack
from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsFingerprint, RTCDtlsParameters, RTCDtlsTransport
from aiortc.rtcsctptransport import RTCSctpCapabilities, RTCSctpTransport
from aiortc.sdp import SessionDescription

from media.audio import AudioFrame
from media.engine import MediaEngine
from media.sdp import parse_offer
from media.session import Session


async def until(condition: Callable[[], object], *, deadline: float = 20.0) -> None:
    """Poll until the condition holds; fail the test at the deadline, seconds."""
    async with asyncio.timeout(deadline):
        while not condition():
            await asyncio.sleep(0.01)


class Recorder:
    """A line observer that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.frames: list[AudioFrame] = []
        self.messages: list[str] = []
        self.played = 0
        self.reason: str | None = None

    @property
    def level(self) -> float:
        """The loudest frame, dBFS."""
        return max((frame.level for frame in self.frames), default=-127.0)

    def on_connected(self) -> None:
        self._note("connected")

    def on_audio(self, frame: AudioFrame) -> None:
        if not self.frames:
            self._note("audio")
        assert self.reason is None
        self.frames.append(frame)

    def on_played(self, position: int) -> None:
        assert position > self.played
        self.played = position

    def on_channel_open(self) -> None:
        self._note("open")

    def on_message(self, text: str) -> None:
        assert self.reason is None
        self.messages.append(text)

    def on_closed(self, reason: str) -> None:
        self._note("closed")
        self.reason = reason

    def _note(self, event: str) -> None:
        assert event not in self.events, f"{event} twice"
        assert self.reason is None, f"{event} after closed"
        self.events.append(event)


class Tone(AudioStreamTrack):
    """440 Hz, a quarter of full scale, 20 ms frames in real time."""

    async def recv(self) -> av.AudioFrame:
        silence: Any = await super().recv()
        phase = 2 * np.pi * 440 * (np.arange(silence.samples) + silence.pts) / silence.sample_rate
        frame = av.AudioFrame.from_ndarray((np.sin(phase) * 8000).astype(np.int16)[None, :], layout="mono")
        frame.pts, frame.sample_rate, frame.time_base = silence.pts, silence.sample_rate, silence.time_base
        return frame


class AiortcClient:
    """A full peer connection, as a browser would make it."""

    def __init__(self, *, channel: bool = True) -> None:
        self.connection = RTCPeerConnection()
        self.channel: RTCDataChannel | None = self.connection.createDataChannel("events") if channel else None
        self.messages: list[str] = []
        self.peak = 0
        self.streams: list[MediaStreamTrack] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.connection.addTrack(Tone())
        self.connection.on("track", self._on_track)
        if self.channel:
            self.channel.on("message", self.messages.append)

    async def offer(self) -> str:
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return self.connection.localDescription.sdp

    async def connect(self, engine: MediaEngine, observer: Recorder) -> Session:
        session = await engine.accept(parse_offer(await self.offer()), observer)
        await self.connection.setRemoteDescription(RTCSessionDescription(sdp=session.answer, type="answer"))
        return session

    async def close(self) -> None:
        await self.connection.close()
        await asyncio.gather(*self._tasks)

    def _on_track(self, track: MediaStreamTrack) -> None:
        self._tasks.append(asyncio.create_task(self._listen(track)))

    async def _listen(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                frame: Any = await track.recv()
                self.peak = max(self.peak, int(np.abs(frame.to_ndarray()).max()))


OFFER = """v=0
o=- 1 1 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1
m=audio 9 UDP/TLS/RTP/SAVPF 111
c=IN IP4 0.0.0.0
a=ice-ufrag:bare
a=ice-pwd:barebarebarebarebarebare
a=fingerprint:sha-256 {fingerprint}
a=setup:actpass
a=mid:0
a=sendrecv
a=rtcp-mux
a=rtpmap:111 opus/48000/2
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 0.0.0.0
a=ice-ufrag:bare
a=ice-pwd:barebarebarebarebarebare
a=fingerprint:sha-256 {fingerprint}
a=setup:actpass
a=mid:1
a=sctp-port:5000
"""


class BarePeer(asyncio.DatagramProtocol):
    """One UDP socket on loopback; connectivity checks, DTLS as client, RTP and SCTP on command and never by itself.

    ``session`` is the server's side; ``datagrams`` holds the SRTP and SRTCP that came.
    """

    role = "controlling"
    state = "completed"

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.session: Session
        self.datagrams: list[bytes] = []
        self.stun: list[stun.Message] = []
        self.server = ("127.0.0.1", 0)
        self.transport: asyncio.DatagramTransport
        certificate = RTCCertificate.generateCertificate()
        self.dtls = RTCDtlsTransport(self, [certificate])  # type: ignore[arg-type]
        self.sctp = RTCSctpTransport(self.dtls)
        fingerprint = certificate.getFingerprints()[0].value
        self.offer = parse_offer(OFFER.format(fingerprint=fingerprint))
        self.sequence = 0
        self._dtls_queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._gone = False

    async def open(self, engine: MediaEngine) -> None:
        """Get an answer; send nothing yet."""
        self.session = await engine.accept(self.offer, self.recorder)
        self.server = ("127.0.0.1", engine.port)
        await self.rebind()

    async def rebind(self) -> None:
        """Go on from another port, as behind a NAT that forgot the binding."""
        if hasattr(self, "transport"):
            self.transport.close()
        endpoint = asyncio.get_running_loop().create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        self.transport = (await endpoint)[0]

    async def connect(self, engine: MediaEngine, *, sctp: bool = False) -> None:
        """The whole way until the server is connected."""
        await self.open(engine)
        self.check()
        await until(lambda: self.stun)
        answer = SessionDescription.parse(self.session.answer).media[0]
        assert answer.dtls is not None
        fingerprints = [RTCDtlsFingerprint(each.algorithm, each.value) for each in answer.dtls.fingerprints]
        self.dtls._set_role("client")
        await self.dtls.start(RTCDtlsParameters(fingerprints))
        assert self.dtls.state == "connected"
        if sctp:
            await self.sctp.start(RTCSctpCapabilities(maxMessageSize=65536), 5000)
            await until(lambda: self.sctp.state == self.session._peer._sctp.state == "connected")
        await until(lambda: "connected" in self.recorder.events)

    def check(self, *, nominate: bool = True, password: str | None = None, username: str | None = None) -> bytes:
        """Send a binding request; returns its transaction id."""
        answer = SessionDescription.parse(self.session.answer).media[0].ice
        assert answer is not None
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        request.attributes["USERNAME"] = username or f"{answer.usernameFragment}:bare"
        request.attributes["PRIORITY"] = 1
        request.attributes["ICE-CONTROLLING"] = 1
        if nominate:
            request.attributes["USE-CANDIDATE"] = None
        request.add_message_integrity((password or str(answer.password)).encode())
        self.send(bytes(request))
        return request.transaction_id

    def rtp(self, *, ssrc: int = 1) -> bytes:
        """The next packet of silence, encrypted; not sent."""
        self.sequence += 1
        header = struct.pack("!BBHII", 0x80, 111, self.sequence, self.sequence * 960, ssrc)
        return bytes(self.dtls._tx_srtp.protect(header + b"\xf8\xff\xfe"))

    def send(self, data: bytes) -> None:
        self.transport.sendto(data, self.server)

    async def close(self) -> None:
        """Vanish without a word."""
        self._gone = True
        await self.sctp.stop()
        pump = self.dtls._task
        await self.dtls.stop()
        if pump:
            await asyncio.gather(pump, return_exceptions=True)
        self.transport.close()
        await asyncio.sleep(0)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if data[0] < 4:
            self.stun.append(stun.parse_message(data))
        elif data[0] < 64:
            self._dtls_queue.put_nowait(data)
        else:
            self.datagrams.append(data)

    async def _recv(self) -> bytes:
        return await self._dtls_queue.get()

    async def _send(self, data: bytes) -> None:
        if not self._gone:
            self.send(data)


def readers() -> int:
    """File descriptors that the loop watches."""
    selector: Any = asyncio.get_running_loop()
    return len(selector._selector.get_map())


@contextlib.asynccontextmanager
async def running_engine(**settings: Any) -> AsyncIterator[MediaEngine]:
    """A started engine; afterwards nothing of it may be left, and no exception may have reached the loop."""
    loop = asyncio.get_running_loop()
    errors: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    tasks, watched = asyncio.all_tasks(), readers()
    engine = MediaEngine(**settings)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()
    assert engine.sessions == 0
    await until(lambda: not asyncio.all_tasks() - tasks - {asyncio.current_task()}, deadline=5)
    await until(lambda: readers() == watched, deadline=5)
    gc.collect()
    assert not errors
