"""A voice that has others behind it: where one fails, the next goes on with the words that were not said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

from pipeline.engine import EngineError
from pipeline.generation import closing
from pipeline.remote import Breaker, ProviderError, tell, too_slow
from pipeline.tts import SpeechChunk, TextToSpeech

FIRST_SECONDS = 4.0
"""How long a provider may take to its first sound. Two of them fit into the patience of ``pipeline.voicing``."""

ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class Candidate:
    """An engine, and the voice of it that steps in; the first one takes the voice that it is asked for."""

    engine: TextToSpeech
    voice: str = ""
    breaker: Breaker | None = None


@dataclass(slots=True)
class TtsFailover:
    """A ``TextToSpeech``. Two of the same candidates are equal."""

    name: str
    candidates: tuple[Candidate, ...]
    replaced: list[str] = field(default_factory=list, compare=False)
    """Whose place was taken and why, for whoever reads it and takes it away."""

    async def start(self) -> None: ...

    async def aclose(self) -> None:
        """The engines belong to ``pipeline.engine.Engines``."""

    def prepare(self, *, voice: str, language: str, speed: float = 1.0) -> None:
        """Something is going to be said."""
        if (prepare := getattr(self.candidates[0].engine, "prepare", None)) is not None:
            prepare(voice=voice, language=language, speed=speed)

    async def speak(
        self, pieces: AsyncIterator[str], *, voice: str, language: str, speed: float = 1.0
    ) -> AsyncGenerator[SpeechChunk, None]:
        """See ``TextToSpeech``. No word is said twice, and none is lost as long as one of the voices works."""
        text = _Text()
        reader = asyncio.create_task(text.read(pieces), name="text for voices")
        failure: EngineError | None = None
        try:
            await text.begun()
            for candidate, attempt in self._order():
                if failure and attempt and not (_passing(failure) and not text.said):
                    continue
                if failure and attempt:
                    await asyncio.sleep(failure.wait if isinstance(failure, ProviderError) else 0)
                name = voice if candidate == self.candidates[0] else candidate.voice
                try:
                    sound = candidate.engine.speak(text.rest(), voice=name, language=language, speed=speed)
                    async with closing(_timely(sound, candidate)) as chunks:
                        async for chunk in chunks:
                            text.said += len(chunk.words)
                            yield chunk
                except EngineError as error:
                    failure = error
                    if candidate.breaker:
                        candidate.breaker.failed(error)
                    tell(error)
                    continue
                if candidate.breaker:
                    candidate.breaker.succeeded()
                if failure and candidate != self.candidates[0]:
                    self.replaced.append(f"{failure}; {candidate.engine.name} takes its place")
                return
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        raise failure or EngineError("There is no voice")

    def _order(self) -> list[tuple[Candidate, int]]:
        """Who speaks, one after another, and whether it is a second time. Who rests is left out, if others do not."""
        awake = [one for one in self.candidates if not (one.breaker and one.breaker.open)] or list(self.candidates[:1])
        return [(one, attempt) for one in awake for attempt in range(ATTEMPTS if one.breaker else 1)]


class _Text:
    """The pieces of an utterance, kept for whoever steps in."""

    def __init__(self) -> None:
        self.said = 0
        """Words that came out."""
        self._pieces: list[str] = []
        self._complete = False
        self._news = asyncio.Condition()

    async def read(self, pieces: AsyncIterator[str]) -> None:
        try:
            async for piece in pieces:
                async with self._news:
                    self._pieces.append(piece)
                    self._news.notify_all()
        finally:
            self._complete = True
            async with self._news:
                self._news.notify_all()

    async def begun(self) -> None:
        async with self._news:
            await self._news.wait_for(lambda: self._pieces or self._complete)

    async def rest(self) -> AsyncGenerator[str, None]:
        """What was not said of the pieces so far, then those that still come."""
        skip, i = self.said, 0
        while True:
            async with self._news:
                while i >= len(self._pieces) and not self._complete:
                    await self._news.wait()
            if i >= len(self._pieces):
                return
            words = self._pieces[i].split()
            left, skip, i = words[skip:], max(0, skip - len(words)), i + 1
            if left or not words:
                yield " ".join(left)


async def _timely(sound: AsyncIterator[SpeechChunk], candidate: Candidate) -> AsyncGenerator[SpeechChunk, None]:
    """The sound, which must begin in time if it comes over the network."""
    async with closing(sound) as chunks:
        limit = FIRST_SECONDS if candidate.breaker else None
        while True:
            try:
                async with asyncio.timeout(limit):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise too_slow(candidate.engine.name) from None
            limit = None
            yield chunk


def _passing(error: EngineError) -> bool:
    return isinstance(error, ProviderError) and error.is_worth_a_retry
