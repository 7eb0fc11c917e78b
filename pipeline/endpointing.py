"""How much silence ends a turn, by what its sound and its words tell. Pure arithmetic."""

from __future__ import annotations

import math

from pipeline.completeness import completeness
from pipeline.turn_settings import TurnSettings

NOISY, CLEAR = 15.0, 35.0
"""How far the voice was above the silence behind it, dB, where hardly anything is certain, and where nothing disturbs."""

IN_NOISE, IN_QUIET = (0.75, 0.36, -0.52), (0.93, 0.87, 1.05)
"""Log odds that a turn is complete for each of those that the words give, and the sound, and always: fitted to the half
of the evaluation's material that is for tuning."""

MOST = 5.0
"""Log odds of no one opinion count for more."""

SURE = 0.5
"""Of the way from undecided to certainty, either way: from there on nothing is waited for, or everything."""


def probability_complete(
    verdict: float | None, text: str, language: str, *, settled: bool = False, clearness: float = math.inf
) -> float | None:
    """What the turn model (its ``verdict``) and the words say together. ``None``: nobody knows.

    ``settled``: no words are missing. Those that lack the last one tell nothing of the end. ``clearness``: how far the
    voice was above the silence, dB. In noise words are misheard and the end of a sound is blurred.
    """
    words = completeness(text, language) if settled else None
    if verdict is None:
        return words
    quiet = min(max((clearness - NOISY) / (CLEAR - NOISY), 0.0), 1.0)
    if words is None:
        return _probability(quiet * _odds(verdict))
    of_words, of_sound, always = (a + quiet * (b - a) for a, b in zip(IN_NOISE, IN_QUIET, strict=True))
    return _probability(of_words * _odds(words) + of_sound * _odds(verdict) + always)


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
