"""A text spoken as a whole: every word with its time, no more work than is asked for, and what can go wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.audio import OUTPUT_RATE
from pipeline import recital
from pipeline.engine import EngineError, SlowEngineError
from pipeline.instant import WORD_SAID, InstantTts
from pipeline.recital import recite
from pipeline.tts import SpeechChunk, WordTime
from tests.virtual_time import run


async def recited(text: str, language: str = "en") -> list[SpeechChunk]:
    return [chunk async for chunk in recite(InstantTts(), text, voice="", language=language)]


def words_of(chunks: list[SpeechChunk]) -> list[WordTime]:
    return [word for chunk in chunks for word in chunk.words]


async def test_words_are_those_of_the_text_and_times_go_on() -> None:
    text = "It costs $12.50, Dr. Smith. See you at 9:30! Bye."
    chunks = await recited(text)
    assert len(chunks) == 3
    words = words_of(chunks)
    assert [word.word for word in words] == text.split()
    assert words[0].start == 0.0
    assert [word.start for word in words] == sorted(word.start for word in words)
    seconds = sum(len(chunk.pcm) for chunk in chunks) / OUTPUT_RATE
    assert words[-1].end == pytest.approx(seconds)
    assert seconds > len(text.split()) * WORD_SAID  # figures are several words


@pytest.mark.parametrize("text", ["", "   ", "🎉", "***", "…"])
async def test_nothing_to_say(text: str) -> None:
    assert await recited(text) == []


@given(st.text(max_size=300), st.sampled_from(["en", "es", "de"]))
def test_any_text_is_spoken_in_order(text: str, language: str) -> None:
    words = words_of(asyncio.run(recited(text.encode(errors="replace").decode(), language)))
    assert all(0 <= a.start <= b.start for a, b in pairwise(words))
    assert all(word.word and not word.word[0].isspace() and word.end >= word.start for word in words)


class Greedy:
    """Notes what it was given, and whether it was let go."""

    name = "greedy"

    def __init__(self, *, slow: bool = False, broken: bool = False) -> None:
        self.pieces: list[str] = []
        self.closed = False
        self._slow, self._broken = slow, broken

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...

    async def speak(
        self, pieces: AsyncIterator[str], *, voice: str, language: str, speed: float = 1.0
    ) -> AsyncIterator[SpeechChunk]:
        try:
            async for piece in pieces:
                self.pieces.append(piece)
                if self._slow:
                    await asyncio.sleep(1000)
                if self._broken:
                    raise EngineError("broken")
                yield SpeechChunk(np.zeros(10, np.int16))
        finally:
            self.closed = True


async def test_who_reads_no_further_keeps_nobody_busy() -> None:
    voice = Greedy()
    chunks = recite(voice, "One is here. Two is here. Three is here.", voice="", language="en")
    await anext(chunks)
    await chunks.aclose()
    assert (voice.pieces, voice.closed) == (["One is here."], True)


async def test_words_that_the_voice_did_not_time_come_at_the_end() -> None:
    chunks = [chunk async for chunk in recite(Greedy(), "One is here. Two.", voice="", language="en")]
    assert words_of(chunks) == [
        WordTime(word, 20 / OUTPUT_RATE, 20 / OUTPUT_RATE) for word in ("One", "is", "here.", "Two.")
    ]


async def test_a_voice_that_breaks() -> None:
    voice = Greedy(broken=True)
    with pytest.raises(EngineError, match="broken"):
        [chunk async for chunk in recite(voice, "One.", voice="", language="en")]
    assert voice.closed


def test_a_voice_that_hangs() -> None:
    async def scene() -> None:
        slow = Greedy(slow=True)
        began = asyncio.get_running_loop().time()
        with pytest.raises(SlowEngineError):
            [chunk async for chunk in recite(slow, "One.", voice="", language="en")]
        assert slow.closed
        assert asyncio.get_running_loop().time() - began == pytest.approx(recital.CHUNK_SECONDS)

    run(scene())
