"""The audio API speaks with a provider in a cloud, and with the key of the organisation that asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from media.audio import OUTPUT_RATE
from tests.providers.elevenlabs import CHAR_MS, KEY, ElevenLabsServer, Manner
from tests.server.backends import House, bearer, house
from tests.server.test_audio_speech import events, speak

SARAH = "EXAVITQu4vr4xnSDxMaL"
TEXT = "Hola, tu pedido está listo."


@pytest.fixture
async def cloud() -> AsyncIterator[ElevenLabsServer]:
    async with ElevenLabsServer() as cloud:
        yield cloud


def settings(cloud: ElevenLabsServer) -> dict[str, Any]:
    return {"provider_keys": [f"acme/elevenlabs:{KEY}"], "provider_urls": {"elevenlabs": cloud.url}}


async def listed(server: House, org: str) -> dict[str, str]:
    _, body = await server.get("/v1/audio/voices", bearer(org), provider="elevenlabs", language="es")
    return {row["alias"]: row["id"] for row in body["voices"]}


@pytest.mark.parametrize("voice", ["elevenlabs/sarah", f"elevenlabs:{SARAH}", "sarah"])
async def test_names_of_the_documentation_are_spoken_with(cloud: ElevenLabsServer, voice: str) -> None:
    async with house(**settings(cloud)) as server:
        assert (await listed(server, "acme"))["sarah"] == SARAH
        body = {"input": TEXT, "voice": voice, "language": "es", "timestamps": True, "sample_rate": OUTPUT_RATE}
        status, _, answer = await speak(server, {**body, "model": "elevenlabs/eleven_v3"})
        assert status == 200
        asked = cloud.sockets[0]  # one more may be open for the next request
        assert (asked.voice, asked.text, asked.query["model_id"]) == (SARAH, TEXT, "eleven_v3")
        told = events(answer)
        words = [event for event in told if event["type"] == "word"]
        assert [event["word"] for event in words] == TEXT.split()
        assert words[1]["start"] == pytest.approx(len("Hola, ") * CHAR_MS / 1000, abs=0.001)
        assert told[-1]["audio_ms"] == pytest.approx((len(TEXT) + 1) * CHAR_MS, abs=1)


async def test_nobody_speaks_with_the_key_of_another(cloud: ElevenLabsServer) -> None:
    async with house(**settings(cloud)) as server:
        body = {"input": TEXT, "voice": "elevenlabs/sarah"}
        assert (await speak(server, body, "acme"))[0] == 200
        status, _, answer = await speak(server, body, "globex")
        assert status == 502
        assert KEY not in answer.decode()
        assert (await speak(server, body, "acme"))[0] == 200


async def test_a_provider_that_fails_says_so(cloud: ElevenLabsServer) -> None:
    cloud.manners.extend([Manner(status=429)] * 2)
    async with house(**settings(cloud)) as server:
        status, _, answer = await speak(server, {"input": TEXT, "voice": "elevenlabs/sarah"})
        assert status == 502, answer
        assert b"UPSTREAM_ERROR" in answer
