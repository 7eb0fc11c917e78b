"""What waits to be sent over one WebSocket: bounded, so that who reads slowly costs nobody but themselves."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

from aiohttp import web

CLOSE_SECONDS = 2.0
"""How long a closing handshake may take; after that the socket is cut."""

TOO_SLOW = 1013, "frames are read too slowly"
"""Close code (RFC 6455, 7.4; 1013 by its registry) and reason. No reason may hold the word "displaced": at that clients
never come back (protocol 3.5)."""


class Outbox:
    """Everything is called on the event loop; ``send`` never waits.

    An async context manager that owns the task which writes; the socket is read by whoever made this.
    """

    def __init__(self, socket: web.WebSocketResponse, request: web.Request, *, max_frames: int, max_bytes: int) -> None:
        """``max_frames`` and ``max_bytes`` (characters of text): what may wait. More, and the connection ends."""
        self._socket = socket
        self._request = request
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._waiting: deque[str] = deque()
        self._bytes = 0
        self._more = asyncio.Event()
        self._open = True
        self._writer: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Not closed by either side, as far as is known."""
        return self._open and not self._socket.closed

    def send(self, text: str) -> bool:
        """Queue a text frame. False when it is lost because the connection ends."""
        if not self._open:
            return False
        if len(self._waiting) >= self._max_frames or self._bytes + len(text) > self._max_bytes:
            self._waiting.clear()
            self.close(*TOO_SLOW)
            return False
        self._waiting.append(text)
        self._bytes += len(text)
        self._more.set()
        return True

    def close(self, code: int, reason: str) -> None:
        """End the connection after what was sent so far; cut it if the peer does not take that in ``CLOSE_SECONDS``."""
        if self._open:
            self._open = False
            self._more.set()
            self._closing = asyncio.create_task(self._close(code, reason), name="closing a socket")

    async def wait_closed(self) -> None:
        """Until what ``close`` began is over."""
        if self._closing is not None:
            await asyncio.wait({self._closing})

    async def __aenter__(self) -> Outbox:
        self._writer = asyncio.create_task(self._write(), name="writing to a socket")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._open = False
        await self.wait_closed()
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)

    async def _write(self) -> None:
        with suppress(ConnectionError):  # it is gone; who reads finds out
            while self._open or self._waiting:
                await self._more.wait()
                self._more.clear()
                while self._waiting:
                    text = self._waiting.popleft()
                    self._bytes -= len(text)
                    await self._socket.send_str(text)

    async def _close(self, code: int, reason: str) -> None:
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(CLOSE_SECONDS):
                if self._writer is not None:
                    await asyncio.gather(self._writer, return_exceptions=True)
                await self._socket.close(code=code, message=reason.encode())
        if (transport := self._request.transport) is not None:
            transport.abort()
