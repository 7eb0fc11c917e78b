"""When the words of a phrase sound, for voices that do not tell: as long as their letters take, between the pauses."""

from __future__ import annotations

import re
from itertools import accumulate, pairwise

import numpy as np

from media.audio import OUTPUT_RATE
from pipeline.tts.phrasing import CLOSING, Samples

GAP, GAP_LEVEL = OUTPUT_RATE // 5, 10 ** (-36 / 20)
"""A pause within a phrase: so many samples (200 ms) without one above the level. Closed lips are quiet for less."""

VOWELS = re.compile("[aeiouyà-æè-ïò-öù-ýœ]+")
CONSONANT, FIGURE, SIGN = 0.4, 2.0, 2.0
"""How long a consonant, a figure, and a sign that is read (%, €) last, in units of a vowel. Fitted to Pico's speech."""


def times(words: list[str], wav: Samples) -> list[tuple[str, float, float]]:
    """Estimate when each word sounds, s: as long as its letters take, between the pauses that are heard."""
    parts: list[list[str]] = [[]]
    for word in words:
        parts[-1].append(word)
        if word.rstrip(CLOSING)[-1:] in (*",;:.!?…—",) and len(words) > sum(map(len, parts)):
            parts.append([])
    pauses = gaps(wav)
    if len(pauses) != len(parts) - 1:
        parts, pauses = [words], []
    found = []
    borders = [0, *(border for pause in pauses for border in pause), len(wav)]
    for part, start, end in zip(parts, borders[::2], borders[1::2], strict=True):
        ends = list(accumulate(map(weight, part), initial=0.0))
        scale = (end - start) / (ends[-1] or 1.0)
        spans = ((start + scale * a, start + scale * b) for a, b in pairwise(ends))
        found += [(word, a / OUTPUT_RATE, b / OUTPUT_RATE) for word, (a, b) in zip(part, spans, strict=True)]
    return found


def gaps(wav: Samples) -> list[tuple[int, int]]:
    """The pauses: (first silent sample, first loud one behind)."""
    loud = np.flatnonzero(np.abs(wav) > GAP_LEVEL)
    before = np.flatnonzero(np.diff(loud) > GAP)
    return [(int(loud[i]) + 1, int(loud[i + 1])) for i in before]


def weight(word: str) -> float:
    """How long a word lasts, in vowels."""
    text = word.lower()
    vowels = VOWELS.findall(text)
    consonants = sum(map(str.isalpha, text)) - sum(map(len, vowels))
    figures = sum(map(str.isdigit, text))
    signs = sum(map("%€$£&+=°".count, text))
    return len(vowels) + CONSONANT * consonants + FIGURE * figures + SIGN * signs
