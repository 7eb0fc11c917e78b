"""What a backend reads and changes of what was said and of what the model is told. Protocol 3.13, 3.17."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.backend.scene import Scene, call, check_history, perform, tool

USER = {"role": "user", "content": "Hi."}
BOT = {"role": "assistant", "content": "Hello."}
CALL = {"id": "x1", "type": "function", "function": {"name": "book", "arguments": "{}"}}
ASKED = {"role": "assistant", "content": "", "tool_calls": [CALL]}
FOUND = {"role": "tool", "tool_call_id": "x1", "content": "ok"}
SAID = {"role": "assistant", "content": "Hello, how can I help you today?"}


async def turn(stage: Scene, count: int) -> None:
    stage.person.say("tell me")
    await stage.frame("bot.finished", count)


@pytest.mark.parametrize(
    ("event", "fields", "answer"),
    [
        ("history.get", {}, {"event": "history.data", "messages": [SAID]}),
        ("history.add", {"messages": [USER, BOT]}, {"event": "history.updated", "count": 3}),
        ("history.add", {"messages": []}, {"event": "history.updated", "count": 1}),
        ("history.set", {"messages": [USER, BOT, USER]}, {"event": "history.updated", "count": 4}),
        ("history.clear", {}, {"event": "history.updated", "count": 0}),
        ("history.set_vars", {"vars": {"name": "Ana", "age": 7}}, {"event": "history.updated", "count": 1}),
        ("history.add_context", {"text": "It rains."}, {"event": "history.updated", "count": 1}),
        ("history.set_instructions", {"prompt": "Be brief."}, {"event": "history.updated", "count": 1}),
        ("history.set_instructions", {"instructions": "Be brief."}, {"event": "history.updated", "count": 1}),
    ],
)
def test_each_request_is_answered_at_once_under_its_id(event: str, fields: Any, answer: Any) -> None:
    async def scene(stage: Scene) -> None:
        await stage.frame("bot.finished")
        for request_id in ({"request_id": "rq_1"}, {}):
            found = stage.ask(event, **request_id, **fields)
            where = {"agent_id": "demo", "call_id": "c1"}
            if request_id:
                assert found == answer | where | request_id
            else:
                assert {"agent_id", "call_id", "event"} < found.keys()

    perform()(scene)


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        ("history.add", {}),
        ("history.add", {"messages": "Hi."}),
        ("history.add", {"messages": [USER] * 1001}),
        ("history.add", {"messages": [USER, {"role": "robot", "content": "x"}]}),
        ("history.add", {"messages": [{"role": "user", "content": {"a": 1}}]}),
        ("history.add", {"messages": [None]}),
        ("history.set", {"messages": [{"role": "tool", "content": "x"}]}),
        ("history.set", {"messages": [{"role": "assistant", "tool_calls": [{"id": "x"}]}]}),
        ("history.set", {"messages": [{"role": "assistant", "tool_calls": "x"}]}),
        ("history.set_vars", {}),
        ("history.set_vars", {"vars": ["a"]}),
        ("history.set_vars", {"vars": {"a": {"b": 1}}}),
        ("history.add_context", {}),
        ("history.add_context", {"text": ""}),
        ("history.add_context", {"text": ["x"]}),
        ("history.set_instructions", {}),
        ("history.set_instructions", {"prompt": 7}),
        ("history.set_instructions", {"prompt": "x" * 70_000}),
    ],
)
def test_a_request_that_cannot_be_met_is_answered_too_and_changes_nothing(event: str, fields: Any) -> None:
    async def scene(stage: Scene) -> None:
        await stage.frame("bot.finished")
        refused = stage.ask(event, request_id="rq_1", **fields)
        error = refused.pop("error")
        assert error
        assert isinstance(error, str)
        assert refused == {
            "event": "history.updated",
            "agent_id": "demo",
            "call_id": "c1",
            "request_id": "rq_1",
        }
        assert stage.ask("history.get")["messages"] == [SAID]
        await turn(stage, 2)

    stage = perform(prompt="Be kind.")(scene)
    assert stage.prompt().startswith("Be kind.\n\nYou are speaking")


def test_requests_that_cross_are_told_apart() -> None:
    async def scene(stage: Scene) -> None:
        for number in range(3):
            stage.send("history.add", messages=[USER], request_id=f"rq_{number}")
            stage.send("history.get", request_id=f"rq_get_{number}")

    stage = perform(greeting="")(scene)
    answers = [frame for frame in stage.frames if frame["event"].startswith("history.")]
    assert [(a["request_id"], a.get("count", len(a.get("messages", ())))) for a in answers] == [
        ("rq_0", 1),
        ("rq_get_0", 1),
        ("rq_1", 2),
        ("rq_get_1", 2),
        ("rq_2", 3),
        ("rq_get_2", 3),
    ]


def test_what_was_set_counts_in_the_next_prompt() -> None:
    async def scene(stage: Scene) -> None:
        await turn(stage, 1)
        stage.ask("history.set_vars", vars={"name": "Ana"})
        stage.ask("history.add_context", text="It rains.")
        stage.ask("history.add_context", text="It is {{day}}.")
        await turn(stage, 2)
        stage.ask("history.set_instructions", prompt="{{name}} of {{town}} is {{mood}}.")
        stage.ask("history.set_vars", vars={"mood": "sad"})
        await turn(stage, 3)
        stage.ask("history.set_instructions", prompt="")
        await turn(stage, 4)

    stage = perform(greeting="", prompt="Serve {{name}}.", vars={"name": "all", "town": "Bath"}, rawPrompt=True)(scene)
    assert [stage.prompt(n) for n in range(3)] == [
        "Serve all.",
        "Serve Ana.\n\nIt rains.\n\nIt is {{day}}.",
        "Ana of Bath is sad.\n\nIt rains.\n\nIt is {{day}}.",
    ]
    assert "Ana" not in stage.prompt(3)


def test_added_messages_are_read_by_the_model_and_stand_in_the_history() -> None:
    async def scene(stage: Scene) -> None:
        stage.ask("history.add", messages=[USER, ASKED, FOUND, BOT, {"role": "system", "content": "Note."}])
        await turn(stage, 1)
        known = stage.ask("history.get")["messages"]
        assert known == [*stage.llm.asked[0][1:], {"role": "assistant", "content": "I see."}]

    stage = perform(greeting="", prompt="Be kind.")(scene)
    assert stage.llm.asked[0][1:-1] == stage.messages()[:-2]
    assert [row["role"] for row in stage.messages()] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "system",
        "user",
        "assistant",
    ]


def test_a_history_without_a_result_or_without_a_call_is_mended() -> None:
    async def scene(stage: Scene) -> None:
        other = FOUND | {"tool_call_id": "x2"}
        for messages, count in (
            ([FOUND], 0),
            ([ASKED], 0),
            ([ASKED | {"content": "Let me see."}], 1),
            ([ASKED, other], 0),
            ([ASKED, other, FOUND], 2),
            ([ASKED, FOUND, FOUND], 2),
            ([ASKED, USER, FOUND], 1),
        ):
            stage.ask("history.clear")
            assert stage.ask("history.add", messages=messages)["count"] == count, messages
            check_history(stage.ask("history.get")["messages"])

    perform(greeting="")(scene)


# --- history.set and the greeting


async def restore(stage: Scene) -> None:
    """As the SDK does with a ``HistoryStore``."""
    stage.ask("history.set", messages=[USER, BOT], request_id="rq_1")


RESTORED = [("user", "Hi."), ("assistant", "Hello.")]
GREETED = ("assistant", SAID["content"])


def test_a_restored_history_stands_before_the_greeting_whenever_it_comes() -> None:
    async def before(stage: Scene) -> None:
        await stage.frame("call.started")
        await restore(stage)
        await stage.frame("bot.finished")

    async def during(stage: Scene) -> None:
        await stage.frame("bot.speaking")
        await restore(stage)
        await stage.frame("bot.finished")

    async def after(stage: Scene) -> None:
        await stage.frame("bot.finished")
        await restore(stage)

    async def twice(stage: Scene) -> None:
        await stage.frame("bot.finished")
        await restore(stage)
        await restore(stage)

    async def twice_with_more(stage: Scene) -> None:
        await stage.frame("bot.finished")
        stage.say("m1", "By the way, it rains.", add_to_history=True)
        await stage.frame("bot.finished", 2)
        await restore(stage)
        await restore(stage)

    for scene in (before, during, after, twice):
        assert perform()(scene).texts() == [*RESTORED, GREETED], scene
    assert perform()(twice_with_more).texts() == [*RESTORED, GREETED, ("assistant", "By the way, it rains.")]


def test_once_the_user_has_spoken_a_restored_history_is_all_there_is() -> None:
    async def scene(stage: Scene) -> None:
        await stage.frame("bot.finished")
        await turn(stage, 2)
        await restore(stage)
        await turn(stage, 3)

    stage = perform("First.", "Second.")(scene)
    assert stage.texts() == [*RESTORED, ("user", "tell me"), ("assistant", "Second.")]


def test_a_history_that_is_replaced_while_the_bot_answers() -> None:
    async def scene(stage: Scene) -> None:
        stage.person.say("tell me")
        await stage.words(3)
        await restore(stage)
        await stage.frame("bot.finished")
        stage.person.say("tell me more")
        await stage.words(8)
        assert stage.ask("history.clear")["count"] == 0
        await stage.frame("bot.finished", 2)

    stage = perform("One two three four five.", "And one more thing.", greeting="")(scene)
    assert stage.texts() == [("assistant", "And one more thing.")]
    assert stage.asked() == [*RESTORED, ("assistant", "One two three four five."), ("user", "tell me more")]


def test_a_history_that_is_replaced_while_a_tool_runs_stays_valid() -> None:
    async def scene(stage: Scene) -> None:
        stage.person.say("book it")
        round_of_tools = await stage.frame("llm.tool_call")
        await restore(stage)
        stage.result(round_of_tools, a1="ok")
        await stage.frame("bot.finished")

    stage = perform([call("book", "a1")], "Done.", greeting="", tools=[tool("book")])(scene)
    assert stage.texts() == [*RESTORED, ("assistant", ""), ("tool", "ok"), ("assistant", "Done.")]


def test_requests_that_come_after_the_end_are_answered() -> None:
    async def scene(stage: Scene) -> None:
        stage.call.hangup("hangup")
        assert stage.ask("history.get", request_id="rq_1") == {
            "event": "history.data",
            "agent_id": "demo",
            "call_id": "c1",
            "request_id": "rq_1",
            "error": "call not found",
        }
        await asyncio.sleep(0.1)
        assert stage.ask("history.set_vars", vars={}, request_id="rq_2")["error"] == "call not found"
        stage.send("llm.ready", turn=1)
        stage.say("m1", "Hello?")
        assert stage.frames[-1]["event"] == "history.updated"

    perform(greeting="")(scene)
