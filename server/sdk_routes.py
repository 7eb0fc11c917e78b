"""What an SDK and its command line ask over HTTP: who is registered, and what this server does not have.

Source: protocol 2.6, 2.7, 2.11.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from config.settings import Settings
from server.http import ApiError, answer, client_address
from server.hub import Hub
from server.minting import offline, secret_org
from server.rate import Counter, RateLimit, network_of
from server.registry import Registration
from tokens.keys import ApiKeys
from tokens.token import Channel

CHANNELS = (Channel.WEBRTC, Channel.CHAT)
"""Open for every agent that is here, declared or not. Protocol 3.7."""


class SdkRoutes:
    """``/api/sdk/…``. The registry is that of the key's organisation; ``agent-info`` is for every page."""

    def __init__(self, settings: Settings, keys: ApiKeys, hub: Hub, counter: Counter) -> None:
        self._trust_proxy = settings.trust_proxy
        self._keys = keys
        self._hub = hub
        self._limit = RateLimit(counter, "agent-info", settings.mint_rate, "Too many requests")

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/sdk/agents", self.agents),
            web.delete("/api/sdk/agents/{slug}", self.kick),
            web.get("/api/sdk/agent-info/{agent}", self.info),
            web.get("/api/sdk/phone-numbers", self.phone_numbers),
            web.get("/api/sdk/twilio-balance", self.balance),
            web.route("*", "/api/memory{rest:(/.*)?}", self.no_memory),
            web.route("*", "/api/knowledge{rest:(/.*)?}", self.no_knowledge),
        ]

    async def agents(self, request: web.Request) -> web.Response:
        """``{success, total, agents: [{slug, org_id, phones, active, channels}], …}``."""
        listed = [_entry(registration) for registration in await self._hub.agents(secret_org(request, self._keys))]
        body = {"success": True, "total": len(listed), "agents": listed}
        return answer({**body, "phone_map": {}, "dev_overrides": None, "dev_callers": None})

    async def kick(self, request: web.Request) -> web.Response:
        """Take an agent from its backend: ``{success, displaced, org_id}``."""
        asked = request.match_info["slug"]
        registration = await self._hub.find(asked, secret_org(request, self._keys))
        if registration is None:
            return _failure(offline(asked))
        if not await self._hub.kick(registration.key):
            text = f"Agent '{registration.key.slug}' is the server's own; no backend holds it"
            return _failure(ApiError(409, text, "AGENT_NOT_HELD"))
        return answer({"success": True, "displaced": registration.key.slug, "org_id": registration.key.org})

    async def info(self, request: web.Request) -> web.Response:
        """``{agent, channels}`` and nothing else, for a page that shows how to reach an agent."""
        await self._limit.check(network_of(client_address(request, trust_proxy=self._trust_proxy)))
        asked = request.match_info["agent"]
        registration = await self._hub.find(asked, None)
        if registration is None:
            raise offline(asked)
        name = await self._hub.public_id(registration)
        return answer({"agent": name, "channels": [{"type": channel.value} for channel in CHANNELS]})

    async def phone_numbers(self, request: web.Request) -> web.Response:
        secret_org(request, self._keys)
        return answer({"success": True, "phones": [], "total": 0})

    async def balance(self, request: web.Request) -> web.Response:
        secret_org(request, self._keys)
        return answer({"success": False})

    async def no_memory(self, _: web.Request) -> web.Response:
        return _failure(ApiError(501, "memory is not available", "NOT_IMPLEMENTED"))

    async def no_knowledge(self, _: web.Request) -> web.Response:
        return _failure(ApiError(501, "knowledge is not available", "NOT_IMPLEMENTED"))


def _entry(registration: Registration) -> dict[str, Any]:
    org, slug = registration.key
    channels = {channel.value: {"count": 1, "refs": []} for channel in CHANNELS}
    return {"slug": slug, "org_id": org, "phones": [], "active": True, "channels": channels}


def _failure(refusal: ApiError) -> web.Response:
    """The shape of errors of these routes: they say that they failed, too."""
    body = {"success": False, "error": refusal.detail, "detail": refusal.detail, "code": refusal.code}
    return answer(body, status=refusal.status)
