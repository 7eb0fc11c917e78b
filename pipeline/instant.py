"""The engines ``instant``: no model, no thinking, no waiting. For measuring a server, and for nothing else.

The ear writes one word of a fixed sentence for each 300 ms of sound, the mind always says the same, and the voice hums.
Whatever a call with them costs is the cost of everything around the engines.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

import numpy as np

from media.audio import INPUT_RATE, OUTPUT_RATE, Pcm
from media.level import dbfs
from pipeline.llm import Delta, GenerateOptions, Message, TextDelta
from pipeline.stt import Transcript
from pipeline.tts import SpeechChunk, Voice, WordTime

NAME = "instant"

HEARD = "this is what a caller could say when nobody listens to the words and only their number counts"
SAID = "This is a scripted answer. It takes some five seconds to say, so that there is something to measure."

AUDIBLE = -45.0
"""dBFS. What is louder is taken for speech."""

WORD_HEARD = INPUT_RATE * 3 // 10
"""Samples of sound that make a word."""

WORD_SAID = 0.28
"""Seconds."""


class InstantStt:
    """Hears that something is said, and how long."""

    name = NAME

    async def start(self) -> None:
        """There is nothing to load."""

    def stream(self, language: str) -> InstantStream:
        return InstantStream(language)

    async def aclose(self) -> None:
        """There is nothing to release."""


class InstantStream:
    """A ``Stream`` that answers before the call that asked it has returned."""

    def __init__(self, language: str) -> None:
        self._language = language
        self._sound = self._words = 0
        self._results: asyncio.Queue[Transcript | None] = asyncio.Queue()

    def write(self, pcm: Pcm) -> None:
        if len(pcm) and dbfs(pcm) > AUDIBLE:
            self._sound += len(pcm)
            if (words := self._sound // WORD_HEARD) > self._words:
                self._words = words
                self._tell()

    def pause(self) -> None:
        self._tell(settled=True)

    def flush(self) -> None:
        self._tell(final=True)
        self._sound = self._words = 0

    def discard(self) -> None:
        self._sound = self._words = 0

    async def __aiter__(self) -> AsyncIterator[Transcript]:
        while (result := await self._results.get()) is not None:
            yield result

    async def aclose(self) -> None:
        self._results.put_nowait(None)

    def _tell(self, *, final: bool = False, settled: bool = False) -> None:
        vocabulary = HEARD.split()
        words = [vocabulary[index % len(vocabulary)] for index in range(self._words)]
        text = " ".join(words).capitalize() + "." * (bool(words) and final)
        self._results.put_nowait(Transcript(text, final, language=self._language, settled=settled))


class InstantLlm:
    """Has one answer to everything."""

    name = NAME

    async def start(self) -> None:
        """There is nothing to load."""

    async def generate(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], options: GenerateOptions
    ) -> AsyncGenerator[Delta, None]:
        """Word by word, as a language model would write."""
        for index, word in enumerate(SAID.split(" ")):
            yield TextDelta(f" {word}" if index else word, self.name)

    async def aclose(self) -> None:
        """There is nothing to release."""


class InstantTts:
    """Hums each word on one note."""

    name = NAME
    voices = (Voice("hum", ("en-US", "es-ES"), "Hum", style="monotonous", description="One note for each word"),)
    any_voice = True

    def __init__(self) -> None:
        time = np.arange(round(WORD_SAID * OUTPUT_RATE)) / OUTPUT_RATE
        note = sum(np.sin(2 * np.pi * 130 * overtone * time) / overtone for overtone in range(1, 9))
        self._word = (6000 * note * np.sin(np.pi * time / WORD_SAID)).astype(np.int16)

    async def start(self) -> None:
        """There is nothing to load."""

    async def speak(
        self, pieces: AsyncIterator[str], *, voice: str, language: str, speed: float = 1.0
    ) -> AsyncGenerator[SpeechChunk, None]:
        async for piece in pieces:
            if words := piece.split():
                times = [WordTime(word, n * WORD_SAID, (n + 1) * WORD_SAID) for n, word in enumerate(words)]
                yield SpeechChunk(np.tile(self._word, len(words)), times)

    async def aclose(self) -> None:
        """There is nothing to release."""
