"""Speech by Cartesia, against a server that speaks its socket on loopback.

https://docs.cartesia.ai/api-reference/tts/websocket: requests with ``context_id`` and ``continue``; ``chunk``,
``timestamps``, ``done`` and ``error`` come back.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Self

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from config.agent import VoiceConfig
from media.audio import OUTPUT_RATE
from pipeline.remote import ProviderError
from pipeline.tts import SpeechChunk
from pipeline.tts.cartesia import Cartesia

KEY = "sk_car_test_secret"
WORD_SECONDS = 0.2


class CartesiaServer:
    """200 ms for each word; its time comes before its sound. ``acts`` say what happens instead after one word."""

    def __init__(self) -> None:
        self.acts: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.sockets = 0
        self.gone = asyncio.Event()
        app = web.Application()
        app.router.add_get("/tts/websocket", self._speak)
        self._server = TestServer(app)

    async def __aenter__(self) -> Self:
        await self._server.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()

    @property
    def url(self) -> str:
        return str(self._server.make_url("")).rstrip("/")

    async def _speak(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("X-API-Key") != KEY or not request.query["cartesia_version"]:
            return web.Response(status=401, text="Invalid API key")
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets += 1
        said = 0.0
        async for message in socket:
            asked = message.json()
            self.requests.append(asked)
            same = {"context_id": asked["context_id"], "status_code": 206}
            for word in asked["transcript"].split():
                times = {"words": [word], "start": [said], "end": [said + WORD_SECONDS]}
                await socket.send_json({"type": "timestamps", "done": False, **same, "word_timestamps": times})
                pcm = np.full(round(WORD_SECONDS * OUTPUT_RATE), 1000, "<i2").tobytes()
                data = base64.b64encode(pcm).decode()
                await socket.send_json({"type": "chunk", "done": False, "step_time": 9, **same, "data": data})
                said += WORD_SECONDS
                if self.acts and not await self._act(request, socket, self.acts.pop(0), same):
                    return socket
            if not asked["continue"]:
                await socket.send_json({"type": "done", "done": True, **same})
                said = 0.0
        self.gone.set()
        return socket

    async def _act(self, request: web.Request, socket: web.WebSocketResponse, act: str, same: dict[str, Any]) -> bool:
        match act:
            case "hang up":
                assert request.transport is not None
                request.transport.abort()
                return False
            case "malformed":
                await socket.send_json({"type": "chunk", **same, "data": "!!!"})
            case "limit":
                error = {"title": "Too many", "message": "Too many concurrent requests", "status_code": 429}
                await socket.send_json({"type": "error", "done": True, **same, **error})
            case "error":
                error = {"title": "Invalid model", "message": "The model is not valid", "status_code": 400}
                await socket.send_json({"type": "error", "done": True, **same, **error})
            case "other context":
                await socket.send_json({"type": "done", "done": True, **same, "context_id": "another"})
        return True


@pytest.fixture
async def server() -> AsyncIterator[CartesiaServer]:
    async with CartesiaServer() as server:
        yield server


@pytest.fixture
async def engine(server: CartesiaServer) -> AsyncIterator[Cartesia]:
    engine = Cartesia("cartesia", server.url, KEY)
    yield engine
    await engine.aclose()


async def pieces(*texts: str, wait: float = 0.0) -> AsyncIterator[str]:
    for text in texts:
        yield text
        await asyncio.sleep(wait)


async def say(engine: Cartesia, *texts: str, speed: float = 1.0, **options: Any) -> list[SpeechChunk]:
    spoken = engine.bound(VoiceConfig(**options)).speak(pieces(*texts), voice="v-1", language="es-MX", speed=speed)
    async with aclosing(spoken) as chunks:
        return [chunk async for chunk in chunks]


def words(chunks: list[SpeechChunk]) -> str:
    return " ".join(word.word for chunk in chunks for word in chunk.words)


async def test_one_context_for_an_utterance(server: CartesiaServer, engine: Cartesia) -> None:
    chunks = await say(engine, "Hola,", "¿qué tal?", speed=1.2, options={"emotion": "calm", "style": 1})
    assert words(chunks) == "Hola, ¿qué tal?"
    assert [(request["transcript"], request["continue"]) for request in server.requests] == [
        ("Hola, ", True),
        ("¿qué tal? ", True),
        ("", False),
    ]
    assert len({request["context_id"] for request in server.requests}) == 1
    first = server.requests[0]
    assert (first["model_id"], first["voice"], first["language"]) == ("sonic-3", {"mode": "id", "id": "v-1"}, "es")
    assert first["output_format"] == {"container": "raw", "encoding": "pcm_s16le", "sample_rate": OUTPUT_RATE}
    assert first["generation_config"] == {"emotion": "calm", "speed": 1.2}
    assert [word.start for chunk in chunks for word in chunk.words] == pytest.approx([0.0, 0.0, 0.0])


async def test_answers_to_other_contexts_are_ignored(server: CartesiaServer, engine: Cartesia) -> None:
    server.acts.append("other context")
    assert words(await say(engine, "Hola a todos.")) == "Hola a todos."


async def test_the_next_socket_is_open_before_it_is_needed(server: CartesiaServer, engine: Cartesia) -> None:
    await say(engine, "Uno.")
    async with asyncio.timeout(5):
        while server.sockets < 2:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("act", "said", "retried"),
    [
        ("hang up", "cartesia hung up in the middle", True),
        ("malformed", "cartesia answered with something that is no answer", False),
        ("limit", "cartesia is asked too often (429)", True),
        ("error", "cartesia does not accept the request (400)", False),
    ],
)
async def test_failures(server: CartesiaServer, engine: Cartesia, act: str, said: str, retried: bool) -> None:
    server.acts.append(act)
    with pytest.raises(ProviderError) as caught:
        await say(engine, "Hola a todos.")
    assert (str(caught.value), caught.value.is_worth_a_retry) == (said, retried)
    assert words(await say(engine, "Otra vez.")) == "Otra vez."


async def test_a_refused_key_is_known_before_the_first_word(server: CartesiaServer) -> None:
    engine = Cartesia("cartesia", server.url, "wrong")
    await engine.start()
    assert engine.trouble == "cartesia refuses the key (401)"
    await engine.aclose()


async def test_who_stops_listening_leaves_at_once(server: CartesiaServer, engine: Cartesia) -> None:
    chunks = engine.speak(pieces("Hola.", "Y más.", wait=30), voice="", language="es")
    await anext(chunks)
    began = time.perf_counter()
    await chunks.aclose()
    assert time.perf_counter() - began < 0.05
    async with asyncio.timeout(5):
        await server.gone.wait()
