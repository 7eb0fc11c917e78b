"""``GET /api/sdk/voices``, ``/v1/audio/voices`` and ``/api/sdk/voice-preview``: who can speak here. Protocol 2.8."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any
from urllib.parse import quote

from aiohttp import web

from config.identity import DEFAULT_ORG, base_language
from config.settings import Settings
from pipeline.background import Background
from pipeline.encoding import encoding
from pipeline.engine import TABLE, EngineError
from pipeline.recital import recite
from pipeline.tts import Voice
from server.admission import Admission, failure
from server.catalogue import Speaker, voices
from server.http import ApiError, answer, base_url, client_address
from server.languages import described
from server.rate import Counter, RateLimit, network_of

SAMPLES = {
    "de": "Hallo! So klinge ich, wenn wir miteinander sprechen.",
    "en": "Hello! This is how I sound when we talk.",
    "es": "¡Hola! Así sueno cuando hablamos.",
    "fr": "Bonjour ! Voici ma voix quand nous parlons.",
    "it": "Ciao! Questa è la mia voce quando parliamo.",
    "pt": "Olá! É assim que eu falo quando conversamos.",
}
"""What a voice says to introduce itself; in English where there is nothing in its language."""

PREVIEW_RATE = 24_000
MAX_PREVIEWS = 64
"""Kept in memory, some 25 KB each; the one that was heard longest ago goes first."""

FRESH_SECONDS = 86_400


class Voices:
    """Lists are of what this server offers now. Previews are made once and kept."""

    def __init__(self, settings: Settings, admission: Admission, background: Background, counter: Counter) -> None:
        self._settings = settings
        self._admission = admission
        self._background = background
        self._lists = RateLimit(counter, "voices", settings.mint_rate, "Too many requests for voices")
        self._listens = RateLimit(counter, "preview", settings.mint_rate, "Too many voice previews")
        self._previews: OrderedDict[Speaker, bytes] = OrderedDict()
        self._making = asyncio.Lock()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/sdk/voices", self.public),
            web.get("/v1/audio/voices", self.keyed),
            web.get("/api/sdk/voice-preview", self.preview),
        ]

    async def public(self, request: web.Request) -> web.Response:
        """``{success, total, voices}``, for everybody."""
        await self._lists.check(self._client(request))
        return self._list(request)

    async def keyed(self, request: web.Request) -> web.Response:
        """The same for a backend."""
        return self._list(request, self._admission.org(request))

    async def preview(self, request: web.Request) -> web.Response:
        """A sentence in a voice that is listed, ``audio/mpeg``. ``voice`` is its id or alias, or ``provider/alias``."""
        await self._listens.check(self._client(request))
        wish = request.query.get("voice", "")
        provider, slash, name = wish.partition("/")
        if not slash:
            provider, name = request.query.get("provider", ""), wish
        language = base_language(request.query.get("lang") or request.query.get("language") or "")
        offered = voices(self._background.engines, provider.strip().lower(), language)
        meant = [(engine, voice) for engine, voice in offered if voice.answers_to(name) and engine in TABLE["tts"]]
        if not meant:  # what is not listed could be anything, what others speak costs the operator: not without a key
            raise ApiError(404, f"There is no preview of a voice {wish!r:.80}", "NOT_FOUND")
        engine, voice = meant[0]
        sound = await self._sound(Speaker(engine, voice.id, language or base_language(voice.languages[0])))
        headers = {"Content-Type": "audio/mpeg", "Cache-Control": f"public, max-age={FRESH_SECONDS}"}
        return web.Response(body=sound, headers=headers)

    def _list(self, request: web.Request, org: str = DEFAULT_ORG) -> web.Response:
        provider = request.query.get("provider", "").strip().lower()
        language = request.query.get("language", "").strip()
        base = base_url(request, public_url=self._settings.public_url, trust_proxy=self._settings.trust_proxy)
        offered = voices(self._background.engines.of(org), provider, language)
        rows = [_row(name, voice, base) for name, voice in offered]
        return answer({"success": True, "total": len(rows), "voices": rows})

    async def _sound(self, found: Speaker) -> bytes:
        async with self._making:  # one at a time: who listens to all voices makes none of the calls wait
            if found not in self._previews:
                self._previews[found] = await self._make(found)
                if len(self._previews) > MAX_PREVIEWS:
                    self._previews.popitem(last=False)
            self._previews.move_to_end(found)
            return self._previews[found]

    async def _make(self, found: Speaker) -> bytes:
        text = SAMPLES.get(found.language, SAMPLES["en"])
        try:
            async with self._background.engine("tts", found.engine) as lent:
                said = recite(lent.engine, text, voice=found.voice, language=found.language)
                async with encoding(self._background, "mp3", PREVIEW_RATE) as codec:
                    parts = [await codec.encode(chunk.pcm) async for chunk in said]
                    return b"".join([*parts, await codec.finish()])
        except EngineError as error:
            raise failure(error) from None

    def _client(self, request: web.Request) -> str:
        return network_of(client_address(request, trust_proxy=self._settings.trust_proxy))


def _row(provider: str, voice: Voice, base: str) -> dict[str, Any]:
    facts = {
        "id": voice.id,
        "name": voice.name or voice.id,
        "alias": voice.alias or voice.id.lower(),
        "provider": provider,
        "gender": voice.gender,
        "style": voice.style,
        "description": voice.description,
        "preview_url": f"{base}/api/sdk/voice-preview?provider={provider}&voice={quote(voice.id)}"
        if provider in TABLE["tts"]
        else None,
    }
    return {key: value for key, value in facts.items() if value} | {
        "languages": [described(language) for language in voice.languages]
    }
