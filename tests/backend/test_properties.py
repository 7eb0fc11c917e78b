"""Calls in which a backend and a user do anything at any time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.engine import EngineError
from tests.backend.scene import LONG, TERMINAL, Scene, call, perform, tool
from tests.pipeline.test_call_properties import ENGINES, NOISE, SPEECH, VERDICTS, act

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([-1.5, 1e300]) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "id", "name"]), inner, max_size=2)
    ),
    max_leaves=4,
)
IDS = st.sampled_from(["m1", "m2", "m3", "m4", "m5"])
TEXTS = st.sampled_from(["Yes.", LONG, "", "👍", "One. Two. Three."])
USER_IDS = st.sampled_from(["", "@user", "@user", "old"])
MESSAGES = st.lists(
    st.sampled_from([
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": "Hello."},
        {"role": "tool", "tool_call_id": "x", "content": "ok"},
        {"role": "assistant", "tool_calls": [{"id": "x", "function": {"name": "book", "arguments": "{}"}}]},
    ]),
    max_size=4,
)  # fmt: skip
RESULTS = st.lists(
    st.fixed_dictionaries(
        {"tool_call_id": st.sampled_from(["a1", "a2", "nobody"])},
        optional={"result": JSON, "ephemeral": st.booleans(), "no_followup": st.booleans()},
    ),
    max_size=3,
)


def command(event: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A command in good form, or with one of its fields replaced by anything or left out."""
    spoilt = st.none() | st.tuples(st.sampled_from([*fields, "request_id"]), JSON)
    return st.tuples(st.just(event), st.fixed_dictionaries(fields), spoilt)


SAY = command("bot.reply", message_id=IDS, text=TEXTS, in_reply_to=USER_IDS, add_to_history=st.booleans())
STREAM = command(
    "bot.reply.stream",
    action=st.sampled_from(["start", "chunk", "chunk", "end"]),
    message_id=IDS,
    token=TEXTS,
    in_reply_to=USER_IDS,
)
COMMANDS = st.one_of(
    SAY,
    SAY,
    STREAM,
    STREAM,
    STREAM,
    command("bot.cancel", message_id=IDS),
    command("bot.cancel"),
    command("bot.clear"),
    command("call.hold"),
    command("call.unhold"),
    command("call.mute"),
    command("call.unmute"),
    command("session.pause", session_id=st.just("c1")),
    command("session.resume", session_id=st.just("c1")),
    command("session.send", session_id=st.just("c1"), text=TEXTS),
    command("session.configure", llm=st.sampled_from(["local", {"enabled": False}])),
    command("session.configure", language=st.sampled_from(["es", "en"]), voice=st.sampled_from(["other/x", "a/b"])),
    command("session.configure", interruption=st.booleans(), greeting=TEXTS),
    command("history.get"),
    command("history.add", messages=MESSAGES),
    command("history.set", messages=MESSAGES),
    command("history.clear"),
    command("history.set_vars", vars=st.just({"name": "Ana"})),
    command("history.add_context", text=TEXTS),
    command("history.set_instructions", prompt=TEXTS),
    command("llm.tool_result", msg_id=st.sampled_from(["@round", "@round", "old"]), results=RESULTS),
    command("llm.tool_result", msg_id=st.just("@round"), results=RESULTS),
    command("llm.ready", turn=st.integers(0, 3)),
    command("skill.load", skill=st.sampled_from(["tea", "wine"])),
    command("skill.unload", skill=st.sampled_from(["tea", "wine"])),
    command("set_context", key=st.just("page"), value=TEXTS),
    command("nonsense", value=JSON),
)
DEEDS = st.one_of(
    st.tuples(st.just("type"), st.just('{"action":"inject_text","text":"typed"}')),
    st.tuples(st.sampled_from(["come", "go", "reload"]), st.none()),
)
WAITS = st.sampled_from([0, 0, 0, 20, 100, 300, 500, 1000, 2500, 7000])
STEPS = st.tuples(st.one_of(COMMANDS, COMMANDS, COMMANDS, SPEECH, SPEECH, NOISE, ENGINES, DEEDS), WAITS)
ANSWERS = st.lists(
    st.sampled_from([
        "Yes.",
        LONG,
        ["Well.", EngineError("gone")],
        ["One", "moment.", call("book", "a1")],
        [call("book", "a1"), call("loadSkill", "a2", skill="tea")],
        [call("book", "a1"), call("book", "a1"), call("nothing", "a2")],
        [call("loadSkill", "a1", skill="beer")],
    ]),
    max_size=8,
)  # fmt: skip
SKILL = {"name": "tea", "activation": "model", "instructions": "Tea is green.", "tools": [tool("brew")]}
AGENTS = st.fixed_dictionaries(
    {"tools": st.just([tool("book")]), "skills": st.just([SKILL])},
    optional={
        "llm": st.none(),
        "greeting": st.just(""),
        "tool_filler": st.just("One moment please."),
        "preparing": st.sampled_from([True, False, {"timeout_ms": 300}]),
        "metadata": st.just({"user": "u1"}),
    },
)
Sent = tuple[str, dict[str, Any], tuple[str, Any] | None]


