"""One connection of a backend: what waits to be sent to it, whether it is there, how much it may ask for."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from aiohttp import web

logger = logging.getLogger(__name__)

MAX_FRAMES = 4096
MAX_BYTES = 8 << 20
"""What may wait for a backend that reads slowly: seconds of many calls. More, and the connection ends."""

LIVENESS_SECONDS = 45.0
PROBE_SECONDS = 2.0
CLOSE_SECONDS = 2.0
"""How long a closing handshake may take; after that the socket is cut."""

TOO_SLOW = 1013, "frames are read too slowly"
"""Close code and reason. No reason may hold the word "displaced": at that clients never come back (protocol 3.5)."""

FRAMES_PER_SECOND = 1000.0
BYTES_PER_FRAME = 1024
"""A frame counts once for each of these that it has."""
BURST = 2000.0


class Pace:
    """How fast frames are taken from one connection: a bucket of frames that fills evenly. What comes faster waits in
    the sender's own socket.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left = BURST
        self._at = clock()

    def take(self, size: int) -> float:
        """Count a frame of ``size`` characters: the seconds to wait before the next is taken."""
        now = self._clock()
        self._left = min(BURST, self._left + (now - self._at) * FRAMES_PER_SECOND) - 1 - size / BYTES_PER_FRAME
        self._at = now
        return max(0.0, -self._left / FRAMES_PER_SECOND)


class Backend:
    """Implements ``server.registry.Holder``. Everything is called on the event loop; ``send`` never waits.

    An async context manager that owns the task which writes; the socket is read by whoever made this.
    """

    def __init__(self, socket: web.WebSocketResponse, request: web.Request, org: str) -> None:
        self.id = f"c_{secrets.token_hex(8)}"
        self.org = org
        self.names: dict[str, str] = {}
        """Slug -> the id as this connection spells it."""
        self._socket = socket
        self._request = request
        self._loop = asyncio.get_running_loop()
        self.pace = Pace(self._loop.time)
        self._waiting: deque[str] = deque()
        self._bytes = 0
        self._more = asyncio.Event()
        self._heard_at = self._loop.time()
        self._heard = asyncio.Event()
        self._open = True
        self._writer: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        return self._open and not self._socket.closed and self._loop.time() - self._heard_at <= LIVENESS_SECONDS

    def hear(self) -> None:
        """Something came."""
        self._heard_at = self._loop.time()
        self._heard.set()

    async def probe(self) -> bool:
        """Whether anything comes within ``PROBE_SECONDS`` after a ping."""
        self._heard.clear()
        if not self.send({"event": "ping"}):
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(PROBE_SECONDS):
                await self._heard.wait()
        return self._heard.is_set()

    def send(self, frame: Mapping[str, Any]) -> bool:
        if not self._open:
            return False
        text = json.dumps(frame)
        if len(self._waiting) >= MAX_FRAMES or self._bytes + len(text) > MAX_BYTES:
            logger.warning("connection %s of %s reads too slowly and is closed", self.id, self.org)
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
            self._closing = asyncio.create_task(self._close(code, reason), name=f"closing {self.id}")

    async def wait_closed(self) -> None:
        """Until what ``close`` began is over."""
        if self._closing is not None:
            await asyncio.wait({self._closing})

    async def __aenter__(self) -> Backend:
        self._writer = asyncio.create_task(self._write(), name=f"writing to {self.id}")
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
