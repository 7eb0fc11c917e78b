"""What is said for what is written, in general. The rules of each language: ``test_reading.py``."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.markdown import plain
from pipeline.speakable import speakable, spoken


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Hello there.", "Hello there."),
        ("**Bold**, *slanted*, `code` and ~~gone~~.", "Bold, slanted, code and gone."),
        ("***Both*** and __this__ and snake_case.", "Both and this and snake case."),
        ("# Title\n\nSome _text_ here.", "Title. Some text here."),
        ("Title\n=====\n\n***\n\nText", "Title Text"),
        ("Buy:\n- milk\n* eggs\n+ two breads!", "Buy: milk. eggs. two breads!"),
        ("- [ ] call\n- [x] write", "call. write."),
        ("1. Milk\n2. Eggs", "one. Milk. two. Eggs."),
        ("> quoted\n> words", "quoted words"),
        ("See [the docs](https://example.com/a_b?c=1) now.", "See the docs now."),
        ("See [the docs](https://example.com/a_(b)) or [these][2] now[1].", "See the docs or these now."),
        ("![A cat](cat.png) sleeps.", "A cat sleeps."),
        ("Go to https://www.example.com/now.", "Go to example dot com slash now."),
        ("Go to <https://example.com>!", "Go to example dot com!"),
        ("```python\nprint(x)\n```\nDone.", "print(x) Done."),
        ("Great 🎉👩‍👧 job 👍🏽 1️⃣ 🇪🇸!", "Great job one!"),
        ("I ♥ it ★★★★☆ ✓.", "I it."),
        ("| Day | Price |\n|-----|------:|\n| Monday | $5 |", "Day, Price. Monday, five dollars."),
        ("line<br>break <b>bold</b>, &lt;b&gt; Q&amp;A&nbsp;now", "line break bold, b Q and A now"),
        (r"\*not slanted\* and \#1 and 5\*3", "not slanted and number one and five times three"),
        ("well - maybe — no.", "well, maybe, no."),
        ("¿Qué tal? ¡Bien!", "¿Qué tal? ¡Bien!"),
        ("Don’t “quote” me…", "Don’t “quote” me…"),
        ("...", ""),
        ("🙂", ""),
        ("---", ""),
        ("```", ""),
        ("|---|:-:|", ""),
        ("?! \x00\ud800", ""),
        ("", ""),
    ],
)
def test_marks_for_the_eye_are_not_said(text: str, said: str) -> None:
    assert speakable(text, "en-US") == said


def test_what_is_shown_keeps_figures_and_signs() -> None:
    clause = spoken("**Only** $12.50 — at 3 p.m. 🎉 see [us](http://a.b)!", "en")
    assert clause.written == "Only $12.50 — at 3 p.m. see us!"
    assert clause.text == "Only twelve dollars and fifty cents, at three PM see us!"
    assert [span.written for span in clause.spans] == [
        ("Only",), ("$12.50", "—"), ("at",), ("3", "p.m."), ("see",), ("us!",)
    ]  # fmt: skip


def test_a_language_without_a_reader_keeps_its_figures() -> None:
    assert speakable("**2 + 2** = 4 & 1,5 €", "de-DE") == "2 + 2 = 4 & 1,5 €"
    assert not spoken("🙂", "ja")


PIECES = ["```", "://", "www.", "http", "<b>", "👍", "- ", "1.5", "12:30", "a.m.", "½", "²", "③", "٣", "Dr. "]
PIECES += ["EE. UU. ", "Nov 22", "2026-11-22", "XIV", "km/h", "@b.com", "AB12", "0" * 50, "&amp;"]
tokens = st.sampled_from([*"*_`#>-+|~[](){}!&=–\n 1aAI.,:/@$€%°\\<^", *PIECES])
texts = st.one_of(st.lists(tokens | st.text(max_size=3)).map("".join), st.text())


@example("a½@b.com", "en")
@example("²2026-11-22", "en")
@given(texts, st.sampled_from(["en", "es", "es-MX", "en-GB", "de", "", "x-y"]))
def test_any_text_has_a_written_and_a_spoken_form(text: str, language: str) -> None:
    clause = spoken(text, language)
    said = clause.text
    said.encode()
    assert said == " ".join(said.split())
    assert not said or any(map(str.isalnum, said))
    assert not set(said) & set("*_`~|<>[]{}\\^#")
    assert not [char for char in said if unicodedata.category(char) == "So" and char not in "°©®™№"]
    for span in clause.spans:
        assert span.written
        assert span.spoken
        assert all(word == word.strip() != "" for word in (*span.written, *span.spoken))
    if clause and language[:2] in ("en", "es"):
        assert not [char for char in said if unicodedata.category(char) in ("Nd", "No", "Nl") and char.isnumeric()]
        assert not set(said) & set("%€$£&+=°")


@given(texts, st.sampled_from(["en", "es", "de"]))
def test_every_written_word_is_in_one_span(text: str, language: str) -> None:
    clause = spoken(text, language)
    assert clause.written == (plain(text) if clause else "")


plain_words = st.from_regex(r"\A[A-Z]?[a-z']{1,9}[,!?;:]?\Z").filter(lambda word: any(map(str.isalnum, word)))


@given(st.lists(plain_words, min_size=1))
def test_plain_words_stay(words: list[str]) -> None:
    assert speakable(" ".join(words), "en").split() == words
    assert speakable(" ".join(words), "es").split() == words


UNITS = [
    "*",
    "**a",
    "_",
    "a_",
    "`",
    "[",
    "[a](",
    "](",
    "<",
    "<a",
    "&",
    "|",
    "-",
    "- ",
    "#",
    "1",
    "1,",
    "1.",
    "1/",
    "1:",
]
UNITS += [
    "a.",
    "a@",
    "@",
    "a1",
    "a-1-",
    "1-",
    "+1 ",
    "€1",
    "$1-",
    "1 ",
    "www.",
    "://",
    "A",
    "AB ",
    "EE. ",
    ". ",
    "Nov 1 ",
]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("language", ["en", "es"])
def test_time_is_linear(unit: str, language: str) -> None:
    speakable(unit * 10, language)
    begun = time.process_time()
    speakable(unit * 20_000, language)
    assert time.process_time() - begun < 10  # seconds; minutes, where it is quadratic
