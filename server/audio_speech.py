"""``POST /v1/audio/speech``: a text is spoken, and sent while it is spoken. Source: protocol 2.9."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast, get_args

from aiohttp import web

from config.agent import VoiceConfig
from media.audio import OUTPUT_RATE
from media.encoding import Format
from pipeline.background import Background
from pipeline.encoding import Codec, encoding
from pipeline.engine import EngineError
from pipeline.generation import closing
from pipeline.recital import recite
from pipeline.tts import SpeechChunk
from server.admission import REQUEST_ID, Admission, failure, request_id
from server.catalogue import speaker, tag
from server.http import ApiError, read_object

logger = logging.getLogger(__name__)

MAX_INPUT = 5000
"""Characters."""

FORMATS: tuple[str, ...] = get_args(Format)
RATES = (16_000, 24_000)
SLOWEST, FASTEST = 0.25, 4.0

MAX_DATA = 48 * 1024
"""Bytes of sound in one event; a third more as base64."""

PATIENCE = 120.0
"""Seconds in which a client takes what was sent; one that plays as it reads may pause."""


LAST_SECONDS = 2.0
"""What answers get to end when the server leaves."""


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    input: str
    voice: str
    model: str | None
    language: str | None
    form: Format
    rate: int
    speed: float
    timestamps: bool


class AudioSpeech:
    def __init__(self, admission: Admission, background: Background) -> None:
        self._admission = admission
        self._background = background
        self._writing: set[_Sound] = set()
        self._ended = asyncio.Event()  # one of them

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1/audio/speech", self.speech)]

    async def speech(self, request: web.Request) -> web.StreamResponse:
        """Sound, or with ``timestamps`` events. The status tells whether there is anything to hear: the first piece is
        spoken before it is sent. What fails later breaks the connection off, or is the last event.
        """
        org = await self._admission.enter(request)
        asked = parse(await read_object(request))
        who = speaker(self._background.engines.of(org), asked.voice, asked.language, asked.model)
        with self._admission.place(org):
            try:
                async with self._background.engine("tts", who.engine, org) as lent:
                    voice = lent.bound(VoiceConfig(voice_id=who.voice or None, model=who.model))
                    said = recite(voice, asked.input, voice=who.voice, language=who.language, speed=asked.speed)
                    async with closing(said) as chunks, encoding(self._background, asked.form, asked.rate) as codec:
                        return await self._send(request, asked, chunks, codec)
            except EngineError as error:
                raise failure(error) from None

    async def close(self) -> None:
        """The server leaves: answers have ``LAST_SECONDS`` to end, then they break off."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                while self._writing:
                    self._ended.clear()
                    await self._ended.wait()
        for writer in list(self._writing):
            writer.cut()

    async def _send(
        self, request: web.Request, asked: SpeechRequest, chunks: AsyncIterator[SpeechChunk], codec: Codec
    ) -> web.StreamResponse:
        """Raises only what happens before anything is sent."""
        chunk = await anext(chunks, None)
        if chunk is None:
            raise ApiError(400, "There is nothing in the input that can be spoken", "BAD_REQUEST")
        writer = (_Events if asked.timestamps else _Sound)(request, asked, codec)
        self._writing.add(writer)
        try:
            await writer.begin()
            while chunk is not None:
                await writer.chunk(chunk)
                chunk = await anext(chunks, None)
            await writer.finish()
        except EngineError as error:
            logger.warning("speech %s broke off: %s", writer.id, error)
            await writer.fail(failure(error))
        except ConnectionError:  # the client has heard enough
            logger.debug("speech %s: its client left", writer.id)
        finally:
            self._writing.discard(writer)
            self._ended.set()
        return writer.response


