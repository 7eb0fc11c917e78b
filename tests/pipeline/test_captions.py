"""Captions keep the written form while the voice says another."""

from __future__ import annotations

from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from pipeline.captions import Captions
from pipeline.speakable import Span, Spoken, spoken
from pipeline.tts import WordTime

words = st.lists(st.sampled_from(["$12.50", "one", "two,", "EE.", "UU.", "–"]), min_size=1, max_size=5).map(tuple)
clauses = st.lists(st.builds(Span, words, words), max_size=8).map(lambda spans: Spoken(tuple(spans)))


def timed(text: str, seconds: list[float]) -> list[WordTime]:
    ends = list(accumulate(seconds, initial=0.0))
    return [WordTime(word, a, b) for word, (a, b) in zip(text.split(), pairwise(ends), strict=False)]


def test_money_is_shown_as_it_is_written() -> None:
    captions = Captions()
    clause = spoken("It costs $12.50, really.", "en")
    captions.expect(clause)
    assert clause.text == "It costs twelve dollars and fifty cents, really."
    assert captions.written(timed(clause.text, [1.0] * 8)) == [
        WordTime("It", 0, 1),
        WordTime("costs", 1, 2),
        WordTime("$12.50,", 2, 7),
        WordTime("really.", 7, 8),
    ]


def test_written_words_share_the_time_of_a_spoken_one() -> None:
    captions = Captions()
    captions.expect(Spoken((Span(("a", "b"), ("both",)),)))
    assert captions.written([WordTime("both", 1.0, 3.0)]) == [WordTime("a", 1.0, 2.0), WordTime("b", 2.0, 3.0)]


def test_a_word_may_begin_in_one_chunk_and_end_in_the_next() -> None:
    captions = Captions()
    captions.expect(spoken("Call 555-1234 now", "en"))
    assert [t.word for t in captions.written(timed("Call five five", [1.0] * 3))] == ["Call", "555-1234"]
    assert [t.word for t in captions.written(timed("five, one two three four now", [1.0] * 6))] == ["now"]


def test_a_voice_that_times_no_words_leaves_the_text() -> None:
    captions = Captions()
    captions.expect(spoken("It is 5 km.", "en"))
    assert captions.written([]) == []
    assert captions.rest() == ["It", "is", "5", "km."]
    assert captions.rest() == []
    assert captions.written(timed("more words", [1.0, 1.0])) == []


@given(st.lists(clauses, max_size=4), st.data())
def test_each_written_word_comes_once_in_order(said: list[Spoken], data: st.DataObject) -> None:
    captions = Captions()
    for clause in said:
        captions.expect(clause)
    text = " ".join(clause.text for clause in said)
    count = len(text.split())
    times = timed(text, data.draw(st.lists(st.floats(0, 2), min_size=count, max_size=count)))
    shown: list[WordTime] = []
    while times:
        size = data.draw(st.integers(1, len(times)))
        shown += captions.written(times[:size])
        times = times[size:]
    assert " ".join(word.word for word in shown) == " ".join(filter(None, (clause.written for clause in said)))
    assert all(a.start <= b.start + 1e-9 for a, b in pairwise(shown))
    assert all(word.start <= word.end + 1e-9 for word in shown)
    assert captions.rest() == []
