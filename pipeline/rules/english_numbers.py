"""Numbers and sums in English words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from pipeline.rules.arithmetic import LARGEST, Instruction, Lexicon, Token

ONES = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
]
TENS = {20: "twenty", 30: "thirty", 40: "forty", 50: "fifty", 60: "sixty", 70: "seventy", 80: "eighty", 90: "ninety"}
SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}

OPERATORS: dict[str, tuple[Token, ...]] = {
    "to the power of": ("^",),
    "per cent of": ("%",),
    "percent of": ("%",),
    "% of": ("%",),
    "multiplied by": ("*",),
    "multiply by": ("*",),
    "divided by": ("/",),
    "divide by": ("/",),
    "added to": ("+",),
    "take away": ("-",),
    "squared": ("^", Fraction(2)),
    "cubed": ("^", Fraction(3)),
    "plus": ("+",),
    "add": ("+",),
    "and": ("+",),
    "+": ("+",),
    "minus": ("-",),
    "negative": ("-",),
    "less": ("-",),
    **dict.fromkeys("-−–", ("-",)),
    "times": ("*",),
    "time": ("*",),
    "of": ("*",),
    **dict.fromkeys("x×*·", ("*",)),
    "over": ("/",),
    **dict.fromkeys("/÷:", ("/",)),
    "^": ("^",),
}

LEXICON = Lexicon(
    numbers={word: i for i, word in enumerate(ONES)} | {word: i for i, word in TENS.items()} | {"oh": 0},
    scales=SCALES,
    joiners=frozenset({"and"}),
    joined=SCALES,
    points=frozenset({"point", "dot"}),
    articles=frozenset({"a", "an"}),
    fractions={"half": Fraction(1, 2), "quarter": Fraction(1, 4), "third": Fraction(1, 3)},
    homophones={"to": 2, "too": 2, "for": 4, "fore": 4, "won": 1, "ate": 8, "sex": 6, "tan": 10},
    operators=[(tuple(words.split()), tokens) for words, tokens in OPERATORS.items()],
    instructions=[
        Instruction(re.compile(r"(?:add|sum of|add up) (.+?)"), ("and", "to", "plus", "with"), "+"),
        Instruction(re.compile(r"(?:multiply|product of) (.+?)"), ("by", "and", "with", "times"), "*"),
        Instruction(re.compile(r"divide (.+?)"), ("by",), "/"),
        Instruction(re.compile(r"(?:subtract|take|take away) (.+?)"), ("from", "away from"), "-", swapped=True),
        Instruction(re.compile(r"(?:difference between|difference of) (.+?)"), ("and",), "-"),
    ],
)

SPOKEN = {"+": "plus", "-": "minus", "*": "times", "/": "divided by", "%": "percent of", "^": "to the power of"}
SPOKEN |= {"(": "open bracket", ")": "close bracket"}

IDIOMS = {  # how one says what was calculated with
    "zero point five times": "half of",
    "zero point two five times": "a quarter of",
    "about zero point three three times": "a third of",
    "to the power of two": "squared",
    "to the power of three": "cubed",
}


def say_number(value: Fraction) -> str:
    """In words: exact when four decimal places are enough, else "about" with two."""
    if value < 0:
        return "minus " + say_number(-value)
    if value.denominator == 1:
        return _whole(value.numerator) if value <= LARGEST else f"{value.numerator:,}"
    places = 4 if (value * 10**4).denominator == 1 else 2
    scaled = round(value * 10**places)
    whole, decimals = divmod(scaled, 10**places)
    digits = str(decimals).zfill(places).rstrip("0")
    words = [_whole(whole), *(["point", *(ONES[int(d)] for d in digits)] if digits else [])]
    return " ".join(words) if places == 4 else "about " + " ".join(words)


def say_sum(tokens: Sequence[Token]) -> str:
    """The sum as one would read it aloud."""
    words = [say_number(token) if isinstance(token, Fraction) else SPOKEN[token] for token in tokens]
    text = " ".join(words)
    for written, idiom in IDIOMS.items():
        text = text.replace(written, idiom)
    return text


def _whole(n: int) -> str:
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n - n % 10] + ("-" + ONES[n % 10] if n % 10 else "")
    for word, scale in reversed(SCALES.items()):
        if n >= scale:
            rest = n % scale
            joint = " and " if 0 < rest < 100 else " "
            return f"{_whole(n // scale)} {word}" + (joint + _whole(rest) if rest else "")
    raise AssertionError("unreachable")
