"""DTLS, SRTP keys and the DataChannel of one connection, assembled from aiortc's ORTC objects.

The only file that touches private names of aiortc; its version is pinned and ``tests/media/test_ortc.py`` fails when
one of them changes. Audio does not pass through aiortc: SRTP is protected and unprotected here with the keys of the
DTLS handshake (RFC 5764), and only DTLS datagrams are fed to its transport.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import cast

import pylibsrtp
from aiortc.rtcdatachannel import RTCDataChannel, RTCDataChannelParameters
from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsFingerprint, RTCDtlsParameters, RTCDtlsTransport, State
from aiortc.rtcicetransport import RTCIceTransport
from aiortc.rtcsctptransport import Chunk, RTCSctpCapabilities, RTCSctpTransport, SackChunk
from OpenSSL import SSL

logger = logging.getLogger(__name__)

MAX_DATAGRAMS = 64
"""DTLS datagrams that wait for the loop; more are dropped, and the peer repeats them."""

MAX_SSRCS = 8
"""RTP sources accepted of one peer: each costs libsrtp a replay window for the rest of the call."""

MAX_CHANNELS = 16
MAX_CHUNKS = 1024
"""Out-of-order or unfinished SCTP chunks that are kept; a message of 64 KiB has 56."""

RECEIVE_WINDOW = 256 * 1024
"""Bytes of unfinished messages that are kept."""

HANDSHAKE_SLOT = 3.0
"""How long a handshake may hold its slot, s: a peer that stalls must not hold up the others."""


Gate = AbstractAsyncContextManager[None]
"""What a handshake has to pass: ``media.handshakes``, a semaphore."""


class SctpError(Exception):
    """The peer broke a rule of SCTP or of the DataChannel protocol."""


def new_certificate() -> RTCCertificate:
    """A self-signed certificate, good for 30 days."""
    return RTCCertificate.generateCertificate()


def fingerprint(certificate: RTCCertificate) -> str:
    """The SHA-256 digest for ``a=fingerprint``."""
    return next(entry.value for entry in certificate.getFingerprints() if entry.algorithm == "sha-256")


class DtlsPeer:
    """The encrypted side of one session: the DTLS server (``a=setup:passive``), or for a synthetic caller the client.

    ``send`` takes each outgoing datagram and must not raise. ``on_channel`` is called with every DataChannel the peer
    opens, ``on_heard`` for every SCTP packet, ``on_lost(False)`` when the peer says good-bye (DTLS close-notify, SCTP
    abort) and ``on_lost(True)`` when it breaks the protocol.
    """

    def __init__(
        self,
        certificate: RTCCertificate,
        *,
        send: Callable[[bytes], object],
        on_channel: Callable[[RTCDataChannel], None],
        on_heard: Callable[[], None],
        on_lost: Callable[[bool], None],
        is_client: bool = False,
    ) -> None:
        self._ice = _IceShim(send)
        self._dtls = RTCDtlsTransport(cast(RTCIceTransport, self._ice), [certificate])
        # Not left to the library, which would take "client" beside a controlled ICE role and wait for ever.
        self._dtls._set_role("client" if is_client else "server")
        self._is_client = is_client
        self._dtls.on("statechange", self._state_changed)
        self._on_lost = on_lost
        self._sctp = _Sctp(self._dtls, on_heard=on_heard, on_lost=on_lost)
        self._sctp.on("datachannel", on_channel)
        self._ssrcs: set[bytes] = set()
        self._closing = False
        self._pumped = False  # datagrams are handled as they come

    def receive(self, datagram: bytes) -> bool:
        """One DTLS datagram of the peer; ``False`` when it came too early or too late, or the queue was full.

        After the handshake it is handled before this returns: waking a task for each would double its price.
        """
        if not self._ice.feed(datagram):
            return False
        if self._pumped:
            self._step()
        return True

    async def handshake(
        self, fingerprints: Sequence[tuple[str, str]], gate: Gate, *, limit: float = HANDSHAKE_SLOT
    ) -> bool:
        """Wait for the client's hello, shake hands, check its certificate; ``False`` when that failed.

        ``gate`` is entered when the peer has been heard, and bounds how many run at once: each costs milliseconds of
        CPU on the loop of the audio clock. ``limit`` is the longest that one may hold its place there, s.
        """
        if not self._is_client:
            await self._ice.arrival()
        remote = RTCDtlsParameters([RTCDtlsFingerprint(algorithm=name, value=value) for name, value in fingerprints])
        try:
            async with asyncio.TaskGroup() as tasks, gate:
                start = tasks.create_task(self._dtls.start(remote))
                await asyncio.wait([start], timeout=limit)
        except* Exception as errors:  # noqa: BLE001 - any class: the library parses the peer's certificate unguarded
            logger.debug("DTLS handshake failed: %r", errors.exceptions)
        if self._dtls.state != "connected":
            return False
        await self._take_over()
        return self._dtls.state == "connected"

    async def start_sctp(self, port: int, max_message_size: int) -> None:
        """Open the association for DataChannels to the peer's SCTP port."""
        await self._sctp.start(RTCSctpCapabilities(maxMessageSize=max_message_size), port)

    def open_channel(self, label: str) -> RTCDataChannel:
        """Open a DataChannel from this side, after ``start_sctp``."""
        return RTCDataChannel(self._sctp, RTCDataChannelParameters(label=label))

    def protect(self, packet: bytes) -> bytes:
        """Encrypt an RTP packet. Only after the handshake."""
        return self._dtls._tx_srtp.protect(packet)

    def protect_rtcp(self, packet: bytes) -> bytes:
        """Encrypt a compound RTCP packet. Only after the handshake."""
        return self._dtls._tx_srtp.protect_rtcp(packet)

    def unprotect(self, packet: bytes) -> bytes | None:
        """Decrypt an SRTP packet; ``None`` for a forged, replayed, oversized or early one."""
        session = self._dtls._rx_srtp
        return self._open(session.unprotect, packet, packet[8:12]) if session else None

    def unprotect_rtcp(self, packet: bytes) -> bytes | None:
        """Decrypt an SRTCP packet; ``None`` for a forged, replayed, oversized or early one."""
        session = self._dtls._rx_srtp
        return self._open(session.unprotect_rtcp, packet, packet[4:8]) if session else None

    async def close(self) -> None:
        """Say good-bye (SCTP abort, DTLS close-notify) and stop everything. Never raises."""
        self._closing = True
        self._pumped = False
        pump = self._dtls._task
        await self._sctp.stop()
        await self._dtls.stop()
        self._ice.close()
        if pump is not None:
            await asyncio.gather(pump, return_exceptions=True)
        self._dtls.remove_all_listeners()

    async def _take_over(self) -> None:
        """End the library's task that waits for datagrams; from now on each is handled as it comes."""
        pump, self._dtls._task = self._dtls._task, None
        self._dtls.remove_listener("statechange", self._state_changed)
        if pump is not None:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
            if not pump.cancelled():  # it had ended by itself: the peer is gone again
                return
        self._dtls._set_state(State.CONNECTED)  # the end of that task is not the end of the connection
        self._dtls.on("statechange", self._state_changed)
        self._pumped = True
        while self._pumped and self._ice.waiting:
            self._step()

    def _step(self) -> None:
        """Handle the datagram that waits: what the library does then waits for nothing, as a test makes sure."""
        step = self._dtls._recv_next()
        try:
            step.send(None)
        except StopIteration:
            return
        except ConnectionError:  # close-notify
            self._pumped = False
            self._dtls._set_state(State.CLOSED)
        else:
            step.close()
            raise RuntimeError("the library waits where it should not")

    def _open(self, unprotect: Callable[[bytes], bytes], packet: bytes, ssrc: bytes) -> bytes | None:
        if ssrc not in self._ssrcs and len(self._ssrcs) >= MAX_SSRCS:
            return None
        try:
            plain = unprotect(packet)
        except (pylibsrtp.Error, ValueError):  # ValueError: more than 1500 bytes
            return None
        self._ssrcs.add(ssrc)
        return plain

    def _state_changed(self) -> None:
        if self._dtls.state == "closed" and not self._closing:
            self._on_lost(False)


