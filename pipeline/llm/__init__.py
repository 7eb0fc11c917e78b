"""Language models: one interface, one file per engine. Messages are in chat-completions form."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Message = dict[str, Any]
"""``{"role": "system" | "user" | "assistant" | "tool", "content": str, ...}``"""


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str
    engine: str
    """Name of the engine that wrote it, as shown to people."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    id: str
    name: str
    arguments: str
    """A JSON object as text, never empty."""


@dataclass(frozen=True, slots=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int


Delta = TextDelta | ToolCall | Usage


@dataclass(frozen=True, slots=True)
class GenerateOptions:
    model: str = ""
    temperature: float = 0.7
    max_tokens: int | None = None
    language: str = "en"
    timezone: str = "UTC"


class LanguageModel(Protocol):
    name: str

    async def start(self) -> None:
        """Load the model or open the pool. Raises ``EngineError``."""

    def generate(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], options: GenerateOptions
    ) -> AsyncIterator[Delta]:
        """Answer the conversation. Closing the returned iterator cancels. Raises ``pipeline.engine.EngineError``."""

    async def aclose(self) -> None: ...
