"""Each knob of protocol 7.5 does what is written there; the presets are in order."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.agent import AgentConfig
from media.audio import FRAME_MS
from pipeline.loudness import BELOW_USER
from pipeline.turn_rules import TOLD_MS
from pipeline.turn_settings import NATIVE_SILENCE_MS, PRESETS, SILENCE_MS, TurnSettings
from pipeline.turn_signals import (
    Ask,
    BotState,
    Dismiss,
    Duck,
    Eager,
    End,
    Listen,
    Pause,
    PausePlayback,
    Resume,
    Start,
    Unfinished,
)
from tests.pipeline.replay import ANSWER, GREETING, LONG_ANSWER, SILENT_BOT, USER, Replay

USUAL = TurnSettings()

HEARD = BotState(busy=True, audible=True, played_ms=5000)


def settings_of(**agent: Any) -> TurnSettings:
    config, problems = AgentConfig.parse("demo", agent)
    assert not problems
    return TurnSettings.of(config)


def agent(**keys: Any) -> Replay:
    """A machine with what an agent sets on the wire. The bot was heard for long enough to be free of echo."""
    return Replay(settings_of(**keys)).silence(2000, HEARD)


def end_after(replay: Replay, verdict: float | None = None, *, text: str = "") -> int:
    """How much silence, ms, ends a turn of which the turn model says this."""
    spoken = replay.speak(1000).now
    asked = len(replay.all(Ask))
    while not replay.all(End) and replay.now - spoken < 61:
        replay.silence(20)
        if len(replay.all(Ask)) > asked and verdict is not None:
            replay.judge(verdict)
            if text:
                replay.read(text, settled=True)
            asked += 1
    return round((replay.now - spoken) * 1000)


# --- voice


def test_threshold() -> None:
    assert agent(vad={"threshold": 0.6}).hear(ms=1000, voice=0.59).decided == []
    assert Start in agent(vad={"threshold": 0.6}).hear(ms=1000, voice=0.61).kinds()
    assert Start in agent(vad={"threshold": 0.2}).hear(ms=1000, voice=0.25).kinds()


def test_voice_goes_on_a_little_below_the_threshold() -> None:
    replay = agent().speak(200).hear(ms=1200, voice=0.4)
    assert End not in replay.kinds()
    assert End in agent().speak(200).hear(ms=1200, voice=0.3).kinds()


@pytest.mark.parametrize("ms", [40, 80, 250, 600])
def test_min_speech_ms(ms: int) -> None:
    replay = agent(vad={"min_speech_ms": ms})
    begins = replay.now
    replay.speak(1000)
    assert replay.at(Start) - begins == pytest.approx(ms / 1000, abs=0.02)
    assert Start not in agent(vad={"min_speech_ms": ms}).speak(ms - 20).silence(1000).kinds()


@pytest.mark.parametrize("ms", [0, 100, 350, 900])
def test_min_silence_ms(ms: int) -> None:
    replay = agent(vad={"min_silence_ms": ms}).speak(1000)
    ceased = replay.now
    replay.silence(1000)
    assert replay.at(Pause) == replay.at(Ask)
    assert max(20, ms) <= round((replay.at(Pause) - ceased) * 1000) <= max(20, ms) + 20


@pytest.mark.parametrize("delay", [0, 300, 1200])
def test_speech_end_delay_ms(delay: int) -> None:
    keys = {"vad": {"min_silence_ms": 300, "speech_end_delay_ms": delay}}
    assert end_after(agent(**keys), verdict=1.0) == pytest.approx(300 + delay, abs=21)
    assert end_after(agent(**keys)) >= 300 + delay


@pytest.mark.parametrize("ms", [0, 60, 200, 500])
def test_resume_min_ms(ms: int) -> None:
    def paused() -> Replay:
        return agent(vad={"resume_min_ms": ms}).speak(500).silence(400)

    assert Resume not in paused().kinds()
    assert Resume not in paused().speak(max(20, ms - 20)).silence(100).kinds()
    assert Resume in paused().speak(max(60, ms)).kinds()


def test_resume_min_volume() -> None:
    def resumes(level: float, **keys: Any) -> bool:
        return Resume in agent(**keys).speak(500).silence(400).speak(400, level=level).kinds()

    loud = {"vad": {"resume_min_volume": 0.5}}
    assert [resumes(level, **loud) for level in (-31, -29)] == [False, True]
    interruption = {"vad": {}, "interruption": {"min_volume": 0.75}}  # by default that of the interruption
    assert [resumes(level, **interruption) for level in (-16, -14)] == [False, True]
    soft = USER - BELOW_USER  # without any, nobody goes on who is much softer than the user
    assert [resumes(level) for level in (soft - 1, soft + 1)] == [False, True]


# --- the end of the turn


def test_smart_turn_threshold() -> None:
    for threshold in (0.2, 0.5, 0.9):
        keys = {"turn_detection": {"smart_turn_threshold": threshold}}
        assert settings_of(**keys).complete_from == threshold
        sure, unsure = agent(**keys), agent(**keys)
        assert end_after(sure, verdict=1.0) == USUAL.complete_ms
        assert Unfinished not in sure.kinds()
        assert end_after(unsure, verdict=0.0) == USUAL.unfinished_ms
        assert Unfinished in unsure.kinds()
    strict, lax = ({"turn_detection": {"smart_turn_threshold": threshold}} for threshold in (0.8, 0.4))
    assert end_after(agent(**strict), verdict=0.7) > end_after(agent(**lax), verdict=0.7)


@pytest.mark.parametrize("seconds", [0, 0.1, 0.5, 3.0, 8.0])
def test_max_silence_seconds(seconds: float) -> None:
    ms = round(seconds * 1000)
    keys = {"turn_detection": {"max_silence_seconds": seconds}}
    assert ms <= end_after(agent(**keys), verdict=0.0) <= max(100, ms) + 20
    assert end_after(agent(**keys), verdict=1.0) <= max(100, ms) + 20


def test_smart_turn_recheck_ms() -> None:
    assert len(agent().speak(500).silence(300).judge(0.4).silence(500).all(Ask)) == 1
    often = agent(turn_detection={"smart_turn_recheck_ms": 100}).speak(500).silence(USUAL.pause_ms)
    for count in (1, 2, 3):
        assert [ask.question for ask in often.all(Ask)] == list(range(1, count + 1))
        often.judge(0.1).silence(100)
    replay = agent(turn_detection={"smart_turn_recheck_ms": TOLD_MS}).speak(500)
    ceased = replay.now
    replay.silence(240).judge(0.1).silence(TOLD_MS - 240)
    assert replay.kinds()[-1] is Unfinished
    replay.silence(USUAL.pause_ms + 20)
    assert [ask.question for ask in replay.all(Ask)] == [1, 2]
    replay.judge(1.0).silence(USUAL.complete_ms)
    assert replay.kinds()[-1] is End  # the user seemed to be in mid-sentence, and was not
    assert replay.at(End) - ceased < USUAL.undecided_ms / 1000


def test_a_slow_turn_model_is_not_asked_again_before_it_answered() -> None:
    replay = agent(turn_detection={"smart_turn_recheck_ms": 20}).speak(500).silence(240)
    replay.read("because it was", settled=True).silence(200)
    assert len(replay.all(Ask)) == 1
    assert len(replay.judge(0.5).silence(60).all(Ask)) == 2


@pytest.mark.parametrize("ms", [0, 100, 300, 1100])
def test_silence_alone(ms: int) -> None:
    for keys in ({"mode": "silence", "silence_ms": ms}, {"mode": "silence", "silence_ms": ms, "preset": "patient"}):
        replay = agent(turn_detection=keys)
        assert end_after(replay, text="and then I") == pytest.approx(max(100, ms), abs=20)
        assert not {Ask, Eager, Unfinished} & set(replay.kinds())


def test_the_usual_silence() -> None:
    assert end_after(agent(turn_detection="silence")) == SILENCE_MS


def test_a_recogniser_that_says_itself_when_the_turn_is_over() -> None:
    replay = agent(turn_detection="native").speak(1000).silence(1000)
    assert Ask not in replay.kinds()
    assert End not in replay.kinds()
    assert replay.guess(0.8).all(End)[0].probability == 0.8
    soon = agent(turn_detection="native").speak(1000).guess(0.9)  # before any silence was noticed
    assert soon.kinds()[-1] is End
    keys = {"mode": "native", "native_silence_ms": 900}
    assert end_after(agent(turn_detection=keys)) == 900
    assert end_after(agent(turn_detection="native")) == NATIVE_SILENCE_MS


def test_its_eager_guess() -> None:
    def paused() -> Replay:
        return agent(turn_detection="native").speak(1000).silence(300).read("what is seven")

    assert paused().guess(0.6, eager=True).guess(0.7, eager=True).kinds()[-1] is Eager
    assert len(paused().guess(0.6, eager=True).guess(0.7, eager=True).all(Eager)) == 1
    assert paused().guess(0.6, eager=True).speak(200).kinds()[-1] is Resume
    silent = agent(turn_detection="native").silence(200).guess(0.9).guess(0.9, eager=True)
    assert silent.decided == []


def test_what_a_recogniser_guesses_counts_in_no_other_mode() -> None:
    for mode in ("smart_turn", "silence"):
        replay = agent(turn_detection=mode).speak(1000).silence(300).read("hello").guess(0.9, eager=True).guess(0.9)
        assert not {End, Eager} & set(replay.kinds())


# --- interruption


def interrupted(replay: Replay, ms: int, **voice: Any) -> bool:
    """Whether so much voice halts the bot."""
    return PausePlayback in replay.hear(ms=ms, bot=LONG_ANSWER, **({"voice": 0.9} | voice)).kinds()


def test_min_duration_ms() -> None:
    for ms in (0, 100, 300, 800):
        assert interrupted(agent(interruption={"min_duration_ms": ms}), max(80, ms))
        if ms > 80:
            assert not interrupted(agent(interruption={"min_duration_ms": ms}), ms - 20)


def test_a_duration_without_sense_costs_nothing() -> None:
    replay = agent(interruption={"min_duration_ms": 2**31})
    assert (replay.machine._sure.maxlen or math.inf) <= 1000
    assert interrupted(replay, 10_000)


def test_confidence() -> None:
    assert not interrupted(agent(interruption={"confidence": 0.9}), 1000, voice=0.85)
    assert interrupted(agent(interruption={"confidence": 0.9}), 1000, voice=0.95)
    assert interrupted(agent(interruption={"confidence": 0.5}), 1000, voice=0.55)


def test_min_volume() -> None:
    assert not interrupted(agent(interruption={"min_volume": 0.5}), 1000, level=-31.0)
    assert interrupted(agent(interruption={"min_volume": 0.5}), 1000, level=-29.0)
    assert interrupted(agent(interruption={"min_volume": 0.0}), 1000, level=-90.0)
    assert not interrupted(agent(interruption={}), 1000, level=-40.0)  # 0.35 of 60 dB
    assert interrupted(agent(interruption={}), 1000, level=-38.0)


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_min_words(count: int) -> None:
    def replay() -> Replay:
        return agent(interruption={"min_words": count}).speak(200, LONG_ANSWER, level=-60)

    words = ["please", "stop", "talking", "now"]
    assert Start in replay().read(" ".join(words[: max(1, count)]), LONG_ANSWER).kinds()
    assert Start not in replay().read(" ".join(words[: max(1, count) - 1]), LONG_ANSWER).kinds()


def test_backchannel_filter() -> None:
    def replay(*, filtered: bool) -> Replay:
        return agent(interruption={"backchannel_filter": filtered}).speak(200, LONG_ANSWER, level=-60)

    assert Start not in replay(filtered=True).read("yeah okay", LONG_ANSWER).kinds()
    assert Start in replay(filtered=False).read("yeah okay", LONG_ANSWER).kinds()
    loud = agent(interruption={"backchannel_filter": False}).speak(300, LONG_ANSWER)
    assert loud.kinds()[-1] is Start  # no words are waited for
    assert agent(interruption={"backchannel_filter": True}).speak(300, LONG_ANSWER).kinds()[-1] is PausePlayback


@pytest.mark.parametrize("value", [False, {"enabled": False}])
def test_an_agent_that_is_never_interrupted(value: Any) -> None:
    for bot in (GREETING, ANSWER, LONG_ANSWER):
        replay = agent(interruption=value).speak(3000, bot).read("please stop it now", bot).silence(1000, bot)
        assert replay.kinds() == [Listen, Pause, Dismiss]


# --- presets


def test_the_preset_of_who_sets_nothing_is_balanced() -> None:
    assert settings_of() == TurnSettings() == settings_of(turn_detection={"preset": "balanced"})
    assert settings_of(turn_detection={"preset": "fast"}) == PRESETS[list(PRESETS)[1]]


@pytest.mark.parametrize("verdict", [None, 0.0, 0.2, 0.5, 0.6, 0.9, 1.0])
def test_presets_are_ordered(verdict: float | None) -> None:
    presets = ("fast", "balanced", "patient")
    ends = [end_after(agent(turn_detection={"preset": preset}), verdict) for preset in presets]
    assert ends == sorted(ends)
    assert len(set(ends)) == 3
    shortest = [
        next(ms for ms in range(80, 1000, 20) if interrupted(agent(turn_detection={"preset": preset}), ms))
        for preset in presets
    ]
    assert shortest == sorted(shortest)


def test_what_an_agent_sets_stands_above_its_preset() -> None:
    keys = {"preset": "patient", "max_silence_seconds": 1.0}
    assert end_after(agent(turn_detection=keys), verdict=0.0) == 1000
    assert settings_of(turn_detection=keys, interruption={"min_duration_ms": 100}).interrupt_ms == 100


def test_mode_of_the_recogniser() -> None:
    assert settings_of().mode == "smart_turn"
    assert settings_of(turn_detection="native").mode == "native"


# --- any configuration

SHARES = st.floats(0, 1)
NATURALS = st.one_of(st.integers(0, 1500), st.sampled_from([0, 1, 2**31]))


def some(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keys)


AGENTS = some(
    vad=some(
        threshold=SHARES,
        min_speech_ms=NATURALS,
        min_silence_ms=NATURALS,
        speech_end_delay_ms=NATURALS,
        resume_min_ms=NATURALS,
        resume_min_volume=SHARES,
    ),
    turn_detection=some(
        mode=st.sampled_from(["smart_turn", "native", "silence"]),
        preset=st.sampled_from(["fast", "balanced", "patient"]),
        smart_turn_threshold=SHARES,
        smart_turn_recheck_ms=NATURALS,
        max_silence_seconds=st.floats(0, 60),
        silence_ms=NATURALS,
        native_silence_ms=NATURALS,
    ),
    interruption=some(
        enabled=st.booleans(),
        min_duration_ms=NATURALS,
        confidence=SHARES,
        min_volume=SHARES,
        min_words=NATURALS,
        backchannel_filter=st.booleans(),
    ),
)


@settings(deadline=None, max_examples=50)
@given(AGENTS, st.one_of(st.none(), SHARES))
def test_any_agent_gets_settings_in_order(keys: dict[str, Any], verdict: float | None) -> None:
    found = settings_of(**keys)
    assert all(getattr(found, field.name) == getattr(found, field.name) for field in fields(found))  # nothing is NaN
    assert found.complete_ms <= found.undecided_ms <= found.unfinished_ms <= found.max_silence_ms
    assert found.onset_ms <= found.speech_ms or found.speech_ms == 0
    assert found.pause_ms <= max(found.complete_ms, 100)
    if found.speech_ms <= 1000 and found.max_silence_ms <= 5000:
        replay = Replay(found)
        took = end_after(replay, verdict)
        if Start in replay.kinds() and found.threshold > 0.3:
            ceiling = math.ceil(found.max_silence_ms / FRAME_MS) * FRAME_MS
            assert took <= max(100, ceiling) + FRAME_MS


def test_nothing_is_ducked_for_a_bot_that_is_silent() -> None:
    assert not {Duck, PausePlayback} & set(agent().speak(2000, SILENT_BOT).silence(2000).kinds())
