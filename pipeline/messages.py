"""What the backend has the bot say in a call: message after message. Source: protocol 3.11, 3.12, 8.7."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.desk import CommandError, Handler, flag_of, optional_text_of, text_of
from pipeline.events import CallError, Event, ReplyRejected
from pipeline.speaking import Memory, Speaking, Utterance
from pipeline.voicing import Voicing, new_utterance

logger = logging.getLogger(__name__)

MAX_WAITING = 64
"""Messages of one call that are not said yet."""

MAX_TEXT = 32 * 1024
"""Characters of one message."""

MAX_ID = 128
REMEMBERED_IDS = 1_000

STREAM_SECONDS = 30.0
"""How long a stream may bring nothing before it counts as ended."""

REPLY_SECONDS = 10.0
"""How long a backend that writes the answers itself is thought to be at it after a turn."""


@dataclass(slots=True, eq=False)
class _Message:
    utterance: Utterance
    in_reply_to: str
    """Id of the user's message; empty: of none."""
    pieces: asyncio.Queue[str | None] = field(default_factory=asyncio.Queue)
    """Its text as it comes, then ``None``."""
    length: int = 0
    due: asyncio.Event = field(default_factory=asyncio.Event)
    """It may be heard: what it answers is surely over."""
    ended: bool = False


