"""Text to speech: one interface, one file per engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from media.audio import Pcm


@dataclass(frozen=True, slots=True)
class WordTime:
    """When a word sounds, in seconds from the first sample of its chunk."""

    word: str
    start: float
    end: float


def later(words: Iterable[WordTime], by: float) -> tuple[WordTime, ...]:
    """The same words ``by`` seconds later."""
    return tuple(WordTime(word.word, word.start + by, word.end + by) for word in words)


@dataclass(frozen=True, slots=True)
class SpeechChunk:
    """A piece of speech: mono PCM at ``OUTPUT_RATE`` and the words that begin in it.

    Words have no surrounding spaces and keep their punctuation, so that joined by one space they give the text.
    """

    pcm: Pcm
    words: list[WordTime] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice that an engine offers by name."""

    id: str
    """As the engine takes it."""
    languages: tuple[str, ...]
    """BCP-47 tags of what it speaks, its own first."""
    name: str = ""
    """For a person; empty: the id."""
    gender: str = ""
    """``female``, ``male`` or empty."""
    style: str = ""
    description: str = ""
    alias: str = ""
    """What a configuration may write instead of the id, lower case; empty: the id in lower case."""

    def answers_to(self, wish: str) -> bool:
        """Whether a configuration that writes ``wish`` means this voice."""
        return wish == self.id or wish.lower() == (self.alias or self.id.lower())


class TextToSpeech(Protocol):
    """An engine may have three more attributes: ``voices``, the ``Voice`` objects that it offers, without which it
    offers none and takes any name; ``any_voice``, true when it takes other names than theirs too; and ``available``,
    false when it surely cannot work here, since something is not installed or a key is missing.
    """

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
