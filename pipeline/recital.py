"""A text that is known in full, spoken outside of calls: sound piece by piece, and when each written word sounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import numpy as np

from media.audio import OUTPUT_RATE
from pipeline.captions import Captions
from pipeline.clauses import ClauseSplitter
from pipeline.engine import SlowEngineError
from pipeline.generation import closing
from pipeline.speakable import spoken
from pipeline.tts import SpeechChunk, TextToSpeech, WordTime, later

CHUNK_SECONDS = 30.0
"""How long a voice may take over a piece: it works when nothing of a call wants the core."""


async def recite(
    engine: TextToSpeech, text: str, *, voice: str, language: str, speed: float = 1.0
) -> AsyncGenerator[SpeechChunk, None]:
    """Speak ``text`` clause by clause, each when it is asked for: who does not read on keeps nobody busy.

    The words are those of the text, each in one chunk, with seconds from the beginning of all sound; those that the
    voice did not time have the time of the end. Raises ``EngineError``.
    """
    captions, samples = Captions(), 0

    async def pieces() -> AsyncGenerator[str, None]:
        splitter = ClauseSplitter()
        for clause in splitter.feed(text) + splitter.flush():
            if piece := spoken(clause, language):
                captions.expect(piece)
                yield piece.text

    async with closing(pieces()) as parts:
        sound = engine.speak(parts, voice=voice, language=language, speed=speed)
        async with closing(sound) as chunks:
            while chunk := await _next(chunks, engine.name):
                words = later(captions.written(chunk.words), samples / OUTPUT_RATE)
                samples += len(chunk.pcm)
                yield SpeechChunk(chunk.pcm, list(words))
    if rest := captions.rest():
        end = samples / OUTPUT_RATE
        yield SpeechChunk(np.zeros(0, np.int16), [WordTime(word, end, end) for word in rest])


async def _next(chunks: AsyncIterator[SpeechChunk], who: str) -> SpeechChunk | None:
    try:
        async with asyncio.timeout(CHUNK_SECONDS):
            return await anext(chunks, None)
    except TimeoutError:
        raise SlowEngineError(f"{who} took too long") from None
