"""Calls in which anything happens at any time."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.engine import EngineError
from tests.pipeline.stage import Stage, play
from tests.pipeline.test_speaking import check

LONG = "Well, that is a long story. It began in a small village by the sea, and it ended in a big one."
ANSWERS = st.lists(
    st.one_of(
        st.sampled_from(["Yes.", LONG, "👍"]),
        st.just(["Well.", "So", EngineError("out of memory")]),
        st.just([EngineError("gone")]),
    ),
    max_size=8,
)
STEPS = st.one_of(
    st.tuples(st.just("say"), st.integers(1, 6)),
    st.tuples(st.just("murmur"), st.integers(1, 6)),
    st.tuples(st.just("noise"), st.integers(20, 900)),
    st.tuples(st.just("pause"), st.integers(20, 900)),
    st.tuples(st.just("wait"), st.sampled_from([0, 20, 100, 300, 700, 1500, 4000])),
    st.tuples(
        st.just("message"),
        st.sampled_from(
            [
                '{"action":"inject_text","text":"typed"}',
                '{"action":"mute"}',
                '{"action":"unmute"}',
                '{"action":"configure","language":"es"}',
                '{"action":"configure","language":"en","voice":"heart"}',
                "garbage",
            ]
        ),
    ),
    st.tuples(st.just("stt"), st.sampled_from(["", "", "gone", "at once"])),
    st.tuples(st.just("final"), st.sampled_from([0.0, 0.1, 2.0, 30.0])),
    st.tuples(st.just("tts"), st.sampled_from(["", "", "*", "long"])),
    st.tuples(st.just("pace"), st.sampled_from([0.0, 0.01, 0.5, 60.0])),
    st.tuples(st.just("llm"), st.sampled_from([0.0, 0.2, 3.0, 60.0])),
)


async def act(stage: Stage, step: str, value: Any) -> None:
    match step:
        case "say":
            stage.person.say(" ".join(f"w{n}" for n in range(value)))
        case "murmur":
            stage.person.say(" ".join(f"m{n}" for n in range(value)), level=-60)
        case "noise":
            stage.person.noise(value)
        case "pause":
            stage.person.pause(value)
        case "wait":
            await asyncio.sleep(value / 1000)
        case "message":
            stage.call.on_message(value)
        case "stt":
            stage.stt.broken = value
        case "final":
            stage.stt.final_seconds = value
        case "tts":
            stage.tts.failing = value
        case "pace":
            stage.tts.pace = value
        case "llm":
            stage.llm.first_token = value


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    answers=ANSWERS,
    steps=st.lists(STEPS, max_size=25),
    ending=st.sampled_from(["hangup", "drop", "quiet"]),
    interruption=st.booleans(),
)
def test_anything(answers: list[Any], steps: list[tuple[str, Any]], ending: str, *, interruption: bool) -> None:
    async def dialogue(stage: Stage) -> None:
        for step, value in steps:
            await act(stage, step, value)
        if ending == "drop":
            await stage.line.drop("disconnected")
        elif ending == "quiet":  # every turn and every reply comes to an end by itself
            stage.call.on_message('{"action":"unmute"}')
            await stage.until(lambda: not stage.person.frames, 300)
            await asyncio.sleep(2)
            await stage.until(lambda: not stage.call.bot_state().busy and not stage.call._hearing.speaking, 300)

    limits = {"idle_timeout_seconds": 0, "max_duration_seconds": 0}
    stage = play(*answers, interruption=interruption, session_limits=limits)(dialogue)
    check(
        [event for _, event in stage.log.events if event.name.startswith("bot.") or event.name == "message.confirmed"]
    )
    turns = [event.turn_id for event in stage.log.all("turn.end")]
    assert turns == sorted(turns)
    messages = [event.message_id for event in stage.log.all("user.message")]
    assert len(messages) == len(set(messages)) == len(turns)
    if ending == "quiet":
        # Whoever said something was answered: each turn's end is followed by a sound, unless the user went on.
        names = [name for name in stage.log.names() if name in ("turn.end", "bot.speaking", "speech.started")]
        assert names[-1:] != ["turn.end"]
