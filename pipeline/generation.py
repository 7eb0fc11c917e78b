"""One pass of a language model over a conversation: its text as it comes, and the tools it asks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeVar

from pipeline.briefing import Question
from pipeline.engine import EngineError
from pipeline.llm import TextDelta, ToolCall, Usage

TOKEN_SECONDS = 15.0
"""How long a language model may be silent."""

MAX_ROUNDS = 8
"""Rounds of tools in one reply; after that the model has to answer without them."""

MAX_CALLS = 32
"""Tools that a model may ask for in one pass."""

T = TypeVar("T")


class Generation:
    """What came of one question so far."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self.text = ""
        self.engine = ""
        """Who wrote it; empty: nobody yet."""
        self.calls: list[ToolCall] = []
        self.usage: Usage | None = None
        self._half = ""

    @property
    def finish_reason(self) -> str:
        return "tool_calls" if self.calls else "stop"

    async def deltas(self) -> AsyncGenerator[str, None]:
        """The text as it comes, once. Raises ``EngineError``."""
        question = self._question
        async with closing(question.engine.generate(question.messages, question.tools, question.options)) as deltas:
            while True:
                try:
                    async with asyncio.timeout(TOKEN_SECONDS):
                        delta = await anext(deltas)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    raise EngineError("The language model took too long") from None
                match delta:
                    case TextDelta():
                        text = self._sound(delta.text)
                        self.text += text
                        self.engine = delta.engine
                        if text:
                            yield text
                    case ToolCall() if len(self.calls) < MAX_CALLS:
                        self.calls.append(replace(delta, arguments=_joined(delta.arguments)))
                    case Usage():
                        self.usage = delta
                        question.meter.thought(self.engine or question.engine.name, delta)

    def _sound(self, text: str) -> str:
        """Without halves of surrogate pairs: of a character that a server has cut the first waits for the second."""
        if text.isascii() and not self._half:
            return text
        text = self._half + text
        self._half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        return _joined(text.removesuffix(self._half))


def _joined(text: str) -> str:
    """Both halves of a surrogate pair are one character; one half is none, and could not be sent to anybody."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@asynccontextmanager
async def closing(stream: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Close an engine's iterator when it is left, which cancels the work behind it."""
    try:
        yield stream
    finally:
        if (aclose := getattr(stream, "aclose", None)) is not None:
            await aclose()