def send(stage: Scene, sent: Sent, promised: dict[str, str]) -> None:
    """A command. ``promised``: how each message began whose end must come."""
    event, fields, spoilt = sent
    frame = dict(fields)
    if spoilt and spoilt[0] in frame and spoilt[1] == {}:
        del frame[spoilt[0]]
    elif spoilt:
        frame[spoilt[0]] = spoilt[1]
    users, rounds = stage.all_frames("turn.end"), stage.all_frames("llm.tool_call")
    found = {"@user": users[-1]["message_id"] if users else "", "@round": rounds[-1]["msg_id"] if rounds else "none"}
    frame = {key: found.get(value, value) if isinstance(value, str) else value for key, value in frame.items()}
    before = len(stage.frames)
    over = stage.call._over.done() or stage.call._started is None
    stage.send(event, **frame)
    answers = [answer for answer in stage.frames[before:] if "seq" not in answer]
    assert all(answer["call_id"] == "c1" for answer in answers)
    if event.startswith("history."):
        assert len(answers) == 1
        assert answers[0].get("request_id") == frame.get("request_id")
    message_id = frame.get("message_id")
    if not over and isinstance(message_id, str) and message_id:
        if event == "bot.reply":
            assert any(answer["event"] == "error" for answer in answers) or message_id not in promised
            promised.setdefault(message_id, event)
        elif event == "bot.reply.stream" and frame.get("action") == "start":
            promised.setdefault(message_id, event)


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(
    answers=ANSWERS,
    verdicts=st.lists(VERDICTS, max_size=8),
    steps=st.lists(STEPS, max_size=25),
    agent=AGENTS,
    ready=st.booleans(),
    ending=st.sampled_from(["call.hangup", "drop", "quiet"]),
)
def test_anything(
    answers: list[Any],
    verdicts: list[float | None],
    steps: list[tuple[Any, int]],
    agent: dict[str, Any],
    ready: bool,
    ending: str,
) -> None:
    promised: dict[str, str] = {}

    async def scene(stage: Scene) -> None:
        stage.answers_barrier = ready
        stage.ears.verdicts.extend(verdicts)
        for step, wait in steps:
            match step:
                case ("come", _):
                    stage.come()
                case ("go", _):
                    stage.go()
                case ("reload", _):
                    stage.call.reload(stage.config)
                case ("type", text):
                    stage.call.on_message(text)
                case (event, fields, spoilt):
                    send(stage, (event, fields, spoilt), promised)
                case (name, value):
                    act(stage, name, value)
            await asyncio.sleep(wait / 1000)
        await end(stage, ending)

    limits = {"idle_timeout_seconds": 0, "max_duration_seconds": 0}
    stage = perform(*answers, session_limits=limits, **agent)(scene)
    events = [event for _, event in stage.log.events]
    assert [event.name for event in events].count("call.ended") == (1 if events else 0)
    ended = [event.message_id for event in events if event.name in TERMINAL]
    assert len(ended) == len(set(ended))
    for message_id, began in promised.items():
        if began == "bot.reply":
            assert message_id in ended
    announced = {event.message_id for event in events if event.name == "bot.speaking"}
    assert announced <= set(ended)


async def end(stage: Scene, ending: str) -> None:
    if ending == "drop":
        await stage.line.drop("disconnected")
    elif ending == "call.hangup":
        stage.send("call.hangup")
    else:  # whatever is under way comes to its end by itself
        stage.come()
        stage.send("call.unhold")
        stage.send("call.unmute")
        await stage.until(lambda: not stage.person.frames, 300)
        await asyncio.sleep(4)
        await stage.until(lambda: not stage.call.bot_state().busy and not stage.call._hearing.speaking, 600)
