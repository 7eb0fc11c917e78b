from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clauses import LONG_CLAUSE, MAX_CLAUSE, ClauseSplitter, clauses


def split(*pieces: str) -> list[str]:
    splitter = ClauseSplitter()
    out = [clause for piece in pieces for clause in splitter.feed(piece)]
    return out + splitter.flush()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("Hello.", ["Hello."]),
        ("Hi! How are you? Fine.", ["Hi!", "How are you?", "Fine."]),
        ("I can certainly help you, and then, later, more. Bye.",
         ["I can certainly help you,", "and then, later, more.", "Bye."]),
        ("Sure, I can. Well, yes, of course, I do.", ["Sure, I can.", "Well, yes, of course, I do."]),
        ("It costs 3.5 euros and weighs 12,000 t. Really.", ["It costs 3.5 euros and weighs 12,000 t. Really."]),
        ("It costs 3.5 or 12,000 euros. Really.", ["It costs 3.5 or 12,000 euros.", "Really."]),
        ("Ask Dr. Smith at 5 p.m. Or Mrs. Jones, e.g. Tomorrow.",
         ["Ask Dr. Smith at 5 p.m. Or Mrs. Jones,", "e.g. Tomorrow."]),
        ("J. K. Rowling wrote it. Good.", ["J. K. Rowling wrote it.", "Good."]),
        ("I said no. Then 2 of them left. See no. 5 there.",
         ["I said no.", "Then 2 of them left.", "See no. 5 there."]),
        ("The date today is Sunday November 22, 2026. Yes.", ["The date today is Sunday November 22, 2026.", "Yes."]),
        ("See https://example.com/a.b,c?d=1. Then go.", ["See https://example.com/a.b,c?d=1.", "Then go."]),
        ('He said "Stop. Go, now. Run!" Then he left.', ['He said "Stop. Go, now. Run!"', "Then he left."]),
        ("“Wait. What?” she asked. Nobody spoke.", ["“Wait. What?” she asked.", "Nobody spoke."]),
        ("One thing (a small, old one), is here.", ["One thing (a small, old one),", "is here."]),
        ("Buy:\n- milk\n- eggs, two of them\n", ["Buy:", "- milk", "- eggs, two of them"]),
        ("1. Milk\n2. Eggs", ["1. Milk", "2. Eggs"]),
        ("The answer is 12. That is all.", ["The answer is 12.", "That is all."]),
        ("Well... I think so… maybe. Yes.", ["Well...", "I think so… maybe.", "Yes."]),
        ("¿Qué tal? Muy bien. ¡Hola! Sí.", ["¿Qué tal?", "Muy bien.", "¡Hola!", "Sí."]),
        ("really? yes! ok then", ["really?", "yes!", "ok then"]),
    ],
)  # fmt: skip
def test_cuts(text: str, expected: list[str]) -> None:
    assert split(text) == expected


def test_first_clause_comes_before_the_sentence_is_complete() -> None:
    splitter = ClauseSplitter()
    assert splitter.feed("Let me see what I can do,") == []
    assert splitter.feed(" ") == []
    assert splitter.feed("because") == ["Let me see what I can do,"]
    assert splitter.feed(" this, and that, is a long") == []
    assert splitter.flush() == ["because this, and that, is a long"]


def test_run_on_is_cut_at_its_last_comma_else_at_a_space() -> None:
    words = "alpha beta gamma delta " * 40
    cut = split(words)
    assert all(200 < len(clause) <= MAX_CLAUSE for clause in cut[:-1])
    assert " ".join(cut) == words.strip()
    commas = split("one two three four, " + "five six, " + "seven " * 60)
    assert commas[:2] == ["one two three four,", "five six,"]


def test_word_without_end_is_cut() -> None:
    assert [len(clause) for clause in split("x" * 1000)] == [240, 240, 240, 240, 40]


def test_quotation_without_end_is_cut() -> None:
    assert max(map(len, split('"' + "So it goes on. " * 100))) <= MAX_CLAUSE


text = st.lists(
    st.one_of(
        st.sampled_from([*" \n,.;:!?\"“”()…", ". ", ", ", "Dr. ", "p.m. ", "3.5", "1,000", " A", " b", "x://y.z, "]),
        st.text(max_size=8),
    ),
    max_size=80,
).map("".join)  # fmt: skip


@given(text, st.data())
def test_nothing_is_lost_and_the_pieces_do_not_matter(text: str, data: st.DataObject) -> None:
    whole = split(text)
    assert "".join("".join(whole).split()) == "".join(text.split())
    assert all(clause and clause == " ".join(clause.split()) and len(clause) <= MAX_CLAUSE for clause in whole)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=20)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert split(*pieces) == whole
    assert split(*text) == whole


@given(text)
def test_only_long_words_are_broken(text: str) -> None:
    assert " ".join(split(text)).split() == text.split() or any(len(word) > MAX_CLAUSE for word in text.split())


@given(st.lists(st.decimals(0, 10**6, places=2).map(lambda d: f"{d:,}"), min_size=1, max_size=30))
def test_numbers_stay_whole(numbers: list[str]) -> None:
    joined = " ".join(split("It is " + ", ".join(numbers) + ". Yes."))
    assert re.findall(r"[\d,.]*\d", joined) == numbers


async def test_stream() -> None:
    closed = False

    async def deltas() -> AsyncIterator[str]:
        nonlocal closed
        try:
            for delta in ("One", ". T", "wo. ", "Three", "."):
                yield delta
        finally:
            closed = True

    assert [clause async for clause in clauses(deltas())] == ["One.", "Two.", "Three."]
    assert closed
    closed = False
    async with aclosing(clauses(deltas())) as stream:
        assert await anext(stream) == "One."
    assert closed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I can help you with booking a table and with directions.",
         ["I can help you with booking a table", "and with directions."]),
        ("Salt and pepper and oil and vinegar.", ["Salt and pepper and oil and vinegar."]),
        ("Le puedo ayudar con su reserva ahora mismo y también mañana.",
         ["Le puedo ayudar con su reserva ahora mismo", "y también mañana."]),
        ("The whole of it is exactly one hundred and five.", ["The whole of it is exactly one hundred and five."]),
        ("Vive en EE. UU. La Sra. López, p. ej. Ana. Sí.", ["Vive en EE. UU. La Sra. López,", "p. ej. Ana.", "Sí."]),
        ("Ask [him. Or her](https://x.org/a.b) now. Bye.", ["Ask [him. Or her](https://x.org/a.b) now.", "Bye."]),
        ("C/ Mayor núm. 5 en la Avda. América. Bien.", ["C/ Mayor núm. 5 en la Avda. América.", "Bien."]),
    ],
)  # fmt: skip
def test_more_cuts(text: str, expected: list[str]) -> None:
    assert split(text) == expected


def test_long_clause_ends_at_a_comma() -> None:
    cut = split("Yes. " + "some more words, " * 20)
    assert all(LONG_CLAUSE <= len(clause) < LONG_CLAUSE + 20 for clause in cut[1:-1])


def test_long_address_stays_whole() -> None:
    address = "https://example.com/" + "a/" * 400
    assert split(f"See {address} now.") == ["See", address, "now."]


@pytest.mark.parametrize("unit", ["a", "a ", ".", '"', "( ", "a, ", "1. ", "http://x ", "[", "and ", "\n"])
def test_time_is_linear(unit: str) -> None:
    begun = time.process_time()
    split(unit * 50_000)
    assert time.process_time() - begun < 10  # seconds; minutes, where it is quadratic
