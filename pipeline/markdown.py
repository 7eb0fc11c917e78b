"""Text without Markdown, HTML and pictures: what a caption shows, and what a voice is asked to say."""

from __future__ import annotations

import html
import re
import unicodedata

_FENCE = re.compile(r"\s*(?:`{3,}[^`]*|~{3,}.*)")
_RULE = re.compile(r"-{3}|-:?\s?\||\|\s?:?-|(?:\* ?){3}|(?:- ){2}-|_{3}|={3}|—{3}")
_RULE_MARKS = frozenset(" \t|:*_=–—-")
"""Lines of them alone are a thematic break, or stand below a title or the head of a table."""
_ITEM = re.compile(r"\s*(?:[-–—*+•‣▪·]\s+|#{1,6}\s+)(?:\[[ xX]\]\s+)?")
_QUOTED = re.compile(r"\s*>\s?")
_NUMBERED = re.compile(r"\s*\d{1,3}[.)]\s+\S")
_COMMENT = re.compile(r"<!--[^<>]*-->")
_AUTOLINK = re.compile(r"<([a-z]{3,10}:[^<>\s]+|[^<>\s@]+@[^<>\s]+)>")
_INLINE = "a|abbr|b|code|del|em|i|ins|kbd|mark|s|small|span|strong|sub|sup|u"
_INLINE_TAG = re.compile(rf"</?(?:{_INLINE})(?:\s[^<>\n]*)?>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][^<>\n]*>")
_LINK = re.compile(r"!?\[([^\[\]\n]*)\](?:\((?:[^()\n]|\([^()\n]*\))*\)|\[[^\[\]\n]*\])")
_NOTE = re.compile(r"\[\^?\d{1,3}\](?!\()")
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
_STARS = re.compile(r"(?<![\d)*])\*++(?=\S)|(?<=[^\s*])\*++(?![\d(])")  # "5*3" is a product
_UNDERSCORES = re.compile(r"(?<!\w)_++(?=\S)|(?<=[^\s_])_++(?!\w)")
_TICKS = re.compile(r"`+|~~+")

_KEPT = frozenset("°©®™№^")  # of the "other symbols", which otherwise are pictures
_KEPT_CATEGORIES = ("L", "M", "N", "P", "Sc", "Sm")
_VARIANTS = {"℃": "°C", "℉": "°F", "‼": "!!", "⁉": "!?", "•": ","}
_KEYCAP = "\u20e3"


def plain(text: str) -> str:
    """``text`` on one line, words apart by one space, as a reader wants it who sees no formatting.

    Links keep their text, lists and headings become sentences, cells of a table get commas between them. Numbers,
    addresses and abbreviations stay as they are written.
    """
    lines = re.split(r"[\n\r\u2028\u2029]", text)
    return " ".join(" ".join(map(_line, lines)).split())


def _line(line: str) -> str:
    if _FENCE.fullmatch(line) or (_RULE_MARKS.issuperset(line) and _RULE.search(line)):
        return ""
    sentence = bool(_NUMBERED.match(line))
    while mark := _QUOTED.match(line):
        line = line[mark.end() :]
    while mark := _ITEM.match(line):
        line, sentence = line[mark.end() :], True
    line = _inline(line)
    if "|" in line:
        cells = [cell.strip() for cell in line.split("|")]
        sentence = sentence or line.strip().startswith("|")
        line = ", ".join(filter(None, cells))
    line = "".join(map(_visible, line)).strip()
    return line + "." if sentence and (line[-1:].isalnum() or line[-1:] in (*')%€$£°"”»',)) else line


def _inline(line: str) -> str:
    """Without the marks inside a line."""
    line = _AUTOLINK.sub(r"\1", _COMMENT.sub(" ", line))
    line = _TAG.sub(" ", _INLINE_TAG.sub("", line))
    line = _NOTE.sub("", _LINK.sub(r"\1", line))
    line = _ESCAPED.sub(r"\1", line)
    line = _TICKS.sub("", _UNDERSCORES.sub("", _STARS.sub("", line)))
    return html.unescape(line)


def _visible(char: str) -> str:
    if char.isspace():
        return " "
    if char in _VARIANTS:
        return _VARIANTS[char]
    category = unicodedata.category(char)
    if char == _KEYCAP or "\ufe00" <= char <= "\ufe0f":
        return ""
    if "\u2500" <= char <= "\u27bf" or "\u2b00" <= char <= "\u2bff" or char >= "\U0001f000":
        return char if category.startswith(("L", "N")) else ""  # pictures; some of them are filed as mathematics
    return char if char in _KEPT or category.startswith(_KEPT_CATEGORIES) else ""
