"""A real listening socket for the tests of the HTTP side."""

from __future__ import annotations

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
