"""Text as it can be spoken: without Markdown, emoji and other marks for the eye."""

from __future__ import annotations

import re
import unicodedata

from config.identity import base_language

SPOKEN_SYMBOLS = {
    "en": {"&": "and", "+": "plus", "=": "equals", "×": "times", "÷": "divided by", "→": "to"},
    "es": {"&": "y", "+": "más", "=": "es igual a", "×": "por", "÷": "entre", "→": "a"},
}
"""What a symbol that stands alone is called; glued to a word or a number it is left to the speech engine."""

_STAR = re.compile(r"^[ \t]*\*(?=[ \t])", re.MULTILINE)
_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,}).*$", re.MULTILINE)
_LINK = re.compile(r"!?\[([^\[\]\n]*)\]\([^()\n]*\)")
_ADDRESS = re.compile(r"\S*://(www\.)*")
_TAG = re.compile(r"</?[a-zA-Z][^<>\n]*>")
_LINE_MARK = re.compile(r"^\s*([-–—+•‣▪·#>]+\s+)+")
_DASHES = frozenset("-–—")
_PUNCTUATION = frozenset(".,;:!?…")
_MARKUP = frozenset("*_`~|<>[]{}\\")
_KEPT = frozenset("°")  # of the "other symbols", which otherwise are pictures
_KEPT_CATEGORIES = ("L", "M", "N", "P", "Sc", "Sm", "Z")
_KEYCAP = "\u20e3"


def speakable(text: str, language: str) -> str:
    """``text`` on one line, with only what a voice can say; empty when nothing of it can be said.

    Numbers and dates are left to the speech engine; numbered lists keep their numbers. Applied twice it changes nothing
    more.
    """
    text = _STAR.sub("-", _FENCE.sub("", text))
    text = _ADDRESS.sub("", _LINK.sub(r"\1", _TAG.sub(" ", text)))
    lines = [_line(line) for line in "".join(map(_visible, text)).split("\n")]
    words = _words([word for line in lines for word in line.split()], SPOKEN_SYMBOLS.get(base_language(language), {}))
    return " ".join(words) if any(map(_sounds, words)) else ""


def _visible(char: str) -> str:
    if char.isspace():
        return "\n" if char in "\n\r\u2028\u2029" else " "
    if char in _MARKUP:
        return "" if char in "*`~" else " "
    variation = "\ufe00" <= char <= "\ufe0f" or char == _KEYCAP
    return char if not variation and (char in _KEPT or unicodedata.category(char).startswith(_KEPT_CATEGORIES)) else ""


def _line(line: str) -> str:
    """A line without its list, heading or quotation mark; an item of a list is a sentence of its own."""
    line, marks = _LINE_MARK.subn("", line)
    line = line.strip()
    return line + "." if marks and line[-1:].isalnum() else line


def _words(words: list[str], names: dict[str, str]) -> list[str]:
    """Words without those that have no sound; a dash between words becomes a comma, between numbers it is a minus.

    Lone punctuation (an emoji stood before it) joins the word in front.
    """
    out: list[str] = []
    for i, word in enumerate(words):
        if _sounds(word):
            out.append(word)
        elif word in names:
            out += names[word].split()
        elif word in _DASHES and out:
            following = words[i + 1] if i + 1 < len(words) else ""
            if out[-1][-1].isdigit() and following[:1].isdigit():
                out.append(word)
            elif out[-1][-1].isalnum() and following:
                out[-1] += ","
        elif out and out[-1][-1].isalnum() and _PUNCTUATION.issuperset(word):
            out[-1] += word
    return out


def _sounds(word: str) -> bool:
    return any(char.isalnum() for char in word)
