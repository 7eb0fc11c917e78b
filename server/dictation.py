"""``/api/scribe``: a page writes down what its user says, into a field and to nobody. Source: protocol 2.10.

A chat token that was minted for it opens it once. The voice is heard by the engines of the calls, since somebody waits
for it as in a call; a recording, which nobody speaks right now, by those beside them.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

from aiohttp import web

from config.agent import AgentConfig
from config.identity import base_language
from config.settings import Settings
from pipeline.background import Background
from pipeline.dictation import Dictation
from pipeline.engine import FALLBACK_LANGUAGE, EngineError
from pipeline.tts import WordTime
from server.admission import Admission, failure
from server.audio_text import Scribe
from server.catalogue import tag
from server.http import ApiError, answer, client_address
from server.hub import Hub, NoSeatError
from server.minting import api_key, offline
from server.outbox import Outbox
from server.rate import Counter, RateLimit, network_of
from server.registry import Registration
from server.upload import receive
from server.voice_socket import INTERNAL, NORMAL, POLICY, Ear, VoiceSockets, listen, told
from tokens.errors import AccessError, TokenError
from tokens.minting import TokenOffice
from tokens.record import Record
from tokens.token import Channel, Claims

logger = logging.getLogger(__name__)

LONGEST = 600.0
"""Seconds of one dictation, or of one recording."""

LEAD = 5.0
"""Seconds that a page may be ahead of its user: a dictation must not cost the calls more than a call does."""

FINISH_SECONDS = 2.0
"""How long the last words may take: after 2.5 s the page waits no longer."""

MAX_RECORDING = 10 << 20
"""Bytes."""


class Dictations:
    def __init__(
        self,
        settings: Settings,
        office: TokenOffice,
        hub: Hub,
        background: Background,
        *,
        admission: Admission,
        counter: Counter,
    ) -> None:
        self._settings = settings
        self._office = office
        self._hub = hub
        self._background = background
        self._admission = admission
        self._openings = RateLimit(counter, "scribe", settings.offer_rate, "Too many dictations")
        self._sockets = VoiceSockets()
        self._most = max(1, settings.max_calls // 2)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/scribe/ws", self.dictate, allow_head=False),
            web.post("/api/scribe", self.transcribe),
        ]

    async def dictate(self, request: web.Request) -> web.WebSocketResponse:
        """One dictation. Whoever is refused is told so in an ``error`` frame."""
        async with self._sockets.accept(request) as (socket, outbox):
            try:
                await self._serve(request, socket, outbox)
            except TokenError:
                _refuse(outbox, "Invalid or expired token", "INVALID_TOKEN", POLICY)
            except AccessError as refusal:
                _refuse(outbox, str(refusal), refusal.code, POLICY)
            except ApiError as refusal:
                _refuse(outbox, refusal.detail, refusal.code, INTERNAL if refusal.status > 500 else POLICY)
        return socket

    async def transcribe(self, request: web.Request) -> web.Response:
        """A recording: ``{success, text, language, duration}``."""
        claims, record, registration = await self._admit(request, request.query.get("token") or api_key(request) or "")
        language = _language(request, record, registration)
        with (
            self._admission.place(f"{record.org}/pages"),
            tempfile.TemporaryDirectory(prefix="voice-", ignore_cleanup_errors=True) as folder,
        ):
            file = Path(folder, "file")
            await receive(request, file, most=MAX_RECORDING)
            scribe = Scribe(self._background, record.org, None, language)
            await self._office.spend(claims)
            text = await scribe.read(request, file, LONGEST)
        body = {"success": True, "text": text.text, "language": text.language, "duration": round(text.duration, 3)}
        return answer(body, headers={"Cache-Control": "no-store"})

    async def close(self) -> None:
        """The server leaves."""
        await self._sockets.close()

    async def _admit(self, request: web.Request, token: str) -> tuple[Claims, Record, Registration]:
        """What a token stands for, which is not spent yet. Raises ``AccessError`` and ``ApiError``."""
        await self._openings.check(network_of(client_address(request, trust_proxy=self._settings.trust_proxy)))
        claims = self._office.verify(token, Channel.CHAT)
        record = await self._office.read(claims)
        registration = await self._hub.find(record.agent, record.org)
        if registration is None:
            raise offline(record.agent)
        return claims, record, registration

    async def _serve(self, request: web.Request, socket: web.WebSocketResponse, outbox: Outbox) -> None:
        claims, record, registration = await self._admit(request, request.query.get("token", ""))
        language = _language(request, record, registration)
        self._hub.check_seat(registration.key)
        if len(self._sockets) > self._most:
            raise NoSeatError("The server")
        agent = registration.agent_on(Channel.CHAT).model_copy(update={"language": language})
        try:
            engine = await self._background.engines.of(record.org).hearing(agent)
            await self._office.spend(claims)
            dictation = Dictation(engine, language, _Reader(outbox))
        except EngineError as error:
            raise failure(error) from None
        logger.info("dictation for agent %s: %d are open", registration.key.slug, len(self._sockets))
        try:
            outbox.send(told(event="ready"))
            if await listen(socket, dictation, Ear(), command=_stops, lead=LEAD, longest=LONGEST):
                await dictation.finish(FINISH_SECONDS)
                outbox.send(told(event="done"))
                outbox.close(NORMAL, "done")
        finally:
            await dictation.aclose()


class _Reader:
    """Tells the words."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def on_partial(self, text: str) -> None:
        self._outbox.send(told(event="partial", text=text))

    def on_final(self, text: str, start: float, end: float, words: tuple[WordTime, ...]) -> None:
        self._outbox.send(told(event="final", text=text))

    def on_failed(self, error: EngineError) -> None:
        refusal = failure(error)
        _refuse(self._outbox, refusal.detail, refusal.code, INTERNAL)


def _language(request: web.Request, record: Record, registration: Registration) -> str:
    """That of the page, else that which is sealed, else that of the agent. Raises ``ApiError``."""
    asked = request.query.get("lang") or request.query.get("language")
    agent: AgentConfig = registration.agent_on(Channel.CHAT)
    language = tag(asked) if asked else record.language or agent.language
    return FALLBACK_LANGUAGE if base_language(language) == "multi" else language


def _stops(frame: dict[str, Any]) -> bool:
    return frame.get("event") == "stop"


def _refuse(outbox: Outbox, text: str, code: str, close: int) -> None:
    outbox.send(told(event="error", error=text, code=code))
    outbox.close(close, code)
