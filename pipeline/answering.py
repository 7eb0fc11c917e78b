"""What the bot replies: one reply at a time, each a task that thinks, speaks and apologises when either fails."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pipeline.captions import Captions
from pipeline.clauses import ClauseSplitter, clauses
from pipeline.engine import EngineError
from pipeline.events import CallError, Event, LlmError, LlmResponse, LlmThinking, TurnLatency
from pipeline.hearing import Turn
from pipeline.latency import Latency
from pipeline.llm import GenerateOptions, LanguageModel, Message, TextDelta
from pipeline.speakable import Spoken, spoken
from pipeline.speaking import Speaking, Utterance
from pipeline.tts import SpeechChunk, TextToSpeech

logger = logging.getLogger(__name__)

TOKEN_SECONDS = 15.0
"""How long a language model may be silent."""

AUDIO_SECONDS = 10.0
"""How long a voice may take over a clause."""

CLAUSES_AHEAD = 16
"""Clauses written ahead of the voice before the language model has to wait."""

Work = Callable[[], Coroutine[Any, Any, None]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Voice:
    """Who speaks, and the recording that stands in when they cannot."""

    engine: TextToSpeech
    name: str
    language: str
    speed: float
    apology: SpeechChunk


@dataclass(frozen=True, slots=True)
class Question:
    """What a language model is asked."""

    engine: LanguageModel
    messages: Sequence[Message]
    options: GenerateOptions


@dataclass(slots=True, eq=False)
class _Draft:
    """An answer on its way: thought and synthesised, but neither heard nor told before it is ``confirmed``."""

    turn_id: int
    text: str
    """What it answers."""
    utterance: Utterance
    latency: Latency
    confirmed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Answering:
    """The bot's replies in one call. A reply is over when its last sound was written, not when it was heard."""

    def __init__(self, speaking: Speaking, publish: Callable[[Event], None], voice: Voice) -> None:
        self.voice = voice
        """Whoever speaks the next reply."""
        self.answers_turn = False
        """The present or last reply answers a turn of the user."""
        self.message_id = ""
        """Of the present or last reply, not of an apology in it."""
        self._speaking = speaking
        self._publish = publish
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()  # with those that were cancelled and are not over
        self._draft: _Draft | None = None

    @property
    def busy(self) -> bool:
        return self._task is not None and not self._task.done()

    def greet(self, text: str) -> None:
        """Say a text that is known in full."""
        utterance = self._utterance(text, remember=False)
        self._reply(lambda: self._recite(utterance), utterance, answers_turn=False)

    def prepare(self, turn: Turn, question: Question) -> None:
        """Begin to answer what the user may go on with: nothing of it is heard or told before ``answer``."""
        self.withdraw()
        self._draft = self._begin(turn, question)

    def withdraw(self) -> None:
        """The user goes on: what was prepared vanishes without a trace."""
        if self._draft and self._draft.task:
            self._draft.task.cancel()
        self._draft = None

    def answer(self, turn: Turn, question: Question) -> None:
        """Have the language model answer and say it as it is written, unless that is prepared already."""
        draft = self._draft
        if draft is None or (draft.turn_id, draft.text) != (turn.id, turn.text):
            self.withdraw()
            draft = self._begin(turn, question)
        self._draft = None
        self._take_over(draft.utterance, draft.task, answers_turn=True)
        self._publish(LlmThinking(turn=turn.id))
        draft.latency.begin(turn.silent_since)
        draft.latency.reach("turn", turn.decided)
        draft.latency.reach("stt", turn.final)
        draft.confirmed.set()

    def apologise(self) -> None:
        """Something was lost that the user said."""
        utterance = self._utterance("", remember=False)
        self._reply(lambda: self._apologise(voice_works=True), utterance, answers_turn=False)

    def stop(self) -> None:
        """Think and synthesise no further. What waits to be heard is ``Speaking``'s to drop."""
        self.withdraw()
        if self._task:
            self._task.cancel()

    async def aclose(self) -> None:
        self.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _utterance(self, text: str, *, remember: bool) -> Utterance:
        return Utterance(f"msg_{uuid.uuid4().hex}", text, remember)

    def _begin(self, turn: Turn, question: Question) -> _Draft:
        draft = _Draft(turn.id, turn.text, self._utterance("", remember=True), Latency())
        draft.task = self._spawn(lambda: self._answer(draft, question), draft.confirmed)
        return draft

    def _reply(self, work: Work, utterance: Utterance, *, answers_turn: bool) -> None:
        known = asyncio.Event()
        known.set()
        self._take_over(utterance, self._spawn(work, known), answers_turn=answers_turn)

    def _spawn(self, work: Work, confirmed: asyncio.Event) -> asyncio.Task[None]:
        task = asyncio.create_task(self._guard(work, confirmed), name="reply")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _take_over(self, utterance: Utterance, task: asyncio.Task[None] | None, *, answers_turn: bool) -> None:
        """This is the present reply."""
        self.stop()
        self.answers_turn, self.message_id = answers_turn, utterance.id
        self._speaking.begin_reply()
        self._task = task

    async def _guard(self, work: Work, confirmed: asyncio.Event) -> None:
        """A fault of ours costs this reply, not the call."""
        try:
            await work()
        except Exception:
            logger.exception("A reply broke")
            await confirmed.wait()
            self._publish(CallError(error="The reply broke", code="INTERNAL"))
            await self._apologise(voice_works=False)

    async def _recite(self, utterance: Utterance) -> None:
        splitter = ClauseSplitter()
        pieces = [spoken(clause, self.voice.language) for clause in splitter.feed(utterance.text) + splitter.flush()]
        error = await self._say(utterance, _each(list(filter(None, pieces))))
        if error:
            self._publish(CallError(error=str(error), code="TTS_FAILED"))
            await self._apologise(voice_works=False)

    async def _answer(self, draft: _Draft, question: Question) -> None:
        utterance, latency = draft.utterance, draft.latency
        utterance.on_first_sound = lambda: latency.reach("tts", self._loop.time())
        utterance.on_first_packet = lambda: self._report(draft)
        written: asyncio.Queue[Spoken | None] = asyncio.Queue(CLAUSES_AHEAD)
        async with asyncio.TaskGroup() as group:
            writer = group.create_task(self._write(question, draft, written))
            silent = await self._say(utterance, _taken(written), draft.confirmed)
            if silent:
                writer.cancel()
        await draft.confirmed.wait()
        thoughtless = None if silent else writer.result()
        if silent:
            self._publish(CallError(error=str(silent), code="TTS_FAILED"))
        if thoughtless:
            self._publish(LlmError(error=str(thoughtless), code="LLM_FAILED"))
        if silent or thoughtless:
            await self._apologise(voice_works=not silent)

    async def _write(
        self, question: Question, draft: _Draft, written: asyncio.Queue[Spoken | None]
    ) -> EngineError | None:
        """Put what can be spoken of the answer into ``written``, clause by clause, then ``None``."""
        said = False
        error = None
        answer = _Answer()
        try:
            async with _closing(clauses(self._text(question, draft.latency, answer))) as parts:
                async for part in parts:
                    if piece := spoken(part, self.voice.language):
                        draft.latency.reach("clause", self._loop.time())
                        said = True
                        await written.put(piece)
            await draft.confirmed.wait()
            self._publish(LlmResponse(text=answer.text, finish_reason="stop", engine=answer.engine))
            if not said:
                error = EngineError("The language model had nothing to say")
        except EngineError as failure:
            error = failure
        await written.put(None)
        return error

    async def _text(self, question: Question, latency: Latency, answer: _Answer) -> AsyncGenerator[str, None]:
        """The text of the answer as it comes. Raises ``EngineError``."""
        async with _closing(question.engine.generate(question.messages, (), question.options)) as deltas:
            while True:
                try:
                    async with asyncio.timeout(TOKEN_SECONDS):
                        delta = await anext(deltas)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    raise EngineError("The language model took too long") from None
                if isinstance(delta, TextDelta):
                    latency.reach("llm", self._loop.time())
                    answer.text += delta.text
                    answer.engine = delta.engine
                    yield delta.text

    async def _say(
        self, utterance: Utterance, pieces: AsyncIterator[Spoken], confirmed: asyncio.Event | None = None
    ) -> EngineError | None:
        """Speak the pieces as they come, but nothing before it is ``confirmed``.

        The voice's time runs only while it has something to speak.
        """
        voice, captions = self.voice, Captions()
        said = False

        async def timed(limit: asyncio.Timeout) -> AsyncGenerator[str, None]:
            nonlocal said
            while True:
                limit.reschedule(None)  # what the voice waits for now is not its own fault
                piece = await anext(pieces, None)
                limit.reschedule(self._loop.time() + AUDIO_SECONDS)
                if piece is None:
                    return
                said = True
                captions.expect(piece)
                yield piece.text

        begun = confirmed is None or confirmed.is_set()
        if begun:
            self._speaking.begin(utterance)
        try:
            async with asyncio.timeout(None) as limit, _closing(pieces), _closing(timed(limit)) as words:
                sound = voice.engine.speak(words, voice=voice.name, language=voice.language, speed=voice.speed)
                async with _closing(sound) as chunks:
                    async for chunk in chunks:
                        if confirmed and not begun:
                            limit.reschedule(None)
                            await confirmed.wait()
                            self._speaking.begin(utterance)
                            begun = True
                        self._speaking.write(utterance, SpeechChunk(chunk.pcm, captions.written(chunk.words)))
                        limit.reschedule(None)
                        await self._speaking.room()
                        limit.reschedule(self._loop.time() + AUDIO_SECONDS)
        except TimeoutError:
            return EngineError("The voice took too long")
        except EngineError as error:
            return error
        finally:
            self._speaking.complete(utterance)
        return EngineError("The voice made no sound") if said and not utterance.has_audio else None

    async def _apologise(self, *, voice_works: bool) -> None:
        recording = self.voice.apology
        text = " ".join(word.word for word in recording.words)
        utterance = self._utterance(text, remember=False)
        if voice_works:
            await self._say(utterance, _each([spoken(text, self.voice.language)]))
        if not utterance.has_audio:
            utterance = self._utterance(text, remember=False)
            self._speaking.begin(utterance)
            self._speaking.write(utterance, recording)
            self._speaking.complete(utterance)

    def _report(self, draft: _Draft) -> None:
        draft.latency.reach("send", self._loop.time())
        if stages := draft.latency.stages():
            total = sum(stages.values())
            self._publish(
                TurnLatency(turn_id=draft.turn_id, message_id=draft.utterance.id, stages=stages, total_ms=total)
            )


@dataclass(slots=True)
class _Answer:
    """What the language model wrote so far."""

    text: str = ""
    engine: str = ""


async def _each(pieces: Sequence[Spoken]) -> AsyncGenerator[Spoken, None]:
    for piece in pieces:
        yield piece


async def _taken(queue: asyncio.Queue[Spoken | None]) -> AsyncGenerator[Spoken, None]:
    while (piece := await queue.get()) is not None:
        yield piece


@asynccontextmanager
async def _closing(stream: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Close an engine's iterator when it is left, which cancels the work behind it."""
    try:
        yield stream
    finally:
        if (aclose := getattr(stream, "aclose", None)) is not None:
            await aclose()
