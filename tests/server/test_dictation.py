"""A page writes down what its user says: tokens, frames, patience, limits, and recorded voices through real ears."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import numpy as np
import pytest

from config.agent import AgentConfig
from media.audio import INPUT_RATE, Pcm
from pipeline.engine import EngineError
from server import dictation, voice_socket
from tests.audio_files import encoded
from tests.server.backends import PAGE, SECONDS, House, house, until
from tests.server.test_audio_text import SCRIPTED, Gate, gate
from tests.server.test_http import shape
from tests.voices import recording, said, silence
from tests.words import word_error_rate

__all__ = ["gate"]

MARA = AgentConfig(id="mara", allowed_origins=(PAGE,))
CHUNK = 1600
"""Samples (100 ms), as the public client sends them."""


class Page:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.committed: list[str] = []
        self.partials: list[str] = []

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(SECONDS):
            frame: dict[str, Any] = await self.socket.receive_json()
        return frame

    async def say(self, pcm: Pcm) -> None:
        for start in range(0, len(pcm), CHUNK):
            await self.socket.send_bytes(pcm[start : start + CHUNK].astype("<i2").tobytes())

    async def stop(self) -> float:
        """Say that it is over and read to the end: the seconds until ``done``."""
        began = time.monotonic()
        await self.socket.send_str('{"event": "stop"}')
        await self.read("done")
        return time.monotonic() - began

    async def read(self, last: str) -> None:
        while (frame := await self.next())["event"] != last:
            self.note(frame)
        self.note(frame)

    def note(self, frame: dict[str, Any]) -> None:
        if frame["event"] == "final":
            self.committed.append(frame["text"])
        elif frame["event"] == "partial":
            self.partials.append(frame["text"])

    @property
    def text(self) -> str:
        return " ".join(self.committed)


async def token(server: House, **query: str) -> str:
    status, body = await server.get("/chat/token", {"Origin": PAGE}, agent_id="mara", **query)
    assert status == 200
    return str(body["token"])


@asynccontextmanager
async def dictating(server: House, shown: str, query: str = "") -> AsyncIterator[Page]:
    async with server.http.ws_connect(f"/api/scribe/ws?token={shown}{query}") as socket:
        yield Page(socket)


async def test_a_dictation_from_ready_to_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dictation, "LEAD", 60.0)
    async with house(MARA, **SCRIPTED) as server, dictating(server, await token(server)) as page:
        assert await page.next() == {"event": "ready"}
        await page.say(np.concatenate([recording("en-00.flac"), silence(1.0)]))
        await page.read("final")
        assert page.partials
        assert page.text.startswith("This is what")
        await page.say(recording("en-02.flac"))
        assert await page.stop() < 2.5
        assert len(page.committed) == 2
        closing = await page.socket.receive()
        assert (closing.type, page.socket.close_code) == (aiohttp.WSMsgType.CLOSE, 1000)


async def test_a_token_opens_it_once_and_no_chat_afterwards() -> None:
    async with house(MARA, **SCRIPTED) as server:
        shown = await token(server)
        async with dictating(server, shown) as page:
            assert await page.next() == {"event": "ready"}
            await page.stop()
        async with dictating(server, shown) as page:
            frame = await page.next()
            assert (frame["event"], frame["code"]) == ("error", "INVALID_TOKEN")
            assert (await page.socket.receive()).type is aiohttp.WSMsgType.CLOSE
            assert page.socket.close_code == 1008
        async with server.http.ws_connect(f"/chat/ws?token={shown}") as socket:
            assert json.loads((await socket.receive()).data)["event"] == "error"


async def test_who_is_refused_is_told_why() -> None:
    async with house(MARA, **SCRIPTED) as server:
        voice = (await server.get("/webrtc/token", {"Origin": PAGE}, agent_id="mara"))[1]["token"]
        for shown, query, code in (
            ("", "", "INVALID_TOKEN"),
            ("nonsense", "", "INVALID_TOKEN"),
            (voice, "", "INVALID_TOKEN"),
            (await token(server), "&lang=%3F", "BAD_REQUEST"),
        ):
            async with dictating(server, shown, query) as page:
                frame = await page.next()
                assert (frame["event"], frame["code"]) == ("error", code)
                assert isinstance(frame["error"], str)
        for _ in range(2):  # a mistake did not cost the token
            shown = await token(server)
        async with dictating(server, shown) as page:
            assert (await page.next())["event"] == "ready"


async def test_an_agent_that_left_and_a_server_that_is_full() -> None:
    async with house(max_calls=1, **SCRIPTED) as server:
        async with server.backend() as backend:
            await backend.create("mara", allowed_origins=[PAGE])
            gone, kept, more = [await token(server) for _ in range(3)]
            async with dictating(server, kept) as page:
                assert (await page.next())["event"] == "ready"
                async with dictating(server, more) as second:
                    assert (await second.next())["code"] == "SERVER_AT_CAPACITY"
                await page.stop()
            async with dictating(server, more) as second:
                assert (await second.next())["event"] == "ready"
        await until(lambda: not server.hub.registry.held)
        async with dictating(server, gone) as page:
            assert (await page.next())["code"] == "AGENT_OFFLINE"


async def test_the_last_words_are_told_half_understood_when_time_is_up(gate: Gate) -> None:
    async with house(MARA, **SCRIPTED) as server, dictating(server, await token(server)) as page:
        await page.next()
        await page.say(recording("en-00.flac"))
        await page.read("partial")
        assert 1.5 < await page.stop() < 2.5
        assert page.text == page.partials[-1]
        await until(lambda: gate.closed == 1)


@pytest.mark.parametrize("failure", [EngineError("deaf"), ValueError("a mistake of ours")])
async def test_an_engine_that_breaks(gate: Gate, failure: Exception) -> None:
    gate.broken = failure
    gate.open.set()
    async with house(MARA, **SCRIPTED) as server, dictating(server, await token(server)) as page:
        await page.next()
        await page.say(np.concatenate([recording("en-00.flac"), silence(1.0)]))
        await page.read("error")
        assert (await page.socket.receive()).type is aiohttp.WSMsgType.CLOSE
        assert page.socket.close_code == 1011


async def test_a_page_that_leaves_leaves_nothing(gate: Gate) -> None:
    async with house(MARA, **SCRIPTED) as server:
        async with dictating(server, await token(server)) as page:
            await page.next()
            await page.say(recording("en-00.flac"))
        await until(lambda: gate.closed == 1)


async def test_nobody_speaks_faster_than_time_or_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dictation, "LEAD", 0.0)
    monkeypatch.setattr(dictation, "LONGEST", 1.0)
    async with house(MARA, **SCRIPTED) as server:
        async with dictating(server, await token(server)) as page:
            await page.next()
            began = time.monotonic()
            await page.say(silence(3.0))
            assert (await page.next())["code"] == "INPUT_TOO_LONG"
            assert time.monotonic() - began > 0.8
        monkeypatch.setattr(voice_socket, "SILENT_SECONDS", 0.2)
        async with dictating(server, await token(server)) as page:
            await page.next()
            assert (await page.next())["code"] == "IDLE_TIMEOUT"


async def test_a_page_begins_so_often() -> None:
    async with house(MARA, **SCRIPTED, offer_rate=1) as server:
        async with dictating(server, await token(server)) as page:
            assert (await page.next())["event"] == "ready"
        async with dictating(server, await token(server)) as page:
            assert (await page.next())["code"] == "RATE_LIMITED"


# --- recordings


async def test_a_recording_is_written_down_for_a_token() -> None:
    async with house(MARA, **SCRIPTED) as server:
        shown = await token(server)
        headers = {"Content-Type": "audio/webm", "Origin": PAGE}
        data = encoded(recording("en-00.flac"), "webm")
        async with server.http.post(f"/api/scribe?token={shown}&lang=es", data=data, headers=headers) as response:
            assert response.status == 200
            assert response.headers["Access-Control-Allow-Origin"] == "*"
            body = await response.json()
            assert (body["success"], body["language"]) == (True, "es")
            assert body["text"].startswith("This is what")
            assert body["duration"] == pytest.approx(len(recording("en-00.flac")) / INPUT_RATE, abs=0.1)
        async with server.http.post(f"/api/scribe?token={shown}", data=data, headers=headers) as response:
            assert response.status == 401
            assert response.headers["Access-Control-Allow-Origin"] == "*"
            assert (await shape(response))["code"] == "TOKEN_USED"
        async with server.http.options("/api/scribe", headers={"Origin": PAGE}) as response:
            assert response.status == 204


async def test_what_is_wrong_with_a_recording_does_not_cost_its_token() -> None:
    async with house(MARA, **SCRIPTED) as server:
        shown = await token(server)
        for data, kind, status in (
            (b"{}", "application/json", 415),
            (bytes(dictation.MAX_RECORDING + 1), "audio/wav", 413),
        ):
            headers = {"Content-Type": kind}
            async with server.http.post(f"/api/scribe?token={shown}", data=io.BytesIO(data), headers=headers) as r:
                assert r.status == status
                await shape(r)
        async with dictating(server, shown) as page:
            assert (await page.next())["event"] == "ready"


# --- real ears


@pytest.mark.models
@pytest.mark.parametrize(("language", "name"), [("en", "human-00.flac"), ("es", "es-02.flac")])
async def test_a_recorded_voice_in_its_own_time(language: str, name: str) -> None:
    """100 ms of it each 100 ms, as a microphone would bring it."""
    pcm = recording(name)
    async with house(MARA) as server, dictating(server, await token(server), f"&lang={language}") as page:
        assert await page.next() == {"event": "ready"}
        reading = asyncio.create_task(page.read("done"))
        for start in range(0, len(pcm), CHUNK):
            await page.say(pcm[start : start + CHUNK])
            await asyncio.sleep(CHUNK / INPUT_RATE)
        began = time.monotonic()
        await page.socket.send_str('{"event": "stop"}')
        await reading
        assert time.monotonic() - began < 2.5
        assert page.partials
        assert word_error_rate((said(name), page.text)) < 0.2, page.text
