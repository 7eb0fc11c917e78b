"""Numbers in words, English and Spanish. The words are num2words'; what is done here is what it leaves out."""

from __future__ import annotations

import re
from functools import lru_cache

from num2words import num2words

MAX_DIGITS = 15
"""A longer number is read digit by digit."""

_ONE_BEFORE_NOUN = re.compile(r"(veintiuno|\buno)(?= (?:mil|bill)|$)")
_SMALL_ORDINALS = {11: "undécimo", 12: "duodécimo"}
_LETTERS = {
    "a": "a", "b": "be", "c": "ce", "d": "de", "e": "e", "f": "efe", "g": "ge", "h": "hache", "i": "i", "j": "jota",
    "k": "ka", "l": "ele", "m": "eme", "n": "ene", "ñ": "eñe", "o": "o", "p": "pe", "q": "cu", "r": "erre", "s": "ese",
    "t": "te", "u": "u", "v": "uve", "w": "uve doble", "x": "equis", "y": "i griega", "z": "zeta",
}  # fmt: skip


@lru_cache(maxsize=4096)
def cardinal(value: int, language: str) -> str:
    """``value`` in words, for 0 to 10 ** ``MAX_DIGITS`` - 1."""
    words = str(num2words(value, lang=language)).replace(",", "")
    if language == "es":  # "veintiuno mil"
        words = re.sub(r"(veintiuno|\buno)(?= (?:mil|bill))", lambda m: "veintiún" if m[0] != "uno" else "un", words)
    return words


def ordinal(value: int, language: str) -> str:
    """First, second, … ; in Spanish masculine, and a cardinal from 40 on, as people say it."""
    if language == "es":
        if value in _SMALL_ORDINALS:
            return _SMALL_ORDINALS[value]
        if not 0 < value < 40:
            return cardinal(value, language)
        words = str(num2words(value, lang=language, to="ordinal"))
        return words.replace("décimo ", "decimo") if value < 20 else words
    return str(num2words(value, lang=language, to="ordinal")).replace(",", "")


def year(value: int) -> str:
    """In English: nineteen eighty-four, twenty twenty-six."""
    return str(num2words(value, lang="en", to="year")).replace("oh-", "oh ")


def digits(text: str, language: str) -> str:
    """Digits one by one."""
    return " ".join(cardinal(int(char), language) for char in text)


def feminine(words: str) -> str:
    """Spanish: "doscientas una", "primera", "vigésima segunda"."""
    words = re.sub(r"(cient|quinient)os\b", r"\1as", words)
    return re.sub(r"(un|[cm]er|gund|rt|uint|xt|ptim|tav|ven|cim|sim)o(?= |$)", r"\1a", words)


def before_noun(words: str) -> str:
    """Spanish: "un euro", "veintiún kilómetros"."""
    return _ONE_BEFORE_NOUN.sub(lambda m: "un" if m[0] == "uno" else "veintiún", words)


def letters(text: str, language: str) -> str:
    """Letters one by one. Spanish voices read capitals as words, and "A" alone is an article in English."""
    if language == "es":
        return " ".join(_LETTERS.get(char, char) for char in text.lower())
    return " ".join("A." if char == "A" else char for char in text.upper())
