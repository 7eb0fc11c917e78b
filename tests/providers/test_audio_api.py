"""The audio API speaks with a provider in a cloud, and with the key of the organisation that asks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from media.audio import INPUT_RATE, OUTPUT_RATE
from tests.audio_files import wav
from tests.providers.elevenlabs import CHAR_MS, KEY, ElevenLabsServer, Manner
from tests.providers.sockets import SocketServer
from tests.providers.test_stt import results
from tests.server.backends import House, bearer, house
from tests.server.test_audio_speech import events, speak
from tests.server.test_audio_stream import streaming, texts
from tests.server.test_audio_text import form, transcribe
from tests.voices import recording, silence

SARAH = "EXAVITQu4vr4xnSDxMaL"
TEXT = "Hola, tu pedido está listo."


VOICES = np.concatenate([recording("en-00.flac"), silence(6.0), recording("en-02.flac")])


@asynccontextmanager
async def nova(*texts: str) -> AsyncIterator[SocketServer]:
    """A recogniser that hears one text after another, each when it is asked to finalize, and all of it in the second
    before that.
    """
    async with SocketServer("/v1/listen", header="Authorization", key="Token dg-key") as server:

        async def answer() -> None:
            for number, text in enumerate(texts, 1):
                await server.told(number, type="Finalize")
                heard = sum(len(frame) for frame in server.frames if isinstance(frame, bytes)) / 2 / INPUT_RATE
                starts = [heard - 1.0 + 0.1 * i for i in range(len(text.split()))]
                words = [
                    {"word": word.strip(".").lower(), "punctuated_word": word, "start": start, "end": start + 0.1}
                    for word, start in zip(text.split(), starts, strict=True)
                ]
                best = {"transcript": text, "confidence": 0.9, "words": words}
                await server.say(results(text, finalized=True, channel={"alternatives": [best]}))

        answering = asyncio.create_task(answer())
        yield server
        answering.cancel()


def hearing(server: SocketServer) -> dict[str, Any]:
    return {"provider_keys": ["acme/deepgram:dg-key"], "provider_urls": {"deepgram": server.url}}


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


async def test_a_file_is_understood_by_a_provider() -> None:
    async with nova("Book a table.", "Reset my password.") as deepgram, house(**hearing(deepgram)) as server:
        fields = {"model": "deepgram/nova-2", "language": "en", "response_format": "verbose_json"}
        status, _, body = await transcribe(server, form(wav(VOICES), **fields))
        heard = json.loads(body)
        assert (status, heard["model"]) == (200, "deepgram/nova-2")
        assert [segment["text"] for segment in heard["segments"]] == ["Book a table.", "Reset my password."]
        assert [word["word"] for word in heard["words"]] == ["Book", "a", "table.", "Reset", "my", "password."]
        for words, segment in zip((heard["words"][:3], heard["words"][3:]), heard["segments"], strict=True):
            assert words[0]["start"] == pytest.approx(segment["end"] - 0.6, abs=0.5)
        assert heard["segments"][1]["start"] > 9  # behind a silence that nobody has heard
        assert [query["model"] for query in deepgram.queries] == [["nova-2"]]
        sent = sum(len(frame) for frame in deepgram.frames if isinstance(frame, bytes)) / 2
        assert sent == pytest.approx(len(VOICES) - 6 * INPUT_RATE, abs=2 * INPUT_RATE)


async def test_a_stream_is_understood_by_a_provider() -> None:
    async with nova("Book a table.", "") as deepgram, house(**hearing(deepgram)) as server:
        async with streaming(server, "model=deepgram/nova-3&language=es") as stream:
            assert (await stream.next())["model"] == "deepgram/nova-3"
            await stream.say(np.concatenate([silence(2.0), recording("en-00.flac"), silence(1.0)]))
            await deepgram.told(type="Finalize")
            frames = [await stream.next()]
            while frames[-1]["type"] != "final":
                frames.append(await stream.next())
            await stream.send("stop")
            frames += await stream.rest()
        assert texts(frames) == ["Book a table."]
        [final] = [frame for frame in frames if frame["type"] == "final"]
        assert [word["word"] for word in final["words"]] == ["Book", "a", "table."]
        assert final["words"][0]["start"] == pytest.approx(final["end"] - 0.8, abs=0.5)
        assert frames[-1]["type"] == "done"
        assert deepgram.queries[0]["language"] == ["es"]
        await deepgram.until(lambda: deepgram.open == 0)
