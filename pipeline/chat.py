"""One chat: the same agent, typed. Lines are answered one after another, each with exactly one end.

Source: protocol 3.19, 5.3, 5.5.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from config.agent import AgentConfig
from config.identity import base_language
from config.patch import Patch
from pipeline.bubbles import Bubbles
from pipeline.desk import Desk, Handler, sound
from pipeline.engine import THOUGHT, EngineError, Engines
from pipeline.events import (
    ChatEnded,
    ChatError,
    ChatFailed,
    ChatMessage,
    ChatStarted,
    ChatToken,
    Event,
    LlmResponse,
    TurnEnd,
)
from pipeline.generation import MAX_ROUNDS, Generation
from pipeline.llm import LanguageModel, Message
from pipeline.mind import Mind
from pipeline.session import Reply
from pipeline.voicing import new_id

logger = logging.getLogger(__name__)

MAX_WAITING = 16
"""Lines that may wait for their turn."""

MAX_LINE = 16 * 1024
"""Characters of a line of the user."""

IDLE_SECONDS = 30 * 60.0
"""Without a line of the user a chat ends."""

LOADING_SECONDS = 20.0
RELEASE_SECONDS = 5.0


class Chat:
    """A ``pipeline.session.Session`` that is typed.

    ``publish`` gets every event, each once, in order, on the event loop. It begins with ``start`` and lasts until
    ``hangup``.
    """

    def __init__(
        self,
        *,
        id: str,  # noqa: A002
        agent: AgentConfig,
        engines: Engines,
        publish: Callable[[Event], None],
        metadata: Mapping[str, Any],
        history: Iterable[Message] = (),
    ) -> None:
        """``history``: what was said before in the same thread; who comes back is not greeted again."""
        self.id = id
        self._engines = engines
        self._publish = publish
        self._metadata = dict(metadata)
        self._mind = Mind(
            agent,
            channel="chat",
            publish=publish,
            clock=_now,
            on_configured=self._on_configured,
            on_paused=self._on_paused,
        )
        self._mind.conversation.extend(history)
        self._bubbles = Bubbles(self._mind.conversation, publish)
        self._desk = Desk(id, self._mind.handlers(), self._bubbles.handlers(), self._handlers())
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[str] = asyncio.Queue(MAX_WAITING)
        self._turns = 0
        self._answer: asyncio.Task[None] | None = None
        self._over: asyncio.Future[str] = self._loop.create_future()
        self._started = time.time()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin its own life: the first event is published now."""
        agent = self._mind.agent
        model = agent.llm.model if agent.llm and agent.llm.model else self._engines.choose_model(agent).name
        language = base_language(agent.language)
        self._publish(ChatStarted(language=language, model=model, metadata=self._metadata))
        self._task = asyncio.create_task(self._live(), name=f"chat {self.id}")

    def write(self, text: str) -> None:
        """A line of the user. It waits until those before it are answered; one too many, or one too long, is answered
        with an error.
        """
        text = sound(text).strip()
        if self._over.done() or not text:
            return
        if len(text) > MAX_LINE:
            self._publish(ChatError(error=f"A message has at most {MAX_LINE} characters", code="MESSAGE_TOO_LONG"))
            return
        try:
            self._lines.put_nowait(text)
        except asyncio.QueueFull:
            self._publish(ChatError(error="Too many messages wait for an answer", code="TOO_MANY_MESSAGES"))

    def set_context(self, key: str, value: str | None) -> None:
        """What the page shows; see ``Mind.set_context``."""
        self._mind.set_context(key, value)

    def messages(self) -> list[Message]:
        """What was said so far, for a thread to go on with."""
        return self._mind.conversation.history()

    # --- what the server does with it (pipeline.session.Session)

    def command(self, frame: Mapping[str, Any], reply: Reply) -> None:
        if self._over.done():
            self._desk.decline(frame, reply)
        else:
            self._desk.take(frame, reply)

    def reload(self, agent: AgentConfig) -> None:
        self._mind.reload(agent)

    def attend(self, present: bool) -> None:
        self._mind.attend(present)

    def hangup(self, reason: str) -> None:
        if not self._over.done():
            self._over.set_result(reason)

    async def wait_ended(self) -> None:
        if self._task:
            await asyncio.shield(self._task)

    # --- its life

    async def _live(self) -> None:
        """Owns every other task of the chat."""
        talk = asyncio.create_task(self._talk(), name=f"talk {self.id}")
        reason = await self._over
        talk.cancel()
        await asyncio.gather(talk, return_exceptions=True)
        self._bubbles.drop()
        now = time.time()
        if reason == "failed":
            self._publish(ChatFailed(error="The chat failed"))
        else:
            self._publish(
                ChatEnded(
                    reason=reason,
                    messages=self._mind.conversation.messages(),
                    usage=self._mind.briefing.meter.rows() or None,
                    duration_seconds=round(now - self._started, 3),
                    started_at=round(self._started, 3),
                    ended_at=round(now, 3),
                )
            )
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._mind.aclose()
        except TimeoutError:
            logger.warning("chat %s: a tool did not let go in time", self.id)

    async def _talk(self) -> None:
        try:
            await self._begin()
            while (text := await self._next_line()) is not None:
                await self._take_turn(text)
            self.hangup("idle_timeout")
        except Exception:
            logger.exception("chat %s broke", self.id)
            self.hangup("failed")

    async def _begin(self) -> None:
        await self._mind.prepare(0)  # so that variables are in place before the first line
        agent = self._mind.agent
        text = self._mind.briefing.render(agent.greeting_for(agent.language) or "").strip()
        if agent.greeting_in_chat and text and not self._mind.conversation.messages():
            self._bubbles.answer(new_id(), text, final=True)

    async def _next_line(self) -> str | None:
        """``None`` when the user has gone quiet for good."""
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                return await self._lines.get()
        except TimeoutError:
            return None

    async def _take_turn(self, text: str) -> None:
        """From a line of the user to the end of the answer, which comes whatever happens."""
        self._turns += 1
        self._bubbles.begin_turn(uuid.uuid4().hex)
        self._publish(ChatMessage(message_id=self._bubbles.user_message_id, text=text))
        self._mind.conversation.add_user(text)
        self._answer = answer = asyncio.create_task(self._reply(text), name=f"answer {self.id}")
        try:
            await asyncio.wait({answer})
        finally:  # the chat is over
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)
        failure = None if answer.cancelled() else answer.exception()
        if isinstance(failure, EngineError):
            self._publish(ChatError(error=str(failure), code="LLM_FAILED"))
        elif failure:
            logger.error("chat %s: an answer broke", self.id, exc_info=failure)
            self._publish(ChatError(error="The reply broke", code="INTERNAL"))
        elif not self._bubbles.is_final:
            self._bubbles.answer(new_id(), "", final=True)
        self._bubbles.end_turn()

    async def _reply(self, text: str) -> None:
        """Raises ``EngineError``."""
        if self._mind.is_paused:
            return  # the person who took over answers when they like
        if self._mind.answers:
            await self._think()
        else:
            message_id = self._bubbles.user_message_id
            self._publish(TurnEnd(turn_id=self._turns, message_id=message_id, text=text, probability=1.0, latency_ms=0))
            if not await self._bubbles.answered():
                raise EngineError("No answer came in time")

    async def _think(self) -> None:
        """From the model's first word through rounds of tools to its last."""
        await self._mind.tools.settled()
        await self._mind.prepare(self._turns)
        with suppress(TimeoutError):
            async with asyncio.timeout(LOADING_SECONDS):
                await self._engines.ready(self._mind.agent, THOUGHT)
        model = self._engines.choose_model(self._mind.agent)
        try:
            for rounds in range(MAX_ROUNDS + 1):
                if not await self._pass(model, with_tools=rounds < MAX_ROUNDS):
                    return
        finally:
            self._mind.conversation.end_reply()

    async def _pass(self, model: LanguageModel, *, with_tools: bool) -> bool:
        """One pass of the model. Returns whether another one is to follow, after its tools."""
        question = self._mind.ask(model, self._mind.agent.language)
        generation = Generation(question if with_tools else replace(question, tools=()))
        message_id = new_id()
        try:
            async for piece in generation.deltas():
                self._publish(ChatToken(message_id=message_id, token=piece, text=generation.text))
        except asyncio.CancelledError:
            if not self._over.done():  # the backend wants no more of it
                self._bubbles.answer(message_id, generation.text.strip(), final=True)
            raise
        reason = generation.finish_reason
        self._publish(LlmResponse(text=generation.text, finish_reason=reason, engine=generation.engine))
        text = generation.text.strip()
        if not generation.calls:
            self._bubbles.answer(message_id, text, final=True)
            return False
        if text:
            self._bubbles.answer(message_id, text, final=False)
        current = self._mind.tools.start(generation.calls)
        self._bubbles.open_round()
        await self._mind.tools.finish(current)
        self._bubbles.close_round()
        return current.wants_followup

    # --- commands of the backend

    def _handlers(self) -> dict[str, Handler]:
        return {"bot.cancel": self._cancel, "bot.clear": self._cancel, "call.hangup": self._hang_up}

    def _on_configured(self, patch: Patch) -> None:
        """Counts from the next turn on."""

    def _on_paused(self) -> None:
        """What the model was writing ends where it is: a person writes now."""
        if self._answer and self._mind.agent.generates:
            self._answer.cancel()

    def _cancel(self, frame: Mapping[str, Any]) -> None:
        self._bubbles.drop()
        if self._answer:
            self._answer.cancel()

    def _hang_up(self, frame: Mapping[str, Any]) -> None:
        self.hangup("hangup")


def _now() -> datetime:
    return datetime.now(UTC)
