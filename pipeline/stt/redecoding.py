"""A ``Stream`` over a model that only knows how to transcribe a whole recording: it decodes the growing utterance again
and again, and puts the texts together.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from config.identity import base_language
from media.audio import INPUT_RATE, Pcm
from pipeline.engine import EngineError
from pipeline.stt import Transcript

logger = logging.getLogger(__name__)


class Heard(NamedTuple):
    """What a model understands of a recording."""

    text: str
    confidence: float = 1.0
    """0 to 1; 1 without a text, or when the model does not tell."""
    tokens: Sequence[int] = ()
    """The text as the model spells it, if it can make use of that."""


Transcribe = Callable[[bytes, int, Sequence[int]], Awaitable[Heard]]
"""Understands mono int16 audio at ``INPUT_RATE``, asked with one of the priorities below, and told the tokens that were
found when less of the same audio was there. Raises ``EngineError``."""

BLOCK = INPUT_RATE // 50
"""Samples (20 ms) that share one loudness."""

PARTIAL_EVERY = INPUT_RATE * 3 // 5
"""Samples of new audio between two partials."""

SHORTEST_SPEECH = 10
"""Voiced blocks (200 ms) that make speech. For less a model answers "You" or the like, whatever it heard."""

TAIL = 3
"""Blocks (60 ms) behind the last voiced one that a decoding must have seen to stand for all: words end softly, and the
turn machine asks after 0.1 s without a voice."""

LONGEST = 12 * INPUT_RATE
"""Samples decoded at once; the cost grows faster than the length. Longer speech is cut at its quietest place."""

MAX_HELD = 60 * INPUT_RATE
"""Samples of one stream that may wait for the recogniser; it hears no more until it has caught up."""

LEAD = INPUT_RATE // 2
"""Samples of silence kept in front of speech."""

QUIETEST, ABOVE_NOISE, DIGITAL_SILENCE = -60.0, 8.0, -90.0
"""A block is voiced above the first level (dBFS) and so much (dB) above the quiet tenth of its utterance, not counting
what never came from a microphone."""

STUTTER = re.compile(r"\b(?:(\w+)(?:,? \1){2,}|(\w+(?: \w+){1,2})(?:,? \2)+)(?: \w+)?\W*$", re.IGNORECASE)
"""A word three times at the end, or a few words twice: what the model often makes of a word that was cut in half."""

NOTHING = Heard("")

FINAL, AHEAD, PARTIAL = range(3)
"""Priorities of the worker's queue."""


