"""Comparing what was said with what was understood."""

from __future__ import annotations

import re

NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
SPELLINGS = {"ok": "okay", "mister": "mr"} | {str(n): word for n, word in enumerate(NUMBERS)}


def normalised(text: str) -> list[str]:
    """Words without case, punctuation and hyphens; small figures and some abbreviations in one spelling."""
    words = re.sub(r"[^\w\s']", " ", text.lower().replace("’", "'")).split()
    return [SPELLINGS.get(word, word) for word in words]


def edits(said: list[str], heard: list[str]) -> int:
    """Least number of words to insert, delete or replace (Levenshtein)."""
    row = list(range(len(heard) + 1))
    for i, a in enumerate(said, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(heard, 1):
            diagonal, row[j] = row[j], min(diagonal + (a != b), row[j] + 1, row[j - 1] + 1)
    return row[-1]


def word_error_rate(*pairs: tuple[str, str]) -> float:
    """Errors per word said, over (said, heard) pairs of texts."""
    words = [(normalised(said), normalised(heard)) for said, heard in pairs]
    return sum(edits(said, heard) for said, heard in words) / sum(len(said) for said, _ in words)
