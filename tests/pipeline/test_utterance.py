"""The audio of one utterance: its loudness, where it may be cut, and when a partial is not worth showing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stt.redecoding import BLOCK, LONGEST, STUTTER, Heard, Utterance
from tests.voices import recording


@pytest.mark.parametrize(
    "text",
    [
        "What is the date to date to date",
        "a store, store store store",
        "a dog and a log and a log and a",
        "My last in my last in my last in",
    ],
)
def test_a_stutter_of_the_model(text: str) -> None:
    assert STUTTER.search(text)


@pytest.mark.parametrize(
    "text",
    [
        "no, no, that is it",
        "to be or not to be",
        "it is what it is",
        "very very good",
        "I think I think we should go now",
    ],
)
def test_no_stutter(text: str) -> None:
    assert not STUTTER.search(text)


@given(st.lists(st.integers(0, 3000), max_size=40), st.integers(0, 20))
def test_loudness_does_not_depend_on_how_audio_arrives(sizes: list[int], asked_every: int) -> None:
    pcm = np.resize(recording("en-12.flac"), sum(sizes))
    parts, whole = Utterance(), Utterance()
    whole.write(pcm)
    at = 0
    for i, size in enumerate(sizes):
        parts.write(pcm[at : at + size])
        at += size
        if asked_every and i % asked_every == 0:
            assert parts.has_speech in (True, False)
    assert len(parts) == len(whole) == len(pcm)
    assert parts.audio(len(parts)) == pcm.tobytes()
    assert np.array_equal(parts._measure(), whole._measure())


@given(st.integers(LONGEST + 1, 2 * LONGEST), st.integers(0, 2**32 - 1))
def test_a_long_utterance_is_cut_in_its_second_half(length: int, seed: int) -> None:
    utterance = Utterance()
    noise = np.random.default_rng(seed).normal(0, 3000, length).astype(np.int16)
    utterance.write(noise)
    cut = utterance.quiet_place()
    assert LONGEST // 2 <= cut <= LONGEST
    assert cut % BLOCK == 0
    utterance.commit(cut, Heard("One.", 0.5, [7]))
    assert utterance.audio(len(utterance)) == noise[cut:].tobytes()
    assert utterance.heard.text == "One."
    assert utterance.tail.tokens == ()


def test_parts_count_by_their_length() -> None:
    utterance = Utterance()
    utterance.commit(0, Heard("", 1.0))
    assert utterance.heard == Heard("")
    utterance.commit(0, Heard("One.", 0.4))
    utterance.commit(0, Heard("", 1.0))
    utterance.tail = Heard("Two, three.", 0.9, [7, 8])
    assert utterance.heard == Heard("One. Two, three.", pytest.approx(4 / 15 * 0.4 + 11 / 15 * 0.9, abs=0.001))
