"""How much silence ends a turn, by what its sound and its words tell. Pure arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.completeness import completeness
from pipeline.turn_settings import TurnSettings

NOISY, CLEAR = 15.0, 35.0
"""How far the voice was above the silence behind it, dB, where little is certain, and where nothing disturbs."""

UNSURE, SURE_WORDS = 0.3, 0.8
"""Confidence of a recogniser that guesses, and of one that has understood."""

PER_WORDS, PER_SOUND, PER_SOUND_IN_QUIET = 0.8, 0.5, 0.5
"""Log odds that a turn is complete for each of those that the words give, and the sound in noise, and more in quiet."""

BIAS, UNDERSTOOD, QUIET = -1.0, 1.0, 0.7
"""Log odds always, and more where the words were understood, for those that break off are misheard, and in quiet. These
and the weights were fitted to the half of the evaluation's material that is for tuning."""

MOST = 5.0
"""Log odds of no one opinion count for more."""

SURE = 0.5
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


def probability_complete(
    verdict: float | None,
    text: str,
    language: str,
    *,
    settled: bool = False,
    confidence: float = 1.0,
    clearness: float = math.inf,
) -> float | None:
    """What the turn model (its ``verdict``) and the words say together. ``None``: nobody knows.

    ``settled``: no words are missing. Those that lack the last one tell nothing of the end. ``confidence``: how sure
    the recogniser is of them, 0 to 1. ``clearness``: how far the voice was above the silence, dB.
    """
    words = completeness(text, language) if settled else None
    if verdict is None:
        return words
    quiet = _share(clearness, NOISY, CLEAR)
    if words is None:
        return _probability(quiet * _odds(verdict))
    weighed = PER_WORDS * _odds(words) + (PER_SOUND + PER_SOUND_IN_QUIET * quiet) * _odds(verdict)
    return _probability(weighed + BIAS + UNDERSTOOD * _share(confidence, UNSURE, SURE_WORDS) + QUIET * quiet)


def _share(value: float, low: float, high: float) -> float:
    """0 at ``low`` and below, 1 at ``high`` and above."""
    return min(max((value - low) / (high - low), 0.0), 1.0)


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
        share = (probability - border) / (1 - border) if border < 1 else 1
        end = settings.complete_ms
    else:
        share = 1 - probability / border
        end = settings.unfinished_ms
    needed = settings.undecided_ms + min(share / SURE, 1) * (end - settings.undecided_ms)
    return min(round(needed), settings.max_silence_ms)
