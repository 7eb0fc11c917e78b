"""The token endpoints: who may mint, what is sealed, what comes back. Source: protocol 2.3, 9.3."""

from __future__ import annotations

from functools import partial
from urllib.parse import urlsplit

from aiohttp import web

from config.agent import AgentConfig
from config.identity import DEFAULT_ORG, PUBLISHABLE_PREFIX
from config.settings import Settings
from server.http import ApiError, answer, base_url, client_address
from server.hub import Hub
from server.rate import Counter, RateLimit, network_of
from tokens.access import Grant, authorize_mint
from tokens.errors import AccessError, InvalidKey
from tokens.keys import ApiKeys
from tokens.minting import TokenOffice
from tokens.record import Record, parse_metadata
from tokens.token import Channel

TOO_MANY = "Too many token requests"
MAX_AGENT_ID = 200
SCOPES = {"observe", "participate", "supervise"}
CHANNEL_SCOPES = {Channel.WEBRTC: {"participate"}}


class Minting:
    """``GET /webrtc/token``. Another channel is another route to the same handler."""

    def __init__(self, settings: Settings, keys: ApiKeys, office: TokenOffice, hub: Hub, counter: Counter) -> None:
        self._settings = settings
        self._keys = keys
        self._office = office
        self._hub = hub
        self._per_address = RateLimit(counter, "mint", settings.mint_rate, TOO_MANY)
        self._per_agent = RateLimit(counter, "mint-agent", settings.agent_mint_rate, TOO_MANY)

    def routes(self) -> list[web.RouteDef]:
        # Without HEAD: it would mint a token that nobody can read.
        return [web.get("/webrtc/token", partial(self.mint, Channel.WEBRTC), allow_head=False)]

    async def mint(self, channel: Channel, request: web.Request) -> web.Response:
        """``{token, server, expires_in, expiresIn, agent_id}``."""
        agent_id = _agent_id(request)
        key = _mint_key(request)
        if self._keys.org_of(key) is None:  # a wrong key counts too
            await self._per_address.check(network_of(client_address(request, trust_proxy=self._settings.trust_proxy)))
        agent = self._hub.agent(agent_id)
        if agent is None:
            raise offline(agent_id) if key is None or self._keys.holder(key) else InvalidKey
        grant = self._authorise(request, agent, key)
        record = _sealed(request, channel, agent, grant, keyed=key is not None)
        self._hub.check_seat(agent.id)
        server = self._base(request)
        if not grant.may_seal:  # last, so that what is refused anyway does not use up the others' share
            await self._per_agent.check(f"{grant.org}:{agent.id}")
        token = await self._office.issue(record)
        ttl = self._office.ttl
        body = {"token": token, "server": server, "expires_in": ttl, "expiresIn": ttl, "agent_id": agent.id}
        return answer(body, headers={"Cache-Control": "no-store"})

    def reachable(self, request: web.Request) -> list[AgentConfig]:
        """The agents of which this request would get a token. Raises ``InvalidKey`` for a key that is none."""
        key = _mint_key(request)
        if key is not None and self._keys.holder(key) is None:
            raise InvalidKey
        return [agent for agent in self._hub.agents.values() if self._lets_in(request, agent, key)]

    def _lets_in(self, request: web.Request, agent: AgentConfig, key: str | None) -> bool:
        try:
            self._authorise(request, agent, key)
        except (AccessError, ApiError):
            return False
        return True

    def _authorise(self, request: web.Request, agent: AgentConfig, key: str | None) -> Grant:
        grant = authorize_mint(
            self._keys,
            agent.id,
            agent.allowed_origins,
            key=key,
            origin=self._page_origin(request),
            allow_any=self._settings.allow_any_origin,
        )
        if grant.org != DEFAULT_ORG:  # the agents of the configuration belong to the operator
            raise ApiError(403, f"The API key does not own agent '{agent.id}'", "AGENT_NOT_OWNED")
        return grant

    def _page_origin(self, request: web.Request) -> str | None:
        """The origin of the page that asks.

        A browser sends no ``Origin`` with a GET to the page's own server, as our own page makes it, but says so in a
        header that no page can set (Fetch Metadata, W3C). The host is then the one that the request names: a page
        whose name was rebound to this server's address must not pass for the public one.
        """
        origin = request.headers.get("Origin")
        if origin is not None or request.headers.get("Sec-Fetch-Site") != "same-origin":
            return origin
        asked = base_url(request, public_url=None, trust_proxy=self._settings.trust_proxy)
        public = self._settings.public_url
        if public and urlsplit(public).netloc.lower() == urlsplit(asked).netloc.lower():
            parts = urlsplit(public)  # whose scheme a proxy in front may have changed
            return f"{parts.scheme}://{parts.netloc}"
        return asked

    def _base(self, request: web.Request) -> str:
        return base_url(request, public_url=self._settings.public_url, trust_proxy=self._settings.trust_proxy)


