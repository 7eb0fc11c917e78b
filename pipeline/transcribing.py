"""A file of audio as text: cut into utterances, each understood on its own and in its turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from config.agent import SttConfig
from config.identity import DEFAULT_ORG
from media.audio import INPUT_RATE, Pcm
from pipeline.background import Background, Lent
from pipeline.cutting import AudioFiles
from pipeline.engine import EngineError, SlowEngineError
from pipeline.segmenting import Segment, seconds
from pipeline.stt import Stream, Transcript
from pipeline.tts import WordTime, later

FINAL_SECONDS = 60.0
"""How long a recogniser may take over an utterance: it works when nothing of a call wants the core."""

ENOUGH = 6 * INPUT_RATE
"""Samples of utterances by which a language is told."""

SLICE, HASTE = INPUT_RATE // 4, 8
"""Samples that a provider gets at once, and how much faster than they were spoken."""

DECODER = ("file", "decoder")


class Ears(NamedTuple):
    """Who is to understand a file."""

    engine: str
    language: str
    model: str | None = None
    """One of the engine's; ``None``: its own choice."""
    org: str = DEFAULT_ORG
    """Whose key it is asked with."""


Pick = Callable[[Pcm], Awaitable[Ears]]
"""Who understands a file, by its first utterances (which may be none)."""


class UnwantedError(Exception):
    """Nobody waits for the text any more."""


@dataclass(frozen=True, slots=True)
class Part:
    """What was understood of one utterance."""

    start: float
    end: float
    """Seconds."""
    text: str
    words: tuple[WordTime, ...] = ()
    """When each sounds, s; empty: the recogniser does not tell."""


@dataclass(slots=True)
class Text:
    """What was understood of a file."""

    language: str
    duration: float = 0.0
    """Of all audio, s."""
    parts: list[Part] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join(part.text for part in self.parts)


async def transcribe(
    background: Background, path: Path, pick: Pick, *, longest: float, wanted: Callable[[], bool]
) -> Text:
    """Understand a file of at most ``longest`` seconds.

    Raises ``UnreadableError``, ``TooLongError``, ``EngineError``, and ``UnwantedError`` once ``wanted`` is false.
    """
    async with background.borrow(DECODER, AudioFiles) as decoder:
        files: AudioFiles = decoder.engine
        async with aclosing(files.cut(str(path), longest)) as found:
            return await _understand(background, found, pick, wanted)


async def _understand(
    background: Background, found: AsyncIterator[Segment | int], pick: Pick, wanted: Callable[[], bool]
) -> Text:
    ahead: deque[Segment | int] = deque()
    heard: list[Pcm] = [np.zeros(0, np.int16)]
    while sum(map(len, heard)) < ENOUGH and isinstance(here := await anext(found), Segment):
        ahead.append(here)
        heard.append(here.pcm)
    if not isinstance(here, Segment):
        ahead.append(here)
    ears = await pick(np.concatenate(heard))
    text, heard_before = Text(ears.language), 0
    async with background.engine("stt", ears.engine, ears.org) as lent, _listening(lent, ears) as understand:
        while isinstance(here := ahead.popleft() if ahead else await anext(found), Segment):
            if not wanted():
                raise UnwantedError
            said = await understand(here.pcm)
            if said.text:
                words = later(said.words, seconds(here.start - heard_before))
                text.parts.append(Part(seconds(here.start), seconds(here.end), said.text, words))
            heard_before += len(here.pcm)
    text.duration = seconds(here)
    return text


async def _pace(stream: Stream, pcm: Pcm) -> None:
    """Write an utterance so slowly that it is understood meanwhile: the last words are waited for as in a call."""
    for start in range(0, len(pcm), SLICE):
        stream.write(pcm[start : start + SLICE])
        await asyncio.sleep(seconds(SLICE) / HASTE)


@asynccontextmanager
async def _listening(lent: Lent, ears: Ears) -> AsyncIterator[Callable[[Pcm], Awaitable[Transcript]]]:
    """A stream of the recogniser, as a function from an utterance to what was understood."""
    stream: Stream = lent.bound(SttConfig(model=ears.model)).stream(ears.language)
    results = aiter(stream)

    async def understand(pcm: Pcm) -> Transcript:
        async with lent.turn:
            if lent.remote:
                await _pace(stream, pcm)
            else:
                stream.write(pcm)
            stream.flush()
            try:
                async with asyncio.timeout(FINAL_SECONDS):
                    while True:
                        result = await anext(results, None)
                        if result is None:
                            raise EngineError(f"{lent.engine.name} ended before it had understood all")
                        if isinstance(result, Transcript) and result.final:
                            return result
            except TimeoutError:
                raise SlowEngineError(f"{lent.engine.name} took too long") from None

    try:
        yield understand
    finally:
        if aclose := getattr(results, "aclose", None):
            await aclose()
        await stream.aclose()
