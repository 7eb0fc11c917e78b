"""Whisper behind HTTP, through the official SDK, against a server that speaks it on loopback.

https://platform.openai.com/docs/api-reference/audio/createTranscription: a form with ``file``, ``model``, ``language``
and ``response_format``; ``{"text"}`` comes back.
"""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import AsyncIterator
from typing import Any, Self

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from config.agent import SttConfig
from media.audio import INPUT_RATE
from pipeline.engine import EngineError
from pipeline.stt import Stream, Transcript
from pipeline.stt.openai import OpenAiStt

VOICE = (np.random.default_rng(1).normal(0, 3000, INPUT_RATE)).astype(np.int16)
SILENCE = np.full(INPUT_RATE // 2, 3, np.int16)


class WhisperServer:
    """Answers with ``texts``; a number is a status."""

    def __init__(self) -> None:
        self.texts: list[str | int] = []
        self.asked: list[dict[str, Any]] = []
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/audio/transcriptions", self._transcribe)
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
        return web.json_response({"data": []})

    async def _transcribe(self, request: web.Request) -> web.Response:
        form = await request.post()
        file = form["file"]
        assert isinstance(file, web.FileField)
        with wave.open(io.BytesIO(file.file.read())) as sound:
            seconds = sound.getnframes() / sound.getframerate()
            assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (INPUT_RATE, 1, 2)
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
        self.asked.append({**fields, "seconds": seconds})
        text = self.texts.pop(0) if self.texts else "Hola."
        if isinstance(text, int):
            return web.json_response({"error": {"message": "no"}}, status=text)
        return web.json_response({"text": text})


@pytest.fixture
async def server() -> AsyncIterator[WhisperServer]:
    async with WhisperServer() as server:
        yield server


@pytest.fixture
async def engine(server: WhisperServer) -> AsyncIterator[OpenAiStt]:
    engine = OpenAiStt("speaches", server.url, "")
    yield engine
    await engine.aclose()


def say(stream: Stream) -> None:
    for pcm in (SILENCE, VOICE, SILENCE):
        stream.write(pcm)


async def result_of(stream: Stream) -> Transcript:
    async with asyncio.timeout(10):
        found = await anext(aiter(stream))
    assert isinstance(found, Transcript)
    return found


async def test_a_segment_is_asked_for_when_the_speaker_falls_silent(server: WhisperServer, engine: OpenAiStt) -> None:
    config = SttConfig(model="whisper-large", options={"prompt": "Sunny Dental"})
    stream = engine.bound(config).stream("es-MX")
    say(stream)
    stream.pause()
    assert await result_of(stream) == Transcript("Hola.", final=False, language="es", settled=True)
    stream.flush()
    assert await result_of(stream) == Transcript("Hola.", final=True, language="es")
    [asked] = server.asked
    assert asked == {
        "model": "whisper-large",
        "language": "es",
        "response_format": "json",
        "prompt": "Sunny Dental",
        "seconds": 2.0,
    }
    await stream.aclose()


async def test_silence_is_not_asked_for(server: WhisperServer, engine: OpenAiStt) -> None:
    stream = engine.stream("en")
    stream.write(SILENCE)
    stream.flush()
    assert (await result_of(stream)).text == ""
    assert server.asked == []
    await stream.aclose()


async def test_a_failure_is_tried_once_more_and_then_told(server: WhisperServer, engine: OpenAiStt) -> None:
    stream = engine.stream("en")
    server.texts.extend([503, "Hello."])
    say(stream)
    stream.flush()
    assert (await result_of(stream)).text == "Hello."
    server.texts.extend([503, 503])
    say(stream)
    stream.flush()
    with pytest.raises(EngineError, match="speaches is out of order"):
        await result_of(stream)
    await stream.aclose()


@pytest.mark.parametrize(("name", "model"), [("groq", "whisper-large-v3-turbo"), ("openai", "whisper-1")])
async def test_the_model_by_provider(server: WhisperServer, name: str, model: str) -> None:
    engine = OpenAiStt(name, server.url, "sk-key-0000")
    stream = engine.bound(SttConfig(model="whisper-1" if name == "openai" else None)).stream("multi")
    say(stream)
    stream.flush()
    await result_of(stream)
    assert server.asked[0]["model"] == model
    assert "language" not in server.asked[0]
    await stream.aclose()
    await engine.aclose()
