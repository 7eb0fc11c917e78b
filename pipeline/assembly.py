"""Providers as one agent wants them, each with those who step in when it fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from config.providers import Target
from pipeline.apology import apology
from pipeline.llm import LanguageModel
from pipeline.llm.failover import Candidate, LlmFailover

Behind = Sequence[tuple[Any, Target]]
"""Engines in their order, and which model or voice of theirs."""


def language_model(engine: Any, model: str, behind: Behind, language: str) -> LanguageModel:
    others = (Candidate(other, target.name, getattr(other, "breaker", None)) for other, target in behind)
    sorry = " ".join(word.word for word in apology(language).words)
    return LlmFailover(engine.name, (Candidate(engine, model, engine.breaker), *others), sorry)
