"""``WS /v1/audio/transcriptions/stream``: a backend sends a voice and gets its words. Source: protocol 2.9."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from config.agent import SttConfig
from pipeline.background import Background
from pipeline.dictation import Dictation
from pipeline.engine import FALLBACK_LANGUAGE, EngineError
from pipeline.tts import WordTime
from server.admission import Admission, failure, request_id
from server.audio_text import LONGEST, truth, worded
from server.catalogue import language_of, listener, tag
from server.http import ApiError
from server.outbox import Outbox
from server.voice_socket import INTERNAL, NORMAL, POLICY, Ear, VoiceSockets, listen, told
from tokens.errors import AccessError

RATES = (8_000, 16_000, 24_000, 48_000)
ENCODINGS = ("linear16", "mulaw")

LEAD = 5.0
"""Seconds that a client may be ahead of its own voice where a provider hears it, who forgets what is too much."""

FINISH_SECONDS = 60.0
"""How long the last words may take."""


@dataclass(frozen=True, slots=True)
class StreamRequest:
    model: str | None
    language: str | None
    rate: int
    encoding: str


class AudioStream:
    def __init__(self, admission: Admission, background: Background) -> None:
        self._admission = admission
        self._background = background
        self._sockets = VoiceSockets()

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/audio/transcriptions/stream", self.stream, allow_head=False)]

    async def stream(self, request: web.Request) -> web.WebSocketResponse:
        """One voice. What is wrong is told in an ``error`` frame: then 1008 for the client's part, 1011 for ours."""
        async with self._sockets.accept(request) as (socket, outbox):
            try:
                org = await self._admission.enter(request)
                with self._admission.place(org):
                    await self._serve(request, socket, outbox, org)
            except AccessError as refusal:
                _refuse(outbox, str(refusal), refusal.code, POLICY)
            except ApiError as refusal:
                _refuse(outbox, refusal.detail, refusal.code, INTERNAL if refusal.status > 500 else POLICY)
        return socket

    async def close(self) -> None:
        """The server leaves."""
        await self._sockets.close()

    async def _serve(self, request: web.Request, socket: web.WebSocketResponse, outbox: Outbox, org: str) -> None:
        asked = parse(request.query)
        engines = self._background.engines.of(org)
        language = asked.language or language_of(engines, asked.model) or FALLBACK_LANGUAGE
        chosen = listener(engines, asked.model, language)
        identity = request_id()
        try:
            async with self._background.engine("stt", chosen.engine, org) as lent:
                reader = _Reader(outbox, chosen.language)
                dictation = Dictation(lent.bound(SttConfig(model=chosen.part)), chosen.language, reader)
                try:
                    facts: dict[str, Any] = {"request_id": identity, "model": chosen.model, "language": language}
                    facts |= {"sample_rate": asked.rate, "encoding": asked.encoding, "diarize": False}
                    outbox.send(told(type="ready", **facts))
                    ear = Ear(asked.encoding, asked.rate)
                    finalize = _Commands(dictation)
                    lead = LEAD if lent.remote else None
                    if await listen(socket, dictation, ear, command=finalize, lead=lead, longest=LONGEST):
                        await dictation.finish(FINISH_SECONDS)
                        reader.end(identity, dictation.heard)
                finally:
                    await dictation.aclose()
        except EngineError as error:
            raise failure(error) from None


class _Commands:
    """``finalize`` commits what was said so far, ``stop`` ends."""

    def __init__(self, dictation: Dictation) -> None:
        self._dictation = dictation

    def __call__(self, frame: dict[str, Any]) -> bool:
        if frame.get("type") == "finalize":
            self._dictation.finalize()
        return frame.get("type") == "stop"


class _Reader:
    """Tells the words."""

    def __init__(self, outbox: Outbox, language: str) -> None:
        self._outbox = outbox
        self._language = language

    def on_partial(self, text: str) -> None:
        self._outbox.send(told(type="partial", text=text))

    def on_final(self, text: str, start: float, end: float, words: tuple[WordTime, ...]) -> None:
        times: dict[str, Any] = {"start": round(start, 3), "end": round(end, 3)}
        if words:
            times["words"] = [worded(word) for word in words]
        self._outbox.send(told(type="final", text=text, language=self._language, **times))

    def on_failed(self, error: EngineError) -> None:
        refusal = failure(error)
        _refuse(self._outbox, refusal.detail, refusal.code, INTERNAL)

    def end(self, identity: str, heard: float) -> None:
        """Nothing is billed by who hosts it."""
        self._outbox.send(told(type="done", request_id=identity, audio_seconds=round(heard, 3), billed_minutes=0))
        self._outbox.close(NORMAL, "done")


def parse(query: Mapping[str, str]) -> StreamRequest:
    """Read the parameters. Those that are not known are ignored. Raises ``ApiError``."""
    if truth(query.get("diarize", ""), "diarize"):
        raise ApiError(400, "No recogniser here tells speakers apart", "DIARIZE_UNSUPPORTED")
    rate = query.get("sample_rate") or "16000"
    if rate not in map(str, RATES):
        raise ApiError(400, f"sample_rate must be one of {', '.join(map(str, RATES))}", "BAD_REQUEST")
    encoding = query.get("encoding") or ENCODINGS[0]
    if encoding not in ENCODINGS:
        raise ApiError(400, f"encoding must be one of {', '.join(ENCODINGS)}", "BAD_REQUEST")
    language = query.get("language")
    return StreamRequest(query.get("model") or None, tag(language) if language else None, int(rate), encoding)


def _refuse(outbox: Outbox, text: str, code: str, close: int) -> None:
    outbox.send(told(type="error", code=code, error=text))
    outbox.close(close, code)
