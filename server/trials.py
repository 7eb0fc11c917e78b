"""``llm.chat``: a backend writes lines to an agent of its organisation, to try it. Source: protocol 3.20."""

from __future__ import annotations

import asyncio
from typing import Any

from pipeline.chat import Chat
from pipeline.events import ChatEnded, ChatFailed
from server.backend import Backend
from server.chat_frames import TrialFrames
from server.chats import Chats
from server.declined import MAX_ECHO, Frame, echo
from server.feed import Fact
from server.hub import Hub, NoSeatError
from tokens.errors import MetadataError
from tokens.record import check_metadata


class Trials:
    """The sessions that backends have begun, each by its connection and the id that it chose."""

    def __init__(self, hub: Hub, chats: Chats) -> None:
        self._hub = hub
        self._chats = chats
        self._open: dict[tuple[Backend, str], tuple[Chat, TrialFrames]] = {}

    async def write(self, backend: Backend, frame: Frame) -> None:
        """A line; the first one with a new ``session_id`` begins the session. A refusal is an ``llm.chat.error``, since
        some clients wait for nothing else.
        """
        try:
            text = frame.get("text")
            if not isinstance(text, str) or not text.strip():
                raise ValueError("text: expected a line")
            session_id = echo(frame, "session_id")
            place = backend, session_id
            chat, frames = self._open.get(place) or await self._begin(backend, session_id, frame)
            frames.expect()
            chat.write(text)
        except (ValueError, NoSeatError, MetadataError) as refusal:
            ids = {key: echo(frame, key) for key in ("agent_id", "session_id")}
            backend.send({"event": "llm.chat.error", **ids, "call_id": ids["session_id"], "error": str(refusal)})

    async def leave(self, backend: Backend) -> None:
        """The connection is gone, and its sessions with it."""
        chats = [chat for (asker, _), (chat, _) in self._open.items() if asker is backend]
        for chat in chats:
            chat.hangup("closed")
        await asyncio.gather(*(chat.wait_ended() for chat in chats))

    async def _begin(self, backend: Backend, session_id: str, frame: Frame) -> tuple[Chat, TrialFrames]:
        if not session_id:
            raise ValueError(f"session_id: expected a text of at most {MAX_ECHO} characters")
        agent_id = echo(frame, "agent_id")
        registration = await self._hub.find(agent_id, backend.org)
        if registration is None:
            raise ValueError(f"Agent '{agent_id}' is not online")
        metadata: dict[str, Any] = check_metadata(frame.get("metadata") or {})
        frames = TrialFrames(agent_id, backend.send, is_holder=registration.holder is backend)
        place = backend, session_id

        def shown(fact: Fact) -> None:
            frames(fact)
            if isinstance(fact.event, ChatEnded | ChatFailed):
                self._open.pop(place, None)

        with self._hub.seat(registration, "chat") as seat:
            chat = self._chats.begin(registration, seat, shown, id=session_id, metadata=metadata)
            self._open[place] = chat, frames
        return chat, frames
