"""Speech behind OpenAI's HTTP API, through the official SDK, against a server that speaks it on loopback.

https://platform.openai.com/docs/api-reference/audio/createSpeech: a POST, and the sound as the body of the answer;
``pcm`` is 24 kHz, 16 bit, mono.
"""

from __future__ import annotations

import asyncio
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
from pipeline.tts.openai import OpenAiTts

KEY = "sk-test-secret-key"


class SpeechServer:
    """60 ms of sound for each character; ``acts`` are statuses or ``hang up``, ``slow``, ``json``, ``empty``."""

    def __init__(self) -> None:
        self.acts: list[int | str] = []
        self.requests: list[dict[str, Any]] = []
        self.gone = asyncio.Event()
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/audio/speech", self._speak)
        self._server = TestServer(app)

    async def __aenter__(self) -> Self:
        await self._server.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()

    @property
    def url(self) -> str:
        return str(self._server.make_url("/v1"))

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": []})

    async def _speak(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        act = self.acts.pop(0) if self.acts else ""
        if isinstance(act, int):
            return web.json_response({"error": {"message": "no"}}, status=act)
        if act == "json":
            return web.json_response({"detail": "a model is loading"})
        response = web.StreamResponse(headers={"Content-Type": "audio/pcm"})
        await response.prepare(request)
        if act == "empty":
            return response
        sound = np.full(len(body["input"]) * 60 * OUTPUT_RATE // 1000, 1000, "<i2").tobytes()
        try:
            for i in range(0, len(sound), 1001):  # samples are cut in two
                await response.write(sound[i : i + 1001])
                if act == "slow":
                    await asyncio.sleep(30)
                if act == "hang up" and i > 5000:
                    assert request.transport is not None
                    request.transport.abort()
                    return response
        except (asyncio.CancelledError, ConnectionError):
            self.gone.set()
            raise
        return response


@pytest.fixture
async def server() -> AsyncIterator[SpeechServer]:
    async with SpeechServer() as server:
        yield server


@pytest.fixture
async def engine(server: SpeechServer) -> AsyncIterator[OpenAiTts]:
    engine = OpenAiTts("openai", server.url, KEY)
    yield engine
    await engine.aclose()


async def pieces(*texts: str) -> AsyncIterator[str]:
    for text in texts:
        yield text


async def say(
    engine: OpenAiTts, *texts: str, voice: str = "coral", speed: float = 1.0, **options: Any
) -> list[SpeechChunk]:
    spoken = engine.bound(VoiceConfig(**options)).speak(pieces(*texts), voice=voice, language="en", speed=speed)
    async with aclosing(spoken) as chunks:
        return [chunk async for chunk in chunks]


def words(chunks: list[SpeechChunk]) -> str:
    return " ".join(word.word for chunk in chunks for word in chunk.words)


async def test_each_clause_is_asked_for_and_its_words_come_with_the_sound(
    server: SpeechServer, engine: OpenAiTts
) -> None:
    chunks = await say(engine, "Sunny Dental,", "how can I help?", speed=1.25)
    assert words(chunks) == "Sunny Dental, how can I help?"
    assert server.requests[0] == {
        "model": "gpt-4o-mini-tts",
        "voice": "coral",
        "input": "Sunny Dental,",
        "response_format": "pcm",
        "speed": 1.25,
    }
    assert [request["input"] for request in server.requests] == ["Sunny Dental,", "how can I help?"]
    sound = np.concatenate([chunk.pcm for chunk in chunks])
    assert np.count_nonzero(sound) == (len("Sunny Dental,") + len("how can I help?")) * 60 * OUTPUT_RATE // 1000
    assert set(np.unique(sound)) == {0, 1000}  # no sample was torn


async def test_the_pace_of_words_is_learned(server: SpeechServer, engine: OpenAiTts) -> None:
    text = "the quick brown fox jumps over the lazy dog again and again until evening comes."
    chunks = await say(engine, *[text] * 6)
    ends: list[float] = []
    time_now = 0.0
    for chunk in chunks:
        ends += [time_now + word.start for word in chunk.words]
        time_now += len(chunk.pcm) / OUTPUT_RATE
    each = len(text.split())
    last = ends[-each:]
    length = len(text) * 0.06
    assert last[-1] - last[0] == pytest.approx(length * 0.93, rel=0.12)


@pytest.mark.parametrize(
    ("name", "model", "voice"), [("kokoro", "kokoro", "af_heart"), ("house", "gpt-4o-mini-tts", "default")]
)
async def test_servers_in_the_house_have_other_names(server: SpeechServer, name: str, model: str, voice: str) -> None:
    engine = OpenAiTts(name, server.url, "")
    await say(engine, "Hello.", voice="")
    await engine.aclose()
    assert (server.requests[0]["model"], server.requests[0]["voice"]) == (model, voice)


async def test_instructions_are_passed_on(server: SpeechServer, engine: OpenAiTts) -> None:
    await say(engine, "Hello.", model="tts-x", options={"instructions": "Speak calmly.", "stability": 1})
    assert (server.requests[0]["model"], server.requests[0]["instructions"]) == ("tts-x", "Speak calmly.")
    assert "stability" not in server.requests[0]


@pytest.mark.parametrize(
    ("act", "said", "retried"),
    [
        (429, "openai is asked too often", True),
        (500, "openai is out of order", True),
        (401, "openai refuses the key", False),
        (400, "openai does not accept the request", False),
        ("hang up", "openai hung up in the middle", True),
        ("json", "openai answered with something that is no answer", False),
        ("empty", "openai answered with something that is no answer", False),
    ],
)
async def test_failures(server: SpeechServer, engine: OpenAiTts, act: int | str, said: str, retried: bool) -> None:
    server.acts.append(act)
    with pytest.raises(ProviderError, match=said) as caught:
        await say(engine, "Hello there, how are you?")
    assert caught.value.is_worth_a_retry == retried
    assert words(await say(engine, "Again.")) == "Again."


async def test_who_stops_listening_leaves_at_once(server: SpeechServer, engine: OpenAiTts) -> None:
    server.acts.append("slow")
    await engine.start()
    chunks = engine.speak(pieces("Hello there, how are you?"), voice="", language="en")
    task = asyncio.create_task(anext(chunks))
    async with asyncio.timeout(5):
        while not server.requests:
            await asyncio.sleep(0.01)
    task.cancel()
    began = time.perf_counter()
    with pytest.raises(asyncio.CancelledError):
        await task
    await chunks.aclose()
    assert time.perf_counter() - began < 0.05
    async with asyncio.timeout(5):
        await server.gone.wait()
