"""The other end, for load: a synthetic browser that costs little, with Opus that was encoded before.

Many of them share one thread, which calls ``beat`` each 20 ms. What arrives is decrypted and its numbers are checked;
nothing is decoded.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket
import struct
import sys
import time
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, Protocol

from aioice import stun
from aiortc.rtcdtlstransport import RTCCertificate
from aiortc.sdp import SessionDescription

from media import rtcp, rtp
from media.call_report import CallReport, Ear
from media.ortc import DtlsPeer, fingerprint
from media.reception import Reception

CONSENT_INTERVAL = 2.5
"""Between two binding requests on the path that was chosen, s; a browser's (RFC 7675 section 5.1: 4 to 6 s at most)."""

CHORES_INTERVAL = 1.0
"""Between two reports, and two pings, s."""

Remote = tuple[Any, ...]
"""A socket address."""

_CHECK_INTERVAL = 0.1
_CHANNEL_LABEL = "events"
_PAYLOAD_TYPE = 111
_HEADER = struct.Struct("!BBHII")
_NUMBERS = struct.Struct("!HII")  # sequence, timestamp and source, from byte 2 on
_TIMESTAMP = 35  # SO_TIMESTAMPNS of Linux: when the kernel got a datagram, not when we came to read it
_NANOSECONDS = struct.Struct("qq")
_WALL = time.time() - time.monotonic()

_OFFER = """v=0
o=- {id} 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1
a=msid-semantic: WMS caller
m=audio 9 UDP/TLS/RTP/SAVPF 111
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
{transport}
a=mid:0
a=sendrecv
a=msid:caller audio
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=fmtp:111 minptime=10;useinbandfec=1
a=ssrc:{ssrc} cname:caller
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 0.0.0.0
{transport}
a=mid:1
a=sctp-port:5000
a=max-message-size:262144
"""
_TRANSPORT = """a=ice-ufrag:{ufrag}
a=ice-pwd:{password}
a=fingerprint:sha-256 {fingerprint}
a=setup:active"""  # active, not actpass: a full agent that answers would take the client's part itself


class ConnectError(Exception):
    """The call could not be made. The text is fit for a person."""


class Voice(Protocol):
    """What a caller says, and who hears what happens. All on the event loop, moments in seconds of its clock."""

    def next_payload(self, now: float) -> bytes:
        """The Opus payload of the next 20 ms."""

    def on_event(self, frame: dict[str, Any], now: float) -> None:
        """A frame came from the DataChannel."""

    def on_bot_voice(self, now: float) -> None:
        """A talk spurt of the bot began."""


