"""How text is cut into what is spoken at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tts.phrasing import CLAUSE_PAUSE, LONGEST, SENTENCE_PAUSE, WORD_PAUSE, pause_after, split

WORDS = st.text(st.sampled_from("abI5 .,;!?…\"'”)(—\n🎉"), max_size=600)


@given(st.one_of(WORDS, st.text()))
def test_every_word_is_spoken_once_and_in_order(text: str) -> None:
    runs = list(split(text))
    assert [word for run in runs for word in run] == text.split()
    assert all(runs)


@given(WORDS)
def test_what_is_spoken_at_once_is_bounded(text: str) -> None:
    assert all(len(" ".join(run)) <= LONGEST or len(run) == 1 for run in split(text))


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It is late. We go.", 2),
        ("Really?! Yes.", 2),
        ("He said “No.” Then he left.", 2),
        ("No. That is wrong.", 2),
        ("So do I. Good.", 2),
        ("First line\nSecond line", 2),
        ("Dr. Smith met Mr. Jones.", 1),
        ("J. K. Rowling", 1),
        ("On Jan. 5th we meet.", 1),
        ("It costs approx. half.", 1),
        ("Version 3.5 is out.", 1),
    ],
)
def test_sentences(text: str, sentences: int) -> None:
    assert len(list(split(text))) == sentences


def test_a_long_sentence_is_cut_behind_a_comma() -> None:
    text = "In the morning I went to the market, to buy apples and pears and a lot of other things which I needed,"
    text += " and then I went home."
    assert [run[-1] for run in split(text)] == ["needed,", "home."]


@pytest.mark.parametrize(
    ("word", "pause"),
    [
        ("end.", SENTENCE_PAUSE),
        ("end.”", SENTENCE_PAUSE),
        ("so,", CLAUSE_PAUSE),
        ("and", WORD_PAUSE),
        ("🎉", WORD_PAUSE),
    ],
)
def test_pauses(word: str, pause: float) -> None:
    assert pause_after(word) == pause
