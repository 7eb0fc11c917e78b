"""How written things are read aloud: numbers, dates, money, units, addresses, abbreviations, symbols."""

from __future__ import annotations

from functools import cache

from config.identity import base_language
from pipeline.reading.english import English
from pipeline.reading.reader import Reader, Reading
from pipeline.reading.spanish import Spanish

READERS: dict[str, type[Reader]] = {"en": English, "es": Spanish}
"""By base language. In the others the speech engine reads by itself."""


def reader(language: str) -> Reader | None:
    """Who reads a language (BCP-47); the region decides on dates, decimals and what "$" means."""
    kind = READERS.get(base_language(language))
    if kind is None:
        return None
    return _reader(kind, next((part for part in language.upper().split("-")[1:] if part in kind.regions), ""))


@cache
def _reader(kind: type[Reader], region: str) -> Reader:
    """Takes 10 to 20 ms the first time, for there is much to compile."""
    return kind(region)


__all__ = ["READERS", "Reading", "reader"]
