from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.speakable import speakable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello there.", "Hello there."),
        ("**Bold**, *slanted*, `code` and ~~gone~~.", "Bold, slanted, code and gone."),
        ("# Title\n\nSome _text_ here.", "Title. Some text here."),
        ("Buy:\n- milk\n* eggs\n+ two breads!", "Buy: milk. eggs. two breads!"),
        ("1. Milk\n2. Eggs", "1. Milk 2. Eggs"),
        ("> quoted\n> words", "quoted words"),
        ("See [the docs](https://example.com/a_b?c=1) now.", "See the docs now."),
        ("Go to https://www.example.com/now.", "Go to example.com/now."),
        ("```python\nprint(1)\n```\nDone.", "print(1) Done."),
        ("Great 🎉👩‍👧 job 👍🏽 1️⃣ 🇪🇸!", "Great job 1!"),
        ("It is 20°C, 50% of $3.50 & more.", "It is 20°C, 50% of $3.50 and more."),
        ("2 + 2 = 4", "2 plus 2 equals 4"),
        ("5 - 3, well - maybe — no.", "5 - 3, well, maybe, no."),
        ("-5 degrees", "-5 degrees"),
        ("a | b\n---|---\nc | d", "a b c d"),
        ("line<br>break <b>bold</b>", "line break bold"),
        ("¿Qué tal? ¡Bien!", "¿Qué tal? ¡Bien!"),
        ("Don’t “quote” me…", "Don’t “quote” me…"),
        ("...", ""),
        ("🙂", ""),
        ("---", ""),
        ("?! \x00\ud800", ""),
        ("", ""),
    ],
)
def test_english(text: str, expected: str) -> None:
    assert speakable(text, "en-US") == expected


def test_symbols_have_names_in_the_language() -> None:
    assert speakable("2 + 2", "es-ES") == "2 más 2"
    assert speakable("2 + 2", "ja") == "2 2"


texts = st.lists(
    st.one_of(st.sampled_from([*"*_`#>-+|~[]()!&=–\n 1a.,", "```", "://", "www.", "http", "<b>", "👍", "- "]),
              st.text(max_size=3))
).map("".join)  # fmt: skip


@given(st.one_of(texts, st.text()), st.sampled_from(["en", "es", "", "x-y"]))
def test_nothing_raises_and_twice_is_once(text: str, language: str) -> None:
    once = speakable(text, language)
    assert speakable(once, language) == once
    assert once == " ".join(once.split())
    assert not once or any(char.isalnum() for char in once)
    once.encode()


@given(st.lists(st.from_regex(r"\A[A-Za-z']{1,9}[.,!?;:]?\Z").filter(lambda w: any(map(str.isalnum, w))), min_size=1))
def test_plain_words_stay(words: list[str]) -> None:
    assert speakable(" ".join(words), "en").split() == words
