"""What the agent's side writes in a chat, whoever writes it: the model, the backend, or a person in its place.

A backend's message is shown at once, but never in the middle of an answer of the model: there it waits for a round of
tools or for the end. Source: protocol 3.12, 3.19, 5.3.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.conversation import Conversation
from pipeline.desk import CommandError, Handler, flag_of, optional_text_of, text_of
from pipeline.events import (
    BotFinished,
    BotInterrupted,
    ChatDone,
    ChatResponse,
    ChatToken,
    Event,
    MessageConfirmed,
    ReplyRejected,
)
from pipeline.messages import MAX_ID, MAX_TEXT, MAX_WAITING, REMEMBERED_IDS
from pipeline.voicing import new_id

REPLY_SECONDS = 30.0
"""How long a backend that writes the answers itself may bring nothing of one."""


@dataclass(slots=True, eq=False)
class _Message:
    id: str
    is_aside: bool
    """The model's history does not know of it."""
    text: str = ""
    ended: bool = False
    touched_at: float = 0.0
    """When something of it came last; the loop's clock."""


class Bubbles:
    """Owned by a chat, which says when a turn begins and ends."""

    def __init__(self, conversation: Conversation, publish: Callable[[Event], None]) -> None:
        self.user_message_id = ""
        """Of the user's last line: what a reply may be to."""
        self._conversation = conversation
        self._publish = publish
        self._loop = asyncio.get_running_loop()
        self._open: dict[str, _Message] = {}
        """Accepted, and without their last event."""
        self._waiting: deque[_Message] = deque()
        self._ids: deque[str] = deque(maxlen=REMEMBERED_IDS)
        self._in_turn = self._in_round = False
        self.is_final = False
        """The last line of this turn was shown."""
        self._reply: asyncio.Future[None] | None = None
        self._limit: asyncio.Timeout | None = None

    # --- the chat's side

    def begin_turn(self, user_message_id: str) -> None:
        """The user has written a line, which is being answered now."""
        self.user_message_id = user_message_id
        self._in_turn, self.is_final = True, False

    def end_turn(self) -> None:
        self._in_turn = self._in_round = False
        self._show_waiting()

    def open_round(self) -> None:
        """The model waits for its tools."""
        self._in_round = True
        self._show_waiting()

    def close_round(self) -> None:
        self._in_round = False

    def answer(self, message_id: str, text: str, *, final: bool) -> None:
        """A line of the model, or of the agent's configuration. ``final``: the last of this turn."""
        self.is_final = self.is_final or final
        self._publish(ChatDone(message_id=message_id, text=text, final=final))
        if text:
            self._conversation.add_assistant(message_id, text)
            self._publish(ChatResponse(message_id=message_id, text=text))

    async def answered(self) -> bool:
        """Until the backend has answered this turn; ``False`` when nothing of an answer came for ``REPLY_SECONDS``."""
        self._reply = self._loop.create_future()
        self._show_waiting()
        try:
            async with asyncio.timeout(REPLY_SECONDS) as self._limit:
                await self._reply
                return True
        except TimeoutError:
            return False
        finally:
            self._reply = self._limit = None

    def drop(self) -> None:
        """What is not written to its end never will be; its writers are told."""
        self._waiting.clear()
        for message in list(self._open.values()):
            self._refuse(message)

    # --- the backend's side

    def handlers(self) -> dict[str, Handler]:
        return {"bot.reply": self._whole, "bot.reply.stream": self._stream, "session.send": self._send}

    def _whole(self, frame: Mapping[str, Any]) -> None:
        message = self._accept(frame, aside=not frame.get("in_reply_to") and not flag_of(frame, "add_to_history"))
        if message is None:
            return
        try:
            message.text = optional_text_of(frame, "text", MAX_TEXT) or ""
        except CommandError:
            self._refuse(message)
            raise
        self._end(message)

    def _stream(self, frame: Mapping[str, Any]) -> None:
        action = frame.get("action")
        if action == "start":
            self._accept(frame, aside=False)
            return
        if action not in ("chunk", "end"):
            raise CommandError("action: expected start, chunk or end")
        message = self._open.get(text_of(frame, "message_id", MAX_ID))
        if message is None or message.ended:
            return
        if action == "end":
            self._end(message)
        elif token := optional_text_of(frame, "token", MAX_TEXT):
            self._append(message, token)

    def _send(self, frame: Mapping[str, Any]) -> dict[str, Any]:
        """A person writes this in place of the agent."""
        message = _Message(new_id(), is_aside=False, text=text_of(frame, "text", MAX_TEXT))
        self._hold(message)
        self._end(message)
        return {"event": "session.sent", "session_id": frame.get("session_id")}

    def _accept(self, frame: Mapping[str, Any], *, aside: bool) -> _Message | None:
        """A new message, or nothing when the user has gone on from what it answers. Raises ``CommandError``."""
        message = _Message(optional_text_of(frame, "message_id", MAX_ID) or new_id(), aside)
        if message.id in self._ids:
            raise CommandError("message_id: there was a message with this id")
        self._ids.append(message.id)
        in_reply_to = str(frame.get("in_reply_to") or "")[:MAX_ID]
        if in_reply_to not in ("", self.user_message_id):
            expected = self.user_message_id
            self._publish(ReplyRejected(message_id=message.id, in_reply_to=in_reply_to, expected_reply_to=expected))
            return None
        self._hold(message)
        return message

    def _hold(self, message: _Message) -> None:
        """Raises ``CommandError`` when it is one too many. Streams that were left alone make room."""
        message.touched_at = now = self._loop.time()
        for other in [*self._open.values()]:
            if not other.ended and now - other.touched_at > REPLY_SECONDS:
                self._refuse(other)
        self._open[message.id] = message
        if len(self._open) > MAX_WAITING:
            self._refuse(message)
            raise CommandError(f"at most {MAX_WAITING} messages may be written at once")

    def _append(self, message: _Message, token: str) -> None:
        message.text += token
        message.touched_at = self._loop.time()
        if self._limit:
            self._limit.reschedule(self._loop.time() + REPLY_SECONDS)
        if len(message.text) > MAX_TEXT:
            self._end(message)
            raise CommandError(f"a stream has at most {MAX_TEXT} characters; the rest is dropped")
        if self._may_show:
            self._publish(ChatToken(message_id=message.id, token=token, text=message.text))

    def _end(self, message: _Message) -> None:
        message.ended = True
        self._waiting.append(message)
        if self._may_show:
            self._show_waiting()

    @property
    def _may_show(self) -> bool:
        return not self._in_turn or self._in_round or self._reply is not None

    def _show_waiting(self) -> None:
        while self._waiting:
            message = self._waiting.popleft()
            text = message.text.strip()
            if not text:
                self._refuse(message)
                continue
            del self._open[message.id]
            self._conversation.add_assistant(message.id, text, aside=message.is_aside)
            self.is_final = self.is_final or not self._in_round
            self._publish(ChatDone(message_id=message.id, text=text, final=not self._in_round))
            self._publish(MessageConfirmed(message_id=message.id, text=text))
            self._publish(BotFinished(message_id=message.id, duration_ms=0, text=text))
            if self._reply and not self._reply.done():
                self._reply.set_result(None)

    def _refuse(self, message: _Message) -> None:
        if self._open.pop(message.id, None):
            event = BotInterrupted(message_id=message.id, played_ms=0, words_spoken=0, reason="cancelled")
            self._publish(event)
