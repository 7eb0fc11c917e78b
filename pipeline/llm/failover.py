"""A language model that has others behind it: asked in turn, as long as nothing of an answer was given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.engine import EngineError
from pipeline.generation import closing
from pipeline.llm import Delta, GenerateOptions, LanguageModel, Message, TextDelta
from pipeline.remote import Breaker, ProviderError, tell, too_slow

FIRST_SECONDS = 6.0
"""How long a provider may take to begin. Two of them fit into the patience of ``pipeline.generation``."""

ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model of an engine. ``breaker`` is that of the provider; ``None``: an engine of this machine."""

    engine: LanguageModel
    model: str = ""
    breaker: Breaker | None = None


@dataclass(slots=True)
class LlmFailover:
    """A ``LanguageModel``. Two of the same candidates are equal."""

    name: str
    candidates: tuple[Candidate, ...]
    apology: str = ""
    """Said first when an engine of this machine has to step in."""
    replaced: list[str] = field(default_factory=list, compare=False)
    """Whose place was taken and why, for whoever reads it and takes it away."""

    async def start(self) -> None:
        await asyncio.gather(*(candidate.engine.start() for candidate in self.candidates))

    def prepare(self) -> None:
        """Something is going to be asked."""
        first = self.candidates[0]
        if (prepare := getattr(first.engine, "prepare", None)) is not None:
            prepare(first.model)

    async def generate(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], options: GenerateOptions
    ) -> AsyncGenerator[Delta, None]:
        """See ``LanguageModel``. An answer that has begun is never begun anew: its failure is the caller's."""
        failure: EngineError | None = None
        for candidate, attempt in self._order():
            if failure and attempt and not (isinstance(failure, ProviderError) and failure.is_worth_a_retry):
                continue
            if failure and attempt:
                await asyncio.sleep(failure.wait if isinstance(failure, ProviderError) else 0)
            begun = False
            try:
                if failure and candidate.breaker is None and self.apology:
                    yield TextDelta(self.apology + " ", candidate.engine.name)
                async with closing(_deltas(candidate, messages, tools, options)) as deltas:
                    async for delta in deltas:
                        begun = True
                        yield delta
            except EngineError as error:
                failure = error
                if candidate.breaker:
                    candidate.breaker.failed(error)
                tell(error)
                if begun:
                    raise
                continue
            if candidate.breaker:
                candidate.breaker.succeeded()
            if failure and candidate != self.candidates[0]:
                self.replaced.append(f"{failure}; {candidate.engine.name} takes its place")
            return
        raise failure or EngineError("There is no language model")

    def _order(self) -> list[tuple[Candidate, int]]:
        """Who is asked, one after another, and whether it is a second time. Who rests is left out, if others do not."""
        awake = [one for one in self.candidates if not (one.breaker and one.breaker.open)] or list(self.candidates[:1])
        return [(one, attempt) for one in awake for attempt in range(ATTEMPTS if one.breaker else 1)]

    async def aclose(self) -> None:
        """The engines belong to ``pipeline.engine.Engines``."""


async def _deltas(
    candidate: Candidate, messages: Sequence[Message], tools: Sequence[dict[str, Any]], options: GenerateOptions
) -> AsyncGenerator[Delta, None]:
    """The answer of one, which must begin in time if it comes over the network."""
    options = replace(options, model=candidate.model)
    async with closing(candidate.engine.generate(messages, tools, options)) as deltas:
        limit = FIRST_SECONDS if candidate.breaker else None
        while True:
            try:
                async with asyncio.timeout(limit):
                    delta = await anext(deltas)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise too_slow(candidate.engine.name) from None
            limit = None
            yield delta
