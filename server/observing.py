"""Who may watch what: the history of calls over HTTP, and the sockets that follow them. Source: protocol 6."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

from aiohttp import web

from config.identity import agent_slug
from config.settings import Settings
from server.call_log import CallLog
from server.http import ApiError, answer
from server.hub import Hub
from server.log_entries import encode, gap, with_seq
from server.log_store import LogInfo, LogKey, Page, StoreError
from server.minting import MAX_AGENTS, MAX_CALL_ID, api_key
from server.observer import HEARTBEAT_SECONDS, MAX_FRAME, FeedObserver, LogObserver, Pipe, gap_behind
from server.outbox import CLOSE_SECONDS
from tokens.errors import AccessError, InvalidKey, TokenError
from tokens.keys import ApiKeys
from tokens.minting import TokenOffice
from tokens.token import Channel

PAGE = 200
MAX_PAGE = 1000
MAX_CURSOR = 1 << 53
"""Integers that JavaScript holds."""

PER_SECOND = 250
"""Observers that are let in; those who come faster, all together when a network is back, wait for their turn."""

LONGEST_WAIT = 10.0
"""Seconds."""

LEAVING = 1001, "the server is going away"
SETTLE_SECONDS = 1.0
"""How long the last entries may take to be written before observers are sent away."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What somebody may watch."""

    org: str
    agents: frozenset[str] | None
    """``None``: all of the organisation."""
    call_id: str | None = None
    """This call alone."""

    def covers(self, agent: str) -> bool:
        return self.agents is None or agent in self.agents


class Observing:
    """``/v1/attach``, ``/v1/calls/{id}/events``, ``/v1/agents/{slug}/calls`` and ``/ws/stream``.

    A stream token opens them until it expires, again and again; so does a secret key.
    """

    def __init__(self, settings: Settings, keys: ApiKeys, office: TokenOffice, hub: Hub, log: CallLog) -> None:
        self._most = settings.max_observers
        self._keys = keys
        self._office = office
        self._hub = hub
        self._log = log
        self._pipes: set[Pipe] = set()
        self._closing = False
        self._free = 0.0
        """When the next observer may be let in; the loop's time."""

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/calls/{call}/events", self.events),
            web.get("/v1/agents/{agent}/calls", self.calls),
            web.get("/v1/attach", self.attach, allow_head=False),
            web.get("/ws/stream", self.stream, allow_head=False),
        ]

    async def events(self, request: web.Request) -> web.Response:
        """A page of a call's log: ``{entries, live, next}``."""
        sight = await self._sight(request)
        log, info = await self._call(sight, request.match_info["call"])
        if info is None:
            return answer({"entries": [], "live": True, "next": None}, headers={"Cache-Control": "no-store"})
        return await self._page(request, log, info)

    async def calls(self, request: web.Request) -> web.Response:
        """A page of an agent's log, which never ends: ``{entries, live, next}``."""
        sight = await self._sight(request)
        log = _agent_log(sight, request.match_info["agent"])
        info = await self._find(log)
        if info is None:
            return answer({"entries": [], "live": True, "next": None}, headers={"Cache-Control": "no-store"})
        return await self._page(request, log, info)

    async def attach(self, request: web.Request) -> web.WebSocketResponse:
        """Follow a call or an agent from a cursor."""
        async with self._observer(request) as (socket, admitted):
            if admitted is None:
                return socket
            pipe, sight = admitted
            try:
                log, after = await self._asked(sight, request.query), _number(request.query, "after", 0)
            except (ApiError, AccessError) as refusal:
                await _refuse(socket, refusal)
            else:
                await pipe.run(LogObserver(pipe, self._log, log, after).work())
        return socket

    async def stream(self, request: web.Request) -> web.WebSocketResponse:
        """Follow all calls of agents from now on, or one of them from a cursor."""
        async with self._observer(request) as (socket, admitted):
            if admitted is None:
                return socket
            pipe, sight = admitted
            try:
                observer = await self._streamed(pipe, sight, request.query)
            except (ApiError, AccessError) as refusal:
                await _refuse(socket, refusal)
            else:
                await pipe.run(observer.work())
        return socket

    async def close(self) -> None:
        """The server leaves: everybody gets what was written so far."""
        self._closing = True
        await self._log.settle(SETTLE_SECONDS)
        for pipe in list(self._pipes):
            pipe.end(*LEAVING)

    @asynccontextmanager
    async def _observer(
        self, request: web.Request
    ) -> AsyncIterator[tuple[web.WebSocketResponse, tuple[Pipe, Sight] | None]]:
        """A socket, and what goes with it unless it was refused. Nobody is before the upgrade: browsers would not tell
        why.
        """
        socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_SECONDS, max_msg_size=MAX_FRAME, compress=False, timeout=CLOSE_SECONDS
        )
        try:
            sight = await self._sight(request)
            self._check_room()
            await self._turn()
            self._check_room()  # others had theirs before
        except (ApiError, AccessError) as refusal:
            await socket.prepare(request)
            await _refuse(socket, refusal)
            yield socket, None
            return
        await socket.prepare(request)
        if request.transport is None:
            yield socket, None
            return
        pipe = Pipe(socket, request, request.transport)
        self._pipes.add(pipe)
        try:
            yield socket, (pipe, sight)
        finally:
            self._pipes.discard(pipe)

    def _check_room(self) -> None:
        """Raises ``ApiError``."""
        if self._closing or len(self._pipes) >= self._most:
            raise ApiError(503, "Too many observers", "TOO_MANY_OBSERVERS")

    async def _turn(self) -> None:
        """Wait for one's own, so that a thousand who come at once do not keep the media clock from its work.

        Raises ``ApiError`` when that would take too long.
        """
        now = asyncio.get_running_loop().time()
        wait = max(0.0, self._free - now)
        if wait > LONGEST_WAIT:
            raise ApiError(503, "Too many observers at once", "TOO_MANY_OBSERVERS")
        self._free = now + wait + 1 / PER_SECOND
        if wait:
            await asyncio.sleep(wait)

    async def _sight(self, request: web.Request) -> Sight:
        """Raises ``AccessError``."""
        if (key := api_key(request)) is not None:
            org = self._keys.org_of(key)
            if org is None:
                raise InvalidKey
            return Sight(org, None)
        record = await self._office.read(self._office.verify(request.query.get("token", ""), Channel.STREAM))
        return Sight(record.org, frozenset(record.agents), record.call_id)

    async def _call(self, sight: Sight, call_id: str) -> tuple[LogKey, LogInfo | None]:
        """The log of a call; one that has not begun has none yet. Who may not see it is not told that it is there."""
        unknown = ApiError(404, "Call not found", "CALL_NOT_FOUND")
        if not call_id or len(call_id) > MAX_CALL_ID or sight.call_id not in (None, call_id):
            raise unknown
        log = LogKey(sight.org, "call", call_id)
        info = await self._find(log)
        if info is not None:
            agent = info.agent
        elif (running := await self._hub.session(sight.org, call_id)) is not None:
            agent = running.key.slug
        else:
            raise unknown
        if not sight.covers(agent):
            raise unknown
        return log, info

    async def _asked(self, sight: Sight, query: Mapping[str, str]) -> LogKey:
        call, agent = query.get("call", ""), query.get("agent", "")
        if bool(call) == bool(agent):
            raise ApiError(400, "Exactly one of call and agent is required", "BAD_TARGET")
        if agent:
            return _agent_log(sight, agent)
        log, _ = await self._call(sight, call)
        return log

    async def _streamed(self, pipe: Pipe, sight: Sight, query: Mapping[str, str]) -> LogObserver | FeedObserver:
        agents = [_covered(sight, agent) for agent in query.get("agent", "").split(",") if agent]
        if call_id := query.get("session") or sight.call_id:
            log, info = await self._call(sight, call_id)
            if agents and info is not None and info.agent not in agents:
                raise ApiError(404, "Call not found", "CALL_NOT_FOUND")
            return LogObserver(pipe, self._log, log, _number(query, "after", 0), numbered_markers=False)
        agents = list(dict.fromkeys(agents)) or sorted(sight.agents or ())
        if not agents:
            raise ApiError(400, "agent is required", "AGENT_ID_REQUIRED")
        if len(agents) > MAX_AGENTS:
            raise ApiError(400, f"agent names more than {MAX_AGENTS} agents", "BAD_AGENT_ID")
        return FeedObserver(pipe, self._log, [LogKey(sight.org, "feed", agent) for agent in agents])

    async def _find(self, log: LogKey) -> LogInfo | None:
        with _available():
            return await self._log.find(log)

    async def _page(self, request: web.Request, log: LogKey, info: LogInfo) -> web.Response:
        after = _number(request.query, "after", 0)
        limit = min(_number(request.query, "limit", PAGE) or 1, MAX_PAGE)
        texts = []
        if (missing := gap_behind(info, after)) is not None:
            since, resume_from = missing
            call = log.name if log.kind == "call" else None
            entry = gap(round(time.time(), 3), resume_from, since)
            texts.append(with_seq(resume_from - 1, encode(entry, call=call, agent=info.agent)))
            after = resume_from - 1
        with _available():
            page = await self._log.read(log, after, limit)
        page = page or Page(info, (), more=False)
        texts += [line.text for line in page.lines]  # as they were sent to those who watched
        live = json.dumps(page.info.live or log.kind == "agent")
        following = json.dumps(page.end if page.more else None)
        body = f'{{"entries":[{",".join(texts)}],"live":{live},"next":{following}}}'
        return web.Response(text=body, content_type="application/json", headers={"Cache-Control": "no-store"})


