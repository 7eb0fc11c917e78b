"""A recogniser that has others behind it: where one fails, the next hears again what was not transcribed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field

from media.audio import INPUT_RATE, Pcm
from pipeline.engine import EngineError
from pipeline.remote import Breaker, ProviderError, hung_up, tell, too_slow
from pipeline.stt import SpeechToText, Stream, Transcript, TurnGuess

FINAL_SECONDS = 3.0
"""How long a provider may owe a final. Two of them fit into the patience of ``pipeline.recognition``."""

MAX_HELD = 60 * INPUT_RATE
"""Samples of one utterance that are kept for whoever steps in."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """``breaker`` is that of the provider; ``None``: an engine of this machine."""

    engine: SpeechToText
    breaker: Breaker | None = None


@dataclass(slots=True)
class SttFailover:
    """A ``SpeechToText``. Two of the same candidates are equal."""

    name: str
    candidates: tuple[Candidate, ...]
    replaced: list[str] = field(default_factory=list, compare=False)
    """Whose place was taken and why, for whoever reads it and takes it away."""

    @property
    def native_turns(self) -> bool:
        """Whether the first one says itself when a turn is over."""
        return bool(getattr(self.candidates[0].engine, "native_turns", False))

    async def start(self) -> None: ...

    def stream(self, language: str) -> FailoverStream:
        awake = [one for one in self.candidates if not (one.breaker and one.breaker.open)] or list(self.candidates[:1])
        return FailoverStream(awake, language, self.replaced)

    async def aclose(self) -> None:
        """The engines belong to ``pipeline.engine.Engines``."""


@dataclass(slots=True)
class _Utterance:
    """Audio since the last final."""

    pcm: list[Pcm] = field(default_factory=list)
    samples: int = 0
    closed: bool = False


class FailoverStream:
    """See ``Stream``."""

    def __init__(self, candidates: list[Candidate], language: str, replaced: list[str]) -> None:
        self._candidates = candidates
        self._language = language
        self._replaced = replaced
        self._utterances = deque([_Utterance()])  # the last one is open, those before wait for their final
        self._stream: Stream | None = None
        self._deadline: asyncio.Timeout | None = None
        self._results: asyncio.Queue[Transcript | TurnGuess | EngineError | None] = asyncio.Queue()
        self._proved = False
        self._task = asyncio.create_task(self._run(), name="transcripts")

    def write(self, pcm: Pcm) -> None:
        utterance = self._utterances[-1]
        if utterance.samples < MAX_HELD:
            utterance.pcm.append(pcm)
            utterance.samples += len(pcm)
        if self._stream:
            self._stream.write(pcm)

    def pause(self) -> None:
        if self._stream:
            self._stream.pause()

    def flush(self) -> None:
        self._utterances[-1].closed = True
        self._utterances.append(_Utterance())
        if self._stream:
            self._stream.flush()
        self._watch()

    def discard(self) -> None:
        self._utterances[-1] = _Utterance()
        if self._stream:
            self._stream.discard()

    async def __aiter__(self) -> AsyncIterator[Transcript | TurnGuess]:
        while (result := await self._results.get()) is not None:
            if isinstance(result, EngineError):
                raise result
            yield result

    async def aclose(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._results.put_nowait(None)

    async def _run(self) -> None:
        failure = EngineError("There is no recogniser")
        for candidate in self._candidates:
            retried = False
            if candidate is not self._candidates[0]:
                self._replaced.append(f"{failure}; {candidate.engine.name} takes its place")
            while True:
                self._proved = False
                try:
                    await self._listen(candidate)
                except EngineError as error:
                    failure = error
                    if candidate.breaker:
                        candidate.breaker.failed(error)
                    tell(error)
                again = isinstance(failure, ProviderError) and failure.is_worth_a_retry
                if not again or (retried and not self._proved):
                    break
                retried = True
                await asyncio.sleep(failure.wait if isinstance(failure, ProviderError) else 0)
        self._results.put_nowait(failure)

    async def _listen(self, candidate: Candidate) -> None:
        """Until it fails."""
        stream = candidate.engine.stream(self._language)
        try:
            for utterance in self._utterances:
                for pcm in utterance.pcm:
                    stream.write(pcm)
                if utterance.closed:
                    stream.flush()
            self._stream = stream
            async with asyncio.timeout(None) as self._deadline:
                self._watch()
                async for result in stream:
                    self._take(result, candidate)
        except TimeoutError:
            raise too_slow(candidate.engine.name) from None
        finally:
            self._stream = self._deadline = None
            await stream.aclose()
        raise hung_up(candidate.engine.name)

    def _take(self, result: Transcript | TurnGuess, candidate: Candidate) -> None:
        self._proved = True
        if candidate.breaker:
            candidate.breaker.succeeded()
        if isinstance(result, Transcript) and result.final:
            if len(self._utterances) == 1:
                return  # nobody asked
            self._utterances.popleft()
            self._watch(anew=True)
        self._results.put_nowait(result)

    def _watch(self, *, anew: bool = False) -> None:
        """A final that is owed must come in time."""
        if self._deadline is None or self._deadline.expired():
            return
        owed = len(self._utterances) > 1
        if not owed:
            self._deadline.reschedule(None)
        elif anew or self._deadline.when() is None:
            self._deadline.reschedule(asyncio.get_running_loop().time() + FINAL_SECONDS)
