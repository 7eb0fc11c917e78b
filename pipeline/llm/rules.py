"""The engine ``rules``: fixed answers without a language model, for what can be answered exactly."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Any

from config.identity import base_language
from pipeline.llm import Delta, GenerateOptions, Message, TextDelta
from pipeline.prompt import Clock, local_time, utc_now
from pipeline.rules.english import ENGLISH
from pipeline.rules.spanish import SPANISH
from pipeline.rules.table import Question

TABLES = {"en": ENGLISH, "es": SPANISH}
"""By base language."""

SPEECHLESS = {
    "de": "Ohne ein größeres Sprachmodell kann ich auf Deutsch leider nicht antworten.",
    "fr": "Sans un plus grand modèle de langage, je ne peux pas répondre en français.",
    "it": "Senza un modello linguistico più grande non posso rispondere in italiano.",
}
"""The only answer in languages without a table."""

_WORD = re.compile(r"\s*\S+")


def answer(text: str, *, language: str, now: datetime, previous: str = "") -> str | None:
    """The exact answer to ``text``, ``None`` when no rule has one.

    ``now`` is the local time of the agent, ``previous`` what the bot said last.
    """
    table = TABLES.get(base_language(language))
    return table.answer(Question(text, now, previous)) if table else None


class Rules:
    """A ``LanguageModel`` that knows a few questions and admits it about all others."""

    name = "rules"

    def __init__(self, clock: Clock = utc_now) -> None:
        self._clock = clock

    async def start(self) -> None:
        """There is nothing to load."""

    def answer(self, messages: Sequence[Message], options: GenerateOptions) -> str | None:
        """The answer to the last message of the user, ``None`` when no rule has one."""
        now = local_time(self._clock(), options.timezone)
        return answer(
            _last(messages, "user"), language=options.language, now=now, previous=_last(messages, "assistant")
        )

    async def generate(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], options: GenerateOptions
    ) -> AsyncGenerator[Delta, None]:
        """Word by word, as a language model would write."""
        language = base_language(options.language)
        text = self.answer(messages, options) or SPEECHLESS.get(language) or TABLES.get(language, ENGLISH).cannot
        for word in _WORD.findall(text):
            yield TextDelta(word, self.name)

    async def aclose(self) -> None:
        """There is nothing to release."""


def _last(messages: Sequence[Message], role: str) -> str:
    """Text of the last message of this role; content in parts (text and pictures) has none."""
    content = next((message.get("content") for message in reversed(messages) if message["role"] == role), "")
    return content if isinstance(content, str) else ""
