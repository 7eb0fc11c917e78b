"""Utterances: found whole, told alike whatever the pieces, and never endless."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.audio import INPUT_FRAME, INPUT_RATE, Pcm
from pipeline.segmenting import BREATH, LONGEST, SENTENCE, Endpointer, Mark, Segment, Segmenter
from tests.voices import recording, silence

NAMES = ("en-00.flac", "es-02.flac", "human-00.flac")


def segments(pcm: Pcm, size: int) -> list[Segment]:
    segmenter = Segmenter()
    found = [segment for start in range(0, len(pcm), size) for segment in segmenter.feed(pcm[start : start + size])]
    assert segmenter.samples == len(pcm)
    return found + segmenter.finish()


def marks(verdicts: list[bool]) -> list[tuple[int, Mark]]:
    endpointer = Endpointer()
    return [(i, mark) for i, voiced in enumerate(verdicts) if (mark := endpointer.hear(voiced))]


def test_an_utterance_begins_pauses_and_ends() -> None:
    said = [False] * 50 + [True] * 50 + [False] * (BREATH + 1) + [True] * 10 + [False] * 100
    begin = 50 + 2
    pause = 100 + BREATH - 1
    last = 100 + BREATH + 1 + 10
    assert marks(said) == [
        (begin, Mark.BEGIN),
        (pause, Mark.PAUSE),
        (last + BREATH - 1, Mark.PAUSE),
        (last + SENTENCE - 1, Mark.END),
    ]


def test_a_click_is_no_utterance() -> None:
    assert marks([False] * 10 + [True, True] + [False] * 100) == []


def test_who_talks_on_is_cut_at_a_breath_and_at_last_anywhere() -> None:
    breaths = [i % 100 >= BREATH + 1 for i in range(3000)]
    ends = [i for i, mark in marks(breaths) if mark is Mark.END]
    assert ends
    assert all(not breaths[i] for i in ends)
    ends = [i for i, mark in marks([True] * 3000) if mark is Mark.END]
    assert ends[0] == LONGEST + 1
    assert len(ends) == 2


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 400)), max_size=30))
def test_beginnings_and_ends_take_turns(runs: list[tuple[bool, int]]) -> None:
    found = marks([voiced for voiced, count in runs for _ in range(count)])
    borders = [mark for _, mark in found if mark is not Mark.PAUSE]
    assert borders == [Mark.BEGIN, Mark.END] * (len(borders) // 2) + [Mark.BEGIN] * (len(borders) % 2)
    begin = 0
    for i, mark in found:
        begin = i if mark is Mark.BEGIN else begin
        assert i - begin <= LONGEST


def test_recordings_are_found_whole_and_where_they_are() -> None:
    pcm, places = silence(1.0), []
    for name in NAMES:
        voice = recording(name)
        places.append((len(pcm) / INPUT_RATE, (len(pcm) + len(voice)) / INPUT_RATE))
        pcm = np.concatenate([pcm, voice, silence(1.5)])
    found = segments(pcm, INPUT_FRAME)
    assert len(found) >= len(NAMES)
    for start, end in places:
        inside = [one for one in found if start - 0.5 < one.start / INPUT_RATE and one.end / INPUT_RATE < end + 0.5]
        assert inside[0].start / INPUT_RATE == pytest.approx(start, abs=0.5)
        assert inside[-1].end / INPUT_RATE == pytest.approx(end, abs=0.5)
    assert all(np.array_equal(one.pcm, pcm[one.start : one.start + len(one.pcm)]) for one in found)
    assert all(a.start + len(a.pcm) <= b.start for a, b in pairwise(found))


@settings(max_examples=20)
@given(st.integers(1, 40_000), st.sampled_from(NAMES))
def test_the_size_of_the_pieces_does_not_matter(size: int, name: str) -> None:
    pcm = np.concatenate([recording(name), silence(0.7), recording("en-02.flac")])
    whole, pieces = segments(pcm, len(pcm)), segments(pcm, size)
    assert [(one.start, one.end, len(one.pcm)) for one in whole] == [
        (one.start, one.end, len(one.pcm)) for one in pieces
    ]


@pytest.mark.parametrize("pcm", [silence(0.0), silence(3.0), np.full(INPUT_RATE, 1, np.int16)])
def test_nobody_speaks(pcm: Pcm) -> None:
    assert segments(pcm, 1000) == []
