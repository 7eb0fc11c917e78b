"""Which words acknowledge, stop the bot or are its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.phrases import (
    ACKNOWLEDGEMENTS,
    COMMANDS,
    count_words,
    is_acknowledgement,
    is_command,
    is_echo,
)

TEXTS = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(["yeah", "uh-huh", "and", "I", "stop", "it's", "5", "¿sí?"])).map(" ".join),
)
LANGUAGES = st.sampled_from(["en", "en-GB", "es", "es-MX", "fr", ""])


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("", "en"),
        ("Mm-hm.", "en"),
        ("Uh-huh, uh-huh.", "en-US"),
        ("Yeah, OK!", "en"),
        ("I see. Right, got it.", "en"),
        ("Thank you.", "en"),
        ("Sí, claro, claro.", "es-ES"),
        ("Ajá. De acuerdo.", "es"),
        ("¡Vale, vale!", "es"),
        ("okay vale", "fr"),  # of a language that is not known, everything counts
    ],
)
def test_acknowledgements(text: str, language: str) -> None:
    assert is_acknowledgement(text, language)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("no", "en"),
        ("yes please stop", "en"),
        ("I see that you are wrong", "en"),
        ("okay but why", "en"),
        ("vale", "en"),
        ("no", "es"),
        ("sí pero no", "es"),
        ("you lie", "en"),
    ],
)
def test_no_acknowledgements(text: str, language: str) -> None:
    assert not is_acknowledgement(text, language)


@pytest.mark.parametrize(
    ("text", "language"),
    [("Stop!", "en"), ("wait", "en"), ("okay, stop it", "en"), ("¡Espera!", "es"), ("no, para", "es")],
)
def test_commands(text: str, language: str) -> None:
    assert is_command(text, language)
    assert not is_acknowledgement(text, language)


def test_no_phrase_both_acknowledges_and_commands() -> None:
    for language in ("en", "es"):
        for phrase in ACKNOWLEDGEMENTS[language]:
            assert not is_command(phrase, language)
        for phrase in COMMANDS[language]:
            assert not is_acknowledgement(phrase, language)
    assert not is_command("I cannot hear a thing", "en")
    assert not is_command("", "en")


SAYING = "Once upon a time there was a king, who had three sons."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("there was a king", True),
        ("Once a time there was", True),  # the recogniser lost a word
        ("there was a thing who had", True),  # or took it for another
        ("king", False),
        ("", False),
        ("a king was there", False),
        ("sons three had", False),
        ("stop it please", False),
        ("what was his name", False),
    ],
)
def test_echo(text: str, *, expected: bool) -> None:
    assert is_echo(text, SAYING) == expected


@given(TEXTS, TEXTS, LANGUAGES)
def test_any_text(text: str, saying: str, language: str) -> None:
    assert is_acknowledgement(text, language) >= (count_words(text) == 0)
    assert not (is_echo(text, saying) and count_words(text) < 2)
    assert is_echo(text, text) == (count_words(text) >= 2)
    assert is_command(text, language) in (True, False)
    assert not is_echo(text, "")


@given(st.lists(st.sampled_from(sorted(ACKNOWLEDGEMENTS["en"])), max_size=6))
def test_many_acknowledgements_are_one(phrases: list[str]) -> None:
    assert is_acknowledgement(", ".join(phrases), "en")
