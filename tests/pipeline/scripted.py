"""Engines, a line and a person whose behaviour is written down, for calls in virtual time.

The person speaks PCM in which each sample is the number of a word, so that the recogniser knows only what it heard.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from media.audio import FRAME_MS, INPUT_FRAME, OUTPUT_FRAME, OUTPUT_RATE, AudioFrame, LineObserver, Pcm
from media.playout import Playout
from pipeline.engine import EngineError
from pipeline.events import Event
from pipeline.llm import Delta, GenerateOptions, Message, TextDelta, ToolCall
from pipeline.silero import Activity
from pipeline.stt import Transcript, TurnGuess
from pipeline.tts import SpeechChunk, WordTime

WORD_FRAMES = 10
"""A word of the person lasts 200 ms."""

WORD_SECONDS = 0.25
"""A word of the bot."""


class Vocabulary:
    """Numbers for words."""

    def __init__(self) -> None:
        self._words: list[str] = []

    def code(self, word: str) -> int:
        self._words.append(word)
        return len(self._words)

    def text(self, codes: Sequence[int]) -> str:
        return " ".join(self._words[code - 1] for code in codes)


class ScriptedStt:
    """Recognises each word once most of it was heard."""

    name = "scripted-stt"

    def __init__(self, vocabulary: Vocabulary, *, final_seconds: float = 0.1) -> None:
        self.vocabulary = vocabulary
        self.final_seconds = final_seconds
        self.open_streams = 0
        self.languages: list[str] = []
        self.streams: list[ScriptedStream] = []
        self.broken = ""
        """While set, streams fail with this text, or in the way it names: ``at once``, ``a bug``, ``the end``."""

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...

    def stream(self, language: str) -> ScriptedStream:
        self.languages.append(language)
        if self.broken == "at once":
            raise EngineError("no recogniser")
        self.streams.append(ScriptedStream(self))
        return self.streams[-1]

    def guess(self, probability: float, *, eager: bool = False) -> None:
        """The recogniser thinks itself that the speaker is done."""
        self.streams[-1].report(TurnGuess(probability, eager))


class ScriptedStream:
    def __init__(self, stt: ScriptedStt) -> None:
        self._stt = stt
        self._heard: dict[int, int] = {}  # word code -> samples
        self._said = ""
        self._results: asyncio.Queue[Transcript | TurnGuess | Exception | None] = asyncio.Queue()
        self._timers: list[asyncio.TimerHandle] = []
        stt.open_streams += 1

    def write(self, pcm: Pcm) -> None:
        if broken := self._stt.broken:
            errors = {"a bug": RuntimeError(broken), "the end": None}
            self._results.put_nowait(errors.get(broken, EngineError(broken)))
        if code := int(pcm[0]):
            self._heard[code] = self._heard.get(code, 0) + len(pcm)
        if (text := self._text()) != self._said:
            self._said = text
            self._results.put_nowait(Transcript(text, final=False, confidence=0.8))

    def pause(self) -> None:
        text = Transcript(self._text(), final=False, confidence=0.8, settled=True)
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(self._stt.final_seconds, self._settle, text, len(self._heard)))

    def flush(self) -> None:
        final = Transcript(self._text(), final=True, confidence=0.9, language="en")
        self.discard()
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(self._stt.final_seconds, self._results.put_nowait, final))

    def discard(self) -> None:
        self._heard.clear()
        self._said = ""

    def report(self, guess: TurnGuess) -> None:
        self._results.put_nowait(guess)

    def _settle(self, text: Transcript, words: int) -> None:
        if len(self._heard) == words:
            self._results.put_nowait(text)

    async def __aiter__(self) -> AsyncIterator[Transcript | TurnGuess]:
        while (result := await self._results.get()) is not None:
            if isinstance(result, Exception):
                raise result
            yield result

    async def aclose(self) -> None:
        for timer in self._timers:
            timer.cancel()
        await asyncio.sleep(0.01)
        self._stt.open_streams -= 1

    def _text(self) -> str:
        codes = [code for code, samples in sorted(self._heard.items()) if samples >= WORD_FRAMES * INPUT_FRAME * 3 // 4]
        return self._stt.vocabulary.text(codes)


class ScriptedEars:
    """Voices are as probable as their frames say; the turn model answers ``verdicts`` one after another, then none."""

    def __init__(self) -> None:
        self.verdicts: deque[float | None] = deque()
        self.think_seconds = 0.08
        self.asked: list[Pcm] = []
        self.open_detectors = 0

    def listen(self, on_activity: Callable[[Activity], None]) -> ScriptedDetector:
        return ScriptedDetector(self, on_activity)

    async def is_complete(self, pcm: Pcm) -> float | None:
        self.asked.append(pcm)
        verdict = self.verdicts.popleft() if self.verdicts else None
        await asyncio.sleep(self.think_seconds)
        return verdict


class ScriptedDetector:
    def __init__(self, ears: ScriptedEars, on_activity: Callable[[Activity], None]) -> None:
        self._ears = ears
        self._on_activity: Callable[[Activity], None] | None = on_activity
        ears.open_detectors += 1

    def hear(self, frame: AudioFrame) -> bool:
        assert self._on_activity
        self._on_activity(Activity(float(frame.is_speech), frame.time + FRAME_MS / 1000))
        return True

    def close(self) -> None:
        if self._on_activity:
            self._ears.open_detectors -= 1
        self._on_activity = None


class ScriptedLlm:
    """Answers from ``answers``, one after another, word by word; an ``Exception`` among the words is raised.

    A ``ToolCall`` among them asks for a tool.
    """

    name = "scripted-llm"

    def __init__(self, *answers: str | Sequence[str | Exception | ToolCall]) -> None:
        self.answers = deque(answers)
        self.first_token = 0.2
        self.token_seconds = 0.02
        self.asked: list[list[Message]] = []
        self.asked_at: list[float] = []
        self.offered: list[list[str]] = []
        """Names of the tools, each time that it was asked."""
        self.open_streams = 0

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...

    async def generate(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], options: GenerateOptions
    ) -> AsyncIterator[Delta]:
        self.asked.append(list(messages))
        self.asked_at.append(asyncio.get_running_loop().time())
        self.offered.append([tool["function"]["name"] for tool in tools])
        answer = self.answers.popleft() if self.answers else "I see."
        self.open_streams += 1
        try:
            await asyncio.sleep(self.first_token)
            for word in answer.split() if isinstance(answer, str) else answer:
                await asyncio.sleep(self.token_seconds)
                if isinstance(word, Exception):
                    raise word
                yield word if isinstance(word, ToolCall) else TextDelta(word + " ", self.name)
        finally:
            self.open_streams -= 1


class ScriptedTts:
    """A quarter of a second for each word, made in ``pace`` seconds; ``failing`` is a word that breaks it, or ``*``."""

    name = "scripted-tts"

    def __init__(self) -> None:
        self.pace = 0.01
        self.failing = ""
        self.silent = False
        self.open_streams = 0
        self.voices: list[tuple[str, str]] = []
        self.pieces: list[str] = []
        """What it was given to say."""

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...

    async def speak(
        self, pieces: AsyncIterator[str], *, voice: str, language: str, speed: float = 1.0
    ) -> AsyncIterator[SpeechChunk]:
        self.voices.append((voice, language))
        self.open_streams += 1
        try:
            async for piece in pieces:
                self.pieces.append(piece)
                words = piece.split()
                await asyncio.sleep(self.pace * len(words))
                if self.failing and (self.failing == "*" or self.failing in words):
                    raise EngineError("the voice broke")
                if not self.silent:
                    yield spoken(words)
        finally:
            self.open_streams -= 1


def spoken(words: Sequence[str]) -> SpeechChunk:
    """Words at ``WORD_SECONDS`` each."""
    pcm = np.full(round(len(words) * WORD_SECONDS * OUTPUT_RATE), 1000, np.int16)
    times = [WordTime(word, i * WORD_SECONDS, (i + 1) * WORD_SECONDS) for i, word in enumerate(words)]
    return SpeechChunk(pcm, times)


@dataclass
class Frame:
    code: int
    is_speech: bool
    level: float


SILENCE = Frame(0, False, -70.0)


@dataclass
class Person:
    """Who holds the other end: speaks what is queued, else is silent."""

    vocabulary: Vocabulary
    frames: deque[Frame] = field(default_factory=deque)

    def say(self, text: str, *, level: float = -20.0, voiced: bool = True, frames: int = WORD_FRAMES) -> None:
        """``frames``: of each word."""
        for word in text.split():
            self.frames.extend([Frame(self.vocabulary.code(word), voiced, level)] * frames)

    def pause(self, ms: int) -> None:
        self.frames.extend([SILENCE] * (ms // FRAME_MS))

    def noise(self, ms: int, *, level: float = -20.0) -> None:
        self.frames.extend([Frame(0, True, level)] * (ms // FRAME_MS))


class ScriptedLine:
    """A line with a real playout and a clock of 20 ms, on which a ``Person`` is heard."""

    def __init__(self, person: Person) -> None:
        self.playout = Playout()
        self.person = person
        self.closed = False
        self.closed_at = 0.0
        self.sound: list[bool] = []
        """For each tick: whether anything was sent."""
        self.on_tick: Callable[[Frame, Pcm | None], None] = lambda said, sent: None
        self._observer: LineObserver
        self._clock: asyncio.Task[None]

    def start(self, observer: LineObserver, *, channel_after: float | None = 0.1) -> None:
        self._observer = observer
        self._clock = asyncio.create_task(self._run(channel_after), name="line")

    async def close(self) -> None:
        await asyncio.sleep(0.01)
        await self.drop("closed")

    async def drop(self, reason: str) -> None:
        """The line is gone."""
        if not self.closed:
            self.closed = True
            self.closed_at = asyncio.get_running_loop().time()
            self._clock.cancel()
            await asyncio.gather(self._clock, return_exceptions=True)
            self._observer.on_closed(reason)

    async def _run(self, channel_after: float | None) -> None:
        self._observer.on_connected()
        tick = 0
        while True:
            await asyncio.sleep(FRAME_MS / 1000)
            if channel_after is not None and tick == round(channel_after * 1000 / FRAME_MS):
                self._observer.on_channel_open()
            said = self.person.frames.popleft() if self.person.frames else SILENCE
            pcm = np.full(INPUT_FRAME, said.code, np.int16)
            self._observer.on_audio(AudioFrame(pcm, tick * FRAME_MS / 1000, said.is_speech, said.level, False))
            sent = self.playout.take(OUTPUT_FRAME)
            self.sound.append(sent is not None)
            if sent is not None:
                self._observer.on_played(self.playout.played)
            self.on_tick(said, sent)
            tick += 1


@dataclass
class Log:
    """What a call published."""

    now: Callable[[], float]
    events: list[tuple[float, Any]] = field(default_factory=list)

    def publish(self, event: Event) -> None:
        self.events.append((self.now(), event))

    def names(self, *ignored: str) -> list[str]:
        """Names in order, repeated ones once."""
        names: list[str] = []
        for _, event in self.events:
            if event.name not in ignored and names[-1:] != [event.name]:
                names.append(event.name)
        return names

    def all(self, name: str) -> list[Any]:
        return [event for _, event in self.events if event.name == name]

    def at(self, name: str) -> float:
        """When the first such event was published."""
        return next(at for at, event in self.events if event.name == name)
