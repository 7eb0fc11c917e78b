"""One UDP port of this process: a socket per announced address, and who owns what arrives there (RFC 7983)."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import pathlib
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

logger = logging.getLogger(__name__)

Remote = tuple[Any, ...]
"""A socket address as ``recvfrom`` gives it: (host, port) or (host, port, flow, scope)."""

RECEIVE_BUFFER = 4 * 1024 * 1024
"""Asked of the kernel for each socket, bytes: a hundred calls bring 1 MB/s, and a busy loop may be late."""

BATCH = 256
"""Datagrams read at once from a socket, so that a flood on one of them cannot starve the clock."""

MAX_DATAGRAM = 2048
PORT_ATTEMPTS = 20

_PROC_TABLES = (pathlib.Path("/proc/net/udp"), pathlib.Path("/proc/net/udp6"))


class PathOwner(Protocol):
    """Whoever gets the DTLS, SRTP and SRTCP datagrams of a path."""

    def receive(self, data: bytes, path: Path, now: float) -> None:
        """One datagram, first byte 20 to 63 (DTLS) or 128 to 191 (SRTP, SRTCP). Must not raise."""


class Local(Protocol):
    """Our end of paths: a UDP socket, or one TCP connection (``media.tcp``)."""

    paths: dict[Remote, Path]

    def send(self, data: bytes, remote: Remote) -> bool:
        """Send a datagram now or drop it; tells which. Late audio is worth nothing, so nothing is queued."""

    def release(self, path: Path) -> None:
        """Nobody uses this path any more."""


StunHandler = Callable[[bytes, Local, Remote, float], None]
"""Called with (datagram, our end, sender, loop time in s) for every datagram whose first byte is 0 to 3."""


@dataclass(slots=True)
class UdpStats:
    """Datagrams of a port since the start."""

    received: int = 0
    sent: int = 0
    send_dropped: int = 0
    """The kernel's buffer was full or there was no route."""
    strangers: int = 0
    """From an address that passed no binding request, or of no known kind."""


class Path:
    """One of our ends and one remote address, validated by ICE. ``heard``: last authenticated datagram, loop time."""

    __slots__ = ("heard", "owner", "remote", "socket")

    def __init__(self, local: Local, remote: Remote, owner: PathOwner, now: float) -> None:
        self.socket = local
        self.remote = remote
        self.owner = owner
        self.heard = now

    def send(self, data: bytes) -> bool:
        """Send a datagram now or drop it; tells which."""
        return self.socket.send(data, self.remote)