class RedecodingStream:
    """A ``Stream``: never more than one decoding at a time.

    A decoding that has seen all speech answers a ``flush`` without another; ``pause`` makes sure that there is one.
    """

    def __init__(self, transcribe: Transcribe, language: str, *, partial_every: int = PARTIAL_EVERY) -> None:
        """``language`` is that of the texts; ``partial_every`` counts samples."""
        self._transcribe = transcribe
        self._language = base_language(language)
        self._partial_every = partial_every
        self._utterances = deque([Utterance()])  # the last one is open, those before wait for their final
        self._wake = asyncio.Event()
        self._results: deque[Transcript | EngineError | None] = deque()
        self._ready = asyncio.Event()  # there are results
        self._task = asyncio.create_task(self._run(), name="redecoding")

    def write(self, pcm: Pcm) -> None:
        if sum(len(u) for u in self._utterances) < MAX_HELD:
            utterance = self._utterances[-1]
            utterance.write(pcm)
            if len(utterance) - utterance.tried >= self._partial_every:
                self._wake.set()

    def pause(self) -> None:
        self._utterances[-1].pause()
        self._wake.set()

    def flush(self) -> None:
        self._utterances[-1].closed = True
        self._utterances.append(Utterance())
        self._wake.set()

    def discard(self) -> None:
        self._utterances[-1] = Utterance()

    async def __aiter__(self) -> AsyncIterator[Transcript]:
        while True:
            await self._ready.wait()
            result = self._results[0]
            if result is None:
                return
            self._results.popleft()
            if not self._results:
                self._ready.clear()
            if isinstance(result, EngineError):
                raise result
            yield result

    async def aclose(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._put(None)

    def _put(self, result: Transcript | EngineError | None) -> None:
        last = self._results[-1] if self._results else None
        if isinstance(last, Transcript) and not last.final:
            self._results.pop()  # nobody took it, and this one says more
        self._results.append(result)
        self._ready.set()

    async def _run(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._utterances[0].closed:
                    utterance = self._utterances[0]
                    heard = await self._final(utterance)
                    self._utterances.popleft()
                    self._put(Transcript(heard.text, True, heard.confidence, self._language))
                await self._partial(self._utterances[0])
        except EngineError as error:
            self._put(error)

    async def _final(self, utterance: Utterance) -> Heard:
        for attempt in range(2):
            try:
                while len(utterance) > LONGEST:
                    await self._commit(utterance, FINAL)
                if utterance.has_speech and not utterance.is_decoded:
                    await self._decode(utterance, FINAL)
            except EngineError:
                if attempt:
                    raise
            else:
                break
        return utterance.heard if utterance.has_speech else utterance.committed

    async def _partial(self, utterance: Utterance) -> None:
        ahead = utterance.paused > utterance.tried
        utterance.tried = len(utterance)
        before = utterance.heard.text
        try:
            while utterance.has_speech and len(utterance) > LONGEST:
                await self._commit(utterance, PARTIAL)
                if not ahead:
                    return
            if not utterance.has_speech:
                utterance.forget_silence()
            elif not utterance.is_decoded:
                await self._decode(utterance, AHEAD if ahead else PARTIAL)
        except EngineError as error:
            logger.debug("a partial is left out: %s", error)  # the final tries again
            return
        settled = ahead and (utterance.is_decoded or not utterance.has_speech)  # or the speaker went on meanwhile
        heard = utterance.heard if utterance.has_speech else utterance.committed
        stutters = STUTTER.search(utterance.tail.text)
        if (settled or heard.text != before) and not stutters and utterance is self._utterances[-1]:
            self._put(Transcript(heard.text, False, heard.confidence, self._language, settled))

    async def _decode(self, utterance: Utterance, priority: int) -> None:
        length = len(utterance)
        heard = await self._transcribe(utterance.audio(length), priority, utterance.tail.tokens)
        utterance.decoded, utterance.tail = length, heard

    async def _commit(self, utterance: Utterance, priority: int) -> None:
        """Decode and put away the first part of a long utterance."""
        cut = utterance.quiet_place()
        utterance.commit(cut, await self._transcribe(utterance.audio(cut), priority, utterance.tail.tokens))


class Utterance:
    """The audio since the last final and what was understood of it."""

    def __init__(self) -> None:
        self._pcm = bytearray()
        self._levels: list[float] = []  # dBFS of each whole block
        self.committed = NOTHING  # in audio that was put away
        self.tail = NOTHING  # in the first `decoded` samples
        self.decoded = 0
        self.tried = 0  # length at the last attempt to decode
        self.paused = 0  # length when the speaker fell silent
        self.closed = False

    def __len__(self) -> int:
        return len(self._pcm) // 2

    @property
    def heard(self) -> Heard:
        return _joined(self.committed, self.tail)

    def write(self, pcm: Pcm) -> None:
        self._pcm += pcm.astype("<i2", copy=False).tobytes()

    def pause(self) -> None:
        self.paused = len(self)

    def audio(self, length: int) -> bytes:
        return bytes(memoryview(self._pcm)[: 2 * length])

    @property
    def has_speech(self) -> bool:
        return len(self._voiced()) >= SHORTEST_SPEECH

    @property
    def is_decoded(self) -> bool:
        """Whether the last decoding has seen all speech."""
        voiced = self._voiced()
        end = (int(voiced[-1]) + 1 + TAIL) * BLOCK if len(voiced) else 0
        return self.decoded >= min(max(end, self.paused), len(self))

    def forget_silence(self) -> None:
        if len(self) > 2 * LEAD:
            self._drop((len(self) - LEAD) // BLOCK)

    def quiet_place(self) -> int:
        """The middle of the quietest 200 ms in the second half of what is decoded at once, in samples."""
        levels = self._measure()[LONGEST // BLOCK // 2 : LONGEST // BLOCK]
        loudness = np.convolve(levels, np.ones(10), "valid")
        return (LONGEST // BLOCK // 2 + int(np.argmin(loudness)) + 5) * BLOCK

    def commit(self, length: int, heard: Heard) -> None:
        self.committed = _joined(self.committed, heard)
        self._drop(length // BLOCK)
        self.tail, self.decoded = NOTHING, 0

    def _drop(self, blocks: int) -> None:
        del self._pcm[: 2 * BLOCK * blocks]
        del self._levels[:blocks]
        self.tried = max(self.tried - blocks * BLOCK, 0)
        self.decoded = max(self.decoded - blocks * BLOCK, 0)
        self.paused = max(self.paused - blocks * BLOCK, 0)

    def _measure(self) -> NDArray[np.float64]:
        done, whole = len(self._levels), len(self) // BLOCK
        if whole > done:
            samples = np.frombuffer(bytes(self._pcm[2 * BLOCK * done : 2 * BLOCK * whole]), "<i2").astype(np.float64)
            power = np.mean(np.square(samples.reshape(-1, BLOCK) / 32768), axis=1)
            self._levels.extend((10 * np.log10(power + 1e-12)).tolist())
        return np.array(self._levels)

    def _voiced(self) -> NDArray[np.intp]:
        """Numbers of the voiced blocks, ascending."""
        levels = self._measure()
        real = levels[levels > DIGITAL_SILENCE]
        if not len(real):
            return np.zeros(0, np.intp)
        return np.flatnonzero(levels > max(QUIETEST, float(np.percentile(real, 10)) + ABOVE_NOISE))


def _joined(one: Heard, other: Heard) -> Heard:
    """One text behind the other. Of the whole each is as sure as it is long."""
    if not (one.text and other.text):
        return one if one.text else other
    share = len(one.text) / (len(one.text) + len(other.text))
    confidence = share * one.confidence + (1 - share) * other.confidence
    return Heard(f"{one.text} {other.text}", round(confidence, 3))
