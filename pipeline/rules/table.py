"""How a question finds its rule."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

LONGEST_QUESTION = 600
"""Characters; nothing longer is matched."""

LONGEST_COUNT = 100
"""Numbers that are counted at a time."""

LONGEST_WORD = 40
"""Letters that are spelled at a time."""

_APOSTROPHES = str.maketrans("’‘`´", "''''")
_PUNCTUATION = re.compile(r"[.!?;:,]+(?=\s|$)|[\"“”¿¡…]")


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked, and what an answer may depend on."""

    text: str
    """As it was transcribed or typed."""
    now: datetime
    """Local time of whoever is asked."""
    previous: str = ""
    """What the bot said last."""


@dataclass(frozen=True, slots=True)
class Rule:
    """``answer`` is tried when ``pattern`` matches the whole question in its plain form; ``None`` passes it on."""

    pattern: re.Pattern[str]
    answer: Callable[[re.Match[str], Question], str | None]


def rule(*patterns: str) -> Callable[[Callable[[re.Match[str], Question], str | None]], Rule]:
    """Makes a rule of the function that it decorates, for questions that match any of the patterns."""
    return lambda answer: Rule(re.compile("|".join(patterns)), answer)


def says(answer: str, *patterns: str) -> Rule:
    """A rule with one answer."""
    return Rule(re.compile("|".join(patterns)), lambda match, question: answer)


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


@dataclass(frozen=True, slots=True)
class Table:
    """The rules of one language, tried in order."""

    rules: Sequence[Rule]
    contractions: Sequence[tuple[re.Pattern[str], str]]
    politeness: re.Pattern[str]
    """What may stand before a question without changing it."""
    afterthought: re.Pattern[str]
    """What may stand behind it."""
    cannot: str
    """The answer to everything else."""

    def answer(self, question: Question) -> str | None:
        """The answer of the first rule that knows one."""
        if len(question.text) > LONGEST_QUESTION:
            return None
        for form in dict.fromkeys(self._forms(question.text)):
            for rule in self.rules:
                if (match := rule.pattern.fullmatch(form)) and (answer := rule.answer(match, question)):
                    return answer
        return None

    def _forms(self, text: str) -> Iterator[str]:
        """The question without politeness around it, then as it was put; then the same of its last sentence."""
        for part in (text, re.split(r"(?<=[.!?])\s+", text.strip())[-1]):
            form = self._plain(part)
            shorter = self.politeness.sub("", form)
            yield from (self.afterthought.sub("", shorter), shorter, form)

    def _plain(self, text: str) -> str:
        """Lower case, without punctuation (numbers keep theirs) and contractions."""
        text = _PUNCTUATION.sub(" ", text.lower().translate(_APOSTROPHES))
        for pattern, full in self.contractions:
            text = pattern.sub(full, text)
        return " ".join(text.split())
