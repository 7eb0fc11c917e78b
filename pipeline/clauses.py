"""Speakable clauses out of streamed text: the first one early, the others by sentence."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator

MAX_CLAUSE = 240
"""Longest clause, characters. Bounds what a speech engine is asked for at once, and so how long it stays silent."""

MIN_FIRST_WORDS = 4
"""A comma ends the first clause after this many words: fewer sound chopped, more are heard later."""

_RUN = re.compile(r"\S+|\s+")
_CLOSERS = "\"'”’»)\\]*_"
_SENTENCE_END = re.compile(rf"[.!?…。！？]+(?P<closers>[{_CLOSERS}]*)$")
_PAUSE = re.compile(rf"[,;:][{_CLOSERS}]*$|^[—–-]$")
_LIST_NUMBER = re.compile(r"\d{1,3}[.)]$")
_DOTTED = re.compile(r"(?:[^\W\d_]\.)+$")  # p.m.  e.g.  U.S.  J.
_ABBREVIATION = re.compile(
    r"(dr|mrs?|ms|prof|rev|gen|capt|lt|sgt|[js]r|sra|st|mt|ft|vs|etc|approx|dept|inc|ltd|corp?|co|ave|blvd|rd"
    r"|jan|feb|apr|jun|jul|aug|sept?|oct|nov|dec|uds?|núm|pág)\.$",
    re.IGNORECASE,
)
_ABBREVIATION_BEFORE_DIGIT = re.compile(r"(nos?|fig|vol|pp|tel|ext|art|mar|max|min)\.$", re.IGNORECASE)  # else a word


class ClauseSplitter:
    """Cuts text into clauses as it arrives, in pieces of any size; the size does not change the cuts.

    A cut falls behind a sentence, at a line break or, for the first clause only, behind a comma; never inside a number,
    an abbreviation, an address or a quotation unless the clause would exceed ``MAX_CLAUSE`` characters. The clauses
    together hold all the text; each run of white space inside one becomes a space.
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
            while len(self._word) > MAX_CLAUSE:
                rest = self._word[MAX_CLAUSE:]
                self._word = self._word[:MAX_CLAUSE]
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
        self._append(out)
        if gap == "\n" or self._ends_sentence(word, following):
            self._cut(len(self._clause), out)
        elif self._pauses(word, following):
            if self._first and len(self._clause) >= MIN_FIRST_WORDS:
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
        if end is None or _quoting(self._clause):
            return False
        if len(self._clause) == 1 and _LIST_NUMBER.match(word):
            return False  # "1. Milk"
        if following.islower():
            return word[-1] in "!?"  # else: "p.m. and", "… he said", '"No!" he said'
        return not (word.endswith(".") and _abbreviates(word, following))

    def _pauses(self, word: str, following: str) -> bool:
        if not _PAUSE.search(word) or _quoting(self._clause) or _in_brackets(self._clause):
            return False
        return not (word[:-1].isdigit() and following.isdigit())  # "November 22, 2026", "1, 2, 3"


def _abbreviates(word: str, following: str) -> bool:
    """Whether the full stop of ``word`` belongs to the word. In doubt yes: a late cut costs less than a wrong one."""
    word = word.lstrip("\"'“‘«([*_")
    if _ABBREVIATION_BEFORE_DIGIT.match(word):
        return following.isdigit()
    return bool(_ABBREVIATION.match(word) or _DOTTED.match(word))


def _quoting(words: list[str]) -> bool:
    text = " ".join(words)
    return text.count('"') % 2 == 1 or text.count("“") > text.count("”") or text.count("«") > text.count("»")


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
