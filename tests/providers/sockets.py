"""A provider's socket on loopback: what comes in is kept, what goes out is said by the test."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from typing import Any, Self

from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer


class SocketServer:
    """Accepts sockets whose headers hold ``key``; one after another."""

    def __init__(self, *paths: str, header: str, key: str) -> None:
        self.statuses: deque[int] = deque()
        """With which handshakes are refused, before one is accepted."""
        self.queries: list[dict[str, list[str]]] = []
        self.paths: list[str] = []
        self.frames: list[dict[str, Any] | bytes] = []
        """Of all sockets."""
        self.open = 0
        self._header, self._key = header, key
        self._changed = asyncio.Condition()
        self._socket: web.WebSocketResponse | None = None
        self._request: web.Request | None = None
        app = web.Application()
        for path in paths:
            app.router.add_get(path, self._accept)
        app.router.add_get("/{rest:.*}", self._get)
        self._server = TestServer(app)

    async def __aenter__(self) -> Self:
        await self._server.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()

    @property
    def url(self) -> str:
        return str(self._server.make_url("")).rstrip("/")

    async def say(self, *messages: Mapping[str, Any] | str) -> None:
        """On the newest socket."""
        await self.until(lambda: self.open > 0)
        assert self._socket is not None
        for message in messages:
            await self._socket.send_str(message if isinstance(message, str) else json.dumps(message))

    async def hang_up(self) -> None:
        await self.until(lambda: self.open > 0)
        assert self._request is not None
        assert self._request.transport is not None
        self.open -= 1
        self._request.transport.abort()

    async def until(self, condition: Any) -> None:
        """Wait for something that what came in makes true."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(condition)

    async def heard(self, samples: int) -> None:
        """So many samples of binary audio came in."""
        await self.until(lambda: sum(len(f) for f in self.frames if isinstance(f, bytes)) >= 2 * samples)

    async def told(self, count: int = 1, **fields: Any) -> dict[str, Any]:
        """The newest JSON frame with these fields, when there are ``count`` of them."""

        def found() -> list[dict[str, Any]]:
            return [f for f in self.frames if isinstance(f, dict) and fields.items() <= f.items()]

        await self.until(lambda: len(found()) >= count)
        return found()[-1]

    async def _get(self, request: web.Request) -> web.Response:
        if request.headers.get(self._header) != self._key:
            return web.json_response({"detail": "no"}, status=401)
        return web.json_response({})

    async def _accept(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get(self._header) != self._key:
            return web.json_response({"detail": "no"}, status=401)
        if self.statuses:
            return web.json_response({"detail": "no"}, status=self.statuses.popleft())
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._socket, self._request = socket, request
        self.queries.append({name: request.query.getall(name) for name in request.query})
        self.paths.append(request.path)
        async with self._changed:
            self.open += 1
            self._changed.notify_all()
        async for message in socket:
            async with self._changed:
                self.frames.append(json.loads(message.data) if message.type is WSMsgType.TEXT else message.data)
                self._changed.notify_all()
        async with self._changed:
            self.open -= 1
            self._changed.notify_all()
        return socket
