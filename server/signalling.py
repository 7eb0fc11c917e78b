"""ICE servers and offers: how a browser becomes a call. Source: protocol 2.4, 2.5, 9.1, 9.2."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import time
import uuid
from typing import Any

from aiohttp import web

from config.settings import Settings
from media.engine import MediaEngine
from media.sdp import MAX_OFFER, Offer, SdpError, parse_offer
from media.session import Session
from pipeline.call import Call
from pipeline.engine import Engines
from server.feed import Feed, WriteDown, log_fact
from server.frames import BackendFrames, BrowserFrames
from server.http import ApiError, answer, client_address, read_object
from server.hub import Hub, Seat
from server.minting import offline
from server.rate import Counter, RateLimit, network_of
from server.registry import Registration
from server.visitor import visitor_agent, visitor_metadata
from tokens.minting import TokenOffice
from tokens.record import Record
from tokens.token import Channel

logger = logging.getLogger(__name__)


class Signalling:
    """``GET /webrtc/ice-servers`` and ``POST /webrtc/offer``."""

    def __init__(
        self,
        settings: Settings,
        office: TokenOffice,
        hub: Hub,
        media: MediaEngine,
        engines: Engines,
        *,
        counter: Counter,
        write_down: WriteDown,
    ) -> None:
        self._write_down = write_down
        self._settings = settings
        self._offers = RateLimit(counter, "offer", settings.offer_rate, "Too many offers")
        self._ice_requests = RateLimit(counter, "ice", settings.mint_rate, "Too many requests for ICE servers")
        self._office = office
        self._hub = hub
        self._media = media
        self._engines = engines

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/webrtc/ice-servers", self.ice_servers), web.post("/webrtc/offer", self.offer)]

    async def ice_servers(self, request: web.Request) -> web.Response:
        """``{"iceServers": […]}``; empty without TURN, since an ICE-lite server needs no STUN."""
        await self._ice_requests.check(self._client(request))
        return answer({"iceServers": ice_servers(self._settings, time.time())}, headers={"Cache-Control": "no-store"})

    async def offer(self, request: web.Request) -> web.Response:
        """Answer an offer: ``{sdp, type, pc_id, session_id}``.

        Whatever can be refused is refused before the token is spent, so that a mistake does not cost it.
        """
        await self._offers.check(self._client(request))
        body = await read_object(request)
        claims = self._office.verify(_token(body), Channel.WEBRTC)
        offer = _offer(body)
        record = await self._office.read(claims)
        registration = await self._hub.find(record.agent, record.org)
        if registration is None:
            raise offline(record.agent)
        with self._hub.seat(registration, Channel.WEBRTC) as seat:
            await self._office.spend(claims)
            session, call = await self._begin(registration, record, offer, body, seat)
        logger.info("call %s: agent %s, %d of %d seats", call.id, claims.agent, self._hub.taken, self._hub.max_calls)
        return answer(
            {"sdp": session.answer, "type": "answer", "pc_id": f"pc-{session.id}", "session_id": call.id},
            headers={"Cache-Control": "no-store"},
        )

    def _client(self, request: web.Request) -> str:
        return network_of(client_address(request, trust_proxy=self._settings.trust_proxy))

    async def _begin(
        self, registration: Registration, record: Record, offer: Offer, body: dict[str, Any], seat: Seat
    ) -> tuple[Session, Call]:
        call, browser = self._call(registration, record, body)
        try:
            session = await self._media.accept(offer, call)
        except OSError as error:
            logger.error("no offer can be answered: %s", error)
            raise ApiError(503, "The server has no network address for media", "NO_NETWORK") from None
        # Nothing has happened on the line yet: the session's own task runs after this one.
        try:
            browser.open(session.send)
            call.attach(session)
            seat.take(call)
        except BaseException:  # a session without a call would keep its place until it times out
            await session.close()
            raise
        return session, call

    def _call(self, registration: Registration, record: Record, body: dict[str, Any]) -> tuple[Call, BrowserFrames]:
        agent, dropped = visitor_agent(registration.agent_on(Channel.WEBRTC), body.get("config"))
        call_id = str(uuid.uuid4())
        if dropped:
            logger.info("call %s: dropped from the browser's configuration: %.200r", call_id, dropped)
        browser = BrowserFrames(agent.id)
        key = registration.key
        written = self._write_down(key, call_id)
        feed = Feed(call_id, browser, BackendFrames(self._hub.tell, key), log_fact, written)
        metadata = visitor_metadata(body.get("metadata")) | dict(record.metadata)
        call = Call(
            id=call_id,
            agent=agent,
            engines=self._engines.of(registration.key.org),
            publish=feed.publish,
            metadata=metadata,
        )
        return call, browser


def ice_servers(settings: Settings, now: float) -> list[dict[str, Any]]:
    """STUN addresses as they are; TURN addresses with a name and password that expire (the REST scheme of coturn).

    ``now`` in epoch seconds. The name is the moment of expiry, the password its HMAC-SHA1 under the shared secret.
    """
    stun = [url for url in settings.turn_urls if url.lower().startswith("stun")]
    turn = [url for url in settings.turn_urls if url.lower().startswith("turn")]
    servers: list[dict[str, Any]] = [{"urls": stun}] if stun else []
    if turn and settings.turn_secret is not None:
        username = f"{int(now) + settings.turn_ttl}:voice"
        secret = settings.turn_secret.get_secret_value().encode()
        credential = base64.b64encode(hmac.digest(secret, username.encode(), hashlib.sha1)).decode()
        servers.append({"urls": turn, "username": username, "credential": credential})
    return servers


def _token(body: dict[str, Any]) -> object:
    token = body.get("token")
    if token is None or token == "":
        raise ApiError(401, "A token is required", "TOKEN_REQUIRED")
    return token


def _offer(body: dict[str, Any]) -> Offer:
    sdp = body.get("sdp")
    if not isinstance(sdp, str) or not sdp or body.get("type", "offer") != "offer":
        raise ApiError(400, "An offer with its sdp is required", "BAD_OFFER")
    if len(sdp.encode()) > MAX_OFFER:
        raise ApiError(413, f"The offer is larger than {MAX_OFFER // 1024} KiB", "OFFER_TOO_LARGE")
    try:
        return parse_offer(sdp)
    except SdpError as error:
        raise ApiError(400, str(error), "BAD_SDP") from None