class _Sound:
    """The answer as bytes of sound."""

    def __init__(self, request: web.Request, asked: SpeechRequest, codec: Codec) -> None:
        self.id = request_id()
        self._request = request
        self._asked = asked
        self._codec = codec
        self._samples = 0
        self.response = web.StreamResponse(headers=self._headers())

    async def begin(self) -> None:
        await self.response.prepare(self._request)

    async def chunk(self, chunk: SpeechChunk) -> None:
        await self._write(await self._encoded(chunk))

    async def finish(self) -> None:
        await self._write(await self._codec.finish())
        await self.response.write_eof()

    def cut(self) -> None:
        """End the answer without its end: the client must not take it for the whole (RFC 9112, 8)."""
        if self._request.transport is not None:
            self._request.transport.abort()

    async def fail(self, refusal: ApiError) -> None:
        """Tell that the answer breaks off."""
        self.cut()

    async def _encoded(self, chunk: SpeechChunk) -> bytes:
        self._samples += len(chunk.pcm)
        return await self._codec.encode(chunk.pcm)

    async def _write(self, data: bytes) -> None:
        if not data:
            return
        try:
            async with asyncio.timeout(PATIENCE):
                await self.response.write(data)
        except TimeoutError:
            self.cut()
            raise ConnectionResetError from None

    def _headers(self) -> dict[str, str]:
        return {
            "Content-Type": self._codec.content_type,
            "Cache-Control": "no-store",
            "X-Sample-Rate": str(self._asked.rate),
            "X-Channels": "1",
            "X-Bit-Depth": "16",
            "X-Pinecall-Characters": str(len(self._asked.input)),
            REQUEST_ID: self.id,
        }


class _Events(_Sound):
    """The answer as server-sent events (HTML standard, 9.2): sound and the words in it."""

    async def begin(self) -> None:
        await super().begin()
        await self._tell("start", request_id=self.id, format=self._asked.form, sample_rate=self._asked.rate)

    async def chunk(self, chunk: SpeechChunk) -> None:
        for word in chunk.words:
            await self._tell("word", word=word.word, start=round(word.start, 3), end=round(word.end, 3))
        await self._sound(await self._encoded(chunk))

    async def finish(self) -> None:
        await self._sound(await self._codec.finish())
        await self._tell("done", characters=len(self._asked.input), audio_ms=self._samples * 1000 // OUTPUT_RATE)
        await self._write(b"data: [DONE]\n\n")
        await self.response.write_eof()

    async def fail(self, refusal: ApiError) -> None:
        with suppress(ConnectionError):
            await self._tell("error", code=refusal.code, error=refusal.detail)
            await self.response.write_eof()

    async def _sound(self, data: bytes) -> None:
        for start in range(0, len(data), MAX_DATA):
            await self._tell("audio", data=base64.b64encode(data[start : start + MAX_DATA]).decode())

    async def _tell(self, kind: str, **facts: Any) -> None:
        await self._write(f"data: {json.dumps({'type': kind, **facts}, ensure_ascii=False)}\n\n".encode())

    def _headers(self) -> dict[str, str]:
        return {**super()._headers(), "Content-Type": "text/event-stream; charset=utf-8"}


def parse(body: Mapping[str, Any]) -> SpeechRequest:
    """Read a request. Keys that are not known are ignored: clients of other servers send some. Raises ``ApiError``."""
    text, voice = _text(body, "input"), _text(body, "voice")
    if text is None or not text.strip():
        raise _bad("input is required")
    if len(text) > MAX_INPUT:
        raise ApiError(413, f"input is longer than {MAX_INPUT} characters", "INPUT_TOO_LONG")
    if voice is None:
        raise _bad("voice is required")
    language = _text(body, "language")
    form = _text(body, "response_format") or "pcm"
    if form not in FORMATS:
        raise ApiError(400, f"response_format must be one of {', '.join(FORMATS)}", "FORMAT_UNSUPPORTED")
    rate = body.get("sample_rate")
    if rate is None:
        rate = OUTPUT_RATE if form == "mp3" else RATES[0]
    if isinstance(rate, bool) or not isinstance(rate, int | float) or rate not in RATES:
        raise ApiError(400, f"sample_rate must be one of {', '.join(map(str, RATES))}", "FORMAT_UNSUPPORTED")
    speed = body.get("speed")
    if speed is None:
        speed = 1.0
    if isinstance(speed, bool) or not isinstance(speed, int | float) or not SLOWEST <= speed <= FASTEST:
        raise _bad(f"speed must be a number from {SLOWEST} to {FASTEST:g}")
    timestamps = body.get("timestamps")
    if timestamps is not None and not isinstance(timestamps, bool):
        raise _bad("timestamps must be true or false")
    return SpeechRequest(
        text,
        voice,
        _text(body, "model"),
        tag(language) if language else None,
        cast(Format, form),
        int(rate),
        float(speed),
        bool(timestamps),
    )


def _text(body: Mapping[str, Any], key: str) -> str | None:
    """A text; an empty one counts as none."""
    value = body.get(key)
    if value is not None and not isinstance(value, str):
        raise _bad(f"{key} must be a text")
    return value or None


def _bad(detail: str) -> ApiError:
    return ApiError(400, detail, "BAD_REQUEST")