@contextmanager
def _available() -> Iterator[None]:
    """A store that does not answer is a 503."""
    try:
        yield
    except StoreError:
        raise ApiError(503, "The call log is not available", "LOG_UNAVAILABLE", {"Retry-After": "5"}) from None


def _agent_log(sight: Sight, agent: str) -> LogKey:
    slug = _covered(sight, agent)
    if sight.call_id is not None:
        raise ApiError(403, "The token is for one call", "SCOPE_NOT_ALLOWED")
    return LogKey(sight.org, "agent", slug)


def _covered(sight: Sight, agent: str) -> str:
    before, colon, name = agent.partition(":")
    slug = agent_slug(name if colon else agent)
    if not slug or (colon and agent_slug(before) != sight.org) or not sight.covers(slug):
        raise ApiError(403, "The token is not for this agent", "AGENT_NOT_ALLOWED")
    return slug


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name) or str(default)
    if not (text.isascii() and text.isdigit()) or len(text) > 16 or int(text) >= MAX_CURSOR:
        raise ApiError(400, f"{name}: expected a whole number, 0 or more", "BAD_CURSOR")
    return int(text)


async def _refuse(socket: web.WebSocketResponse, refusal: ApiError | AccessError) -> None:
    """Clients look for the frame, not for a code. Protocol 6.5."""
    text = "Invalid or expired token" if isinstance(refusal, TokenError) else str(refusal)
    with suppress(ConnectionError, TimeoutError):
        await socket.send_str(json.dumps({"error": text}))
        await socket.close(code=1000, message=text.encode()[:120])
