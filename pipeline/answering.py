"""What the bot replies: one reply at a time, each a task that thinks, speaks and apologises when either fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.briefing import Question
from pipeline.conversation import Conversation
from pipeline.engine import EngineError
from pipeline.events import CallError, Event, LlmError, LlmResponse, LlmThinking, TurnLatency
from pipeline.generation import MAX_ROUNDS, Generation, closing
from pipeline.hearing import Turn
from pipeline.latency import Latency
from pipeline.speakable import Spoken
from pipeline.speaking import Memory, Speaking, Utterance
from pipeline.tools import Round, Tools
from pipeline.voicing import Voicing, new_utterance

logger = logging.getLogger(__name__)

CLAUSES_AHEAD = 16
"""Clauses written ahead of the voice before the language model has to wait."""

FILLER_SECONDS = 1.0
"""How long a round of tools may take before the agent's filler is said."""

Work = Callable[[], Coroutine[Any, Any, None]]


@dataclass(slots=True, eq=False)
class _Draft:
    """An answer on its way: thought and synthesised, but neither heard nor told before it is ``confirmed``."""

    turn: Turn
    text: str
    """What it answers."""
    question: Question
    utterance: Utterance
    latency: Latency
    is_followup: bool = False
    """It goes on after a round of tools, and may have nothing to add."""
    confirmed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[Round | None] | None = None

    def withdraw(self) -> None:
        if self.task:
            self.task.cancel()


