"""Speakable clauses out of streamed text: the first one early, the others by sentence."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping

from pipeline.reading import english_tables, spanish_tables

MAX_CLAUSE = 240
"""Longest clause, characters. Bounds what a speech engine is asked for at once, and so how long it stays silent."""

LONG_CLAUSE = 120
"""A comma ends a later clause from this length on, characters: the voice never waits long for the next one."""

MAX_ADDRESS = 2000
"""Longest address, characters, that stays in one piece. What is heard of it is short."""

MIN_FIRST_WORDS = 4
"""A comma ends the first clause after this many words: fewer sound chopped, more are heard later."""

MIN_JOINED_WORDS, MIN_JOINED = 6, 30
"""Words and characters from which on the first clause ends in front of a conjunction, too."""

_RUN = re.compile(r"\S{1,256}|\s+")  # bounded, so that a word without end costs no more than others
_CLOSERS = "\"'”’»)\\]*_"
_SENTENCE_END = re.compile(rf"[.!?…。！？]+(?P<closers>[{_CLOSERS}]*)$")
_PAUSE = re.compile(rf"[,;:][{_CLOSERS}]*$|^[—–-]$")
_LIST_NUMBER = re.compile(r"\d{1,3}[.)]$")
_DOTTED = re.compile(r"(?:[^\W\d_]\.)+$")  # p.m.  e.g.  U.S.  J.
_CONJUNCTIONS = frozenset(
    {"and", "but", "because", "so", "although", "while", "which"}
    | {"y", "pero", "porque", "aunque", "mientras", "sino"}
)
_BEFORE_AND_IN_NUMBERS = frozenset(
    {"hundred", "thousand", "million", "dollars", "euros", "pounds", "between"}
    | {"treinta", "cuarenta", "cincuenta", "sesenta", "setenta", "ochenta", "noventa", "entre"}
)


def _parts(*tables: Mapping[str, str]) -> frozenset[str]:
    """What may end a word of the abbreviations: "EE. UU." has "ee." and "uu."."""
    return frozenset(f"{part}." for table in tables for key in table for part in key.split(".")[:-1])


_ABBREVIATIONS = _parts(
    english_tables.ABBREVIATIONS, english_tables.BEFORE_NAMES, spanish_tables.ABBREVIATIONS, spanish_tables.BEFORE_NAMES
) | {"ms.", "st.", "rd.", "co.", "sept.", "jan.", "feb.", "apr.", "jun.", "jul.", "aug.", "oct.", "nov.", "dec."}
_BEFORE_DIGITS = (
    _parts(english_tables.BEFORE_DIGITS, spanish_tables.BEFORE_DIGITS) | {"mar.", "ene.", "abr.", "ago.", "dic."}
) - _ABBREVIATIONS  # words, else


class ClauseSplitter:
    """Cuts text into clauses as it arrives, in pieces of any size; the size does not change the cuts.

    A cut falls behind a sentence, at a line break, behind a comma of the first clause or of a long one, or in front of
    a conjunction of a long first clause; never inside a number, an abbreviation, an address, a link or a quotation
    unless the clause would exceed ``MAX_CLAUSE`` characters. The clauses together hold all the text; each run of white
    space inside one becomes a space. Feeding takes time linear in the text.
    """

    def __init__(self) -> None:
        self._word = ""  # may still grow
        self._gap = ""  # what followed it: nothing yet, " " or "\n"
        self._clause: list[str] = []  # complete words that wait for a cut
        self._length = 0  # of the clause joined by spaces
        self._pause = 0  # words of the clause up to its last comma
        self._first = True

    def feed(self, text: str) -> list[str]:
        """Take more text; returns the clauses it completed, in order."""
        out: list[str] = []
        for run in _RUN.findall(text):
            if run.isspace():
                if self._word:
                    self._gap = "\n" if "\n" in self._gap + run else " "
                continue
            if self._gap:  # a word is judged when the next one begins: only then is it known how a full stop was meant
                self._complete(run[0], out)
            self._word += run
            while len(self._word) > (limit := MAX_ADDRESS if "://" in self._word[:MAX_CLAUSE] else MAX_CLAUSE):
                rest = self._word[limit:]
                self._word = self._word[:limit]
                self._append(out)
                self._cut(len(self._clause), out)
                self._word = rest
        return out

    def flush(self) -> list[str]:
        """The text is over: returns what was left. The splitter is as new."""
        out: list[str] = []
        if self._word:
            self._append(out)
        self._cut(len(self._clause), out)
        self._first = True
        return out

    def _complete(self, following: str, out: list[str]) -> None:
        """The word ended and ``following`` begins the next one."""
        word, gap = self._word, self._gap
        if self._joins(word):
            self._cut(len(self._clause), out)
        self._append(out)
        if gap == "\n" or self._ends_sentence(word, following):
            self._cut(len(self._clause), out)
        elif self._pauses(word, following):
            if len(self._clause) >= MIN_FIRST_WORDS if self._first else self._length >= LONG_CLAUSE:
                self._cut(len(self._clause), out)
            else:
                self._pause = len(self._clause)

    def _append(self, out: list[str]) -> None:
        """Move the word into the clause; cut the clause first where it would grow too long."""
        while self._clause and self._length + 1 + len(self._word) > MAX_CLAUSE:
            self._cut(self._pause or len(self._clause), out)
        self._clause.append(self._word)
        self._length += len(self._word) + (len(self._clause) > 1)
        self._word = self._gap = ""

    def _cut(self, words: int, out: list[str]) -> None:
        if words:
            out.append(" ".join(self._clause[:words]))
            del self._clause[:words]
            self._length = len(" ".join(self._clause))
            self._pause = 0
            self._first = False

    def _ends_sentence(self, word: str, following: str) -> bool:
        end = _SENTENCE_END.search(word)
        if end is None or _quoting(self._clause) or _in_link(self._clause):
            return False
        if len(self._clause) == 1 and _LIST_NUMBER.match(word):
            return False  # "1. Milk"
        if following.islower():
            return word[-1] in "!?"  # else: "p.m. and", "… he said", '"No!" he said'
        return not (word.endswith(".") and _abbreviates(word, following))

    def _joins(self, word: str) -> bool:
        """The word begins a part of the first clause that can wait."""
        if not self._first or len(self._clause) < MIN_JOINED_WORDS or self._length < MIN_JOINED:
            return False
        if word not in _CONJUNCTIONS or not _BEFORE_AND_IN_NUMBERS.isdisjoint(self._clause[-2:]):
            return False
        return not (_quoting(self._clause) or _in_brackets(self._clause))

    def _pauses(self, word: str, following: str) -> bool:
        if not _PAUSE.search(word) or _quoting(self._clause) or _in_brackets(self._clause):
            return False
        return not (word[:-1].isdigit() and following.isdigit())  # "November 22, 2026", "1, 2, 3"


def _abbreviates(word: str, following: str) -> bool:
    """Whether the full stop of ``word`` belongs to the word. In doubt yes: a late cut costs less than a wrong one."""
    word = word.lstrip("\"'“‘«([*_")
    if word.lower() in _BEFORE_DIGITS:
        return following.isdigit()
    return word.lower() in _ABBREVIATIONS or bool(_DOTTED.match(word))


def _quoting(words: list[str]) -> bool:
    text = " ".join(words)
    return text.count('"') % 2 == 1 or text.count("“") > text.count("”") or text.count("«") > text.count("»")


def _in_link(words: list[str]) -> bool:
    text = " ".join(words)
    return text.count("[") > text.count("]")


def _in_brackets(words: list[str]) -> bool:
    text = " ".join(words)
    return text.count("(") > text.count(")") or text.count("[") > text.count("]")


async def clauses(deltas: AsyncIterator[str]) -> AsyncGenerator[str, None]:
    """The clauses of a stream of text, each as soon as it is complete. Closing this closes ``deltas``."""
    splitter = ClauseSplitter()
    try:
        async for delta in deltas:
            for clause in splitter.feed(delta):
                yield clause
        for clause in splitter.flush():
            yield clause
    finally:
        aclose = getattr(deltas, "aclose", None)
        if aclose is not None:
            await aclose()
