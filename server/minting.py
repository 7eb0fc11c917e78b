"""The token endpoints: who may mint, what is sealed, what comes back. Source: protocol 2.3, 9.3."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from urllib.parse import urlsplit

from aiohttp import web

from config.agent import AgentConfig
from config.identity import PUBLISHABLE_PREFIX, agent_slug
from config.settings import Settings
from server.http import ApiError, answer, base_url, client_address, read_object
from server.hub import Hub
from server.rate import Counter, RateLimit, network_of
from server.registry import Registration
from tokens.access import Grant, authorize_mint
from tokens.errors import AccessError, InvalidKey
from tokens.keys import ApiKeys
from tokens.minting import TokenOffice
from tokens.record import Record, parse_metadata
from tokens.token import Channel

TOO_MANY = "Too many token requests"
MAX_AGENT_ID = 200
MAX_AGENTS = 32
"""Of one stream token."""
MAX_CALL_ID = 200
SCOPES = {"observe", "participate", "supervise"}
CHANNEL_SCOPES = {
    Channel.WEBRTC: {"participate"},
    Channel.CHAT: {"participate"},
    Channel.STREAM: {"observe", "supervise"},
}


class Minting:
    """``GET /webrtc/token``, ``/chat/token``, ``/stream/token``, and where early SDKs ask for the first of them."""

    def __init__(self, settings: Settings, keys: ApiKeys, office: TokenOffice, hub: Hub, counter: Counter) -> None:
        self._settings = settings
        self._keys = keys
        self._office = office
        self._hub = hub
        self._per_address = RateLimit(counter, "mint", settings.mint_rate, TOO_MANY)
        self._per_agent = RateLimit(counter, "mint-agent", settings.agent_mint_rate, TOO_MANY)

    def routes(self) -> list[web.RouteDef]:
        # Without HEAD: it would mint a token that nobody can read.
        return [
            web.get("/webrtc/token", partial(self.mint, Channel.WEBRTC), allow_head=False),
            web.get("/chat/token", partial(self.mint, Channel.CHAT), allow_head=False),
            web.get("/stream/token", self.mint_stream, allow_head=False),
            web.post("/api/sdk/webrtc-token", self.mint_for_early_sdk),
        ]

    async def mint(self, channel: Channel, request: web.Request) -> web.Response:
        """``{token, server, expires_in, expiresIn, agent_id}``."""
        key = _mint_key(request)
        agent_id = _agent_id(request.query.get("agent_id", ""))
        return await self._issue(request, channel, agent_id, key, request.query)

    async def mint_for_early_sdk(self, request: web.Request) -> web.Response:
        """The same for the body ``{"agent_id": …}`` of a backend with a secret key."""
        key = api_key(request)
        body = await read_object(request)
        if self._keys.org_of(key) is None:
            await self._count(request, key)
            raise InvalidKey
        agent_id = body.get("agent_id")
        return await self._issue(request, Channel.WEBRTC, _agent_id(agent_id), key, {})

    async def mint_stream(self, request: web.Request) -> web.Response:
        """``agent_id`` is a set, with commas. Its members need not be here: an observer may read of finished calls.

        They are agents of the key's organisation whatever their names, so each of them is the key's to observe.
        """
        key = _mint_key(request)
        await self._count(request, key)
        holder = self._keys.holder(key)
        if holder is None:
            raise InvalidKey
        if holder.publishable:
            raise ApiError(403, "A publishable key cannot observe", "SCOPE_NOT_ALLOWED")
        slugs = [_slug_of(agent_id, holder.org) for agent_id in _agent_ids(request.query.get("agent_id", ""))]
        call_id = request.query.get("call_id") or None
        if call_id is not None and len(call_id) > MAX_CALL_ID:
            raise ApiError(400, f"call_id is longer than {MAX_CALL_ID} characters", "BAD_CALL_ID")
        agents = ",".join(dict.fromkeys(slugs))
        scope = _scope(request.query, Channel.STREAM) or "observe"
        metadata = parse_metadata(request.query.get("metadata"))
        return await self._answer(request, Record(holder.org, agents, Channel.STREAM, metadata, scope, call_id))

    async def reachable(self, request: web.Request) -> list[tuple[str, AgentConfig]]:
        """The agents of which this request would get a voice token, each with the id under which it would, and as its
        calls begin. Raises ``InvalidKey`` for a key that is none.
        """
        key = _mint_key(request)
        holder = self._keys.holder(key)
        if key is not None and holder is None:
            raise InvalidKey
        here = await self._hub.agents(holder.org if holder else None)
        return [
            (
                registration.key.slug if holder else await self._hub.public_id(registration),
                registration.agent_on(Channel.WEBRTC),
            )
            for registration in here
            if self._lets_in(request, registration, key)
        ]

    async def _issue(
        self, request: web.Request, channel: Channel, agent_id: str, key: str | None, asked: Mapping[str, str]
    ) -> web.Response:
        await self._count(request, key)
        holder = self._keys.holder(key)
        if key is not None and holder is None:
            raise InvalidKey
        registration = await self._hub.find(agent_id, holder.org if holder else None)
        if registration is None:
            raise offline(agent_id)
        grant = self._authorise(request, registration, key)
        record = _sealed(asked, channel, registration.key.slug, grant, keyed=key is not None)
        self._hub.check_seat(registration.key, channel)
        self._base(request)  # which may refuse
        if not grant.may_seal:  # last, so that what is refused anyway does not use up the others' share
            await self._per_agent.check(f"{grant.org}:{registration.key.slug}")
        return await self._answer(request, record)

    async def _answer(self, request: web.Request, record: Record) -> web.Response:
        server, life = self._base(request), self._office.life(record.channel)
        token = await self._office.issue(record)
        body = {"token": token, "server": server, "expires_in": life, "expiresIn": life, "agent_id": record.agent}
        return answer(body, headers={"Cache-Control": "no-store"})

    async def _count(self, request: web.Request, key: str | None) -> None:
        """A wrong key counts too."""
        if self._keys.org_of(key) is None:
            await self._per_address.check(network_of(client_address(request, trust_proxy=self._settings.trust_proxy)))

    def _lets_in(self, request: web.Request, registration: Registration, key: str | None) -> bool:
        try:
            self._authorise(request, registration, key)
        except (AccessError, ApiError):
            return False
        return True

    def _authorise(self, request: web.Request, registration: Registration, key: str | None) -> Grant:
        return authorize_mint(
            self._keys,
            registration.key.org,
            registration.key.slug,
            registration.agent.allowed_origins,
            key=key,
            origin=self._page_origin(request),
            allow_any=self._settings.allow_any_origin,
        )

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


def secret_org(request: web.Request, keys: ApiKeys) -> str:
    """The organisation of the secret key that a request shows. Raises ``InvalidKey``."""
    org = keys.org_of(api_key(request))
    if org is None:
        raise InvalidKey
    return org


def _agent_id(asked: object) -> str:
    agent_id = asked.strip() if isinstance(asked, str) else ""
    if not agent_id:
        raise ApiError(400, "agent_id is required", "AGENT_ID_REQUIRED")
    if len(agent_id) > MAX_AGENT_ID:
        raise ApiError(400, f"agent_id is longer than {MAX_AGENT_ID} characters", "BAD_AGENT_ID")
    if "," in agent_id:
        raise ApiError(400, "agent_id must name one agent", "BAD_AGENT_ID")
    return agent_id


def _agent_ids(asked: str) -> list[str]:
    found = [_agent_id(part) for part in asked.split(",") if part.strip()] or [_agent_id("")]
    if len(found) > MAX_AGENTS:
        raise ApiError(400, f"agent_id names more than {MAX_AGENTS} agents", "BAD_AGENT_ID")
    return found


def _slug_of(agent_id: str, org: str) -> str:
    """Of ``My Agent`` or ``org:my-agent``. What names another organisation is of that one, and not here."""
    before, colon, name = agent_id.partition(":")
    slug = agent_slug(name if colon else agent_id)
    if not slug or (colon and agent_slug(before) != org):
        raise offline(agent_id)
    return slug


def _sealed(asked: Mapping[str, str], channel: Channel, slug: str, grant: Grant, *, keyed: bool) -> Record:
    """What the token will stand for. Metadata and scope count only for the holder of a secret key.

    Of a page without a key they are ignored; with a publishable one somebody expects them to count, and is told.
    """
    language = _language(asked) if channel is Channel.CHAT else None
    if not grant.may_seal:
        if keyed and asked.get("metadata"):
            raise ApiError(403, "A publishable key cannot seal metadata", "METADATA_NOT_ALLOWED")
        if keyed and asked.get("scope"):
            raise ApiError(403, "A publishable key cannot set a scope", "SCOPE_NOT_ALLOWED")
        return Record(grant.org, slug, channel, origin=grant.origin, language=language)
    scope = _scope(asked, channel)
    return Record(grant.org, slug, channel, parse_metadata(asked.get("metadata")), scope, language=language)


def _scope(asked: Mapping[str, str], channel: Channel) -> str | None:
    scope = asked.get("scope") or None
    if scope is not None and scope not in SCOPES:
        raise ApiError(400, f"scope must be one of {', '.join(sorted(SCOPES))}", "BAD_SCOPE")
    if scope is not None and scope not in CHANNEL_SCOPES[channel]:
        raise ApiError(403, f"scope '{scope}' is not allowed for a {channel.value} token", "SCOPE_NOT_ALLOWED")
    return scope


def _language(asked: Mapping[str, str]) -> str | None:
    if not (tag := asked.get("lang")):
        return None
    spoken, problems = AgentConfig.parse("", {"language": tag})
    if problems:
        raise ApiError(400, f"lang: {problems[0].text}", "BAD_LANGUAGE")
    return spoken.language


def offline(agent_id: str) -> ApiError:
    """The refusal for an agent that is not here, in the wording that the SDK knows."""
    return ApiError(404, f"Agent '{_shown(agent_id)}' is not online", "AGENT_OFFLINE")


def _shown(agent_id: str) -> str:
    return "".join(character for character in agent_id if character.isprintable())
