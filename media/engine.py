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
from media.handshakes import Handshakes
from media.ice import IceLite, IceStats
from media.sdp import Offer
from media.session import Host, Session
from media.tcp import TcpPort, TcpStats
from media.udp import UdpPort, UdpStats

logger = logging.getLogger(__name__)

_RENEWAL = datetime.timedelta(days=2)


class MediaEngine:
    """Answers offers. ``start`` before the first, ``close`` at the end; event loop only."""

    def __init__(
        self,
        *,
        port: int = 0,
        tcp_port: int | None = None,
        addresses: Sequence[str] | None = None,
        public_ips: Sequence[str] = (),
    ) -> None:
        """``port`` 0 picks a free one. ``addresses`` replaces the list of this machine's own, in order of preference.
        ``tcp_port``: where media also comes by TCP (ICE-TCP), 0 for a free one; ``None``: nowhere.

        ``public_ips`` are announced before all others, for a server behind a 1:1 NAT or in a container that gets the
        same port number from outside. Raises ``ValueError`` for what is no announceable IP address.
        """
        self._fixed = [address.parse_address(text) for text in addresses] if addresses else None
        self._public = [address.parse_address(text) for text in public_ips]
        self._ice = IceLite()
        self._udp = UdpPort(port, self._ice.receive)
        self._tcp = TcpPort(tcp_port, self._ice.receive) if tcp_port is not None else None
        self._handshakes = Handshakes()
        self._sessions: set[Session] = set()
        self._host: Host | None = None
        self.clock = Clock(self._udp.read)
        """With ``clock.lateness``: how well the process keeps its time."""

    @property
    def port(self) -> int:
        """The UDP port; 0 before ``start`` when it is to be picked."""
        return self._udp.port

    @property
    def tcp_port(self) -> int | None:
        """The TCP port; ``None``: media comes by UDP only."""
        return self._tcp.port if self._tcp is not None else None

    @property
    def sessions(self) -> int:
        """Sessions that are not over."""
        return len(self._sessions)

    @property
    def udp_stats(self) -> UdpStats:
        return self._udp.stats

    @property
    def tcp_stats(self) -> TcpStats:
        return self._tcp.stats if self._tcp is not None else TcpStats()

    @property
    def udp_overflows(self) -> int:
        """Datagrams that the kernel dropped because this process was late to read them."""
        return self._udp.overflows()

    @property
    def ice_stats(self) -> IceStats:
        return self._ice.stats

    async def start(self) -> None:
        """Open the ports and start the clock. Raises ``OSError`` naming the address and port that cannot be used."""
        self._udp.open(self._addresses(), strict=self._fixed is not None)
        if self._tcp is not None:
            try:
                await self._tcp.open(self._addresses(), strict=self._fixed is not None)
            except OSError:
                self._udp.close()
                raise
        self._host = Host(self.clock, self._ice, RTCCertificate.generateCertificate(), self._handshakes)
        self.clock.start()

    async def accept(self, offer: Offer, observer: LineObserver) -> Session:
        """Answer an offer. The session connects in the background and tells ``observer``; it ends with ``on_closed``.

        Raises ``RuntimeError`` when the engine does not run, ``OSError`` when no address is left to announce.
        """
        if self._host is None:
            raise RuntimeError("the media engine is not running")
        present = self._addresses()
        hosts = list(dict.fromkeys([*self._public, *self._udp.refresh(present)]))
        if not hosts:
            raise OSError("no network address to announce")
        tcp_candidates = await self._tcp_candidates(present)
        if self._host is None:
            raise RuntimeError("the media engine was closed")
        session = Session(
            self._current_host(self._host),
            offer,
            observer,
            candidates=[(host, self.port) for host in hosts],
            tcp_candidates=tcp_candidates,
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
        if self._tcp is not None:
            await self._tcp.close()

    def _release(self, session: Session) -> None:
        self._sessions.discard(session)
        self._udp.watch(not self._sessions)

    def _addresses(self) -> list[str]:
        return self._fixed or address.local_addresses()

    async def _tcp_candidates(self, present: Sequence[str]) -> list[tuple[str, int]]:
        if self._tcp is None:
            return []
        hosts = dict.fromkeys([*self._public, *await self._tcp.refresh(present)])
        return [(host, self._tcp.port) for host in hosts]

    def _current_host(self, host: Host) -> Host:
        """The same with a certificate that stays valid for longer than a call; the library makes them for 30 days."""
        if host.certificate.expires - datetime.datetime.now(datetime.UTC) < _RENEWAL:
            host = Host(host.clock, host.ice, RTCCertificate.generateCertificate(), host.handshakes)
            self._host = host
        return host
