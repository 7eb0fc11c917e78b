"""What the bot replies: one reply at a time, each a task that thinks, speaks and apologises when either fails."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from pipeline.clauses import ClauseSplitter, clauses
from pipeline.engine import EngineError
from pipeline.events import CallError, Event, LlmError, LlmResponse, LlmThinking, TurnLatency
from pipeline.hearing import Turn
from pipeline.latency import Latency
from pipeline.llm import GenerateOptions, LanguageModel, Message, TextDelta
from pipeline.speakable import speakable
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

    @property
    def busy(self) -> bool:
        return self._task is not None and not self._task.done()

    def greet(self, text: str) -> None:
        """Say a text that is known in full."""
        utterance = self._utterance(text, remember=False)
        self._reply(lambda: self._recite(utterance), utterance, answers_turn=False)

    def answer(self, turn: Turn, question: Question) -> None:
        """Have the language model answer and say it as it is written."""
        utterance = self._utterance("", remember=True)
        self._reply(lambda: self._answer(utterance, turn, question), utterance, answers_turn=True)

    def apologise(self) -> None:
        """Something was lost that the user said."""
        utterance = self._utterance("", remember=False)
        self._reply(lambda: self._apologise(voice_works=True), utterance, answers_turn=False)

    def stop(self) -> None:
        """Think and synthesise no further. What waits to be heard is ``Speaking``'s to drop."""
        if self._task:
            self._task.cancel()

    async def aclose(self) -> None:
        self.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _utterance(self, text: str, *, remember: bool) -> Utterance:
        return Utterance(f"msg_{uuid.uuid4().hex}", text, remember)

    def _reply(self, work: Work, utterance: Utterance, *, answers_turn: bool) -> None:
        self.stop()
        self.answers_turn, self.message_id = answers_turn, utterance.id
        self._speaking.begin_reply()
        self._task = asyncio.create_task(self._guard(work), name="reply")
        self._tasks.add(self._task)
        self._task.add_done_callback(self._tasks.discard)

    async def _guard(self, work: Work) -> None:
        """A fault of ours costs this reply, not the call."""
        try:
            await work()
        except Exception:
            logger.exception("A reply broke")
            self._publish(CallError(error="The reply broke", code="INTERNAL"))
            await self._apologise(voice_works=False)

    async def _recite(self, utterance: Utterance) -> None:
        splitter = ClauseSplitter()
        pieces = [speakable(clause, self.voice.language) for clause in splitter.feed(utterance.text) + splitter.flush()]
        error = await self._say(utterance, _each(list(filter(None, pieces))))
        if error:
            self._publish(CallError(error=str(error), code="TTS_FAILED"))
            await self._apologise(voice_works=False)

    async def _answer(self, utterance: Utterance, turn: Turn, question: Question) -> None:
        self._publish(LlmThinking(turn=turn.id))
        latency = Latency(turn.silent_since)
        latency.reach("turn", turn.decided)
        latency.reach("stt", turn.final)
        utterance.on_first_sound = lambda: latency.reach("tts", self._loop.time())
        utterance.on_first_packet = lambda: self._report(turn, utterance, latency)
        written: asyncio.Queue[str | None] = asyncio.Queue(CLAUSES_AHEAD)
        async with asyncio.TaskGroup() as group:
            writer = group.create_task(self._write(question, latency, written))
            silent = await self._say(utterance, _taken(written))
            if silent:
                writer.cancel()
        thoughtless = None if silent else writer.result()
        if silent:
            self._publish(CallError(error=str(silent), code="TTS_FAILED"))
        if thoughtless:
            self._publish(LlmError(error=str(thoughtless), code="LLM_FAILED"))
        if silent or thoughtless:
            await self._apologise(voice_works=not silent)

    async def _write(
        self, question: Question, latency: Latency, written: asyncio.Queue[str | None]
    ) -> EngineError | None:
        """Put what can be spoken of the answer into ``written``, clause by clause, then ``None``."""
        spoken = False
        error = None
        answer = _Answer()
        try:
            async with _closing(clauses(self._text(question, latency, answer))) as parts:
                async for part in parts:
                    if piece := speakable(part, self.voice.language):
                        latency.reach("clause", self._loop.time())
                        spoken = True
                        await written.put(piece)
            self._publish(LlmResponse(text=answer.text, finish_reason="stop", engine=answer.engine))
            if not spoken:
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

    async def _say(self, utterance: Utterance, pieces: AsyncIterator[str]) -> EngineError | None:
        """Speak the pieces as they come. The voice's time runs only while it has something to speak."""
        voice = self.voice
        spoken = False

        async def timed(limit: asyncio.Timeout) -> AsyncGenerator[str, None]:
            nonlocal spoken
            while True:
                limit.reschedule(None)  # what the voice waits for now is not its own fault
                piece = await anext(pieces, None)
                limit.reschedule(self._loop.time() + AUDIO_SECONDS)
                if piece is None:
                    return
                spoken = True
                yield piece

        self._speaking.begin(utterance)
        try:
            async with asyncio.timeout(None) as limit, _closing(pieces), _closing(timed(limit)) as words:
                sound = voice.engine.speak(words, voice=voice.name, language=voice.language, speed=voice.speed)
                async with _closing(sound) as chunks:
                    async for chunk in chunks:
                        self._speaking.write(utterance, chunk)
                        limit.reschedule(None)
                        await self._speaking.room()
                        limit.reschedule(self._loop.time() + AUDIO_SECONDS)
        except TimeoutError:
            return EngineError("The voice took too long")
        except EngineError as error:
            return error
        finally:
            self._speaking.complete(utterance)
        return EngineError("The voice made no sound") if spoken and not utterance.has_audio else None

    async def _apologise(self, *, voice_works: bool) -> None:
        recording = self.voice.apology
        text = " ".join(word.word for word in recording.words)
        utterance = self._utterance(text, remember=False)
        if voice_works:
            await self._say(utterance, _each([text]))
        if not utterance.has_audio:
            utterance = self._utterance(text, remember=False)
            self._speaking.begin(utterance)
            self._speaking.write(utterance, recording)
            self._speaking.complete(utterance)

    def _report(self, turn: Turn, utterance: Utterance, latency: Latency) -> None:
        latency.reach("send", self._loop.time())
        if stages := latency.stages():
            total = sum(stages.values())
            self._publish(TurnLatency(turn_id=turn.id, message_id=utterance.id, stages=stages, total_ms=total))


@dataclass(slots=True)
class _Answer:
    """What the language model wrote so far."""

    text: str = ""
    engine: str = ""


async def _each(pieces: Sequence[str]) -> AsyncGenerator[str, None]:
    for piece in pieces:
        yield piece


async def _taken(queue: asyncio.Queue[str | None]) -> AsyncGenerator[str, None]:
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
