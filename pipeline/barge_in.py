"""Whether words that were heard over the bot are meant to interrupt it, or are a misheard "mm-hm"."""

from __future__ import annotations

from dataclasses import dataclass

from media.audio import FRAME_MS
from pipeline.turn_rules import (
    CLAIM_MS,
    EARLY_WORDS_MS,
    FEW_EARLY_MS,
    FEW_IN_NOISE_MS,
    FEW_WORDS_MS,
    LOUD_COMMAND_MS,
    LOUD_WORD_MS,
    MANY_WORDS,
    SETTLED_WORD_MS,
    SHORTEST_COMMAND_MS,
    WINDOW,
    WORD_MS,
)
from pipeline.turn_settings import TurnSettings


@dataclass(frozen=True, slots=True)
class Heard:
    """Words, and the voice that they were made of, ms. ``sure_ms`` is loud and sure voice so far."""

    words: int
    commands: bool
    """One asks the bot to stop."""
    claims: bool
    """One contradicts or calls."""
    settled: bool
    voice_ms: int
    loud_ms: int
    sure_ms: int
    halted: bool
    """There was enough voice to halt the bot."""
    noisy: bool
    """In a room out of which only what is loud stands."""
    early: bool
    """In an answer that has just begun: the user may be going on."""


def interrupts(heard: Heard, settings: TurnSettings, *, audible: bool) -> bool:
    """``audible``: the bot was heard already. The words are more than acknowledgement and echo."""
    words = heard.words
    near = settings.soft_words or heard.sure_ms >= max(SHORTEST_COMMAND_MS, LOUD_WORD_MS * words)
    least = SETTLED_WORD_MS * words if heard.settled else max(EARLY_WORDS_MS, WORD_MS * words)
    said = settings.soft_words or (heard.voice_ms >= least and (words >= MANY_WORDS or not audible))
    if near and said and (words >= max(1, settings.min_words) or not audible):
        return True
    if settings.commands and heard.commands and (near or heard.sure_ms >= LOUD_COMMAND_MS):
        return True
    if settings.commands and heard.claims and heard.loud_ms >= (CLAIM_MS if heard.settled else EARLY_WORDS_MS):
        return True
    # A short word or two that nobody expects are more often a "mm-hm" that the recogniser took for others.
    few = FEW_IN_NOISE_MS if heard.noisy else FEW_EARLY_MS if heard.early else FEW_WORDS_MS
    return heard.halted and heard.loud_ms >= few


def remembered(settings: TurnSettings) -> int:
    """Frames in which voice must be found that interrupts."""
    return max(1, round(settings.interrupt_ms * WINDOW) // FRAME_MS)
