"""The turn detector by replay, by recorded voices and by any sequence of observations at all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from webrtcvad import Vad

from config.turns import InterruptionConfig
from media.audio import INPUT_FRAME, INPUT_RATE, Pcm
from pipeline.turn import (
    FRAME,
    BotState,
    Decision,
    Dismiss,
    End,
    Listen,
    Observation,
    Pause,
    Resume,
    Start,
    State,
    TurnDetector,
    TurnSettings,
    Voice,
    Words,
)

VOICES = Path(__file__).parent.parent / "data"
QUIET = BotState()
GREETING = BotState(busy=True, audible=True, played_ms=500)
ANSWER = BotState(busy=True, audible=True, played_ms=500, answering=True)
LONG_ANSWER = BotState(busy=True, audible=True, played_ms=2500, answering=True)


class Replay:
    """A detector that is fed frame after frame, and what it decided when (s)."""

    def __init__(self, **settings: object) -> None:
        self.detector = TurnDetector(TurnSettings(**settings))  # type: ignore[arg-type]
        self.decided: list[tuple[float, Decision]] = []
        self._frames = 0

    def hear(self, *, ms: int, voice: bool, bot: BotState = QUIET, level: float = -20.0) -> Replay:
        for _ in range(ms // 20):
            self._note(self.detector.observe(self._frames * FRAME, Voice(voice, level), bot))
            self._frames += 1
        return self

    def read(self, text: str, bot: BotState) -> Replay:
        self._note(self.detector.observe(self._frames * FRAME, Words(text), bot))
        return self

    def kinds(self) -> list[type[Decision]]:
        return [type(decision) for _, decision in self.decided]

    def _note(self, decisions: Iterable[Decision]) -> None:
        self.decided += [(round((self._frames + 1) * FRAME, 2), decision) for decision in decisions]


def test_a_turn() -> None:
    replay = Replay().hear(ms=1000, voice=False).hear(ms=1000, voice=True).hear(ms=1000, voice=False)
    assert [(at, type(decision)) for at, decision in replay.decided] == [
        (1.08, Listen),
        (1.08, Start),
        (2.2, Pause),
        (2.56, End),
    ]
    start, end = replay.decided[1][1], replay.decided[3][1]
    assert start == Start(1, began=1.0, confidence=0.5, continued=False, interrupts=False)
    assert isinstance(end, End)
    assert end.ceased == pytest.approx(2.0)


def test_a_click_is_no_turn_and_does_not_prolong_one() -> None:
    replay = Replay().hear(ms=60, voice=True).hear(ms=500, voice=False)
    assert replay.decided == []
    replay.hear(ms=400, voice=True).hear(ms=300, voice=False).hear(ms=20, voice=True).hear(ms=240, voice=False)
    assert replay.kinds() == [Listen, Start, Pause, End]


def test_going_on_after_a_pause() -> None:
    replay = Replay().hear(ms=400, voice=True).hear(ms=400, voice=False).hear(ms=400, voice=True)
    assert replay.kinds() == [Listen, Start, Pause, Resume]
    assert replay.hear(ms=560, voice=False).kinds()[4:] == [Pause, End]


@pytest.mark.parametrize(
    ("bot", "turn_id", "continued"), [(GREETING, 2, False), (ANSWER, 1, True), (LONG_ANSWER, 2, False)]
)
def test_an_interruption_needs_300_ms(bot: BotState, turn_id: int, *, continued: bool) -> None:
    replay = Replay().hear(ms=400, voice=True).hear(ms=1000, voice=False)
    replay.hear(ms=280, voice=True, bot=bot)
    assert replay.kinds()[-2:] == [End, Listen]
    start = replay.hear(ms=20, voice=True, bot=bot).decided[-1][1]
    assert isinstance(start, Start)
    assert (start.turn_id, start.continued, start.interrupts) == (turn_id, continued, True)


def test_what_is_too_short_or_too_soft_is_dismissed() -> None:
    short = Replay().hear(ms=200, voice=True, bot=GREETING).hear(ms=600, voice=False, bot=GREETING)
    soft = Replay().hear(ms=2000, voice=True, bot=GREETING, level=-50).hear(ms=600, voice=False, bot=GREETING)
    assert short.kinds() == soft.kinds() == [Listen, Dismiss]


@pytest.mark.parametrize(
    ("text", "interrupts"),
    [
        ("stop", False),
        ("stop it", True),
        ("okay yeah", False),
        ("Okay, but why?", True),
        ("", False),
        ("Uh-huh.", False),
    ],
)
def test_words_interrupt(text: str, *, interrupts: bool) -> None:
    replay = Replay().hear(ms=200, voice=True, bot=GREETING, level=-60).read(text, GREETING)
    assert (Start in replay.kinds()) == interrupts


def test_words_alone_start_nothing() -> None:
    assert Replay().read("please stop it", GREETING).read("please stop it", QUIET).decided == []


def test_who_speaks_while_the_bot_ends_has_the_turn_by_going_on() -> None:
    replay = Replay(interruptible=False).hear(ms=1000, voice=True, bot=GREETING)
    assert replay.kinds() == [Listen]
    start = replay.hear(ms=20, voice=True).decided[-1][1]
    assert isinstance(start, Start)
    assert (start.began, start.interrupts) == (0.0, False)
    silent = Replay(interruptible=False).hear(ms=1000, voice=True, bot=GREETING).hear(ms=600, voice=False)
    assert silent.kinds() == [Listen, Dismiss]


def test_an_answer_that_was_not_heard_can_always_be_withdrawn() -> None:
    thinking = BotState(busy=True, answering=True)
    replay = Replay(interruptible=False).hear(ms=400, voice=True).hear(ms=600, voice=False)
    start = replay.hear(ms=400, voice=True, bot=thinking).decided[-1][1]
    assert isinstance(start, Start)
    assert (start.turn_id, start.continued) == (1, True)


def test_nobody_keeps_the_turn_for_ever() -> None:
    replay = Replay().hear(ms=61_000, voice=True)
    assert replay.kinds() == [Listen, Start, End, Listen, Start]
    assert replay.decided[2][0] == pytest.approx(60, abs=0.1)


def test_release() -> None:
    assert Replay().detector.release() == []
    assert Replay().hear(ms=100, voice=True).detector.release() == [End(1, ceased=0.1)]
    assert Replay().hear(ms=200, voice=True, bot=GREETING).detector.release() == [Dismiss()]


def test_settings_of_an_agent() -> None:
    assert TurnSettings.of(None) == TurnSettings()
    settings = TurnSettings.of(InterruptionConfig(min_volume=0.5, min_words=3, min_duration_ms=500))
    assert (settings.min_level, settings.min_words, settings.min_duration_ms) == (-30, 3, 500)
    assert TurnSettings.of(InterruptionConfig(min_volume=0)).min_level == float("-inf")
    assert not TurnSettings.of(InterruptionConfig(enabled=False)).interruptible


def samples(path: Path) -> Pcm:
    with av.open(str(path)) as file:
        return np.concatenate([frame.to_ndarray().reshape(-1) for frame in file.decode(audio=0)]).astype(np.int16)


@pytest.mark.parametrize("path", sorted(VOICES.glob("*.flac")), ids=lambda path: path.stem)
def test_recorded_voices(path: Path) -> None:
    """A person who reads is one turn, and interrupts within 600 ms of the first sound."""
    pcm = samples(path)
    loud = np.flatnonzero(np.abs(pcm) > 1000)
    noise = np.random.default_rng(0).normal(0, 5, INPUT_RATE).astype(np.int16)
    pcm = np.concatenate([noise, pcm, noise])
    first, last = (int(loud[0]) / INPUT_RATE + 1, int(loud[-1]) / INPUT_RATE + 1)
    vad = Vad(2)
    alone, during = TurnDetector(), TurnDetector()
    decided: list[tuple[float, Decision]] = []
    interrupted = []
    for n in range(0, len(pcm) - INPUT_FRAME, INPUT_FRAME):
        frame = pcm[n : n + INPUT_FRAME]
        level = 20 * np.log10(np.sqrt(np.mean(np.square(frame / 32768))) + 1e-7)
        voice = Voice(vad.is_speech(frame.tobytes(), INPUT_RATE), float(level))
        now = (n + INPUT_FRAME) / INPUT_RATE
        decided += [(now, decision) for decision in alone.observe(n / INPUT_RATE, voice, QUIET)]
        found = during.observe(n / INPUT_RATE, voice, LONG_ANSWER)
        interrupted += [now for decision in found if isinstance(decision, Start)]
    assert [type(decision) for _, decision in decided if isinstance(decision, Start | End)] == [Start, End]
    assert first - 0.3 < next(at for at, decision in decided if isinstance(decision, Start)) < first + 0.2
    assert last + 0.4 < decided[-1][0] < last + 0.9
    assert interrupted[0] - first < 0.6


BOTS = st.builds(
    BotState,
    busy=st.booleans(),
    audible=st.booleans(),
    played_ms=st.integers(0, 4000),
    answering=st.booleans(),
)
OBSERVATIONS = st.one_of(
    st.builds(Voice, st.booleans(), st.floats(-127, 0)),
    st.builds(Words, st.text(max_size=20)),
    st.just("release"),
    st.just("type"),
)
SETTINGS = st.builds(
    TurnSettings,
    min_duration_ms=st.integers(0, 500),
    min_words=st.integers(0, 3),
    interruptible=st.booleans(),
    end_ms=st.integers(100, 800),
    max_turn_ms=st.integers(100, 2000),
)


@given(SETTINGS, st.lists(st.tuples(st.integers(1, 40), OBSERVATIONS, BOTS), max_size=60))
def test_any_observations(settings: TurnSettings, steps: list[tuple[int, Observation | str, BotState]]) -> None:
    detector = TurnDetector(settings)
    decisions: list[Decision] = []
    time, last_typed = 0.0, 0
    for count, observation, bot in steps:
        for _ in range(count):
            if observation == "release":
                decisions += detector.release()
            elif observation == "type":
                decisions += detector.release()
                typed = detector.next_turn()
                assert typed > last_typed
                last_typed = typed
            else:
                assert not isinstance(observation, str)
                decisions += detector.observe(time, observation, bot)
            time += FRAME
    decisions += detector.release()
    assert detector.state is State.QUIET
    noticed, turn, last = False, 0, 0
    for decision in decisions:
        match decision:
            case Listen():
                assert not noticed
                noticed = True
            case Dismiss():
                assert noticed
                noticed = False
            case Start():
                assert noticed
                assert turn == 0
                assert decision.turn_id >= last
                assert decision.continued or decision.turn_id > last
                assert 0 <= decision.confidence <= 1
                noticed, turn = False, decision.turn_id
                last = turn
            case End():
                assert turn == decision.turn_id
                turn = 0
            case Pause() | Resume():
                assert turn
    assert not noticed
    assert not turn
