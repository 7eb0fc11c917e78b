"""Speech to text: one interface, one file per engine.

An engine is shared by all calls; a stream belongs to one call and one language.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from media.audio import Pcm
from pipeline.tts import WordTime


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was recognised. ``text`` is cumulative since the last final; ``confidence`` 0 to 1."""

    text: str
    final: bool
    confidence: float = 1.0
    language: str | None = None
    settled: bool = False
    """A partial of all that was said before the last ``pause``: a ``flush`` now would answer the same."""
    words: tuple[WordTime, ...] = ()
    """Of a final: when its words sound, in seconds of what the stream has heard. Empty: the engine does not tell."""


@dataclass(frozen=True, slots=True)
class TurnGuess:
    """An engine that detects turns itself thinks that the speaker is done; ``eager``: that they may be."""

    probability: float
    eager: bool = False


class Stream(Protocol):
    """Recognition of one speaker. ``write``, ``pause`` and ``flush`` never block and never raise."""

    def write(self, pcm: Pcm) -> None:
        """Hear more audio: mono, ``INPUT_RATE``, any length."""

    def pause(self) -> None:
        """A hint: the speaker just fell silent. A good moment to decode ahead and tell it, ``settled``, even when
        nothing changed; engines may ignore it."""

    def flush(self) -> None:
        """The turn is over: answer exactly one final transcript (perhaps empty) for all audio since the last one."""

    def discard(self) -> None:
        """Forget the audio since the last ``flush``; nothing is answered for it. A final that is owed still comes."""

    def __aiter__(self) -> AsyncIterator[Transcript | TurnGuess]:
        """Partials as the speaker goes on, a final for each ``flush``. Raises ``pipeline.engine.EngineError``."""

    async def aclose(self) -> None:
        """Release the stream; the iteration ends."""


class SpeechToText(Protocol):
    """An engine may have three more attributes: ``available``, false when it surely cannot work here; ``models``, the
    names of those that can be asked for, its own choice first; and the method ``async detect(pcm) -> str``, which tells
    the base tag of the language that is spoken.
    """

    name: str

    async def start(self) -> None:
        """Load the model or open the pool. Raises ``EngineError``."""

    def stream(self, language: str) -> Stream: ...

    async def aclose(self) -> None: ...
