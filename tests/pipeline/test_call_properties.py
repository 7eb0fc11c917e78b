"""Calls in which anything happens at any time."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.engine import EngineError
from tests.pipeline.stage import GREETING, Stage, play
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
PHRASES = [
    "yeah",
    "mm-hm okay",
    "and then",
    "stop",
    "stop it now",
    "what is seven?",
    "Well, that is",
    "please go on and",
]
VERDICTS = st.one_of(st.none(), st.sampled_from([0.0, 0.3, 0.6, 0.99, 1.0]))
SPEECH = st.one_of(
    st.tuples(st.just("say"), st.integers(1, 6)),
    st.tuples(st.just("phrase"), st.sampled_from(PHRASES)),
)
NOISE = st.one_of(
    st.tuples(st.just("murmur"), st.integers(1, 6)),
    st.tuples(st.just("noise"), st.one_of(st.integers(20, 900), st.integers(1000, 4000))),
    st.tuples(st.just("pause"), st.integers(20, 900)),
    st.tuples(st.just("guess"), st.booleans()),
)
MESSAGES = st.tuples(
    st.just("message"),
    st.sampled_from(
        [
            '{"action":"inject_text","text":"typed"}',
            '{"action":"mute"}',
            '{"action":"unmute"}',
            '{"action":"unmute"}',
            '{"action":"configure","language":"es"}',
            '{"action":"configure","language":"en","voice":"heart"}',
            "garbage",
        ]
    ),
)
ENGINES = st.one_of(
    st.tuples(st.just("model"), st.sampled_from([0.0, 0.08, 0.5, 60.0])),
    st.tuples(st.just("stt"), st.sampled_from(["", "", "gone", "at once"])),
    st.tuples(st.just("final"), st.sampled_from([0.0, 0.1, 2.0, 30.0])),
    st.tuples(st.just("tts"), st.sampled_from(["", "", "*", "long"])),
    st.tuples(st.just("pace"), st.sampled_from([0.0, 0.01, 0.5, 60.0])),
    st.tuples(st.just("llm"), st.sampled_from([0.0, 0.2, 3.0, 60.0])),
)
WAITS = st.sampled_from([0, 20, 100, 300, 500, 700, 1000, 1500, 2500, 4000])
STEPS = st.tuples(st.one_of(SPEECH, SPEECH, SPEECH, NOISE, NOISE, MESSAGES, ENGINES), WAITS)


def act(stage: Stage, step: str, value: Any) -> None:
    match step:
        case "say":
            stage.person.say(" ".join(f"w{n}" for n in range(value)))
        case "phrase":
            stage.person.say(value)
        case "murmur":
            stage.person.say(" ".join(f"m{n}" for n in range(value)), level=-60)
        case "noise":
            stage.person.noise(value)
        case "pause":
            stage.person.pause(value)
        case "guess" if stage.stt.streams:
            stage.stt.guess(0.8, eager=value)
        case "message":
            stage.call.on_message(value)
        case _:
            disturb(stage, step, value)


def disturb(stage: Stage, engine: str, value: Any) -> None:
    """An engine breaks, recovers or becomes slow."""
    match engine:
        case "model":
            stage.ears.think_seconds = value
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


AGENTS = st.fixed_dictionaries(
    {},
    optional={
        "interruption": st.booleans(),
        "turn_detection": st.one_of(
            st.sampled_from(["smart_turn", "native", "silence"]),
            st.fixed_dictionaries({"preset": st.sampled_from(["fast", "patient"])}),
            st.just({"smart_turn_recheck_ms": 100, "max_silence_seconds": 1.5}),
        ),
        "vad": st.sampled_from([{}, {"min_speech_ms": 0, "min_silence_ms": 0, "resume_min_ms": 0}]),
        "greeting": st.just(""),
    },
)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(
    answers=ANSWERS,
    verdicts=st.lists(VERDICTS, max_size=10),
    steps=st.lists(STEPS, max_size=20),
    ending=st.sampled_from(["hangup", "drop", "quiet"]),
    agent=AGENTS,
)
def test_anything(
    answers: list[Any],
    verdicts: list[float | None],
    steps: list[tuple[tuple[str, Any], int]],
    ending: str,
    agent: dict[str, Any],
) -> None:
    async def dialogue(stage: Stage) -> None:
        stage.ears.verdicts.extend(verdicts)
        for (step, value), wait in steps:
            act(stage, step, value)
            await asyncio.sleep(wait / 1000)
        if ending == "drop":
            await stage.line.drop("disconnected")
        elif ending == "quiet":  # every turn and every reply comes to an end by itself
            stage.call.on_message('{"action":"unmute"}')
            await stage.until(lambda: not stage.person.frames, 300)
            await asyncio.sleep(4)
            await stage.until(lambda: not stage.call.bot_state().busy and not stage.call._hearing.speaking, 300)

    limits = {"idle_timeout_seconds": 0, "max_duration_seconds": 0}
    stage = play(*answers, session_limits=limits, **agent)(dialogue)
    check([event for _, event in stage.log.events if event.name.startswith(("bot.", "message."))])
    check_turns(stage)
    check_history(stage)
    if ending == "quiet":
        # Whoever said something was answered: each turn's end is followed by a sound, unless the user went on.
        names = [name for name in stage.log.names() if name in ("turn.end", "bot.speaking", "speech.started")]
        assert names[-1:] != ["turn.end"]


def check_turns(stage: Stage) -> None:
    """One message and one thought for each end of a turn; a guess is withdrawn or confirmed before anything else."""
    ends = stage.log.all("turn.end")
    messages = stage.log.all("user.message")
    assert [event.turn_id for event in ends] == sorted(event.turn_id for event in ends)
    assert [event.message_id for event in ends] == [event.message_id for event in messages]
    assert len({event.message_id for event in messages}) == len(messages)
    assert [event.turn for event in stage.log.all("llm.thinking")] == [event.turn_id for event in ends]
    guessed = paused = None
    for _, event in stage.log.events:
        match event.name:
            case "eager.turn":
                assert guessed is None
                guessed = event.turn_id
            case "turn.continued" | "turn.end":
                assert guessed in (None, event.turn_id)
                guessed = paused = None
            case "llm.thinking" | "llm.response":
                assert guessed is None
            case "turn.pause":
                assert paused is None
                paused = event.turn_id
            case "turn.resumed":
                assert paused == event.turn_id
                paused = None
            case "speech.started" if paused != event.turn_id:
                paused = None  # of that turn nothing was understood


def check_history(stage: Stage) -> None:
    """The last text of each turn, and of the bot what was heard, without what was withdrawn."""
    if not stage.log.all("call.ended"):
        return
    history = stage.history()
    texts = {event.turn_id: event.text for event in stage.log.all("user.message")}
    assert [text for role, text in history if role == "user"] == list(texts.values())
    said = [text for role, text in history if role == "assistant"]
    greeted = said[:1] == [GREETING]
    confirmed = [event.text for event in stage.log.all("message.confirmed")]
    apology = "Sorry, that failed."
    heard = [text for text in confirmed if not apology.startswith(text) and not (greeted and GREETING.startswith(text))]
    left = iter(heard)
    assert all(text in left for text in said[greeted:])  # in this order
    withdrawn = [event for event in stage.log.all("bot.interrupted") if event.reason == "continuation"]
    assert len(heard) - len(said[greeted:]) <= len(withdrawn) + len(stage.log.all("turn.continued"))