def api_key(request: web.Request) -> str | None:
    """The key that a request shows, in either header; ``None`` when it shows none."""
    scheme, _, credentials = request.headers.get("Authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer":  # another scheme is a matter between the browser and some proxy
        return credentials.strip()
    return request.headers.get("X-API-Key")


def _mint_key(request: web.Request) -> str | None:
    """Like ``api_key``; a page may also show its publishable key in the query.

    Raises ``InvalidKey`` for any other key there: proxies write addresses into their logs.
    """
    key = api_key(request)
    if key is not None:
        return key
    shown = request.query.get("api_key") or request.query.get("apiKey") or None
    if shown is not None and not shown.startswith(PUBLISHABLE_PREFIX):
        raise InvalidKey
    return shown


def _agent_id(request: web.Request) -> str:
    agent_id = request.query.get("agent_id", "").strip()
    if not agent_id:
        raise ApiError(400, "agent_id is required", "AGENT_ID_REQUIRED")
    if len(agent_id) > MAX_AGENT_ID:
        raise ApiError(400, f"agent_id is longer than {MAX_AGENT_ID} characters", "BAD_AGENT_ID")
    if "," in agent_id:
        raise ApiError(400, "agent_id must name one agent", "BAD_AGENT_ID")
    return agent_id


def _sealed(request: web.Request, channel: Channel, agent: AgentConfig, grant: Grant, *, keyed: bool) -> Record:
    """What the token will stand for. Metadata and scope count only for the holder of a secret key.

    Of a page without a key they are ignored; with a publishable one somebody expects them to count, and is told.
    """
    if not grant.may_seal:
        if keyed and request.query.get("metadata"):
            raise ApiError(403, "A publishable key cannot seal metadata", "METADATA_NOT_ALLOWED")
        if keyed and request.query.get("scope"):
            raise ApiError(403, "A publishable key cannot set a scope", "SCOPE_NOT_ALLOWED")
        return Record(grant.org, agent.id, channel, origin=grant.origin)
    scope = request.query.get("scope") or None
    if scope is not None and scope not in SCOPES:
        raise ApiError(400, f"scope must be one of {', '.join(sorted(SCOPES))}", "BAD_SCOPE")
    if scope is not None and scope not in CHANNEL_SCOPES[channel]:
        raise ApiError(403, f"scope '{scope}' is not allowed for a {channel.value} token", "SCOPE_NOT_ALLOWED")
    return Record(grant.org, agent.id, channel, parse_metadata(request.query.get("metadata")), scope)


def offline(agent_id: str) -> ApiError:
    """The refusal for an agent that is not here, in the wording that the SDK knows."""
    return ApiError(404, f"Agent '{_shown(agent_id)}' is not online", "AGENT_OFFLINE")


def _shown(agent_id: str) -> str:
    return "".join(character for character in agent_id if character.isprintable())
