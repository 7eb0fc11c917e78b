"""``WS /chat/ws``: a page types with an agent. Source: protocol 5."""

from __future__ import annotations

import asyncio
import logging
import uuid
from dataclasses import dataclass

from aiohttp import WSMsgType, web

from config.settings import Settings
from pipeline.chat import Chat
from pipeline.control import parse_context
from pipeline.llm import Message
from server.chat_frames import Dialect, PageFrames
from server.chats import Chats
from server.http import ApiError, client_address, parse_object
from server.hub import Hub
from server.minting import offline
from server.outbox import CLOSE_SECONDS, Outbox
from server.pace import Pace
from server.rate import Counter, RateLimit, network_of
from server.threads import ThreadKey, Threads
from tokens.errors import AccessError, TokenError
from tokens.minting import TokenOffice
from tokens.record import Record
from tokens.token import Channel

logger = logging.getLogger(__name__)

MAX_FRAME = 64 * 1024
"""Bytes of one frame; at a larger one the connection ends with code 1009 (RFC 6455, 7.4.1)."""

MAX_FRAMES = 2048
MAX_BYTES = 2 << 20
"""What may wait for a page that does not read."""

HEARTBEAT_SECONDS = 25.0
"""A ping of the WebSocket itself after so long a silence: clients send none, and proxies cut what is silent."""

MAX_THREAD = 200
SHOWN_MESSAGES = 200
"""Of a thread that goes on."""

POLICY = 1008

LINES = {"event": frozenset({"message"}), "type": frozenset({"user.message", "message"})}
"""What a line of the user is called in either dialect."""


@dataclass(frozen=True, slots=True)
class _Visit:
    """A chat that has begun, and what the page is owed."""

    chat: Chat
    frames: PageFrames
    thread: ThreadKey | None


class ChatSocket:
    """``/chat/ws``, and ``/ws`` for those who read of it in the documentation."""

    def __init__(
        self, settings: Settings, office: TokenOffice, hub: Hub, *, chats: Chats, threads: Threads, counter: Counter
    ) -> None:
        self._settings = settings
        self._office = office
        self._hub = hub
        self._chats = chats
        self._threads = threads
        self._openings = RateLimit(counter, "chat", settings.offer_rate, "Too many chats")

    def routes(self) -> list[web.RouteDef]:
        return [web.get(path, self.chat, allow_head=False) for path in ("/chat/ws", "/ws")]

    async def chat(self, request: web.Request) -> web.WebSocketResponse:
        """One chat from the upgrade to its end. Whoever is refused is told so after the upgrade: a browser shows its
        user nothing of an HTTP error before it.
        """
        socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_SECONDS, max_msg_size=MAX_FRAME, compress=False, timeout=CLOSE_SECONDS
        )
        await socket.prepare(request)
        async with Outbox(socket, request, max_frames=MAX_FRAMES, max_bytes=MAX_BYTES) as outbox:
            frames = PageFrames(outbox.send, outbox.close)
            try:
                visit = await self._begin(request, frames)
            except TokenError:
                frames.refuse("Invalid or expired token", "INVALID_TOKEN", POLICY)
            except AccessError as refusal:
                frames.refuse(str(refusal), refusal.code, POLICY)
            except ApiError as refusal:
                frames.refuse(refusal.detail, refusal.code, POLICY)
            else:
                await self._serve(visit, socket)
        return socket

    async def _begin(self, request: web.Request, frames: PageFrames) -> _Visit:
        """Spend the token, last of all. Raises ``AccessError`` and ``ApiError``."""
        await self._openings.check(network_of(client_address(request, trust_proxy=self._settings.trust_proxy)))
        claims = self._office.verify(request.query.get("token", ""), Channel.CHAT)
        record = await self._office.read(claims)
        registration = await self._hub.find(record.agent, record.org)
        if registration is None:
            raise offline(record.agent)
        thread = _thread(record, request.query.get("thread", ""))
        history = await self._threads.load(thread) if thread else []
        with self._hub.seat(registration, Channel.CHAT) as seat:
            await self._office.spend(claims)
            chat_id = f"chat-{uuid.uuid4()}"
            frames.greet(chat_id, registration.id, _shown(history))
            chat = self._chats.begin(
                registration,
                seat,
                frames,
                id=chat_id,
                metadata=record.metadata,
                language=record.language,
                history=history,
            )
        logger.info("chat %s: agent %s", chat_id, claims.agent)
        return _Visit(chat, frames, thread)

    async def _serve(self, visit: _Visit, socket: web.WebSocketResponse) -> None:
        keeping = asyncio.create_task(self._keep(visit), name=f"thread of {visit.chat.id}")
        try:
            await _read(visit, socket)
        finally:
            visit.chat.hangup("closed")
            await visit.chat.wait_ended()
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            if visit.thread:
                await self._threads.save(visit.thread, visit.chat.messages())

    async def _keep(self, visit: _Visit) -> None:
        """Save the thread after each answer, so that another page of the same user finds it."""
        while visit.thread:
            await visit.frames.answered.wait()
            visit.frames.answered.clear()
            await self._threads.save(visit.thread, visit.chat.messages())


async def _read(visit: _Visit, socket: web.WebSocketResponse) -> None:
    pace = Pace(asyncio.get_running_loop().time)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            _hear(visit, message.data)
        elif message.type is WSMsgType.BINARY:
            visit.frames.complain("Expected text frames", "BAD_FRAME")
        if wait := pace.take(len(message.data)):
            await asyncio.sleep(wait)


def _hear(visit: _Visit, text: str) -> None:
    try:
        frame = parse_object(text, "The frame")
    except ApiError as refusal:
        visit.frames.complain(refusal.detail, "BAD_FRAME")
        return
    dialect: Dialect = "event" if "event" in frame else "type"
    name = frame.get(dialect)
    visit.frames.dialect = visit.frames.dialect or (dialect if name else None)
    if not isinstance(name, str):
        visit.frames.complain("Expected an object with an event", "BAD_FRAME")
    elif name in LINES[dialect]:
        _hear_line(visit, frame.get("text"))
    elif name == "set_context":
        if (context := parse_context(frame)) is None:
            visit.frames.complain("set_context: expected a short key and a value", "BAD_FRAME")
        else:
            visit.chat.set_context(context.key, context.value)


def _hear_line(visit: _Visit, text: object) -> None:
    if not isinstance(text, str) or not text.strip():
        visit.frames.complain("text: expected a line", "BAD_MESSAGE")
        return
    visit.frames.expect()
    visit.chat.write(text)


def _thread(record: Record, asked: str) -> ThreadKey | None:
    """The thread that the backend has sealed, else the one that the page names. The two never meet: anybody can name
    anything.
    """
    sealed = record.metadata.get("threadId")
    if isinstance(sealed, str | int) and not isinstance(sealed, bool) and str(sealed):
        return ThreadKey(record.org, record.agent, f"sealed:{str(sealed)[:MAX_THREAD]}")
    return ThreadKey(record.org, record.agent, f"asked:{asked}") if 0 < len(asked) <= MAX_THREAD else None


def _shown(history: list[Message]) -> list[dict[str, str]]:
    """What a page shows of a thread: who said what, without tools."""
    roles = {"user": "user", "assistant": "bot"}
    lines = [
        {"role": roles[message["role"]], "text": message["content"]}
        for message in history
        if message["role"] in roles and message.get("content")
    ]
    return lines[-SHOWN_MESSAGES:]