class UdpSocket:
    """A non-blocking socket bound to one address, and the paths that go through it."""

    def __init__(self, address: str, port: int, on_stun: StunHandler, stats: UdpStats) -> None:
        """Bind it. Raises ``OSError`` when the address is not this machine's or the port is taken."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.address = address
        self.paths: dict[Remote, Path] = {}
        self._on_stun = on_stun
        self._stats = stats
        self._is_watched = True
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            if family == socket.AF_INET6:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._socket.bind((address, port))
        except BaseException:
            self._socket.close()
            raise
        self._loop.add_reader(self._socket, self.read)
        granted = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        logger.info("media on udp %s port %d, receive buffer %d KiB", address, self.port, granted // 1024)

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    @property
    def inode(self) -> str:
        return str(os.fstat(self._socket.fileno()).st_ino)

    @property
    def closed(self) -> bool:
        return self._socket.fileno() < 0

    def watch(self, is_watched: bool) -> None:
        """Read by itself what comes, as at first; else when ``read`` is called."""
        if is_watched != self._is_watched and not self.closed:
            self._is_watched = is_watched
            if is_watched:
                self._loop.add_reader(self._socket, self.read)
            else:
                self._loop.remove_reader(self._socket)

    def send(self, data: bytes, remote: Remote) -> bool:
        """Send a datagram now or drop it; tells which. Late audio is worth nothing, so nothing is queued."""
        try:
            self._socket.sendto(data, remote)
        except OSError:  # EAGAIN, no route, closed
            self._stats.send_dropped += 1
            return False
        self._stats.sent += 1
        return True

    def release(self, path: Path) -> None:
        """Nobody uses this path any more."""
        if self.paths.get(path.remote) is path:
            del self.paths[path.remote]

    def close(self) -> None:
        if not self.closed:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self.paths.clear()

    def read(self) -> None:
        """Take what has come, ``BATCH`` datagrams at most."""
        now = self._loop.time()
        for _ in range(BATCH):
            try:
                data, remote = self._socket.recvfrom(MAX_DATAGRAM)
            except OSError:  # EAGAIN: drained
                return
            self._stats.received += 1
            kind = data[0] if data else 255
            if kind < 4:
                self._on_stun(data, self, remote, now)
            elif (path := self.paths.get(remote)) is not None and (20 <= kind < 64 or 128 <= kind < 192):
                path.owner.receive(data, path, now)
            else:
                self._stats.strangers += 1
            if self.closed:
                return


class UdpPort:
    """The sockets of one port number, which is the same on every address; never a wildcard.

    A wildcard socket answers from whichever source address the route prefers, and a browser drops such an answer.
    """

    def __init__(self, port: int, on_stun: StunHandler) -> None:
        """``port`` 0 picks a number that is free on all addresses of the first ``open``."""
        self.port = port
        self.stats = UdpStats()
        self._on_stun = on_stun
        self._sockets: dict[str, UdpSocket] = {}
        self._is_watched = True

    @property
    def addresses(self) -> list[str]:
        return list(self._sockets)

    def open(self, addresses: Sequence[str], *, strict: bool = True) -> None:
        """The first sockets. Raises ``OSError`` when the port is taken or nothing is left to listen on.

        Not ``strict``: an address that cannot be bound is left out (an IPv6 address that is still being probed).
        """
        attempts = PORT_ATTEMPTS if self.port == 0 else 1
        for attempt in range(1, attempts + 1):
            try:
                self._open_all(addresses, strict)
            except OSError as error:
                self.close()
                if attempt == attempts:
                    text = f"cannot listen on udp port {self.port or 'any'} of {', '.join(addresses)}: {error.strerror}"
                    raise OSError(error.errno, text) from error
            else:
                return

    def refresh(self, addresses: Sequence[str]) -> list[str]:
        """Follow the machine's addresses: open what is new, close what is gone; returns those that listen, in order.

        A call on an address that is gone finds its way back by its next binding request.
        """
        for address in [address for address in self._sockets if address not in addresses]:
            self._sockets.pop(address).close()
        for address in addresses:
            if address not in self._sockets:
                try:
                    self._sockets[address] = UdpSocket(address, self.port, self._on_stun, self.stats)
                    self._sockets[address].watch(self._is_watched)
                except OSError as error:
                    logger.warning("no media on udp %s port %d: %s", address, self.port, error.strerror)
        return [address for address in addresses if address in self._sockets]

    def watch(self, is_watched: bool) -> None:
        """Whether datagrams are read as they come, each at the price of a wake-up of the loop, or by ``read`` only."""
        self._is_watched = is_watched
        for each in self._sockets.values():
            each.watch(is_watched)

    def read(self, _now: float) -> None:
        """Take what has come to all sockets (a ``media.clock.Tick``)."""
        for each in tuple(self._sockets.values()):
            each.read()

    def close(self) -> None:
        for each in self._sockets.values():
            each.close()
        self._sockets.clear()

    def overflows(self) -> int:
        """Datagrams the kernel dropped because a receive buffer was full; 0 where it does not tell (not on Linux)."""
        inodes = {each.inode for each in self._sockets.values()}
        total = 0
        for table in _PROC_TABLES:
            if table.exists():
                rows = [line.split() for line in table.read_text().splitlines()[1:]]
                total += sum(int(row[-1]) for row in rows if row[9] in inodes)
        return total

    def _open_all(self, addresses: Sequence[str], strict: bool) -> None:
        port = self.port
        for address in addresses:
            try:
                self._sockets[address] = opened = UdpSocket(address, port, self._on_stun, self.stats)
            except OSError as error:
                if strict or error.errno != errno.EADDRNOTAVAIL or (not self._sockets and address == addresses[-1]):
                    raise
                logger.warning("no media on udp %s: %s", address, error.strerror)
            else:
                port = opened.port
        self.port = port