class Answering:
    """The bot's replies in one call. A reply is over when its last sound was written, not when it was heard."""

    def __init__(
        self,
        *,
        voicing: Voicing,
        speaking: Speaking,
        conversation: Conversation,
        tools: Tools,
        prepare: Callable[[int], Awaitable[None]],
        filler: Callable[[], str],
        publish: Callable[[Event], None],
    ) -> None:
        """``prepare`` lets the backend set something before turn N is answered.

        ``filler`` is what to say while tools take long; empty: nothing.
        """
        self.message_ids: list[str] = []
        """Of the present or last reply, not of an apology in it."""
        self._voicing = voicing
        self._speaking = speaking
        self._conversation = conversation
        self._tools = tools
        self._prepare = prepare
        self._filler = filler
        self._publish = publish
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()  # with those that were cancelled and are not over
        self._draft: _Draft | None = None

    @property
    def busy(self) -> bool:
        return self._task is not None and not self._task.done()

    def greet(self, text: str) -> None:
        """Say a text that is known in full, and stands in the history from now on."""
        utterance = new_utterance(text, Memory.NONE)
        self._conversation.add_assistant(utterance.id, text)
        self._reply(lambda: self._voicing.recite(utterance), answers_turn=False)

    def prepare(self, turn: Turn, question: Question) -> None:
        """Begin to answer what the user may go on with: nothing of it is heard or told before ``answer``."""
        self.withdraw()
        self._draft = self._begin(turn, question)

    def withdraw(self) -> None:
        """The user goes on: what was prepared vanishes without a trace."""
        if self._draft:
            self._draft.withdraw()
        self._draft = None

    def answer(self, turn: Turn, ask: Callable[[], Question]) -> None:
        """Have the language model answer and say it as it is written, unless that is prepared already."""
        draft, self._draft = self._draft, None
        self._reply(lambda: self._lead(turn, ask, draft), answers_turn=True)
        self._publish(LlmThinking(turn=turn.id))
        if draft and self._task:  # which may be cancelled before it begins
            self._task.add_done_callback(lambda _: draft.withdraw())

    def apologise(self) -> None:
        """Something was lost that the user said."""
        self._reply(lambda: self._voicing.apologise(voice_works=True), answers_turn=False)

    def stop(self) -> None:
        """Think and synthesise no further. What waits to be heard is ``Speaking``'s to drop; tools run to their end."""
        self.withdraw()
        if self._task:
            self._task.cancel()

    async def aclose(self) -> None:
        self.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- one reply

    def _reply(self, work: Work, *, answers_turn: bool) -> None:
        self.stop()
        self.message_ids = []
        self._speaking.begin_reply(answers_turn=answers_turn)
        self._task = self._spawn(self._guard(work))

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name="reply")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guard(self, work: Work) -> None:
        """A fault of ours costs this reply, not the call."""
        try:
            await work()
        except Exception:
            logger.exception("A reply broke")
            self._publish(CallError(error="The reply broke", code="INTERNAL"))
            await self._voicing.apologise(voice_works=False)

    async def _lead(self, turn: Turn, ask: Callable[[], Question], draft: _Draft | None) -> None:
        """From the end of a turn through rounds of tools to the last word."""
        await self._tools.settled()
        await self._prepare(turn.id)
        question = ask()
        if draft is None or (draft.turn.id, draft.text, draft.question) != (turn.id, turn.text, question):
            if draft:
                draft.withdraw()
            draft = self._begin(turn, question)
        draft.latency.begin(turn.silent_since)
        draft.latency.reach("turn", turn.decided)
        draft.latency.reach("stt", turn.final)
        try:
            current = await self._finish(draft)
            rounds = 0
            while current is not None:
                await self._await_tools(current)
                if not current.wants_followup:
                    return
                rounds += 1
                question = ask() if rounds < MAX_ROUNDS else replace(ask(), tools=())
                current = await self._finish(self._begin(turn, question, is_followup=True))
        finally:
            self._conversation.end_reply()

    def _begin(self, turn: Turn, question: Question, *, is_followup: bool = False) -> _Draft:
        utterance = new_utterance("", Memory.HISTORY, answers_turn=True)
        draft = _Draft(turn, turn.text, question, utterance, Latency(), is_followup)
        draft.task = self._spawn(self._answer(draft))
        return draft

    async def _finish(self, draft: _Draft) -> Round | None:
        """The draft may be heard. Returns the tools that the model wants, when all else is said."""
        self.message_ids.append(draft.utterance.id)
        draft.confirmed.set()
        try:
            return await draft.task if draft.task else None
        finally:
            draft.withdraw()

    async def _await_tools(self, current: Round) -> None:
        if filler := self._filler():
            try:
                async with asyncio.timeout(FILLER_SECONDS):
                    await self._tools.finish(current)
            except TimeoutError:
                if not self._speaking.active:
                    await self._voicing.recite(new_utterance(filler, Memory.ASIDE, answers_turn=True))
        await self._tools.finish(current)

    async def _answer(self, draft: _Draft) -> Round | None:
        utterance, latency = draft.utterance, draft.latency
        if not draft.is_followup:
            utterance.on_first_sound = lambda: latency.reach("tts", self._loop.time())
            utterance.on_first_packet = lambda: self._report(draft)
        written: asyncio.Queue[Spoken | None] = asyncio.Queue(CLAUSES_AHEAD)
        async with asyncio.TaskGroup() as group:
            writer = group.create_task(self._write(draft, written))
            silent = await self._voicing.say(utterance, _taken(written), draft.confirmed)
            if silent:
                writer.cancel()
        await draft.confirmed.wait()
        current, thoughtless = (None, None) if silent else writer.result()
        if silent:
            self._publish(CallError(error=str(silent), code="TTS_FAILED"))
        if thoughtless:
            self._publish(LlmError(error=str(thoughtless), code="LLM_FAILED"))
        if silent or thoughtless:
            await self._voicing.apologise(voice_works=not silent)
        return current

    async def _write(
        self, draft: _Draft, written: asyncio.Queue[Spoken | None]
    ) -> tuple[Round | None, EngineError | None]:
        """Put what can be spoken of the answer into ``written``, clause by clause, then ``None``."""
        said = False
        error = None
        current = None
        generation = Generation(draft.question)
        try:
            async with closing(self._voicing.pieces(self._timed(generation, draft.latency))) as pieces:
                async for piece in pieces:
                    draft.latency.reach("clause", self._loop.time())
                    said = True
                    await written.put(piece)
            await draft.confirmed.wait()
            if generation.text or generation.calls or not draft.is_followup:
                reason = generation.finish_reason
                self._publish(LlmResponse(text=generation.text, finish_reason=reason, engine=generation.engine))
            if said:
                self._conversation.plan(draft.utterance.id, generation.text.strip())
            if generation.calls:
                current = self._tools.start(generation.calls)
            elif not said and not draft.is_followup:
                error = EngineError("The language model had nothing to say")
        except EngineError as failure:
            error = failure
        await written.put(None)
        return current, error

    async def _timed(self, generation: Generation, latency: Latency) -> AsyncGenerator[str, None]:
        async with closing(generation.deltas()) as deltas:
            async for text in deltas:
                latency.reach("llm", self._loop.time())
                yield text

    def _report(self, draft: _Draft) -> None:
        draft.latency.reach("send", self._loop.time())
        if stages := draft.latency.stages():
            total = sum(stages.values())
            self._publish(
                TurnLatency(turn_id=draft.turn.id, message_id=draft.utterance.id, stages=stages, total_ms=total)
            )


async def _taken(queue: asyncio.Queue[Spoken | None]) -> AsyncGenerator[Spoken, None]:
    while (piece := await queue.get()) is not None:
        yield piece