class Messages:
    """One queue for each call. Every message that was accepted gets exactly one terminal event."""

    def __init__(
        self,
        *,
        voicing: Voicing,
        speaking: Speaking,
        publish: Callable[[Event], None],
        answerable: Callable[[], tuple[str, bool]],
    ) -> None:
        """``answerable``: id of the user's message that a reply may be to, and whether that turn is over."""
        self.on_hold = False
        """Nothing is said."""
        self.reply_ids: list[str] = []
        """Of the messages that replied to the last turn."""
        self._voicing = voicing
        self._speaking = speaking
        self._publish = publish
        self._answerable = answerable
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Message] = deque()
        self._ids: deque[str] = deque(maxlen=REMEMBERED_IDS)
        self._expected_until = 0.0
        self._task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def handlers(self) -> dict[str, Handler]:
        return {"bot.reply": self._reply, "bot.reply.stream": self._stream}

    @property
    def busy(self) -> bool:
        """Something is said or about to be, or the backend owes an answer."""
        return bool(self._queue) or self._loop.time() < self._expected_until

    def say(self, text: str) -> str:
        """Words of a person who has taken over: they are in the history. Returns the id of the message."""
        message = _Message(new_utterance(text, Memory.HISTORY), "")
        message.utterance.owed = True
        if self._is_current(message):
            self._accept(message, text)
        return message.utterance.id

    def expect(self, message_id: str, *, awaited: bool) -> None:
        """A turn is over that the server does not answer; ``awaited``: but the backend does. Else see ``confirm``."""
        self._speaking.begin_reply(answers_turn=True)
        self.confirm(message_id)
        self._expected_until = self._loop.time() + REPLY_SECONDS if awaited and not self._queue else 0.0

    def confirm(self, message_id: str) -> None:
        """The user's message is complete: replies to it may be heard, those to what it seemed to be are obsolete."""
        self.reply_ids = []
        obsolete = [each for each in self._queue if not each.due.is_set() and each.in_reply_to != message_id]
        for message in obsolete:
            self._reject(message, message_id)
        self._drop(obsolete)
        for message in self._queue:
            message.due.set()

    def withdraw(self) -> None:
        """The user goes on: replies to what they said so far are obsolete."""
        self._expected_until = 0.0
        self._drop([message for message in self._queue if message.in_reply_to])

    def drop(self) -> None:
        """Say nothing of all that waits. What is being said is ``Speaking``'s to interrupt, before this."""
        self._expected_until = 0.0
        self._drop(list(self._queue))

    def cancel(self, message_id: str | None) -> bool:
        """Say no more of this message, ``None``: of what is being said. ``False``: there is no such."""
        current = self._speaking.current
        if current and message_id in (None, current.id):
            self._speaking.interrupt("cancelled")
            message_id = current.id
        found = [message for message in self._queue if message_id in (None, message.utterance.id)][:1]
        self._drop(found)
        return bool(found) or current is not None

    async def aclose(self) -> None:
        self.drop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- commands

    def _reply(self, frame: Mapping[str, Any]) -> None:
        message = self._message(frame)
        if message.in_reply_to:
            memory = Memory.HISTORY  # the answer to a turn, whoever writes it
        else:
            memory = Memory.HISTORY if flag_of(frame, "add_to_history") else Memory.ASIDE
        try:
            text = optional_text_of(frame, "text", MAX_TEXT) or ""
        except CommandError:
            self._refuse(message)
            raise
        message.utterance.memory = memory
        message.utterance.text = text
        if self._is_current(message):
            self._accept(message, text)

    def _stream(self, frame: Mapping[str, Any]) -> None:
        match frame.get("action"):
            case "start":
                message = self._message(frame)
                message.utterance.owed = False  # not before something of it came
                if self._is_current(message):
                    self._enqueue(message)
            case "chunk":
                self._chunk(self._open(frame), optional_text_of(frame, "token", MAX_TEXT) or "")
            case "end":
                if (stream := self._open(frame)) is not None:
                    self._end(stream)
            case _:
                raise CommandError("action: expected start, chunk or end")

    def _chunk(self, message: _Message | None, token: str) -> None:
        if message is None or not token:  # of a stream that was cancelled or rejected the backend learns from events
            return
        message.utterance.owed = True
        message.length += len(token)
        message.pieces.put_nowait(token)
        if message.length > MAX_TEXT:
            self._end(message)
            raise CommandError(f"a stream has at most {MAX_TEXT} characters; the rest is dropped")

    def _end(self, message: _Message) -> None:
        message.ended = True
        message.pieces.put_nowait(None)

    def _message(self, frame: Mapping[str, Any]) -> _Message:
        """Raises ``CommandError`` when its id cannot be one."""
        message_id = optional_text_of(frame, "message_id", MAX_ID)
        utterance = new_utterance("", Memory.HISTORY)
        if message_id:
            if message_id in self._ids:
                raise CommandError("message_id: there was a message with this id")
            utterance.id = message_id
        self._ids.append(utterance.id)
        utterance.owed = True
        in_reply_to = frame.get("in_reply_to") or ""
        return _Message(utterance, str(in_reply_to)[:MAX_ID])

    def _open(self, frame: Mapping[str, Any]) -> _Message | None:
        message_id = text_of(frame, "message_id", MAX_ID)
        return next((each for each in self._queue if each.utterance.id == message_id and not each.ended), None)

    def _is_current(self, message: _Message) -> bool:
        """Whether it may be said; if not, it has had its last event."""
        expected, over = self._answerable()
        if message.in_reply_to and message.in_reply_to != expected:
            self._reject(message, expected)
            return False
        if self.on_hold or len(self._queue) >= MAX_WAITING:
            self._refuse(message)
            if self.on_hold:
                return False
            raise CommandError(f"at most {MAX_WAITING} messages may wait to be said")
        if over or not message.in_reply_to:
            message.due.set()
        return True

    def _reject(self, message: _Message, expected: str) -> None:
        message.utterance.closed = True
        rejected = {"message_id": message.utterance.id, "in_reply_to": message.in_reply_to}
        self._publish(ReplyRejected(**rejected, expected_reply_to=expected))

    def _refuse(self, message: _Message) -> None:
        message.utterance.owed = True
        self._speaking.refuse(message.utterance)

    # --- the queue

    def _accept(self, message: _Message, text: str) -> None:
        message.pieces.put_nowait(text)
        self._end(message)
        self._enqueue(message)

    def _enqueue(self, message: _Message) -> None:
        message.utterance.answers_turn = bool(message.in_reply_to)
        if not message.in_reply_to and not self.busy and not self._speaking.active:
            self._speaking.begin_reply(answers_turn=False)
        self._queue.append(message)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="messages")
            self._tasks.add(self._task)
            self._task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        """Say one after another."""
        while self._queue:
            message = self._queue[0]
            await message.due.wait()
            self._expected_until = 0.0
            if message.in_reply_to:
                self.reply_ids.append(message.utterance.id)
            try:
                await self._voicing.tell(message.utterance, self._voicing.pieces(self._text(message)))
            except Exception:
                logger.exception("A message broke")
                self._publish(CallError(error="The message broke", code="INTERNAL"))
            self._queue.remove(message)
        self._task = None

    async def _text(self, message: _Message) -> AsyncGenerator[str, None]:
        while True:
            try:
                async with asyncio.timeout(STREAM_SECONDS):
                    piece = await message.pieces.get()
            except TimeoutError:
                piece = None
            if piece is None:
                message.ended = True
                return
            yield piece

    def _drop(self, dropped: list[_Message]) -> None:
        if not dropped:
            return
        if dropped[0] is self._queue[0] and self._task:  # it is being said
            self._task.cancel()
            self._task = None
        for message in dropped:
            self._queue.remove(message)
            message.ended = True
            self._speaking.refuse(message.utterance)
        if self._queue and self._task is None:
            rest, self._queue = self._queue, deque()
            for message in rest:
                self._enqueue(message)
