"""The engine ``local``: fixed rules for what they know exactly, a small language model for the rest."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from typing import Any

from config.identity import base_language
from pipeline.engine import EngineError
from pipeline.llm import Delta, GenerateOptions, Message
from pipeline.llm.llamacpp import LlamaCpp
from pipeline.llm.rules import Rules

logger = logging.getLogger(__name__)


class Local:
    """A ``LanguageModel`` that always answers: where the model is missing or fails, the rules admit what they cannot.

    Every delta names which of the two wrote it. A very small model writes nonsense in most languages: there only the
    rules answer.
    """

    name = "local"

    def __init__(self, rules: Rules, model: LlamaCpp, languages: Collection[str] | None = None) -> None:
        """``languages`` are the base tags of those in which the model makes sense; ``None``: all."""
        self._rules = rules
        self._model = model
        self._languages = languages
        self.trouble = "the model was not loaded yet"
        """Why only the rules answer; empty when the model does too."""

    async def start(self) -> None:
        """Load the model. Does not raise: without it the rules answer."""
        try:
            await self._model.start()
            self.trouble = ""
        except EngineError as error:
            self.trouble = str(error)
            logger.warning("Only fixed rules answer: %s", error)

    async def generate(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], options: GenerateOptions
    ) -> AsyncGenerator[Delta, None]:
        """See ``LanguageModel``. Raises ``EngineError`` only when the model fails in the middle of an answer."""
        writing = False
        if not self.trouble and self._speaks(options.language) and self._rules.answer(messages, options) is None:
            try:
                async with aclosing(self._model.generate(messages, tools, options)) as deltas:
                    async for delta in deltas:
                        writing = True
                        yield delta
            except EngineError as error:
                if writing:
                    raise
                logger.warning("The rules answer instead of the model: %s", error)
        if not writing:
            async with aclosing(self._rules.generate(messages, tools, options)) as deltas:
                async for delta in deltas:
                    yield delta

    def _speaks(self, language: str) -> bool:
        return self._languages is None or base_language(language) in self._languages

    async def aclose(self) -> None:
        await self._model.aclose()
