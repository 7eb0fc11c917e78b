"""What little words tell about the turn: "mm-hm" asks to go on, "stop" to stop. English and Spanish."""

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