class Caller:
    """One call. ``connect``, then ``beat`` each 20 ms; ``close`` releases everything. Event loop only.

    ``voice`` gives the Opus payload of the next 20 ms and hears what happens: see ``Voice``.
    """

    def __init__(self, certificate: RTCCertificate, voice: Voice, report: CallReport) -> None:
        self.report = report
        self.voice = voice
        self.connected = False
        self.kept: list[tuple[float, bytes]] | None = None
        """When set to a list: the packets that come, each with its moment (loop's clock), for who needs the sound."""
        self._ear = Ear(self.report)
        self._loop = asyncio.get_running_loop()
        self._certificate = certificate
        self._ufrag, self._password = secrets.token_hex(4), secrets.token_hex(12)
        self._remote_ufrag = self._remote_password = ""
        self._socket: socket.socket | None = None
        self._answered: asyncio.Future[Remote] = self._loop.create_future()
        self._opened = asyncio.Event()
        self._peer = DtlsPeer(
            certificate,
            send=self._send,
            on_channel=lambda channel: None,
            on_heard=lambda: None,
            on_lost=self._end,
            is_client=True,
        )
        self._channel: Any = None
        self._offered = 0.0
        self._ssrc = secrets.randbits(32)
        self._sequence = secrets.randbelow(1 << 16)
        self._timestamp = secrets.randbelow(1 << 32)
        self._octets = 0
        self._reception: Reception | None = None
        self._next_chores = self._next_consent = 0.0

    # Set-up ----------------------------------------------------------------------------------------------------------

    def offer(self) -> str:
        """The SDP to send; the time to connect counts from here."""
        self._offered = time.monotonic()
        transport = _TRANSPORT.format(
            ufrag=self._ufrag, password=self._password, fingerprint=fingerprint(self._certificate)
        )
        return _OFFER.format(id=secrets.randbits(62), transport=transport, ssrc=self._ssrc).replace("\n", "\r\n")

    async def connect(self, answer: str, gate: asyncio.Semaphore, *, patience: float) -> None:
        """Follow the answer's SDP: reach, shake hands, open the channel. Raises ``ConnectError``.

        ``gate`` bounds how many handshakes of the process run at once; none may take longer than ``patience``, s.
        """
        self.report.answer_seconds = time.monotonic() - self._offered
        try:
            async with asyncio.timeout(patience):
                await self._connect(answer, gate, patience)
        except TimeoutError:
            raise ConnectError(f"No connection within {patience:g} s") from None
        except OSError as error:
            raise ConnectError(f"No connection: {error}") from None

    async def _connect(self, answer: str, gate: asyncio.Semaphore, patience: float) -> None:
        try:
            audio = SessionDescription.parse(answer).media[0]
        except (ValueError, IndexError, AssertionError):
            raise ConnectError("The answer is not SDP") from None
        if audio.ice is None or audio.dtls is None or not audio.ice_candidates:
            raise ConnectError("The answer has no candidates or no fingerprint")
        self._remote_ufrag, self._remote_password = str(audio.ice.usernameFragment), str(audio.ice.password)
        candidates = [(each.ip, each.port) for each in audio.ice_candidates if each.protocol.lower() == "udp"]
        await self._reach(candidates)
        fingerprints = [(each.algorithm, each.value) for each in audio.dtls.fingerprints]
        if not await self._peer.handshake(fingerprints, gate, limit=patience):
            raise ConnectError("The DTLS handshake failed")
        await self._peer.start_sctp(5000, 65536)
        self._channel = self._peer.open_channel(_CHANNEL_LABEL)
        self._channel.on("open", self._opened.set)
        self._channel.on("message", self._hear_message)
        await self._opened.wait()
        self._loop.remove_reader(self._open_socket)
        self.report.connect_seconds = time.monotonic() - self._offered
        self.connected = True

    async def _reach(self, candidates: Sequence[tuple[str, int]]) -> None:
        """Check all candidates of the first one's family until one answers; nominate it and talk to it alone."""
        family = socket.AF_INET6 if ":" in candidates[0][0] else socket.AF_INET
        usable = [(host, port) for host, port in candidates if (":" in host) == (family == socket.AF_INET6)]
        self._socket = opened = socket.socket(family, socket.SOCK_DGRAM)
        opened.setblocking(False)
        if sys.platform == "linux":
            opened.setsockopt(socket.SOL_SOCKET, _TIMESTAMP, 1)
        self._loop.add_reader(opened, self.listen)
        chosen = await self._insist(usable, is_nominated=False)
        opened.connect(chosen)
        await self._insist([chosen], is_nominated=True)
        self._next_consent = time.monotonic() + CONSENT_INTERVAL

    async def _insist(self, remotes: Sequence[Remote], *, is_nominated: bool) -> Remote:
        """Send checks until one is answered; returns by whom."""
        self._answered = self._loop.create_future()
        while not self._answered.done():
            for remote in remotes:
                with contextlib.suppress(OSError):
                    self._open_socket.sendto(self._check(is_nominated=is_nominated), remote)
            await asyncio.wait([self._answered], timeout=_CHECK_INTERVAL)
        return self._answered.result()

    def _check(self, *, is_nominated: bool = True) -> bytes:
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        request.attributes["USERNAME"] = f"{self._remote_ufrag}:{self._ufrag}"
        request.attributes["PRIORITY"] = 126 << 24
        request.attributes["ICE-CONTROLLING"] = 1
        if is_nominated:
            request.attributes["USE-CANDIDATE"] = None
        request.add_message_integrity(self._remote_password.encode())
        return bytes(request)

    # Steady state ----------------------------------------------------------------------------------------------------

    @property
    def _open_socket(self) -> socket.socket:
        if self._socket is None:
            raise ConnectError("The call is not open")
        return self._socket

    def beat(self, now: float) -> None:
        """20 ms passed: read what came, say what is next. ``now`` of the loop's clock."""
        self.listen()
        self._speak(self.voice.next_payload(now))
        if now >= self._next_chores:
            self._chores(now)

    def listen(self) -> None:
        """Take every datagram that is there."""
        receive = self._open_socket.recvmsg
        while True:
            try:
                data, ancillary, _, remote = receive(2048, 64)
            except OSError:  # drained, or the port is closed: then nothing is sent that would be answered either
                return
            kind = data[0] if data else 255
            if 128 <= kind < 192:
                self._hear_media(data, _arrival(ancillary))
            elif 20 <= kind < 64:
                self._peer.receive(data)
            elif kind < 4:
                self._hear_stun(data, remote)

    def _hear_media(self, data: bytes, at: float) -> None:
        if rtp.is_rtcp(data):
            plain = self._peer.unprotect_rtcp(data)
            if plain is not None and self._reception is not None:
                for fact in rtcp.parse(plain):
                    if isinstance(fact, rtcp.SenderReport):
                        self._reception.on_sender_report(fact, at - _WALL)
        else:
            plain = self._peer.unprotect(data)
            if plain is not None:
                self._hear_voice(plain, at)
        if plain is None:
            self.report.forged += 1

    def _hear_voice(self, plain: bytes, at: float) -> None:
        sequence, timestamp, ssrc = _NUMBERS.unpack_from(plain, 2)
        if self._reception is None:
            self._reception = Reception(ssrc, sequence)
        self._reception.add(sequence, timestamp, at - _WALL)
        if self.kept is not None:
            self.kept.append((at - _WALL, plain))
        if self._ear.hear(plain, at):
            self.voice.on_bot_voice(at - _WALL)
            if self.report.first_audio_seconds is None:
                self.report.first_audio_seconds = at - _WALL - self._offered

    def _hear_stun(self, data: bytes, remote: Remote) -> None:
        try:
            message = stun.parse_message(data)
        except (ValueError, struct.error):
            return
        if message.message_class is stun.Class.RESPONSE:
            if not self._answered.done():
                self._answered.set_result(remote)
        elif message.message_class is stun.Class.REQUEST:  # a full agent checks us in its turn
            response = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, transaction_id=message.transaction_id)
            response.attributes["XOR-MAPPED-ADDRESS"] = (str(ip_address(remote[0])), remote[1])
            response.add_message_integrity(self._password.encode())
            with contextlib.suppress(OSError):
                self._open_socket.sendto(bytes(response), remote)

    def _hear_message(self, text: str | bytes) -> None:
        self.report.events += 1
        with contextlib.suppress(ValueError):
            frame = json.loads(text)
            if isinstance(frame, dict):
                self.voice.on_event(frame, time.monotonic())

    def _speak(self, payload: bytes) -> None:
        self._sequence = self._sequence + 1 & 0xFFFF
        self._timestamp = self._timestamp + rtp.TICK_SAMPLES & 0xFFFFFFFF
        header = _HEADER.pack(0x80, _PAYLOAD_TYPE, self._sequence, self._timestamp, self._ssrc)
        self._send(self._peer.protect(header + payload))
        self.report.sent += 1
        self._octets += len(payload)

    def _send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # full, refused: a browser would lose it as well
            self._open_socket.send(data)

    def _chores(self, now: float) -> None:
        self._next_chores = now + CHORES_INTERVAL
        if self._channel.readyState == "open":
            self._channel.send("ping")
        self._send(self._peer.protect_rtcp(rtcp.build_report(self, self, now=now, cname="caller")))
        if now >= self._next_consent:
            self._next_consent = now + CONSENT_INTERVAL
            self._send(self._check())

    # What a report tells of us (``media.rtcp.Source`` and ``Listener``) -----------------------------------------

    @property
    def ssrc(self) -> int:
        return self._ssrc

    @property
    def packet_count(self) -> int:
        return self.report.sent

    @property
    def octet_count(self) -> int:
        return self._octets

    def rtp_timestamp(self, now: float) -> int:
        return self._timestamp

    def report_block(self, now: float) -> rtcp.ReportBlock | None:
        return self._reception.block(now) if self._reception else None

    def _end(self, broken: bool) -> None:
        self.connected = False
        self.report.error = self.report.error or ("The server broke the connection" if broken else "The server hung up")

    async def close(self) -> None:
        """Hang up as a closing page does."""
        self.connected = False
        await self._peer.close()
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()


def _arrival(ancillary: list[tuple[int, int, bytes]]) -> float:
    """When the kernel got a datagram, seconds of ``time.time()``."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _TIMESTAMP and len(data) >= _NANOSECONDS.size:
            seconds, nanoseconds = _NANOSECONDS.unpack_from(data)
            return float(seconds + nanoseconds * 1e-9)
    return time.time()
