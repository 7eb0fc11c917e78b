"""A real listening socket for the tests of the HTTP side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from server import http


@asynccontextmanager
async def listening(app: web.Application) -> AsyncIterator[http.Listener]:
    listener = http.Listener(app)
    await listener.start("127.0.0.1", 0)
    try:
        yield listener
    finally:
        await listener.close()


@asynccontextmanager
async def visiting(app: web.Application) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of the application, over the socket."""
    async with listening(app) as listener, aiohttp.ClientSession(f"http://localhost:{listener.port}") as session:
        yield session


async def raw(port: int, data: bytes) -> bytes:
    """Send bytes as they are and read all that comes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        async with asyncio.timeout(20):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()
