"""Could these words be all that somebody wants to say? A logistic regression on what stands at the end of a text.

Each feature is named by what it sees ("last=the", "classes=to-article", "words=3"), and its weight is in log odds, so
that :func:`evidence` can tell why. Weights come from ``python -m bench.turns.completeness``; words are put into classes
by ``assets/words-*.txt``. The probability is one at even odds: as many texts that are complete as texts that are not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from config.identity import base_language

ASSETS = Path(__file__).parent / "assets"
LANGUAGES = ("en", "es")


def _all(names: str) -> tuple[str, ...]:
    return tuple(names.split())


MARKS = {
    "en": {"...": -1.7, ".": 0.2, **dict.fromkeys("…,;:-–—", -1.7)},
    "es": {"...": -2.5, ".": 0.5, **dict.fromkeys("…,;:-–—", -1.7)},
}
"""Log odds for what a recogniser writes behind the last word. Moonshine writes a full stop behind
most words that are cut, too; Whisper writes dots, or nothing (``python -m bench.turns.marks``)."""

MARKS_ALONE = {"?": 0.85, "...": -1.7, **dict.fromkeys("…,;:-–—", -1.7)}
"""The same where nothing else is known."""

HESITATIONS = {
    "en": frozenset(_all("um umm uhm uh er erm ah")),
    "es": frozenset(_all("eh em ehm mmm")),
}
"""Nobody is done behind one of these."""

HESITATING = -3.0
"""Log odds for that."""

TOKEN = re.compile(r"[¿¡.?!]|\w+(?:'\w+)?")
CONTRACTED = re.compile(r"(?<=\w)(n't|'(?:m|re|s|ve|ll|d))$")

SUFFIXES = {
    "en": _all("tion ment ness ing ful ous ive able ible ally ly ed est er al ic y s"),
    "es": _all("""
        mente ción dad ando iendo yendo ado ido ada ida ados idos arme irme erme arlo erlo irlo arla erla irla arle irle
        ar er ir amos emos imos aba aban ía ían ó é aron ieron as es os o a e s
    """),
}
"""Classes of the words that no list knows, first match first."""

VERBAL = frozenset(
    _all("""
        be have do modal asking wanting giving linking going stay there go hold happen possessive
        -ó -é -ía -amos -emos -aba
    """)
)
"""Classes of words that may be the verb of a sentence."""

ASKING = frozenset(("be", "have", "do", "modal"))
"""Classes of words that, in front, ask."""

HEADS = frozenset(
    ("and", "but", "because", "preposition", "to", "of", "since", "what", "where", "article", "contracted", "subject")
)
"""Classes of words that begin a phrase."""

OPENERS = frozenset(("because", "where", "since"))
"""Classes of words that, in front, may begin a clause that another one follows."""

PAIRS = {"en": {"either": "or", "between": "and", "both": "and"}, "es": {"entre": "y", "tanto": "como"}}
"""The second word follows the first one."""

DICTATED = {
    "en": frozenset(_all("account card code number phone pin reference zip")),
    "es": frozenset(_all("código cuenta móvil número referencia tarjeta teléfono")),
}
"""What people read out digit by digit, with pauses between the groups."""

READ_OUT = 3
"""Digits in a row that are read out, whatever they are."""


MAIL = {"en": frozenset(("email", "underscore")), "es": frozenset(("email", "correo", "arroba"))}
"""Words that begin an address of e-mail."""

ENDINGS = frozenset(_all("com org net edu io uk de es mx ar co"))
"""Words that end one."""


@dataclass(frozen=True, slots=True)
class Model:
    language: str
    classes: dict[str, str]
    weights: dict[str, float]


def completeness(text: str, language: str) -> float | None:
    """Probability that someone who said ``text`` is done; ``None`` where its end tells nothing.

    ``text`` is as a recogniser writes it, the mark at its end with it. Of languages without a model that mark is all
    that is looked at.
    """
    found = evidence(text, language)
    return 1 / (1 + math.exp(-sum(weight for _, weight in found))) if found else None


def evidence(text: str, language: str) -> list[tuple[str, float]]:
    """What tells for (above 0) and against that ``text`` is complete, in log odds. Empty if it has no word."""
    base = base_language(language)
    if not re.search(r"\w", text):
        return []
    if base not in LANGUAGES:
        return _mark(text, MARKS_ALONE)
    model = load(base)
    found = [(name, model.weights[name]) for name in features(text, base, model.classes) if name in model.weights]
    return [*found, *_mark(text, MARKS[base]), *_hesitation(text, base)]


def _mark(text: str, weights: dict[str, float]) -> list[tuple[str, float]]:
    return next(([(f"mark={mark}", weight)] for mark, weight in weights.items() if text.rstrip().endswith(mark)), [])


def _hesitation(text: str, language: str) -> list[tuple[str, float]]:
    *_, last = re.findall(r"\w+|[?]", text.lower())  # "it is fine, eh?" is done
    return [("hesitation", HESITATING)] if last in HESITATIONS[language] else []


@cache
def load(language: str) -> Model:
    weights = {}
    for line in (ASSETS / f"completeness-{language}.tsv").read_text(encoding="utf-8").splitlines():
        name, _, weight = line.partition("\t")
        if weight:
            weights[name] = float(weight)
    return Model(language, classes(language), weights)


@cache
def classes(language: str) -> dict[str, str]:
    """The class of each word that has one."""
    found: dict[str, str] = {}
    for line in (ASSETS / f"words-{language}.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            name, *words = line.split()
            found.update((word, name) for word in words if word not in found)
    return found


@dataclass(frozen=True, slots=True)
class Word:
    """A word as the features see it: ``name`` in lower case, or ``#`` for figures."""

    name: str
    kind: str
    capital: bool = False
    digits: int = 0


