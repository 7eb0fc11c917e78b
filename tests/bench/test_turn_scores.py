"""The arithmetic of the evaluation, on traces made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.turns.items import Item, Pause, Recipe, Truth
from bench.turns.line import Arrival
from bench.turns.scores import Outcome, failures, figures, judge, share, wilson
from bench.turns.subject import Decision, Kind
from media.audio import INPUT_FRAME, AudioFrame


def item(kind: str, truth: Truth, length: float = 8.0) -> Item:
    frame = AudioFrame(np.zeros(INPUT_FRAME, np.int16), length - 0.02, False, -127.0, False)
    return Item(
        recipe=Recipe("tune", "en", kind, 0),
        truth=truth,
        speaker="nobody",
        human=False,
        noise="quiet",
        snr=float("inf"),
        dtx=False,
        text="",
        heard=[Arrival(length, frame)],
    )


def trace(*decisions: tuple[float, Kind] | tuple[float, Kind, float]) -> list[Decision]:
    return [Decision(*each) for each in decisions]


TURN = item("turn", Truth(1.0, 4.0, (Pause(2.0, 2.8, "phrase"),)))
CALL = item("interruption", Truth(3.0, 4.0))
COUGH = item("cough", Truth(3.0, 3.5))


def test_a_good_turn() -> None:
    one = judge(
        TURN, "x", trace((1.1, Kind.SPEECH_STARTED, 0.7), (2.2, Kind.PAUSED), (2.9, Kind.RESUMED), (4.5, Kind.END))
    )
    assert (one.cut, one.pauses, one.ended, one.lost) == (False, (("phrase", False),), True, False)
    assert one.end == pytest.approx(0.5)


def test_a_turn_that_is_cut_in_its_pause_and_goes_on() -> None:
    started = ((1.1, Kind.SPEECH_STARTED, 0.7), (2.5, Kind.END), (2.9, Kind.SPEECH_STARTED, 2.6), (4.8, Kind.END))
    one = judge(TURN, "x", trace(*started))
    assert (one.cut, one.pauses, one.ended, one.lost) == (True, (("phrase", True),), True, False)
    assert one.end == pytest.approx(0.8)


def test_an_end_just_after_a_pause_is_a_cut_but_not_in_the_pause() -> None:
    one = judge(TURN, "x", trace((1.1, Kind.SPEECH_STARTED, 0.7), (2.82, Kind.END)))
    assert (one.cut, one.pauses) == (True, (("phrase", False),))


def test_a_turn_that_never_ends_counts_to_the_end_of_the_item() -> None:
    one = judge(TURN, "x", trace((1.1, Kind.SPEECH_STARTED, 0.7)))
    assert (one.cut, one.ended) == (False, False)
    assert one.end == pytest.approx(4.0)


def test_an_end_in_the_last_breath_is_no_cut() -> None:
    one = judge(TURN, "x", trace((1.1, Kind.SPEECH_STARTED, 0.7), (3.95, Kind.END)))
    assert (one.cut, one.ended, one.end) == (False, True, 0.0)


def test_a_first_syllable_is_lost_when_listening_begins_late() -> None:
    assert judge(TURN, "x", trace((1.3, Kind.SPEECH_STARTED, 1.03), (4.5, Kind.END))).lost
    assert not judge(TURN, "x", trace((1.3, Kind.SPEECH_STARTED, 1.01), (4.5, Kind.END))).lost
    assert judge(TURN, "x", []).lost


def test_noise_before_the_onset_does_not_count_as_hearing_it() -> None:
    before = ((0.3, Kind.SPEECH_STARTED, 0.1), (0.8, Kind.END))
    assert judge(TURN, "x", trace(*before, (1.3, Kind.SPEECH_STARTED, 1.1), (4.5, Kind.END))).lost
    assert not judge(TURN, "x", trace(*before, (1.3, Kind.SPEECH_STARTED, 0.9), (4.5, Kind.END))).lost
    assert not judge(TURN, "x", trace((0.3, Kind.SPEECH_STARTED, 0.1), (4.5, Kind.END))).lost


def test_an_interruption_is_measured_from_its_onset() -> None:
    one = judge(CALL, "x", trace((3.1, Kind.DUCK), (3.4, Kind.SPEECH_STARTED, 2.9), (3.4, Kind.INTERRUPT)))
    assert (one.stopped, one.interrupted, one.ducked, one.lost) == (True, False, True, False)
    assert one.stop == pytest.approx(0.4)


def test_silence_counts_from_the_pause_that_became_an_interruption() -> None:
    one = judge(CALL, "x", trace((3.2, Kind.PAUSE_PLAYBACK), (3.8, Kind.INTERRUPT)))
    assert one.stop == pytest.approx(0.2)
    other = judge(CALL, "x", trace((3.2, Kind.PAUSE_PLAYBACK), (3.5, Kind.RESUME_PLAYBACK), (3.8, Kind.INTERRUPT)))
    assert other.stop == pytest.approx(0.8)


def test_an_interruption_that_is_missed_counts_to_the_end_of_the_item() -> None:
    for decisions in ([], trace((3.2, Kind.PAUSE_PLAYBACK), (3.9, Kind.RESUME_PLAYBACK)), trace((6.0, Kind.INTERRUPT))):
        one = judge(CALL, "x", decisions)
        assert (one.stopped, one.lost) == (False, None)
        assert one.stop == pytest.approx(5.0)


def test_stopping_before_the_onset_is_no_answer_to_it() -> None:
    one = judge(CALL, "x", trace((2.0, Kind.INTERRUPT)))
    assert (one.stopped, one.interrupted) == (False, True)


def test_what_does_not_interrupt() -> None:
    assert judge(COUGH, "x", trace((3.3, Kind.INTERRUPT))).interrupted
    halted = judge(COUGH, "x", trace((3.3, Kind.PAUSE_PLAYBACK), (3.6, Kind.RESUME_PLAYBACK)))
    assert (halted.interrupted, halted.halted, halted.ducked) == (False, True, False)


def outcome(kind: str, **more: object) -> Outcome:
    about = {"subject": "x", "item": "", "kind": kind, "language": "en", "human": True, "noise": "quiet"}
    return Outcome(**about, dtx=False, echo=False, **more)  # type: ignore[arg-type]


def test_figures() -> None:
    turns = [
        outcome("turn", pauses=(("phrase", n == 0), ("whole", n < 3)), cut=n == 0, end=0.1 * n, ended=True, lost=n < 2)
        for n in range(11)
    ]
    calls = [outcome("interruption", stop=0.3, stopped=True, lost=False), outcome("interruption", stop=4.0)]
    others = [outcome("cough", interrupted=True, halted=True), outcome("cough"), outcome("echo", ducked=True)]
    found = figures([*turns, *calls, *others])
    assert (found["items"], found["turns"], found["pauses"]) == (16, 11, 22)
    assert found["cut_off_rate"] == share(1, 11)
    assert found["cut_pause_rate"] == share(4, 22)
    assert (found["cut_phrase_rate"], found["cut_whole_rate"]) == (share(1, 11), share(3, 11))
    assert (found["end_p50_ms"], found["end_p95_ms"]) == (500, 950)
    assert (found["missed_rate"], found["stop_p50_ms"]) == (0.5, 2150)
    assert found["false_rate"] == share(1, 3)
    assert (found["false_cough_rate"], found["false_echo_rate"]) == (0.5, 0.0)
    assert (found["false_halt_rate"], found["false_duck_rate"]) == (share(1, 3), share(2, 3))
    assert found["lost_onset_rate"] == share(2, 12)
    assert figures(others).keys().isdisjoint({"turns", "interruptions", "lost_onset_rate"})


def test_the_interval_of_wilson() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(5, 100) == (0.0215, 0.1118)  # the textbook's
    assert wilson(0, 100)[0] == 0.0
    assert wilson(100, 100)[1] == 1.0


@given(st.integers(0, 500), st.integers(1, 500))
def test_a_rate_lies_in_its_interval(hits: int, trials: int) -> None:
    hits = min(hits, trials)
    low, high = wilson(hits, trials)
    assert 0 <= low <= round(hits / trials, 4) <= high <= 1


GOOD = {"cut_off_rate": 0.05, "end_p50_ms": 450, "end_p95_ms": 1100, "stop_p95_ms": 400, "false_rate": 0.02}


def test_floors() -> None:
    assert failures(GOOD, {}) == []
    for name in GOOD:
        assert len(failures(GOOD | {name: 5000}, {})) == 1


@pytest.mark.parametrize(
    ("cut_off", "end", "beaten"),
    [(0.05, 450, False), (0.05, 460, True), (0.06, 450, True), (0.04, 500, False), (0.1, 440, False), (0.2, 900, True)],
)
def test_a_fixed_silence_is_beaten_on_one_axis_at_no_worse_on_the_other(cut_off: float, end: int, beaten: bool) -> None:
    other = {"silence": {"cut_off_rate": cut_off, "end_p50_ms": end}}
    assert (failures(GOOD, other) == []) is beaten
