"""What little words tell about the turn: "mm-hm" asks to go on, "and then" promises more. English and Spanish."""

from __future__ import annotations

import re
from itertools import pairwise

from config.identity import base_language


def _phrases(text: str) -> frozenset[str]:
    return frozenset(" ".join(phrase.split()) for phrase in text.split(","))


ACKNOWLEDGEMENTS = {
    "en": _phrases("""
        ah, aha, all right, alright, cool, exactly, fine, go on, good, got it, gotcha, great, hm, hmm, huh, hum, i see,
        interesting, makes sense, mama, mhm, mm, mm hm, mm hmm, mmhm, mmhmm, mmm, mum, nice, of course, oh, ok, okay,
        really, right, sure, sure thing, thank you, true, uh, uh huh, uhhuh, um, wow, yeah, yep, yes, you, you know
    """),
    "es": _phrases("""
        ah, ahá, aja, ajá, así es, bien, bueno, claro, correcto, dale, de acuerdo, entiendo, eso, exacto, genial,
        gracias, hm, hmm, mm, mmm, mhm, muy bien, oh, ok, okay, okey, perfecto, por supuesto, si, sí, vale, ya, ya veo,
        yeah, yes
    """),
}
"""What is said to show that one listens. "You", "thank you" and "gracias" are also what recognisers make of a cough,
"mum" of a "mm-hm".
"""

COMMANDS = {
    "en": _phrases("""
        cancel, enough, excuse me, hang on, hold on, listen, one moment, pardon, pause, quiet, stop, wait
    """),
    "es": _phrases("""
        alto, basta, calla, cancela, disculpa, disculpe, escucha, espera, espere, momento, oiga, para, pare, perdón,
        perdona, perdone, silencio, un momento
    """),
}
"""What is said, in a word, to be listened to."""

CLAIMS = {
    "en": _phrases("help, hey, no, nope, please, sorry"),
    "es": _phrases("ayuda, no, oye, por favor"),
}
"""The same, but recognisers hear it in a "yup" or a "mm-hm", too."""

UNFINISHED = {
    "en": _phrases("""
        a, although, an, and, as, because, divided by, er, erm, i am, if, im, its like, kind of, let me, minus, my, or,
        our, plus, sort of, such as, than, the, their, times, uh, um, until, very, whether, whose, your
    """),
    "es": _phrases("""
        a, al, aunque, con, cuyo, de, del, desde, dividido por, e, eh, el, em, en, entre, la, las, les, los, más, menos,
        mi, mientras, mis, muy, ni, nuestra, nuestro, o, para, pero, porque, por, que, si, sin, su, sus, tan, tu, tus,
        un, una, unas, unos, y
    """),
}
"""Words that do not end a sentence."""

DANGLING = {
    "en": _phrases("""
        about, are, at, because of, before, between, but, by, can you tell me, could you tell me, do you know, for,
        from, has, have, he said, i, i need, i want, i would like, id like, im looking, into, is, its, let us, may,
        might, of, put me through, she said, should, tell her, tell him, they said, to, was, we, were, which, while,
        who, will, with, would
    """),
    "es": _phrases("""
        como, cuando, dice que, dígale, era, es, esta, este, gustaría, ha, han, has, hasta, hay, le, me, necesito, nos,
        pues, puede, podría, quiero, quisiera, sabe, sabe usted, saber, se, ser, son, te, tengo
    """),
}
"""Words that seldom do, but in a question."""

OPENING = {
    "en": _phrases("although, as soon as, because, if, since, the last time, unless, when, whenever, while"),
    "es": _phrases("aunque, como, cuando, en cuanto, la última vez, mientras, porque, si"),
}
"""What begins a clause that another one follows."""

ASKING = frozenset(
    {"am", "are", "can", "could", "did", "do", "does", "has", "have", "is", "should", "was", "will", "would"}
)
"""What stands behind "when" asks."""

CLAUSE = 6
"""Words after such a beginning in which no other clause can have been."""

PAIRS = {"en": {"either": "or", "between": "and", "both": "and"}, "es": {"entre": "y", "tanto": "como"}}
"""The second word follows the first one."""

CLOSING = {
    "en": _phrases("please, thank you, thanks, bye, goodbye, thats all, that is all"),
    "es": _phrases("por favor, gracias, adiós, eso es todo, nada más"),
}
"""What people say last."""

HALFWAY = 0.2
"""Probability that a turn is complete of which only the first half can have been said."""