def features(text: str, language: str, known: dict[str, str]) -> Iterator[str]:
    """Names of what is seen at the end of ``text``. None if there is no word in it."""
    sentences = _sentences(text, language, known)
    if not sentences:
        return
    words = sentences[-1]
    digits = _digits(words)
    dictated = not DICTATED[language].isdisjoint(word.name for sentence in sentences for word in sentence)
    if digits >= READ_OUT or (digits and dictated):  # nothing but their number tells
        yield f"read out={min(digits, 16)}{' announced' if dictated else ''}"
        return
    yield "always"
    yield from _ending(words)
    yield from _shape(words)
    if len(sentences) > 1:
        yield f"sentences={min(len(sentences), 3)}"
        yield f"sentences size={_bucket(len(words))}"
    if _is_open(words, language):
        yield "pair is open"
    if _in_address(words, language):
        yield "address is open"
    if digits:
        yield f"digits={digits}"


def _ending(words: list[Word]) -> Iterator[str]:
    """The last words, and their classes."""
    kinds = ["start", "start", "start", *(word.kind for word in words)]
    last, before = words[-1], words[-2].name if len(words) > 1 else "start"
    yield f"last={last.name}"
    yield f"last={before} {last.name}"
    yield f"class={kinds[-1]}"
    yield f"classes={'-'.join(kinds[-2:])}"
    yield f"classes={'-'.join(kinds[-3:])}"
    yield f"classes={'-'.join(kinds[-4:])}"
    yield f"ends={before} {last.kind}"
    yield f"ends={kinds[-2]} {last.name}"
    yield f"head={_head(words)}"
    yield f"verb behind={_since_verb(words)} class={last.kind}"
    if last.capital and len(words) > 1:
        yield "capital"
        yield f"capital behind {kinds[-2]}"


def _shape(words: list[Word]) -> Iterator[str]:
    """How the sentence begins, how long it is, and whether it has a verb."""
    last, size = words[-1].kind, _bucket(len(words))
    asks = "asks" if _asks(words) else "tells"
    verbs = min(sum(word.kind in VERBAL for word in words), 3)
    first, two = words[0].name, " ".join(word.name for word in words[:2])
    yield f"size={size}"
    yield f"class={last} size={size}"
    yield f"{asks} class={last}"
    yield f"{asks} size={size}"
    yield f"first={first}"
    yield f"first={first} size={size}"
    yield f"first={words[0].kind} class={last}"
    yield f"first={two}"
    yield f"first={two} size={size}"
    yield f"verbs={verbs} size={size} {asks}"
    opener = words[0].kind if words[0].kind in OPENERS and asks == "tells" else ""
    yield f"verbs={verbs} opener={opener or 'no'}"
    if opener:
        yield f"opener={opener} verbs={verbs} size={size}"


def _sentences(text: str, language: str, known: dict[str, str]) -> list[list[Word]]:
    found: list[list[Word]] = [[]]
    for piece in TOKEN.findall(text.replace("’", "'")):
        if piece in ".?!¿¡":
            if found[-1] and piece in ".?!":
                found.append([])
            continue
        parts = [piece]
        if language == "en" and (cut := CONTRACTED.search(piece.lower())):
            parts = [piece[: cut.start()], piece[cut.start() :]]
        for part in parts:
            name = part.lower()
            if name.isdecimal():
                found[-1].append(Word("#", "figures", digits=len(name)))
            else:
                kind = known.get(name) or _suffix(name, language)
                digits = int(kind == "digit")
                found[-1].append(Word(name, kind, part[:1].isupper() and name != "i", digits))
    if not found[-1]:
        found.pop()
    return found


def _suffix(name: str, language: str) -> str:
    for suffix in SUFFIXES[language]:
        if name.endswith(suffix) and len(name) > len(suffix) + 1:
            return f"-{suffix}"
    return "word"


def _bucket(count: int) -> str:
    for most in (1, 2, 3, 4, 5, 6, 8, 10, 13):
        if count <= most:
            return str(most)
    return "more"


def _asks(words: list[Word]) -> bool:
    """Whether it begins as a question does."""
    first = words[0].kind
    if first in ("what", "where"):
        return len(words) < 2 or first == "what" or words[0].name not in ("when", "where") or words[1].kind in ASKING
    return first in ASKING


def _head(words: list[Word]) -> str:
    for behind, word in enumerate(reversed(words)):
        if word.kind in HEADS:
            return f"{word.kind} {min(behind, 4)}"
        if behind == 5:
            break
    return "none"


def _since_verb(words: list[Word]) -> int:
    for behind, word in enumerate(reversed(words)):
        if word.kind in VERBAL:
            return min(behind, 4)
    return 9


def _is_open(words: list[Word], language: str) -> bool:
    names = [word.name for word in words]
    pairs = PAIRS[language].items()
    return any(first in names and second not in names[names.index(first) :] for first, second in pairs)


def _in_address(words: list[Word], language: str) -> bool:
    """Whether an address of e-mail has begun, and its last part has not."""
    names = [word.name for word in words]
    begun = not MAIL[language].isdisjoint(names)
    return begun and names[-1] not in ENDINGS and not _asks(words)


def _digits(words: list[Word]) -> int:
    """How many digits stand at the end."""
    found = 0
    for word in reversed(words):
        if not word.digits:
            break
        found += word.digits
    return found
