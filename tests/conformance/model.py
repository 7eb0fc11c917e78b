"""A language model that does what it is told, so that a test decides by what the user says what the agent does."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from pipeline.llm import Delta, GenerateOptions, Message, TextDelta, ToolCall

CALL = re.compile(r"call (\w+) (\{.*?\})")


class Obedient:
    """A ``LanguageModel``. To "call NAME {JSON}" it answers with that call, or several; with a tool's result it says
    it; to "recite N" it counts that far; everything else it repeats.
    """

    name = "instant"

    def __init__(self) -> None:
        self.asked: list[tuple[Sequence[Message], list[str]]] = []
        """Of each question the messages and the names of the tools."""

    @property
    def system(self) -> str:
        """The prompt of the last question."""
        return str(self.asked[-1][0][0]["content"])

    async def start(self) -> None:
        """There is nothing to load."""

    async def generate(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], options: GenerateOptions
    ) -> AsyncGenerator[Delta, None]:
        self.asked.append((messages, [tool["function"]["name"] for tool in tools]))
        last = messages[-1]
        text = str(last.get("content", ""))
        if last["role"] == "tool":
            asked = max(index for index, message in enumerate(messages) if message["role"] == "user")
            results = [message["content"] for message in messages[asked:] if message["role"] == "tool"]
            answer = f"The tools say {' and '.join(results)}."
        elif found := CALL.findall(text):
            for number, (name, arguments) in enumerate(found):
                yield ToolCall(f"call_{len(messages)}_{number}", name, arguments)
            return
        elif text.lower().startswith("recite"):
            answer = " ".join(f"verse {number}," for number in range(int(text.split()[1]))) + " amen."
        else:
            answer = f"You said: {text}"
        for index, word in enumerate(answer.split(" ")):
            yield TextDelta(f" {word}" if index else word, self.name)

    async def aclose(self) -> None:
        """There is nothing to release."""
