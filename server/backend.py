"""One connection of a backend: what waits to be sent to it, whether it is there, how much it may ask for."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from aiohttp import web

from server.outbox import Outbox
from server.pace import Pace

logger = logging.getLogger(__name__)

MAX_FRAMES = 4096
MAX_BYTES = 8 << 20
"""What may wait for a backend that reads slowly: seconds of many calls. More, and the connection ends."""

LIVENESS_SECONDS = 45.0
PROBE_SECONDS = 2.0


class Backend:
    """Implements ``server.registry.Holder``. Everything is called on the event loop; ``send`` never waits.

    An async context manager that owns what waits to be sent; the socket is read by whoever made this.
    """

    def __init__(self, socket: web.WebSocketResponse, request: web.Request, org: str) -> None:
        self.id = f"c_{secrets.token_hex(8)}"
        self.org = org
        self.names: dict[str, str] = {}
        """Slug -> the id as this connection spells it."""
        self._outbox = Outbox(socket, request, max_frames=MAX_FRAMES, max_bytes=MAX_BYTES)
        self._loop = asyncio.get_running_loop()
        self.pace = Pace(self._loop.time)
        self._heard_at = self._loop.time()
        self._heard = asyncio.Event()

    @property
    def alive(self) -> bool:
        return self._outbox.is_open and self._loop.time() - self._heard_at <= LIVENESS_SECONDS

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
        was_open = self._outbox.is_open
        sent = self._outbox.send(json.dumps(frame))
        if was_open and not sent:
            logger.warning("connection %s of %s reads too slowly and is closed", self.id, self.org)
        return sent

    def close(self, code: int, reason: str) -> None:
        """See ``Outbox.close``."""
        self._outbox.close(code, reason)

    async def wait_closed(self) -> None:
        """Until what ``close`` began is over."""
        await self._outbox.wait_closed()

    async def __aenter__(self) -> Backend:
        await self._outbox.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._outbox.__aexit__(*exception)
