"""One browser: its path, its keys, its ear and mouth, its DataChannel, from the answer to the last packet."""

from __future__ import annotations

import asyncio
import enum
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiortc.rtcdtlstransport import RTCCertificate

from media import rtcp, rtp, sdp
from media.audio import LineObserver
from media.channel import EventChannel
from media.clock import Clock
from media.handshakes import Handshakes
from media.ice import IceLite
from media.ortc import DtlsPeer, fingerprint
from media.playout import Playout
from media.quality import Quality
from media.receiver import Receiver, ReceiverStats
from media.sender import Sender
from media.udp import Path
from media.vad import WebRtcVad

logger = logging.getLogger(__name__)

CONNECT_LIMIT = 30.0
"""An answer that nobody follows up is forgotten after this time, s."""

GONE_TALKING = 6.5
"""Silence on the wire that means the browser is gone, once RTP was flowing, s. DTX packets and consent checks count.

Behind a router that gave the call a new port nothing counts until the next consent check, up to 6 s later (RFC 7675
section 5.1), and the call should live to see it.
"""

GONE_IDLE = 15.0
"""The same for a browser that never sent RTP: one of its consent checks may be lost."""

REPORT_INTERVAL = 1.0
"""Between two RTCP reports, s. Browsers add FEC only when they are told of loss."""


class State(enum.Enum):
    CONNECTING = "connecting"
    CONNECTED = "connected"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Host:
    """What all sessions of the process share."""

    clock: Clock
    ice: IceLite
    certificate: RTCCertificate
    handshakes: Handshakes


@dataclass(slots=True)
class SessionStats:
    """Counts since the session began. How well it travels tells ``Session.quality``."""

    receiver: ReceiverStats
    packets_in: int = 0
    packets_out: int = 0
    rejected: int = 0
    """SRTP and SRTCP that were forged, replayed or early, and DTLS over the bound."""


