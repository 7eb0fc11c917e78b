"""ICE-TCP, the passive side (RFC 6544): calls from networks that let no UDP through.

Each connection is what a UDP socket is elsewhere, with frames of a length and that many bytes (RFC 4571) as datagrams.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import socket
import struct
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from media.udp import MAX_DATAGRAM, Path, Remote, StunHandler

logger = logging.getLogger(__name__)

UNKNOWN_SECONDS = 10.0
"""How long a connection may be open before a binding request on it was answered, s."""

MOST_CONNECTIONS = 1000
MOST_OF_ADDRESS = 50
"""Connections from one address: an office behind one router, several each."""

MEDIA_BACKLOG = 1500
"""Bytes that the network has not taken yet, above which audio is dropped: some 0.3 s. Late audio is worth nothing."""

BACKLOG = 16 * 1024
"""The same for DTLS and STUN, whose senders repeat what is lost."""

SEND_BUFFER = 64 * 1024

_UNSENT = 0x894B  # SIOCOUTQNSD of Linux: bytes in the kernel's buffer that were not sent once
_LENGTH = struct.Struct("!H")


@dataclass(slots=True)
class TcpStats:
    """Since the start."""

    accepted: int = 0
    refused: int = 0
    """Connections over a bound, and those that did not speak ICE."""
    received: int = 0
    sent: int = 0
    send_dropped: int = 0
    """Frames that found too much before them."""


class TcpConnection(asyncio.Protocol):
    """A connection of one peer: a ``media.udp.Local``. It closes itself when its last path is released."""

    def __init__(self, port: TcpPort) -> None:
        self.paths: dict[Remote, Path] = {}
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self._remote: Remote = ("", 0)
        self._transport: asyncio.Transport | None = None
        self._descriptor = -1
        self._deadline = self._loop.call_later(UNKNOWN_SECONDS, self._give_up)

    @property
    def host(self) -> str:
        return str(self._remote[0])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        opened = transport.get_extra_info("socket")
        self._transport, self._descriptor = cast(asyncio.Transport, transport), opened.fileno()
        self._remote = transport.get_extra_info("peername") or ("", 0)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        if not self._port.admit(self):
            self._give_up()

    def data_received(self, data: bytes) -> None:
        """Whole frames are delivered; the rest, less than one, waits."""
        data, start = self._rest + data, 0
        now = self._loop.time()
        while self._transport is not None and start + 2 <= len(data):
            end = start + 2 + _LENGTH.unpack_from(data, start)[0]
            if end - start - 2 > MAX_DATAGRAM:
                self._give_up()
                return
            if end > len(data):
                break
            self._deliver(data[start + 2 : end], now)
            start = end
        self._rest = data[start:]

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        self._transport = None
        self._port.discard(self)

    def send(self, data: bytes, remote: Remote) -> bool:
        """Send a frame now or drop it; tells which."""
        transport = self._transport
        limit = MEDIA_BACKLOG if data[0] >= 128 else BACKLOG
        if transport is None or transport.is_closing() or self._unsent(transport) > limit:
            self._port.stats.send_dropped += 1
            return False
        transport.write(_LENGTH.pack(len(data)) + data)
        self._port.stats.sent += 1
        return True

    def release(self, path: Path) -> None:
        """Nobody uses this path any more."""
        if self.paths.get(path.remote) is path:
            del self.paths[path.remote]
            self.close()

    def close(self) -> None:
        """Close it once what was written is under way."""
        if self._transport is not None:
            self._transport.close()

    def _deliver(self, data: bytes, now: float) -> None:
        kind = data[0] if data else 255
        path = self.paths.get(self._remote)
        if kind < 4:
            self._port.on_stun(data, self, self._remote, now)
            if self.paths:
                self._deadline.cancel()
        elif path is None:  # the first frame of a stranger: this is no browser
            self._give_up()
            return
        elif 20 <= kind < 64 or 128 <= kind < 192:
            path.owner.receive(data, path, now)
        self._port.stats.received += 1

    def _give_up(self) -> None:
        self._port.stats.refused += 1
        if self._transport is not None:
            self._transport.abort()

    def _unsent(self, transport: asyncio.Transport) -> int:
        """Bytes that wait on this machine, in this process and, where the system tells, in its kernel."""
        waiting = transport.get_write_buffer_size()
        if sys.platform == "linux" and not waiting:
            with contextlib.suppress(OSError):
                return int.from_bytes(fcntl.ioctl(self._descriptor, _UNSENT, bytes(4)), sys.byteorder)
        return waiting


class TcpPort:
    """One TCP port number on all announced addresses."""

    def __init__(self, port: int, on_stun: StunHandler) -> None:
        """``port`` 0 picks a number that is free on the first address."""
        self.port = port
        self.stats = TcpStats()
        self.on_stun = on_stun
        self._servers: dict[str, asyncio.Server] = {}
        self._connections: set[TcpConnection] = set()
        self._hosts: Counter[str] = Counter()

    def __len__(self) -> int:
        """Open connections."""
        return len(self._connections)

    async def open(self, addresses: Sequence[str], *, strict: bool = True) -> None:
        """Listen. Raises ``OSError`` naming the port; not ``strict``: one address that works is enough."""
        for address in addresses:
            try:
                await self._listen(address)
            except OSError as error:
                if strict or (address == addresses[-1] and not self._servers):
                    await self.close()
                    text = f"cannot listen on tcp port {self.port or 'any'} of {address}: {error.strerror}"
                    raise OSError(error.errno, text) from error
                logger.warning("no media on tcp %s: %s", address, error.strerror)

    async def refresh(self, addresses: Sequence[str]) -> list[str]:
        """Follow the machine's addresses; returns those that listen, in order."""
        for address in [address for address in self._servers if address not in addresses]:
            self._servers.pop(address).close()
        for address in addresses:
            if address not in self._servers:
                try:
                    await self._listen(address)
                except OSError as error:
                    logger.warning("no media on tcp %s port %d: %s", address, self.port, error.strerror)
        return [address for address in addresses if address in self._servers]

    def admit(self, connection: TcpConnection) -> bool:
        """For the connections: whether there is room for this one, which is counted from now on."""
        self._connections.add(connection)
        self._hosts[connection.host] += 1
        self.stats.accepted += 1
        return len(self._connections) <= MOST_CONNECTIONS and self._hosts[connection.host] <= MOST_OF_ADDRESS

    def discard(self, connection: TcpConnection) -> None:
        """For the connections: it is gone."""
        if connection in self._connections:
            self._connections.discard(connection)
            self._hosts -= Counter({connection.host: 1})

    async def close(self) -> None:
        """Stop listening and cut every connection."""
        servers = list(self._servers.values())
        self._servers.clear()
        for server in servers:
            server.close()
        for connection in tuple(self._connections):
            connection.close()
        while self._connections:  # noqa: ASYNC110 - each is told by the loop at its next turn
            await asyncio.sleep(0)

    async def _listen(self, address: str) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: TcpConnection(self), address, self.port)
        self._servers[address] = server
        listening: Any = server.sockets[0]
        self.port = int(listening.getsockname()[1])
        logger.info("media on tcp %s port %d", address, self.port)
