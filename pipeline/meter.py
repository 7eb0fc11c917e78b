"""What one session used of which engine: tokens read and written, characters spoken, seconds of sound."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from pipeline.llm import Usage


class Meter:
    """Counts. What was prepared and never heard counts too: it was made, and somebody may send a bill for it.

    Where an engine fails and another steps in, what is heard and said counts for the one that was asked.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))

    def thought(self, engine: str, usage: Usage) -> None:
        self._add("llm", engine, prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens)

    def said(self, engine: str, *, characters: int, seconds: float) -> None:
        self._add("tts", engine, characters=characters, audio_seconds=seconds)

    def heard(self, engine: str, seconds: float) -> None:
        self._add("stt", engine, audio_seconds=seconds)

    def rows(self) -> list[dict[str, Any]]:
        """``{"kind", "engine", …}``: ``prompt_tokens`` and ``completion_tokens``; ``characters``; ``audio_seconds``."""
        return [
            {"kind": kind, "engine": engine, **{name: _short(count) for name, count in counts.items()}}
            for (kind, engine), counts in sorted(self._counts.items())
        ]

    def _add(self, kind: str, engine: str, **counts: float) -> None:
        for name, count in counts.items():
            self._counts[kind, engine][name] += count


def _short(count: float) -> float:
    return round(count, 2) if isinstance(count, float) and not count.is_integer() else int(count)
