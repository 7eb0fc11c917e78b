"""Text as it can be spoken, and which of the written words each spoken word stands for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.markdown import plain
from pipeline.reading import Reading, reader

_SILENT = str.maketrans(dict.fromkeys("*_`~|<>[]{}\\^#", " "))
_PUNCTUATION = frozenset(".,;:!?…")
_DASHES = frozenset("-–—")
_READ_BY_ENGINES = frozenset("%€$£¥&+=@°")
_WORD = re.compile(r"\S+")
_SPACE_BEFORE = re.compile(r" (?=[.,;:!?…)»”])")


@dataclass(frozen=True, slots=True)
class Span:
    """A few words that are written as they are, and what is said for them. Neither side is empty."""

    written: tuple[str, ...]
    spoken: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Spoken:
    """A clause for the ear and for the eye. False when nothing of it can be said."""

    spans: tuple[Span, ...]

    @property
    def text(self) -> str:
        """What a voice is asked to say."""
        return " ".join(word for span in self.spans for word in span.spoken)

    @property
    def written(self) -> str:
        """What a caption shows and the history keeps."""
        return " ".join(word for span in self.spans for word in span.written)

    def __bool__(self) -> bool:
        return bool(self.spans)


def spoken(text: str, language: str) -> Spoken:
    """``text`` without Markdown and pictures; for languages that have a reader, what is said of it is words only."""
    written = plain(text)
    reads = reader(language)
    spans: list[Span] = []
    silent: list[str] = []
    for words, said in _groups(written, reads.read(written) if reads else []):
        if any(char.isalnum() or (not reads and char in _READ_BY_ENGINES) for word in said for char in word):
            spans.append(Span((*silent, *words), said))
            silent = []
        elif spans:
            before = spans[-1]
            spans[-1] = Span((*before.written, *words), (*before.spoken[:-1], before.spoken[-1] + _pause(before, said)))
        else:
            silent += words
    return Spoken(tuple(spans) if any(map(str.isalnum, written)) else ())


def speakable(text: str, language: str) -> str:
    """What a voice is asked to say for ``text``, on one line; empty when nothing of it can be said."""
    return spoken(text, language).text


def _groups(text: str, readings: list[Reading]) -> Iterator[tuple[list[str], tuple[str, ...]]]:
    """Runs of words that no reading crosses the border of, and what is said for each run."""
    words: list[str] = []
    start, pending = 0, 0
    for word in _WORD.finditer(text):
        words.append(word[0])
        while pending < len(readings) and readings[pending].start < word.end():
            pending += 1
        if pending and readings[pending - 1].end > word.end():
            continue
        yield words, _said(text, start, word.end(), readings[:pending])
        del readings[:pending]
        words, start, pending = [], word.end() + 1, 0


def _said(text: str, start: int, end: int, readings: list[Reading]) -> tuple[str, ...]:
    """``text[start:end]`` with its readings in it, as words."""
    said = ""
    for reading in [*readings, Reading(end, end, "")]:
        for piece in (text[start : reading.start].translate(_SILENT), reading.spoken):
            if piece:
                apart = said[-1:].isalnum() and piece[0].isalnum()
                said += f" {piece}" if apart else piece
        start = reading.end
    return tuple(_SPACE_BEFORE.sub("", " ".join(said.split())).split())


def _pause(before: Span, said: tuple[str, ...]) -> str:
    """What remains to be said of signs without a sound: a dash between words is a comma."""
    signs = "".join(said)
    if not before.spoken[-1][-1].isalnum() or not signs:
        return ""
    if _DASHES.issuperset(signs):
        return ","
    return signs if _PUNCTUATION.issuperset(signs) else ""
