"""What an operator sees from outside."""

from __future__ import annotations

import aiohttp

from config.settings import Settings
from media.engine import MediaEngine
from pipeline.engine import Engines
from server import http
from server.health import Health
from server.local_hub import Limits, LocalHub
from tests.server.sockets import visiting


async def ask(session: aiohttp.ClientSession) -> tuple[int, dict[str, object]]:
    async with session.get("/health") as response:
        assert response.headers["Cache-Control"] == "no-store"
        return response.status, await response.json()


async def test_health_tells_what_the_server_does() -> None:
    media = MediaEngine(addresses=["127.0.0.1"])
    await media.start()
    engines = Engines(Settings())
    app = http.application()
    async with LocalHub([], Limits(max_calls=7)) as hub:
        app.router.add_routes(Health(hub, media, engines).routes())
        async with visiting(app) as session:
            status, body = await ask(session)
            assert status == 200
            assert body["status"] == "starting"
            assert (body["calls"], body["capacity"]) == (0, 7)
            assert set(body["engines"]) == {"stt", "llm", "tts"}  # type: ignore[call-overload]
            assert isinstance(body["version"], str)
            lateness = body["clock_late_ms"]
            assert isinstance(lateness, dict)
            assert lateness["p50"] >= 0
            await hub.drain(0)
            status, body = await ask(session)
            assert (status, body["status"]) == (503, "draining")
    await engines.aclose()
    await media.close()