class _IceShim:
    """What RTCDtlsTransport needs of an ICE transport: a queue of datagrams in, a function out."""

    role = "controlled"
    state = "completed"

    def __init__(self, send: Callable[[bytes], object]) -> None:
        self._queue: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._closed = False
        self._output = send

    def feed(self, datagram: bytes) -> bool:
        if self._closed or len(self._queue) >= MAX_DATAGRAMS:
            return False
        self._queue.append(datagram)
        self._changed.set()
        return True

    def close(self) -> None:
        self._closed = True
        self._queue.clear()
        self._changed.set()

    @property
    def waiting(self) -> bool:
        """Datagrams are there."""
        return bool(self._queue)

    async def arrival(self) -> None:
        """Wait until a datagram is there."""
        await self._changed.wait()

    async def _recv(self) -> bytes:
        while not self._queue:
            if self._closed:
                raise ConnectionError("the session is over")
            self._changed.clear()
            await self._changed.wait()
        return self._queue.popleft()

    async def _send(self, data: bytes) -> None:
        if self._closed:
            raise ConnectionError("the session is over")
        self._output(data)


class _Sctp(RTCSctpTransport):
    """aiortc's SCTP with a fence: what a peer does wrong ends its own association and reaches no log.

    aiortc lets exceptions of malformed chunks end its receiving task with a traceback, and does not bound what it keeps
    of unfinished messages.
    """

    def __init__(
        self, transport: RTCDtlsTransport, *, on_heard: Callable[[], None], on_lost: Callable[[bool], None]
    ) -> None:
        super().__init__(transport)
        self._advertised_rwnd = RECEIVE_WINDOW
        self._inbound_streams_max = 1024
        self._on_heard = on_heard
        self._on_lost = on_lost

    async def _handle_data(self, data: bytes) -> None:
        open_before = self._association_state != self.State.CLOSED
        self._on_heard()
        try:
            await super()._handle_data(data)
            self._check_bounds()
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - any class: assertions, struct.error, UnicodeDecodeError, KeyError
            logger.debug("SCTP association ended by a malformed packet: %s", type(error).__name__)
            await self.stop()
            self._on_lost(True)
            return
        if open_before and self._association_state == self.State.CLOSED:
            self._on_lost(False)

    async def _receive_chunk(self, chunk: Chunk) -> None:
        if isinstance(chunk, SackChunk) and sum(max(0, last - first) for first, last in chunk.gaps) > MAX_CHUNKS:
            raise SctpError("a selective acknowledgement of more chunks than can be under way")
        await super()._receive_chunk(chunk)

    async def _send_chunk(self, chunk: Chunk) -> None:
        # Called from timers and tasks nobody awaits: a transport that closed meanwhile must not raise there.
        try:
            await super()._send_chunk(chunk)
        except (ConnectionError, SSL.Error):
            logger.debug("SCTP chunk dropped: the transport is closed")

    def _check_bounds(self) -> None:
        kept = sum(len(stream.reassembly) for stream in self._inbound_streams.values())
        if self._advertised_rwnd < 0 or kept > MAX_CHUNKS or len(self._sack_misordered) > MAX_CHUNKS:
            raise SctpError("more unfinished data than the receive window")
        if len(self._data_channels) > MAX_CHANNELS or len(self._inbound_streams) > MAX_CHUNKS:
            raise SctpError("too many channels")
