"""A server that speaks ElevenLabs' two sockets, as it is told to.

Wire format: https://elevenlabs.io/docs/api-reference/text-to-speech/v-1-text-to-speech-voice-id-stream-input and
https://elevenlabs.io/docs/api-reference/speech-to-text/v-1-speech-to-text-realtime
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from aiohttp import web
from aiohttp.test_utils import TestServer

from media.audio import OUTPUT_RATE

CHAR_MS = 50
"""How long a character sounds."""

KEY = "xi-test-secret-key"


@dataclass
class Speech:
    """What was asked over one socket."""

    voice: str
    query: Mapping[str, str]
    messages: list[dict[str, Any]] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def text(self) -> str:
        return "".join(message.get("text", "") for message in self.messages).strip()


@dataclass
class Manner:
    """How a socket behaves."""

    status: int = 101
    headers: Mapping[str, str] = field(default_factory=dict)
    first: float = 0.0
    """Seconds until the first sound."""
    words: int | None = None
    """After so many words ``then`` happens."""
    then: str = ""
    """``hang up``, ``error``, ``malformed``, ``close`` or ``silence``."""
    aligned: bool = True


class ElevenLabsServer:
    """On loopback. Each socket behaves as the next of ``manners`` says, then well."""

    def __init__(self, synthesize: Callable[[str], bytes] | None = None) -> None:
        """``synthesize`` gives PCM at 24 kHz for a text; without it every character is a tone."""
        self.key = KEY
        self.manners: deque[Manner] = deque()
        self.faults: deque[Manner] = deque()
        """Taken by sockets at their first text, however long they have been open."""
        self.sockets: list[Speech] = []
        self.own_voices: list[dict[str, Any]] = []
        self._synthesize = synthesize
        app = web.Application()
        app.router.add_get("/v1/voices", self._voices)
        app.router.add_get("/v1/text-to-speech/{voice}/stream-input", self._speak)
        self._server = TestServer(app)

    async def __aenter__(self) -> Self:
        await self._server.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()

    @property
    def url(self) -> str:
        return str(self._server.make_url("")).rstrip("/")

    async def _voices(self, request: web.Request) -> web.Response:
        if request.headers.get("xi-api-key") != self.key:
            return web.json_response({"detail": {"status": "invalid_api_key"}}, status=401)
        return web.json_response({"voices": self.own_voices})

    async def _speak(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("xi-api-key") != self.key:
            return web.json_response({"detail": {"status": "invalid_api_key"}}, status=403)
        manner = self.manners.popleft() if self.manners else Manner()
        if manner.status != 101:
            return web.json_response({"detail": {"status": "busy"}}, status=manner.status, headers=manner.headers)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        speech = Speech(request.match_info["voice"], dict(request.query))
        self.sockets.append(speech)
        try:
            await self._answer(request, socket, speech, manner)
        finally:
            speech.closed.set()
        return socket

    async def _answer(
        self, request: web.Request, socket: web.WebSocketResponse, speech: Speech, manner: Manner
    ) -> None:
        said = 0
        async for message in socket:
            given = json.loads(message.data)
            speech.messages.append(given)
            if given["text"] == "":
                await socket.send_json({"isFinal": True, "audio": None})
                break
            text = given["text"]
            if not text.strip():
                continue
            if not said:
                manner = self.faults.popleft() if self.faults else manner
                await asyncio.sleep(manner.first)
            for part in [text.strip()] if self._synthesize else text.split():
                if said == manner.words and manner.then:
                    await self._misbehave(request, socket, manner.then)
                    return
                await socket.send_json(self._sound(f"{part} ", aligned=manner.aligned))
                said += 1

    async def _misbehave(self, request: web.Request, socket: web.WebSocketResponse, how: str) -> None:
        match how:
            case "hang up":
                assert request.transport is not None
                request.transport.abort()
            case "error":
                said = {"message": "You have exceeded your quota, key xi-test-secret-key", "error": "quota_exceeded"}
                await socket.send_json(said | {"code": 1008})
                await socket.close(code=1008, message=b"quota_exceeded")
            case "malformed":
                await socket.send_str("{broken")
            case "close":
                await socket.close(code=1000)
            case _:
                async for _ in socket:
                    pass

    def _sound(self, text: str, *, aligned: bool) -> dict[str, Any]:
        chars = list(text)
        if self._synthesize:
            pcm = self._synthesize(text)
            ms = len(pcm) * 1000 // (2 * OUTPUT_RATE * len(chars))
        else:
            samples = len(chars) * CHAR_MS * OUTPUT_RATE // 1000
            pcm, ms = np.full(samples, 1000, "<i2").tobytes(), CHAR_MS
        times = {
            "charStartTimesMs": [i * ms for i in range(len(chars))],
            "charDurationsMs": [ms] * len(chars),
            "chars": chars,
        }
        return {
            "audio": base64.b64encode(pcm).decode(),
            "isFinal": None,
            "normalizedAlignment": times if aligned else None,
            "alignment": times if aligned else None,
        }
