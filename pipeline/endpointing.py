"""How much silence ends a turn, by what its sound and its words tell. Pure arithmetic."""

from __future__ import annotations

from pipeline.phrases import completeness
from pipeline.turn_settings import TurnSettings

WHOLE = 0.65
"""Probability that a turn is complete whose words are all known, and none of them promises more."""


def probability_complete(verdict: float | None, text: str, language: str, *, settled: bool = False) -> float | None:
    """What the turn model (its ``verdict``) and the words say, taken as independent. ``None``: nobody knows.

    ``settled``: no words are missing.
    """
    words = completeness(text, language)
    if verdict is None:
        return words
    if words is None:
        words = WHOLE if settled and text else 0.5
    both = verdict * words
    return both / (both + (1 - verdict) * (1 - words))


def silence_needed(probability: float | None, settings: TurnSettings) -> float:
    """The silence in ms that ends a turn that is so probably complete."""
    border = settings.complete_from
    if probability is None:
        needed: float = settings.undecided_ms
    elif probability >= border:
        share = (probability - border) / (1 - border) if border < 1 else 1
        needed = settings.undecided_ms + share * (settings.complete_ms - settings.undecided_ms)
    else:
        share = 1 - probability / border
        needed = settings.undecided_ms + share * (settings.unfinished_ms - settings.undecided_ms)
    return min(round(needed), settings.max_silence_ms)
