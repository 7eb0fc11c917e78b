"""A relay between one caller and the server: the network between them, with real datagrams."""

from __future__ import annotations

import asyncio
import re
from types import TracebackType
from typing import Any, Self

from tests.media.bad_network import BadNetwork

Address = tuple[Any, ...]


class UdpRelay:
    """Stands before a server at 127.0.0.1. A context manager; event loop only.

    ``up`` carries what the caller sends and ``down`` what the server sends; both may be replaced at any time. Only
    media (SRTP and SRTCP) suffers from them: a call whose set-up is lost is another subject.
    """

    def __init__(self, port: int) -> None:
        """``port`` of the server."""
        self.up = BadNetwork()
        self.down = BadNetwork()
        self.ways: list[int] = []
        """The ports from which the server has seen the caller come."""
        self._server = ("127.0.0.1", port)
        self._caller: Address | None = None
        self._loop = asyncio.get_running_loop()
        self._inside: asyncio.DatagramTransport
        self._outside: asyncio.DatagramTransport

    async def __aenter__(self) -> Self:
        self._inside = await self._open(self._from_caller)
        await self.move()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inside.close()
        self._outside.close()
        await asyncio.sleep(0)

    def through(self, answer: str) -> str:
        """The answer with the relay in the place of the server."""
        port = self._inside.get_extra_info("sockname")[1]
        return re.sub(r"(a=candidate:\S+ 1 udp \d+ 127\.0\.0\.1) \d+", rf"\1 {port}", answer)

    async def move(self) -> None:
        """From now on the server sees the caller at another port, and what it sends to the one before is lost."""
        before = getattr(self, "_outside", None)
        self._outside = await self._open(self._from_server)
        self.ways.append(self._outside.get_extra_info("sockname")[1])
        if before is not None:
            before.close()

    async def _open(self, receive: Any) -> asyncio.DatagramTransport:
        made = await self._loop.create_datagram_endpoint(lambda: _End(receive), local_addr=("127.0.0.1", 0))
        return made[0]

    def _from_caller(self, data: bytes, sender: Address) -> None:
        self._caller = sender
        self._carry(self.up, data, lambda: self._outside.sendto(data, self._server))

    def _from_server(self, data: bytes, sender: Address) -> None:
        if sender == self._server and self._caller is not None:
            self._carry(self.down, data, lambda: self._inside.sendto(data, self._caller))

    def _carry(self, network: BadNetwork, data: bytes, deliver: Any) -> None:
        if not 128 <= data[0] < 192:
            deliver()
            return
        for at in network.fates(self._loop.time()):
            self._loop.call_at(at, deliver)


class _End(asyncio.DatagramProtocol):
    def __init__(self, receive: Any) -> None:
        self.datagram_received = receive  # type: ignore[method-assign]
