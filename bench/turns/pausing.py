"""Where a turn pauses, and for how long: in recordings and in what synthetic voices say."""

from __future__ import annotations

import re

import numpy as np
from numpy.random import Generator

from bench.turns.alignment import aligner, begin_of
from bench.turns.sounds import samples
from bench.turns.voices import NEAR, Gap, Speech, place_near
from media.audio import INPUT_RATE

PAUSES = (0.3, 1.5)
"""Seconds, from the shortest to the longest that is put into a turn."""

COUNTS = (0.1, 0.6, 0.3)
"""How probably a turn gets no pause, one, or two, as far as it has places for them."""

PLACES = ("phrase", "whole", "filler", "gap", "own")
"""Where a pause is: where the words so far cannot be all, where they could be, behind an "um" (synthetic voices); in a
gap that the recorded speaker made, stretched, or as it was (``own``). ``phrase`` of recorded people: anywhere else.
"""

FILLED = 0.3
"""How probably a synthetic voice says something like "um" before it pauses in mid-phrase."""

BREATH = 0.1
"""Seconds from which a recorded speaker's gap is one between two phrases."""

GUESSED = 0.3
"""Seconds around the guessed time of a word in which the gap of the comma before it is looked for."""

MARKS = {"|": "phrase", "/": "whole"}
"""The places in the texts."""

FILLERS = {"en": ("um", "uh", "er"), "es": ("eh", "este", "pues")}

NUMBER = re.compile(
    r"(?:zero|oh|one|two|three|four|five|six|seven|eight|nine|double"
    r"|cero|uno|dos|tres|cuatro|cinco|seis|siete|ocho|nueve|doble)\W*",
    re.IGNORECASE,
)
"""A word of a number that is read out in groups."""


def _pauses(rng: Generator) -> list[float]:
    """As people pause: short ones are more frequent, in equal shares of the logarithm."""
    count = int(rng.choice(len(COUNTS), p=COUNTS))
    return [float(np.exp(rng.uniform(*np.log(PAUSES)))) for _ in range(count)]


def gaps_of_person(said: Speech, words: tuple[tuple[float, str], ...], rng: Generator) -> list[Gap]:
    """Pauses of a recorded person: half in the gaps between phrases, half between any two words."""
    gaps = [gap for gap in said.gaps if gap[1] - gap[0] >= samples(BREATH)]
    between = [
        at for at, _ in words[1:] if not any(a / INPUT_RATE - BREATH < at < b / INPUT_RATE + BREATH for a, b in gaps)
    ]
    found = []
    for seconds in _pauses(rng):
        if gaps and (rng.random() < 0.5 or not between):
            found.append(Gap(*gaps.pop(int(rng.integers(len(gaps)))), "gap", seconds))
        elif between:
            place = place_near(said, between.pop(int(rng.integers(len(between)))))
            found.append(Gap(*place, "phrase", seconds))
    return found


def with_marks(marked: str, language: str, rng: Generator) -> tuple[str, list[tuple[int, str, float]]]:
    """What is said, and of each pause in it: the number of the word behind it, the place, seconds.

    Numbers are read out in groups, which a comma tells the voice; so is a filler.
    """
    parts = re.split(r" ([|/]) ", marked)
    pauses = _pauses(rng)[: len(parts) // 2]
    chosen = dict(zip(sorted(rng.permutation(len(parts) // 2)[: len(pauses)].tolist()), pauses, strict=True))
    words = parts[0].split()
    marks: list[tuple[int, str, float]] = []
    for number, (mark, part) in enumerate(zip(parts[1::2], parts[2::2], strict=True)):
        if number in chosen:
            place = MARKS[mark]
            if place == "phrase" and rng.random() < FILLED:
                words[-1] = f"{words[-1].rstrip(',')},"
                words.append(f"{rng.choice(FILLERS[language])},")
                place = "filler"
            elif NUMBER.fullmatch(words[-1]) or NUMBER.fullmatch(part.split()[0]):
                words[-1] = f"{words[-1].rstrip(',')},"
            marks.append((len(words), place, chosen[number]))
        words += part.split()
    return " ".join(words), marks


def gaps_at_marks(said: Speech, text: str, marks: list[tuple[int, str, float]], language: str) -> list[Gap]:
    """Where a synthetic voice that ``said`` the ``text`` came to these words."""
    words = text.split()
    understood = aligner().words(said.sound, language) if marks else ()
    found = []
    for word, place, seconds in marks:
        comma = words[word - 1].endswith(",")
        begin = begin_of(word, text, understood)
        if begin is None:  # where the voice says that it is, which is no more than a guess
            begin = said.words[word][0]
        found.append(Gap(*place_near(said, begin, GUESSED if comma else NEAR), place, seconds))
    return found


def plain(marked: str) -> str:
    """A text without its marks."""
    return re.sub(r" [|/] ", " ", marked)
