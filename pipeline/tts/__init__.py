"""Text to speech: one interface, one file per engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

from media.audio import Pcm


@dataclass(frozen=True, slots=True)
class WordTime:
    """When a word sounds, in seconds from the first sample of its chunk."""

    word: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class SpeechChunk:
    """A piece of speech: mono PCM at ``OUTPUT_RATE`` and the words that begin in it.

    Words have no surrounding spaces and keep their punctuation, so that joined by one space they give the text.
    """

    pcm: Pcm
    words: list[WordTime] = field(default_factory=list)


class TextToSpeech(Protocol):
    name: str

    async def start(self) -> None:
        """Load the model or open the pool. Raises ``EngineError``."""

    def speak(
        self, pieces: AsyncIterator[str], *, voice: str, language: str, speed: float = 1.0
    ) -> AsyncIterator[SpeechChunk]:
        """Speak clauses as they come. Every word of every piece appears in exactly one chunk, in order.

        Closing the returned iterator cancels. Raises ``pipeline.engine.EngineError``.
        """

    async def aclose(self) -> None: ...
