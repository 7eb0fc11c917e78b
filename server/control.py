"""``WS /client``: the socket over which a backend deploys agents and drives their calls. Source: protocol 3.1, 3.2."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from typing import Any

from aiohttp import WSMsgType, web

from server.backend import Backend
from server.commands import Commands
from server.declined import error
from server.http import ApiError, parse_object
from server.outbox import CLOSE_SECONDS
from tokens.keys import ApiKeys

logger = logging.getLogger(__name__)

PROTOCOL_VERSION = "2"
MAX_FRAME = 1 << 20
"""Bytes of one frame; at a larger one the connection ends with code 1009 (RFC 6455, 7.4.1)."""

HANDSHAKE_SECONDS = 10.0
HEARTBEAT_SECONDS = 30.0
"""A ping of the WebSocket itself after so long a silence; half of it later a peer that answers nothing is gone."""

SLICE_SECONDS = 0.002
"""How long one connection is served before the others get their turn: the media clock ticks in between."""

POLICY = 1008
GOING_AWAY = 1001
LEAVING = "the server is going away"


class Control:
    """Accepts connections, reads them and hands their frames to ``commands``."""

    def __init__(self, keys: ApiKeys, commands: Commands) -> None:
        self._keys = keys
        self._commands = commands
        self._backends: set[Backend] = set()
        self._strangers: set[web.WebSocketResponse] = set()
        """Connections that have not shown a key yet."""

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/client", self.client, allow_head=False)]

    async def client(self, request: web.Request) -> web.WebSocketResponse:
        """One connection, from its upgrade to its end. Nobody is refused before the upgrade: the key comes after it."""
        socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_SECONDS, max_msg_size=MAX_FRAME, compress=False, timeout=CLOSE_SECONDS
        )
        await socket.prepare(request)
        self._strangers.add(socket)
        try:
            org = await self._admit(socket)
        finally:
            self._strangers.discard(socket)
        if org is not None:
            async with Backend(socket, request, org) as backend:
                await self._serve(backend, socket)
        return socket

    async def close(self) -> None:
        """The server leaves: every connection is told, and given time to hear what was said before."""
        backends = list(self._backends)
        for backend in backends:
            backend.close(GOING_AWAY, LEAVING)
        strangers = [socket.close(code=GOING_AWAY, message=LEAVING.encode()) for socket in self._strangers]
        await asyncio.gather(*strangers, *(backend.wait_closed() for backend in backends))

    async def _admit(self, socket: web.WebSocketResponse) -> str | None:
        """The organisation of the key in the first frame; ``None``: the connection was refused, and told why."""
        text = ""
        with suppress(TimeoutError):
            message = await socket.receive(timeout=HANDSHAKE_SECONDS)
            if message.type is WSMsgType.TEXT:
                text = message.data
            elif message.type is not WSMsgType.BINARY:
                return None
        try:
            frame = parse_object(text, "The first frame")
        except ApiError:
            frame = {}
        key = frame.get("api_key")
        org = self._keys.org_of(key) if isinstance(key, str) else None
        if frame.get("event") == "connect" and org is not None:
            return org
        refusal = error("INVALID_KEY", "Invalid API key")
        if frame.get("event") != "connect":
            refusal = error("NOT_CONNECTED", "expected a connect frame with an api_key")
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await socket.send_str(json.dumps(refusal))
                await socket.close(code=POLICY, message=refusal["error"].encode())
        return None

    async def _serve(self, backend: Backend, socket: web.WebSocketResponse) -> None:
        self._backends.add(backend)
        logger.info("connection %s of %s", backend.id, backend.org)
        ids = {"org_id": backend.org, "connection_id": backend.id, "protocol_version": PROTOCOL_VERSION}
        backend.send({"event": "connected", **ids})
        try:
            await self._read(backend, socket)
        finally:
            self._backends.discard(backend)
            await self._commands.leave(backend)
            logger.info("connection %s of %s ended", backend.id, backend.org)

    async def _read(self, backend: Backend, socket: web.WebSocketResponse) -> None:
        """Frames in their order, one after the other, no faster than the pace of a connection."""
        loop = asyncio.get_running_loop()
        turn = loop.time()
        async for message in socket:
            backend.hear()
            if message.type is WSMsgType.TEXT:
                await self._hear(backend, message.data)
            elif message.type is WSMsgType.BINARY:
                backend.send(error("BAD_FRAME", "expected text frames"))
            else:
                return
            wait = backend.pace.take(len(message.data))
            if wait or loop.time() - turn > SLICE_SECONDS:
                await asyncio.sleep(wait)
                turn = loop.time()

    async def _hear(self, backend: Backend, text: str) -> None:
        try:
            frame: dict[str, Any] = parse_object(text, "The frame")
        except ApiError as refusal:
            backend.send(error("BAD_FRAME", refusal.detail))
            return
        try:
            await self._commands.handle(backend, frame)
        except Exception:
            logger.exception("a frame of connection %s failed", backend.id)
            backend.send(error("INTERNAL_ERROR", "the command failed", frame))
