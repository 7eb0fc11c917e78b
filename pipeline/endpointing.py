"""How much silence ends a turn, by what its sound and its words tell. Pure arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.completeness import completeness
from pipeline.turn_settings import TurnSettings

PER_WORDS, PER_SOUND, BIAS = 0.5, 0.9, -0.3
"""Log odds that a turn is complete for each of those that the words give, and the sound, and always. The weights were
fitted to the half of the evaluation's material that is for tuning; to be cut off is worse than to wait."""

PER_SOUND_ALONE, BIAS_ALONE = 0.7, -0.6
"""The same while there are no words."""

MOST = 5.0
"""Log odds of no one opinion count for more."""

SURE = 0.35
"""Of the way from undecided to certainty, either way: from there on nothing is waited for, or everything."""


@dataclass(slots=True)
class Silence:
    """What is known of the present pause."""

    asked: float = 0.0
    """When the turn model was, s; ``answered`` since."""
    answered: bool = False
    verdict: float | None = None
    probability: float | None = None
    """That the turn is complete."""
    told: bool = False
    """That the turn is unfinished."""
    eager: bool = False
    """The answer is being prepared."""


def probability_complete(verdict: float | None, text: str, language: str, *, settled: bool = False) -> float | None:
    """What the turn model (its ``verdict``) and the words say together. ``None``: nobody knows.

    ``settled``: no words are missing. Those that lack the last one tell nothing of the end.
    """
    words = completeness(text, language) if settled else None
    if verdict is None:
        return words
    if words is None:
        return _probability(PER_SOUND_ALONE * _odds(verdict) + BIAS_ALONE)
    return _probability(PER_WORDS * _odds(words) + PER_SOUND * _odds(verdict) + BIAS)


def _probability(odds: float) -> float:
    return 1 / (1 + math.exp(-odds))


def _odds(probability: float) -> float:
    """In logarithms."""
    within = min(max(probability, 1e-6), 1 - 1e-6)
    return min(max(math.log(within / (1 - within)), -MOST), MOST)


def silence_needed(probability: float | None, settings: TurnSettings) -> float:
    """The silence in ms that ends a turn that is so probably complete."""
    border = settings.complete_from
    if probability is None:
        return min(settings.undecided_ms, settings.max_silence_ms)
    if probability >= border:
        share = (probability - border) / (1 - border) / SURE if border < 1 else 1
        end = settings.complete_ms
    else:
        share = (1 - probability / border) / SURE
        end = settings.unfinished_ms
    needed = settings.undecided_ms + min(share, 1) * (end - settings.undecided_ms)
    return min(round(needed), settings.max_silence_ms)
