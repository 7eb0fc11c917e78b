"""How a typed session begins, whoever types: a page on its own socket, or a backend that tries an agent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.chat import Chat
from pipeline.engine import Engines
from pipeline.llm import Message
from server.feed import Feed, Sink, WriteDown, log_fact
from server.frames import BackendFrames
from server.hub import Hub, Seat
from server.registry import Registration


class Chats:
    """Begins chats in seats of the hub."""

    def __init__(self, hub: Hub, engines: Engines, write_down: WriteDown) -> None:
        self._hub = hub
        self._engines = engines
        self._write_down = write_down

    def begin(
        self,
        registration: Registration,
        seat: Seat,
        shown: Sink,
        *,
        id: str,  # noqa: A002
        metadata: Mapping[str, Any],
        language: str | None = None,
        history: Iterable[Message] = (),
    ) -> Chat:
        """A chat that has begun. ``shown`` is the sink of who types; ``language``: in place of the agent's.

        Raises ``ValueError`` when the organisation has a session of this id.
        """
        agent = registration.agent_on("chat")
        if language:
            agent = agent.model_copy(update={"language": language})
        key = registration.key
        feed = Feed(id, BackendFrames(self._hub.tell, key), shown, log_fact, self._write_down(key, id))
        chat = Chat(
            id=id,
            agent=agent,
            engines=self._engines.of(registration.key.org),
            publish=feed.publish,
            metadata=metadata,
            history=history,
        )
        seat.take(chat)
        chat.start()
        return chat
