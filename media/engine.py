"""The media of the process: one UDP port, one clock, one certificate, and the sessions that share them."""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Sequence

from aiortc.rtcdtlstransport import RTCCertificate

from media import address
from media.audio import LineObserver
from media.clock import Clock
from media.ice import IceLite, IceStats
from media.sdp import Offer
from media.session import Host, Session
from media.udp import UdpPort, UdpStats

logger = logging.getLogger(__name__)

HANDSHAKES = 4
"""DTLS handshakes that run at once."""

_RENEWAL = datetime.timedelta(days=2)


class MediaEngine:
    """Answers offers. ``start`` before the first, ``close`` at the end; event loop only."""

    def __init__(
        self, *, port: int = 0, addresses: Sequence[str] | None = None, public_ips: Sequence[str] = ()
    ) -> None:
        """``port`` 0 picks a free one. ``addresses`` replaces the list of this machine's own, in order of preference.

        ``public_ips`` are announced before all others, for a server behind a 1:1 NAT or in a container that gets the
        same port number from outside. Raises ``ValueError`` for what is no announceable IP address.
        """
        self._fixed = [address.parse_address(text) for text in addresses] if addresses else None
        self._public = [address.parse_address(text) for text in public_ips]
        self._ice = IceLite()
        self._udp = UdpPort(port, self._ice.receive)
        self._sessions: set[Session] = set()
        self._host: Host | None = None
        self.clock = Clock(self._udp.read)
        """With ``clock.lateness``: how well the process keeps its time."""

    @property
    def port(self) -> int:
        """The UDP port; 0 before ``start`` when it is to be picked."""
        return self._udp.port

    @property
    def sessions(self) -> int:
        """Sessions that are not over."""
        return len(self._sessions)

    @property
    def udp_stats(self) -> UdpStats:
        return self._udp.stats

    @property
    def udp_overflows(self) -> int:
        """Datagrams that the kernel dropped because this process was late to read them."""
        return self._udp.overflows()

    @property
    def ice_stats(self) -> IceStats:
        return self._ice.stats

    async def start(self) -> None:
        """Open the port and start the clock. Raises ``OSError`` naming the address and port that cannot be used."""
        self._udp.open(self._addresses(), strict=self._fixed is not None)
        self._host = Host(self.clock, self._ice, RTCCertificate.generateCertificate(), asyncio.Semaphore(HANDSHAKES))
        self.clock.start()

    async def accept(self, offer: Offer, observer: LineObserver) -> Session:
        """Answer an offer. The session connects in the background and tells ``observer``; it ends with ``on_closed``.

        Raises ``RuntimeError`` when the engine does not run, ``OSError`` when no address is left to announce.
        """
        if self._host is None:
            raise RuntimeError("the media engine is not running")
        listening = self._udp.refresh(self._addresses())
        hosts = list(dict.fromkeys([*self._public, *listening]))
        if not hosts:
            raise OSError("no network address to announce")
        session = Session(
            self._current_host(self._host),
            offer,
            observer,
            candidates=[(host, self.port) for host in hosts],
            on_released=self._release,
        )
        self._sessions.add(session)
        # The clock runs now and reads the sockets at each slot: one wake-up for many datagrams, each 2.5 ms late.
        self._udp.watch(False)
        return session

    async def close(self) -> None:
        """Close all sessions, then the port. Nothing is left."""
        self._host = None
        await asyncio.gather(*(session.close() for session in self._sessions))
        await self.clock.close()
        self._udp.close()

    def _release(self, session: Session) -> None:
        self._sessions.discard(session)
        self._udp.watch(not self._sessions)

    def _addresses(self) -> list[str]:
        return self._fixed or address.local_addresses()

    def _current_host(self, host: Host) -> Host:
        """The same with a certificate that stays valid for longer than a call; the library makes them for 30 days."""
        if host.certificate.expires - datetime.datetime.now(datetime.UTC) < _RENEWAL:
            host = Host(host.clock, host.ice, RTCCertificate.generateCertificate(), host.handshakes)
            self._host = host
        return host