class Session:
    """A media session. Owned by the engine's registry until ``on_closed``; everything happens on the event loop."""

    def __init__(
        self,
        host: Host,
        offer: sdp.Offer,
        observer: LineObserver,
        *,
        candidates: Sequence[tuple[str, int]],
        tcp_candidates: Sequence[tuple[str, int]] = (),
        on_released: Callable[[Session], None],
    ) -> None:
        """Candidates are announced best first. ``on_released`` comes just before the observer's ``on_closed``."""
        loop = asyncio.get_running_loop()
        self.id = secrets.token_hex(8)
        self.playout = Playout()
        self._host = host
        self._offer = offer
        self._observer = observer
        self._on_released = on_released
        self._loop = loop
        self._state = State.CONNECTING
        self._started = self._next_report = loop.time()
        self._ended: asyncio.Future[str] = loop.create_future()
        ssrc = secrets.randbits(32)
        self._receiver = Receiver(payload_type=offer.payload_type, vad=WebRtcVad())
        self.stats = SessionStats(self._receiver.stats)
        self._far_block: rtcp.ReportBlock | None = None  # the browser's last one about us
        self._round_trip: float | None = None
        self._sender = Sender(self.playout, payload_type=offer.payload_type, ssrc=ssrc)
        self._channel = EventChannel(
            max_size=offer.max_message_size, on_open=self._open_channel, on_message=self._hear_message
        )
        self._ice = host.ice.create(self)
        self._peer = DtlsPeer(
            host.certificate,
            send=self._ice.send,
            on_channel=self._channel.attach,
            on_heard=self._heard,
            on_lost=lambda broken: self._end("failed" if broken else "disconnected"),
        )
        local = sdp.LocalTransport(
            ufrag=self._ice.ufrag,
            password=self._ice.password,
            fingerprint=fingerprint(host.certificate),
            candidates=candidates,
            tcp_candidates=tcp_candidates,
            ssrc=ssrc,
            cname=self.id,
        )
        self.answer = sdp.build_answer(offer, local)
        """The SDP for the browser."""
        host.clock.add(self.tick)
        self._task = asyncio.create_task(self._run(), name=f"media session {self.id}")

    @property
    def state(self) -> State:
        return self._state

    @property
    def quality(self) -> Quality:
        """How well the packets travel, at this moment; also after the end."""
        receiver, heard = self._receiver, self.stats.receiver
        block = self._far_block
        return Quality(
            received=heard.received,
            lost=receiver.lost,
            late=heard.late,
            jitter=receiver.jitter,
            recovered=heard.recovered_ms / 1000,
            concealed=heard.concealed_ms / 1000,
            sent=self.stats.packets_out,
            far_loss=block.fraction_lost if block else None,
            far_lost=max(0, block.cumulative_lost) if block else None,
            far_jitter=block.jitter / rtp.CLOCK_RATE if block else None,
            round_trip=self._round_trip,
        )

    def send(self, text: str) -> bool:
        """Send a text message; before the DataChannel opens it is kept. ``False`` when it was dropped."""
        return self._state is not State.CLOSED and self._channel.send(text)

    async def close(self) -> None:
        """Say good-bye to the browser and release everything. When it returns, ``on_closed`` has been called."""
        self._end("closed")
        await asyncio.shield(self._task)

    def receive(self, data: bytes, path: Path, now: float) -> None:
        """One DTLS, SRTP or SRTCP datagram from a validated path (``media.udp.PathOwner``)."""
        if data[0] >= 64:
            self._guard(self._receive_media, data, path, now)
        else:
            self._guard(self._receive_dtls, data)

    def _receive_dtls(self, data: bytes) -> None:
        if not self._peer.receive(data):
            self.stats.rejected += 1

    def _receive_media(self, data: bytes, path: Path, now: float) -> None:
        is_rtcp = rtp.is_rtcp(data)
        plain = self._peer.unprotect_rtcp(data) if is_rtcp else self._peer.unprotect(data)
        if plain is None or self._state is not State.CONNECTED:
            self.stats.rejected += 1
            return
        self._ice.authenticated(path, now)
        if is_rtcp:
            self._hear_reports(plain, now)
        else:
            self.stats.packets_in += 1
            self._receiver.receive(plain, now)

    def tick(self, now: float) -> None:
        """20 ms of the call: deliver what was heard, send what is due, notice who is gone."""
        self._guard(self._tick, now)

    def _tick(self, now: float) -> None:
        if self._state is State.CONNECTED:
            self._move_audio(now)
            if now >= self._next_report:
                self._report(now)
        self._check_liveness(now)

    def _guard(self, function: Callable[..., None], *args: object) -> None:
        """Call the observer, or what calls it: a fault in one call must not reach another."""
        try:
            function(*args)
        except Exception:
            logger.exception("media session %s failed", self.id)
            self._end("failed")

    def _move_audio(self, now: float) -> None:
        for frame in self._receiver.tick(now):
            self._observer.on_audio(frame)
        before = self.playout.played
        for packet in self._sender.tick(now):
            if self._offer.sends and self._ice.send(self._peer.protect(packet)):
                self.stats.packets_out += 1
        if self.playout.played != before:
            self._observer.on_played(self.playout.played)

    def _report(self, now: float) -> None:
        self._next_report = now + REPORT_INTERVAL
        report = rtcp.build_report(self._sender, self._receiver, now=now, cname=self.id)
        self._ice.send(self._peer.protect_rtcp(report))

    def _check_liveness(self, now: float) -> None:
        if self._state is State.CONNECTING:
            if now - self._started > CONNECT_LIMIT:
                self._end("timeout")
        elif self._state is State.CONNECTED:
            limit = GONE_TALKING if self.stats.packets_in else GONE_IDLE
            if now - (self._ice.heard or self._started) > limit:
                self._end("disconnected")

    def _hear_reports(self, data: bytes, now: float) -> None:
        for fact in rtcp.parse(data):
            if isinstance(fact, rtcp.SenderReport):
                self._receiver.on_sender_report(fact, now)
            elif isinstance(fact, rtcp.ReportBlock) and fact.ssrc == self._sender.ssrc:
                self._far_block = fact
                if (trip := rtcp.round_trip(fact, now)) is not None:
                    self._round_trip = trip
                self._sender.on_receiver_report(fact.fraction_lost)

    def _open_channel(self) -> None:
        if self._state is State.CONNECTED:
            self._guard(self._observer.on_channel_open)

    def _hear_message(self, text: str) -> None:
        if self._state is State.CONNECTED:
            self._guard(self._observer.on_message, text)

    def _heard(self) -> None:
        self._ice.heard = self._loop.time()

    def _address(self) -> str:
        """Where the browser is."""
        return str(self._ice.selected.remote[0]) if self._ice.selected else ""

    def _end(self, reason: str) -> None:
        """The session is over: nothing more is heard or sent, and ``_run`` releases what it holds."""
        if not self._ended.done():
            self._state = State.CLOSED
            self._ended.set_result(reason)

    async def _run(self) -> None:
        """The life of the session."""
        turn = self._host.handshakes.turn(self._address)
        handshake = asyncio.create_task(self._peer.handshake(self._offer.fingerprints, turn))
        either: list[asyncio.Future[Any]] = [handshake, self._ended]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not self._ended.done() and handshake.result():
                await self._connected()
            elif not self._ended.done():
                self._end("failed")
            await self._ended
        finally:
            self._end("failed")  # only if this task was cancelled
            handshake.cancel()
            await asyncio.gather(handshake, return_exceptions=True)
            self._host.clock.remove(self.tick)
            await self._peer.close()
            self._ice.close()
            self._on_released(self)
            logger.info("media session %s over: %s", self.id, self._ended.result())
            self._guard(self._observer.on_closed, self._ended.result())

    async def _connected(self) -> None:
        self._state = State.CONNECTED
        logger.info("media session %s connected in %.0f ms", self.id, (self._loop.time() - self._started) * 1000)
        self._heard()
        self._guard(self._observer.on_connected)
        if self._offer.data is not None:
            await self._peer.start_sctp(self._offer.sctp_port, self._offer.max_message_size)
