"""Tools of a call: rounds, results in any order, speech while one runs, a backend that is away. Protocol 3.14, 8.4."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pipeline.generation import MAX_ROUNDS
from pipeline.llm import ToolCall
from tests.backend.scene import Scene, call, perform, tool

TOOLS = {"tools": [tool("book"), tool("weather")], "greeting": ""}
BOTH = [call("book", "a1", day="friday"), call("weather", "a2")]
GONE = '{"error": "no backend is connected"}'
LATE = '{"error": "tool timed out"}'


def results(scene: Scene) -> list[Any]:
    """What the model was told that its tools found."""
    return [message["content"] for message in scene.messages() if message["role"] == "tool"]


def test_a_call_with_a_tool() -> None:
    async def scene(stage: Scene) -> None:
        await stage.frame("bot.finished")
        stage.person.pause(300)
        stage.person.say("book a table please")
        round_of_tools = await stage.frame("llm.tool_call")
        assert round_of_tools["tool_calls"] == [{"id": "a1", "name": "book", "arguments": '{"day": "friday"}'}]
        await stage.frame("bot.finished", 2)
        stage.result(round_of_tools, a1={"ok": True})
        await stage.frame("bot.finished", 3)

    stage = perform(["One", "moment.", BOTH[0]], "Done.", tools=[tool("book")], greeting="Hi.")(scene)
    assert stage.story() == [
        "call.started metadata={}",
        "bot.speaking A 'Hi.'",
        "bot.word A 'Hi.'",
        "message.confirmed A 'Hi.'",
        "bot.finished A 'Hi.'",
        "speech.started turn_id=1",
        "user.speaking turn_id=1 'book a table please' B",
        "user.message turn_id=1 B 'book a table please'",
        "speech.ended turn_id=1",
        "turn.end turn_id=1 B 'book a table please'",
        "llm.before turn=1",
        "llm.tool_call C book(a1)",
        "bot.speaking D ''",
        "bot.word D 'One moment.'",
        "message.confirmed D 'One moment.'",
        "bot.finished D 'One moment.'",
        "bot.speaking E ''",
        "bot.word E 'Done.'",
        "message.confirmed E 'Done.'",
        "bot.finished E 'Done.'",
        "call.ended reason=hangup",
    ]
    asks = {"id": "a1", "type": "function", "function": {"name": "book", "arguments": '{"day": "friday"}'}}
    assert stage.messages() == [
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": "book a table please"},
        {"role": "assistant", "content": "One moment."},
        {"role": "assistant", "content": "", "tool_calls": [asks]},
        {"role": "tool", "tool_call_id": "a1", "content": '{"ok": true}'},
        {"role": "assistant", "content": "Done."},
    ]
    assert stage.llm.asked[1][1:] == stage.messages()[:-1]
    assert stage.llm.offered == [["book"], ["book"]]


def test_parallel_calls_go_out_together_and_their_results_come_in_any_pieces() -> None:
    async def scene(stage: Scene) -> None:
        stage.person.say("book it")
        round_of_tools = await stage.frame("llm.tool_call")
        assert [each["name"] for each in round_of_tools["tool_calls"]] == ["book", "weather"]
        stage.result(round_of_tools, a2="sunny")
        await asyncio.sleep(5)
        assert len(stage.llm.asked) == 1, "the round is not complete"
        stage.result(round_of_tools, a2="rain", nobody="x")
        stage.send("llm.tool_result", msg_id="tr_another", results=[{"tool_call_id": "a1", "result": "other"}])
        stage.send("llm.tool_result", msg_id=round_of_tools["msg_id"], results=[5, None, {"tool_call_id": "a1"}])
        await stage.frame("bot.finished")
        stage.result(round_of_tools, a1="too late")

    stage = perform(BOTH, "Done.", **TOOLS)(scene)
    assert [(row["role"], row["content"]) for row in stage.messages()] == [
        ("user", "book it"),
        ("assistant", ""),
        ("tool", "null"),
        ("tool", "sunny"),
        ("assistant", "Done."),
    ]
    told = [(event.tool_call_id, event.result) for event in stage.log.all("llm.tool_result")]
    assert told == [("a2", "sunny"), ("a1", None)]
    assert not stage.all_frames("error")


@pytest.mark.parametrize(("flags", "follows"), [((True, True), False), ((True, False), True), ((False, False), True)])
def test_a_round_is_answered_unless_every_result_wants_no_answer(flags: tuple[bool, bool], follows: bool) -> None:
    async def scene(stage: Scene) -> None:
        stage.person.say("play it")
        round_of_tools = await stage.frame("llm.tool_call")
        rows = [
            {"tool_call_id": call_id, "result": 1, "no_followup": flag}
            for call_id, flag in zip(("a1", "a2"), flags, strict=True)
        ]
        stage.send("llm.tool_result", msg_id=round_of_tools["msg_id"], results=rows)
        await asyncio.sleep(3)
        stage.person.say("thanks")
        await stage.frame("bot.finished", 1 + follows)

    stage = perform(BOTH, "Bye.", "Bye.", **TOOLS)(scene)
    assert len(stage.llm.asked) == 2 + follows
    assert [row["content"] for row in stage.messages() if row["role"] == "assistant"] == ["", *["Bye."] * (1 + follows)]


def test_an_ephemeral_result_is_read_once() -> None:
    async def scene(stage: Scene) -> None:
        stage.person.say("what do I owe")
        round_of_tools = await stage.frame("llm.tool_call")
        rows = [{"tool_call_id": "a1", "result": "secret", "ephemeral": True}, {"tool_call_id": "a2", "result": "fine"}]
        stage.send("llm.tool_result", msg_id=round_of_tools["msg_id"], results=rows)
        await stage.frame("bot.finished")
        assert "secret" not in str(stage.ask("history.get", request_id="r"))
        stage.person.say("thanks")
        await stage.frame("bot.finished", 2)

    stage = perform(BOTH, "Nine dollars.", "Bye.", **TOOLS)(scene)
    assert "secret" in str(stage.llm.asked[1])
    assert "secret" not in str(stage.llm.asked[2])
    assert "a1" not in str(stage.llm.asked[2])
    assert "fine" in str(stage.llm.asked[2])
    assert "a1" not in str(stage.messages())
    assert [called["id"] for called in stage.messages()[1]["tool_calls"]] == ["a2"]


def test_a_round_with_nothing_but_ephemeral_results_leaves_no_trace() -> None:
    async def scene(stage: Scene) -> None:
        stage.person.say("what do I owe")
        round_of_tools = await stage.frame("llm.tool_call")
        row = {"tool_call_id": "a1", "result": "secret", "ephemeral": True}
        stage.send("llm.tool_result", msg_id=round_of_tools["msg_id"], results=[row])
        await stage.frame("bot.finished")

    stage = perform([BOTH[0]], "Nine dollars.", **TOOLS)(scene)
    assert stage.texts() == [("user", "what do I owe"), ("assistant", "Nine dollars.")]


def test_results_that_never_come() -> None:
    async def scene(stage: Scene) -> None:
        stage.person.say("book it")
        round_of_tools = await stage.frame("llm.tool_call")
        began = asyncio.get_running_loop().time()
        stage.result(round_of_tools, a2="sunny")
        await stage.frame("bot.speaking")
        assert 30 < asyncio.get_running_loop().time() - began < 31
        stage.result(round_of_tools, a1="late")
        await stage.frame("bot.finished")

    stage = perform(BOTH, "Sorry.", **TOOLS)(scene)
    assert results(stage) == [LATE, "sunny"]


def test_a_tool_that_the_backend_does_not_know_is_its_own_to_refuse() -> None:
    async def scene(stage: Scene) -> None:
        stage.person.say("do it")
        round_of_tools = await stage.frame("llm.tool_call")
        assert round_of_tools["tool_calls"] == [{"id": "a1", "name": "made_up", "arguments": "{}"}]
        stage.result(round_of_tools, a1={"error": "Unknown tool: made_up"})
        await stage.frame("bot.finished")

    stage = perform([call("made_up", "a1")], "I cannot.", **TOOLS)(scene)
    assert results(stage) == ['{"error": "Unknown tool: made_up"}']
    assert stage.messages()[-1]["content"] == "I cannot."


def test_arguments_and_ids_that_a_model_gets_wrong() -> None:
    async def scene(stage: Scene) -> None:
        stage.person.say("do it")
        round_of_tools = await stage.frame("llm.tool_call")
        first, second, third = round_of_tools["tool_calls"]
        assert first == {"id": "a1", "name": "book", "arguments": "{}"}
        assert len({first["id"], second["id"], third["id"]}) == 3
        stage.result(round_of_tools, **{each["id"]: 1 for each in (first, second, third)})
        await stage.frame("bot.finished")

    calls = [ToolCall("a1", "book", " "), ToolCall("a1", "book", "{}"), ToolCall("", "book", "{}")]
    perform(calls, "Ok.", **TOOLS)(scene)


def test_a_backend_that_is_away_for_a_moment_still_runs_the_tool() -> None:
    async def scene(stage: Scene) -> None:
        stage.go()
        stage.person.say("book it")
        await stage.until(lambda: bool(stage.log.all("llm.response")))
        await asyncio.sleep(2)
        stage.come()
        round_of_tools = await stage.frame("llm.tool_call")
        assert stage.all_frames("llm.tool_call") == [round_of_tools]
        stage.result(round_of_tools, a1="ok")
        await stage.frame("bot.finished")

    stage = perform([BOTH[0]], "Done.", **TOOLS)(scene)
    assert stage.messages()[2]["content"] == "ok"


def test_a_backend_that_is_away_for_long_costs_five_seconds() -> None:
    async def scene(stage: Scene) -> None:
        stage.go()
        stage.person.say("book it")
        await stage.event("bot.finished")
        stage.come()

    stage = perform([BOTH[0]], "Sorry.", **TOOLS)(scene)
    assert results(stage) == [GONE]
    assert not stage.log.all("llm.tool_call")
    assert 5 < stage.log.at("bot.speaking") - stage.log.at("llm.response") < 6


def test_nobody_is_there_who_could_run_a_tool() -> None:
    async def scene(stage: Scene) -> None:
        stage.person.say("book it")
        await stage.event("bot.finished")

    assert perform("I cannot.", attended=False, **TOOLS)(scene).llm.offered == [[]]


def test_who_goes_on_before_anything_was_heard_continues_the_turn_and_the_tool_runs_on() -> None:
    async def scene(stage: Scene) -> None:
        stage.person.say("book a table")
        round_of_tools = await stage.frame("llm.tool_call")
        stage.person.say("for two please")
        await stage.frame("turn.end", 2)
        await asyncio.sleep(1)
        assert len(stage.llm.asked) == 1, "the tool is still running"
        stage.result(round_of_tools, a1="ok")
        await stage.frame("bot.finished")

    stage = perform([BOTH[0]], "Booked for two.", **TOOLS)(scene)
    assert stage.story() == [
        "call.started metadata={}",
        "speech.started turn_id=1",
        "user.speaking turn_id=1 'book a table' A",
        "user.message turn_id=1 A 'book a table'",
        "speech.ended turn_id=1",
        "turn.end turn_id=1 A 'book a table'",
        "llm.before turn=1",
        "llm.tool_call B book(a1)",
        "speech.started turn_id=1",
        "turn.continued turn_id=1",
        "user.speaking turn_id=1 'book a table for two please' C",
        "user.message turn_id=1 C 'book a table for two please'",
        "speech.ended turn_id=1",
        "turn.end turn_id=1 C 'book a table for two please'",
        "llm.before turn=1",
        "bot.speaking D ''",
        "bot.word D 'Booked for two.'",
        "message.confirmed D 'Booked for two.'",
        "bot.finished D 'Booked for two.'",
        "call.ended reason=hangup",
    ]
    assert [(row["role"], row["content"]) for row in stage.messages()] == [
        ("user", "book a table for two please"),
        ("assistant", ""),
        ("tool", "ok"),
        ("assistant", "Booked for two."),
    ]


FILLER = {"tool_filler": "Let me look that up for you, this may well take a moment or two."}


def test_who_interrupts_while_a_tool_runs_gets_an_answer_to_what_they_said_last() -> None:
    async def scene(stage: Scene) -> None:
        stage.person.say("book a table")
        round_of_tools = await stage.frame("llm.tool_call")
        await stage.words(10)  # of the filler
        stage.person.say("and how is the weather")
        await stage.frame("turn.end", 2)
        await asyncio.sleep(0.5)
        stage.result(round_of_tools, a1="ok")
        await stage.frame("bot.finished")

    stage = perform([BOTH[0]], "Booked, and it rains.", **TOOLS, **FILLER)(scene)
    assert stage.story() == [
        "call.started metadata={}",
        "speech.started turn_id=1",
        "user.speaking turn_id=1 'book a table' A",
        "user.message turn_id=1 A 'book a table'",
        "speech.ended turn_id=1",
        "turn.end turn_id=1 A 'book a table'",
        "llm.before turn=1",
        "llm.tool_call B book(a1)",
        f"bot.speaking C '{FILLER['tool_filler']}'",
        "bot.word C 'Let me look that up for you, this may well'",
        "speech.started turn_id=2",
        "barge_in cancelled_message_id=C",
        "bot.interrupted C words_spoken=10 last_word=well reason=user_spoke",
        "message.confirmed C 'Let me look that up for you, this may well'",
        "user.speaking turn_id=2 'and how is the weather' D",
        "user.message turn_id=2 D 'and how is the weather'",
        "speech.ended turn_id=2",
        "turn.end turn_id=2 D 'and how is the weather'",
        "llm.before turn=2",
        "bot.speaking E ''",
        "bot.word E 'Booked, and it rains.'",
        "message.confirmed E 'Booked, and it rains.'",
        "bot.finished E 'Booked, and it rains.'",
        "call.ended reason=hangup",
    ]
    assert stage.asked() == [
        ("user", "book a table"),
        ("assistant", ""),
        ("tool", "ok"),
        ("user", "and how is the weather"),
    ]


def test_a_call_that_ends_while_a_tool_runs_has_a_valid_history() -> None:
    async def scene(stage: Scene) -> None:
        stage.person.say("book a table")
        await stage.frame("bot.finished")

    stage = perform(["One", "moment.", BOTH[0]], **TOOLS)(scene)
    assert stage.texts() == [("user", "book a table"), ("assistant", "One moment.")]


def test_a_follow_up_that_is_cut_off_before_it_is_heard_is_not_told_of() -> None:
    async def scene(stage: Scene) -> None:
        stage.llm.first_token = 1.0
        stage.person.say("book a table")
        stage.result(await stage.frame("llm.tool_call"), a1="ok")
        stage.person.say("for two please")
        await stage.frame("bot.finished")

    stage = perform([BOTH[0]], "Never said.", "Booked for two.", **TOOLS)(scene)
    assert [frame["message_id"] for frame in stage.all_frames("bot.speaking")] == [
        frame["message_id"] for frame in stage.all_frames("bot.finished")
    ]
    assert not stage.all_frames("bot.interrupted")
    assert [row["content"] for row in stage.messages()] == [
        "book a table for two please",
        "",
        "ok",
        "Booked for two.",
    ]


def test_a_model_that_never_stops_asking() -> None:
    async def scene(stage: Scene) -> None:
        stage.person.say("book it")
        for number in range(MAX_ROUNDS):
            stage.result(await stage.frame("llm.tool_call", number + 1), a1=number)
        await stage.frame("bot.finished")

    stage = perform(*[[BOTH[0]]] * MAX_ROUNDS, "Enough.", **TOOLS)(scene)
    assert stage.llm.offered[-1] == []
    assert len({frame["msg_id"] for frame in stage.all_frames("llm.tool_call")}) == MAX_ROUNDS


# --- what is said meanwhile


def test_the_filler_is_said_when_a_tool_takes_long() -> None:
    async def scene(stage: Scene) -> None:
        stage.person.say("book it")
        stage.result(await stage.frame("llm.tool_call"), a1="ok")
        await stage.frame("bot.finished")
        stage.person.say("and again")
        round_of_tools = await stage.frame("llm.tool_call", 2)
        await stage.frame("bot.speaking", 2)
        stage.result(round_of_tools, a1="ok")  # it is not cut
        await stage.frame("bot.finished", 3)

    answers = ([BOTH[0]], "Done.", [BOTH[0]], "Done again.")
    stage = perform(*answers, **TOOLS, tool_filler={"en": "One moment, {{name}}."}, vars={"name": "Ana"})(scene)
    assert [frame["text"] for frame in stage.all_frames("bot.finished")] == ["Done.", "One moment, Ana.", "Done again."]
    assert "One moment" not in str(stage.llm.asked)
    assert "One moment" in str(stage.messages())


def test_the_filler_is_the_agents_of_now() -> None:
    async def scene(stage: Scene) -> None:
        stage.send("history.set_vars", vars={"name": "Eva"}, request_id="r1")
        stage.send("session.configure", session_id="c1", tool_filler="Wait, {{name}}.")
        stage.person.say("book it")
        round_of_tools = await stage.frame("llm.tool_call")
        await stage.frame("bot.finished")
        stage.result(round_of_tools, a1="ok")
        await stage.frame("bot.finished", 2)

    stage = perform([BOTH[0]], "Done.", **TOOLS, tool_filler="One moment.")(scene)
    assert stage.all_frames("bot.finished")[0]["text"] == "Wait, Eva."


def test_no_filler_while_the_bot_still_speaks() -> None:
    async def scene(stage: Scene) -> None:
        stage.person.say("book it")
        round_of_tools = await stage.frame("llm.tool_call")
        await stage.frame("bot.finished")
        stage.result(round_of_tools, a1="ok")
        await stage.frame("bot.finished", 2)

    answers = (["Well,", "let", "me", "see", "what", "I", "can", "do.", BOTH[0]], "Done.")
    stage = perform(*answers, **TOOLS, tool_filler="One moment.")(scene)
    assert "One moment." not in str(stage.story())
