"""``GET /health``: whether the server lets calls in, and how it fares. Nothing secret. Source: protocol 2.1."""

from __future__ import annotations

from importlib.metadata import version

from aiohttp import web

from media.engine import MediaEngine
from pipeline.engine import Engines
from server.http import answer
from server.hub import Hub

VERSION = version("voice-server")


class Health:
    def __init__(self, hub: Hub, media: MediaEngine, engines: Engines) -> None:
        self._hub = hub
        self._media = media
        self._engines = engines

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/health", self.health)]

    async def health(self, _: web.Request) -> web.Response:
        """200 while calls are let in, 503 while draining, so that a load balancer looks elsewhere."""
        lateness = self._media.clock.lateness
        engines = self._engines.status()
        loading = any(engine["state"] == "loading" for engine in engines.values())
        body = {
            "status": "draining" if self._hub.draining else "starting" if loading else "ok",
            "version": VERSION,
            "calls": self._hub.running - self._hub.chats,
            "chats": self._hub.chats,
            "capacity": self._hub.max_calls,
            "engines": engines,
            "clock_late_ms": {
                "p50": round(lateness.p50, 2),
                "p99": round(lateness.p99, 2),
                "max": round(lateness.max, 2),
            },
        }
        return answer(body, status=503 if self._hub.draining else 200, headers={"Cache-Control": "no-store"})