DICTATED = {
    "en": _phrases("account, card, code, number, phone, pin, reference, zip"),
    "es": _phrases("código, cuenta, móvil, número, referencia, tarjeta, teléfono"),
}
"""What people read out digit by digit, with pauses between the groups."""

DIGITS = {
    "en": _phrases("zero, oh, one, two, three, four, five, six, seven, eight, nine, double"),
    "es": _phrases("cero, uno, dos, tres, cuatro, cinco, seis, siete, ocho, nueve, doble"),
}

LONG_NUMBER = 9
"""Digits of a number that may well be complete."""

DICTATING = 0.15
"""Probability that a turn is complete that ends with fewer digits of a number."""

PROMISE = 0.08
"""Probability that a turn is complete whose last word promises more."""

CUT_SHORT = 0.2
"""The same where the recogniser heard a comma or three dots."""

ASKED = 0.7
"""The same of a question, of which there may be another part."""

CLOSED = 0.65
"""The same of what people say last."""

TRAILING = re.compile(r"(?:\.\.\.|[…,;:\-–—])\s*$")


HUM = re.compile(r"(?:[hm]*[aáoóuú]*[hm]+[aáoóuú]*)+")
"""A word without a tongue or lips that open: "mm-hm", "uh", "aha" and what else is written for them."""


def is_acknowledgement(text: str, language: str) -> bool:
    """Whether nothing is said but that one listens. True of an empty text."""
    words = _words(text)
    known = _of(ACKNOWLEDGEMENTS, language)
    at = 0
    while at < len(words):
        if " ".join(words[at : at + 2]) in known and at + 1 < len(words):
            at += 2
        elif words[at] in known or HUM.fullmatch(words[at]):
            at += 1
        else:  # "I" may still become "I see"
            return at == len(words) - 1 and any(phrase.startswith(f"{words[at]} ") for phrase in known)
    return True


def is_command(text: str, language: str) -> bool:
    """Whether a word of ``text`` asks the bot to stop and listen."""
    return _holds(COMMANDS, text, language)


def is_claim(text: str, language: str) -> bool:
    """Whether a word of ``text`` contradicts or calls."""
    return _holds(CLAIMS, text, language)


def _holds(table: dict[str, frozenset[str]], text: str, language: str) -> bool:
    words = _words(text)
    return not _of(table, language).isdisjoint([*words, *(" ".join(pair) for pair in pairwise(words))])


def completeness(text: str, language: str) -> float | None:
    """Probability that someone who said ``text`` is done; ``None`` where its end tells nothing."""
    words = _words(text)
    if not words:
        return None
    last, question = {" ".join(words[-n:]) for n in range(1, 5)}, text.rstrip().endswith("?")
    if last & _of(UNFINISHED, language) or (last & _of(DANGLING, language) and not question):
        return PROMISE
    if TRAILING.search(text):
        return CUT_SHORT
    if _is_dictating(words, language):
        return DICTATING
    if _is_halfway(words, language) and not question:
        return HALFWAY
    if last & _of(CLOSING, language):
        return CLOSED
    return ASKED if question else None


def _is_halfway(words: list[str], language: str) -> bool:
    openings = _of(OPENING, language)
    for length in range(1, 4):
        if " ".join(words[:length]) in openings and ASKING.isdisjoint(words[length : length + 1]):
            return len(words) <= length + CLAUSE
    pairs = PAIRS.get(base_language(language), {})
    return any(first in words and second not in words[words.index(first) :] for first, second in pairs.items())


def _is_dictating(words: list[str], language: str) -> bool:
    if _of(DICTATED, language).isdisjoint(words):
        return False
    digits = [
        len(word) if word.isdecimal() else 1 for word in words if word.isdecimal() or word in _of(DIGITS, language)
    ]
    ends = words[-1].isdecimal() or words[-1] in _of(DIGITS, language)
    return ends and 2 <= sum(digits) < LONG_NUMBER


def is_echo(text: str, saying: str, least: int = 2) -> bool:
    """Whether so many words of ``text``, and nearly all, stand in this order in what the bot is ``saying``."""
    heard, said = _words(text), _words(saying)
    found = at = 0
    for word in heard:
        if word in said[at:]:
            at = said.index(word, at) + 1
            found += 1
    return found >= least and found >= 0.7 * len(heard)


def count_words(text: str) -> int:
    return len(_words(text))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower().replace("-", " ").replace("'", ""))


def _of(table: dict[str, frozenset[str]], language: str) -> frozenset[str]:
    """Of a language that is not in the table, everything counts."""
    return table.get(base_language(language)) or frozenset().union(*table.values())
