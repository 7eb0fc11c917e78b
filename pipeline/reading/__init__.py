"""How written things are read aloud: numbers, dates, money, units, addresses, abbreviations, symbols."""

from __future__ import annotations

from functools import lru_cache

from config.identity import base_language
from pipeline.reading.english import English
from pipeline.reading.reader import Reader, Reading
from pipeline.reading.spanish import Spanish

READERS: dict[str, type[Reader]] = {"en": English, "es": Spanish}
"""By base language. In the others the speech engine reads by itself."""


@lru_cache(maxsize=32)
def reader(language: str) -> Reader | None:
    """Who reads a language (BCP-47); the region decides on dates, decimals and what "$" means."""
    kind = READERS.get(base_language(language))
    return kind(language) if kind else None


__all__ = ["READERS", "Reading", "reader"]
