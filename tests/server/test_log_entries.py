"""What calls and chats leave in the log, as whole sequences."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline import events
from pipeline.engine import EngineError
from pipeline.events import Event
from pipeline.llm import ToolCall
from server.feed import Fact
from server.log_entries import MAX_BODY, Entry, Scribe, cut_short, encode, lifecycle, metrics, with_seq, without_seq
from tests.pipeline.scripted import Log
from tests.pipeline.stage import GREETING, Stage, play
from tests.pipeline.test_chat import BOOK, Room, chat

LIVE_ONLY = {"user.speaking", "bot.word", "audio.metrics"}
STORED = (
    {"call.ringing", "call.started", "call.ended", "call.summary"}
    | {"bot.speaking", "bot.finished", "bot.interrupted", "bot.corrected"}
    | {"turn.start", "turn.end", "tool.call", "tool.result", "skill.loaded", "skill.unloaded"}
)
"""Protocol 6.4; ``user.message`` is both."""


def written(log: Log) -> list[Entry]:
    """The log of a session that was played in virtual time. Every rule of the vocabulary is checked on the way."""
    return scribbled((event, 1000 + at) for at, event in log.events)


def scribbled(facts: Iterable[tuple[Event, float]]) -> list[Entry]:
    scribe, entries = Scribe(), list[Entry]()
    for seq, (event, at) in enumerate(facts, 1):
        entries += scribe.take(Fact(event, "c1", seq, at))
    check(entries)
    return entries


def check(entries: list[Entry]) -> None:
    for entry in entries:
        assert entry.type in LIVE_ONLY | STORED | {"user.message"}, entry
        live = not entry.data["final"] if entry.type == "user.message" else entry.type in LIVE_ONLY
        assert entry.ephemeral == live, entry
    kinds = [entry.type for entry in entries]
    if kinds:
        assert kinds[0] == "call.started"
    if "call.ended" in kinds:
        assert kinds[-2:] == ["call.ended", "call.summary"]
    turns = [(entry.type, entry.data["turn"]) for entry in entries if entry.type.startswith("turn.")]
    expected = [(kind, turn + 1) for turn in range(len(turns)) for kind in ("turn.start", "turn.end")]
    assert turns == expected[: len(turns)]
    open_messages = set[str]()
    for entry in entries:
        match entry.type:
            case "bot.speaking":
                open_messages.add(entry.data["id"])
            case "bot.finished" | "bot.interrupted":
                open_messages.remove(entry.data["id"])


def kinds(entries: list[Entry], *, stored: bool = False) -> list[str]:
    """Types in order, repeated ones once."""
    names: list[str] = []
    for entry in entries:
        if not (stored and entry.ephemeral) and names[-1:] != [entry.type]:
            names.append(entry.type)
    return names


def data(entries: list[Entry], kind: str) -> list[dict[str, Any]]:
    return [entry.data for entry in entries if entry.type == kind]


def test_a_whole_call() -> None:
    async def dialogue(stage: Stage) -> None:
        await stage.greeted()
        stage.person.pause(300)
        stage.person.say("what is seven plus five")
        await stage.event("bot.finished", 2)

    entries = written(play("Seven plus five is twelve. Anything else?")(dialogue).log)
    assert kinds(entries) == [
        "call.started",
        *("turn.start", "bot.speaking", "bot.word", "bot.speaking", "bot.finished", "turn.end"),
        *("user.speaking", "turn.start", "user.message", "user.speaking", "turn.end"),
        *("turn.start", "bot.speaking", "bot.word", "bot.speaking", "bot.finished", "turn.end"),
        *("call.ended", "call.summary"),
    ]
    started = data(entries, "call.started")[0]
    ends = {"direction": "inbound", "from": "webrtc", "to": "webrtc"}
    assert started == {**ends, "channel": "webrtc", "metadata": {"user": "u1"}}
    assert [start["role"] for start in data(entries, "turn.start")] == ["bot", "user", "bot"]
    *partials, final = data(entries, "user.message")
    assert (final["text"], final["final"], final["language"]) == ("what is seven plus five", True, "en")
    assert partials
    assert {(partial["id"], partial["final"]) for partial in partials} == {(final["id"], False)}
    first, greeting, second, answer = data(entries, "bot.speaking")
    assert first["text"] == greeting["text"] == GREETING
    assert (second["text"], answer["text"]) == ("", "Seven plus five is twelve. Anything else?")
    assert [word["w"] for word in answer["words"]] == answer["text"].split()
    assert answer["words"][1] == {"w": "plus", "t0": 0.25, "t1": 0.5}
    of_greeting, of_user, of_answer = (end["latency"] for end in data(entries, "turn.end"))
    assert of_greeting == {}
    assert set(of_user) == {"eou", "asr"}
    assert {name: of_answer[name] for name in of_user} == of_user, "an answer is explained from its first moment"
    assert set(of_answer) == {"eou", "asr", "llm_ttft", "clause", "tts_ttfb", "send", "e2e"}
    e2e = of_answer["e2e"]
    assert math.isclose(sum(of_answer.values()), 2 * e2e), "the stages are contiguous"
    assert 0.2 < e2e < 3.0
    [ended], [summary] = data(entries, "call.ended"), data(entries, "call.summary")
    assert ended["reason"] == summary["reason"] == "hangup"
    assert ended["duration"] > 3
    assert summary["metrics"]["e2e"] == {"p50": e2e, "p90": e2e, "p95": e2e, "max": e2e, "n": 1}


def test_what_was_not_heard_is_not_stored_as_said() -> None:
    async def dialogue(stage: Stage) -> None:
        await stage.greeted()
        stage.person.say("tell me a story")
        await stage.event("bot.speaking", 2)
        await asyncio.sleep(2.5)
        stage.person.say("no thank you that will do")
        await stage.event("bot.interrupted")
        await stage.event("bot.finished", 2)

    entries = written(play(" ".join(["Once"] * 60), "Fine.")(dialogue).log)
    [interrupted] = data(entries, "bot.interrupted")
    story = [each for each in data(entries, "bot.speaking") if each["id"] == interrupted["id"]][-1]
    assert interrupted["at_word"] == len(story["words"]) == len(story["text"].split())
    assert 5 < interrupted["at_word"] < 30
    roles = [start["role"] for start in data(entries, "turn.start")]
    assert roles == ["bot", "user", "bot", "user", "bot"]


def test_noise_makes_no_turn() -> None:
    async def dialogue(stage: Stage) -> None:
        await stage.greeted()
        stage.person.noise(600)
        stage.person.pause(4000)
        await stage.event("speech.ended")

    entries = written(play()(dialogue).log)
    assert [each["active"] for each in data(entries, "user.speaking")] == [True, False]
    assert [start["role"] for start in data(entries, "turn.start")] == ["bot"]


def test_a_call_that_never_connects_leaves_nothing() -> None:
    assert scribbled([(events.SessionEnded(reason="timeout"), 1.0)]) == []


def test_a_chat_with_a_tool() -> None:
    async def scene(room: Room) -> None:
        room.chat.write("Book  friday")
        call = await room.event("llm.tool_call")
        result = {"tool_call_id": call.tool_calls[0]["id"], "result": {"ok": True}}
        await asyncio.sleep(1.0)
        room.command("llm.tool_result", msg_id=call.msg_id, results=[result])
        await room.event("chat.done", 3)

    answers = (["One mo", "ment.", ToolCall("a", "book", '{"day": "friday"}')], ["Do", "ne it", " is."])
    room = chat(*answers, tools=[BOOK], greeting="Hi.", greeting_in_chat=True)(scene)
    entries = written(room.log)
    assert kinds(entries) == [
        "call.started",
        *("turn.start", "bot.speaking", "bot.finished", "turn.end"),
        *("turn.start", "user.message", "turn.end"),
        *("turn.start", "bot.speaking", "bot.word", "bot.speaking", "bot.finished", "tool.call", "tool.result"),
        *("bot.speaking", "bot.word", "bot.speaking", "bot.finished", "turn.end"),
        *("call.ended", "call.summary"),
    ]
    assert data(entries, "call.started")[0]["channel"] == "chat"
    assert data(entries, "tool.call") == [{"id": "a", "name": "book", "args": {"day": "friday"}}]
    [result] = data(entries, "tool.result")
    assert 900 <= result.pop("ms") <= 1100
    assert result == {"id": "a", "name": "book", "result": {"ok": True}}
    assert [each["text"] for each in data(entries, "bot.speaking")] == ["Hi.", "", "One moment.", "", "Done it is."]
    assert [each["w"] for each in data(entries, "bot.word")] == ["One", "Done", "it"], (
        "the last word ends with the line"
    )
    [summary] = data(entries, "call.summary")
    assert (summary["metrics"]["e2e"]["n"], summary["metrics"]["asr"]["n"]) == (1, 0)
    assert data(entries, "turn.end")[-1]["latency"] == {"llm_ttft": 0.1, "e2e": 0.1}


def test_a_line_of_a_chat_that_fails_ends_its_turn() -> None:
    async def scene(room: Room) -> None:
        await room.say("Hello")
        await room.say("Hello?")

    entries = written(chat([EngineError("gone")], ["Here."])(scene).log)
    assert [start["role"] for start in data(entries, "turn.start")] == ["user", "user", "bot"]


def test_an_answer_that_breaks_off_is_interrupted_and_a_line_too_many_interrupts_nothing() -> None:
    async def scene(room: Room) -> None:
        room.chat.write("Hello")
        await room.event("chat.token")
        room.chat.write("x" * 20_000)
        await room.event("chat.error", 2)
        await room.say("Hello?")
        await asyncio.sleep(5.0)

    entries = written(chat(["It is", EngineError("gone")], ["Here."])(scene).log)
    assert kinds(entries) == [
        "call.started",
        *("turn.start", "user.message", "turn.end"),
        *("turn.start", "bot.speaking", "bot.word", "bot.interrupted", "turn.end"),
        *("turn.start", "user.message", "turn.end"),
        *("turn.start", "bot.speaking", "bot.finished", "turn.end"),
        *("call.ended", "call.summary"),
    ]
    assert entries[-3].ts < entries[-2].ts - 4, "the turn ends with the answer, not with the chat"


def test_a_tool_that_fails_says_so() -> None:
    call = events.LlmToolCall(msg_id="r1", tool_calls=[{"id": "t", "name": "f", "arguments": "[1"}])
    failed = events.LlmToolResult(msg_id="r1", tool_call_id="t", tool="f", result={"error": "no such order"})
    entries = scribbled([(events.CallStarted(language="en"), 1.0), (call, 2.0), (failed, 2.25)])
    assert data(entries, "tool.call")[0]["args"] == "[1"
    result = {"error": "no such order"}
    assert data(entries, "tool.result") == [{"id": "t", "name": "f", "result": result, "ms": 250, **result}]


def test_a_skill() -> None:
    loaded, gone = events.SkillLoaded(skill="returns", by="model"), events.SkillUnloaded(skill="returns", by="manual")
    entries = scribbled([(events.CallStarted(language="en"), 1.0), (loaded, 2.0), (gone, 3.0)])
    assert [(entry.type, entry.data) for entry in entries[1:]] == [
        ("skill.loaded", {"skill": "returns", "by": "model"}),
        ("skill.unloaded", {"skill": "returns", "by": "manual"}),
    ]


def test_the_log_of_an_agent_holds_beginnings_and_ends() -> None:
    async def dialogue(stage: Stage) -> None:
        await stage.greeted()

    entries = written(play()(dialogue).log)
    of_agent = [short for entry in entries if (short := lifecycle(entry, "c1"))]
    assert [(entry.type, entry.data["call"]) for entry in of_agent] == [("call.started", "c1"), ("call.ended", "c1")]
    assert of_agent[1].data["reason"] == "hangup"


def test_a_log_whose_server_crashed_gets_its_end() -> None:
    async def dialogue(stage: Stage) -> None:
        await stage.greeted()
        stage.person.say("what is seven plus five")
        await stage.event("bot.finished", 2)

    entries = [entry for entry in written(play("Twelve.")(dialogue).log) if not entry.ephemeral]
    envelopes = [json.loads(with_seq(seq, encode(entry, call="c1", agent="mara"))) for seq, entry in enumerate(entries)]
    ended, summary = cut_short(envelopes[:-2])
    assert (ended.type, summary.type) == ("call.ended", "call.summary")
    assert ended.data["reason"] == summary.data["reason"] == "failed"
    assert summary.data["metrics"] == entries[-1].data["metrics"]
    assert ended.ts == summary.ts == entries[-3].ts
    assert math.isclose(ended.data["duration"], entries[-3].ts - entries[0].ts, abs_tol=0.002)
    assert cut_short([])[0].data["duration"] == 0


def test_an_envelope() -> None:
    body = encode(Entry("bot.finished", 1.5, {"id": "m"}), call=None, agent="mara")
    text = with_seq(7, body)
    assert text.startswith('{"seq":7,"ts":1.5,"call":null,"agent":"mara","type":"bot.finished","ephemeral":false,')
    rest = json.loads(text)
    assert rest.pop("seq") == 7
    assert json.loads(without_seq(body)) == rest


def test_large_values_are_cut() -> None:
    words = [{"w": "word", "t0": 0.0, "t1": 0.1}] * 3000
    result = {"rows": ["\x00" * 100] * 1000}
    for large in (
        Entry("tool.result", 1.0, {"id": "t", "name": "f", "result": result, "ms": 3}),
        Entry("bot.speaking", 1.0, {"id": "m", "text": "a word " * 3000, "words": words}),
    ):
        text = with_seq(1, encode(large, call="c1", agent="mara"))
        assert len(text) < 2 * MAX_BODY
        kept = json.loads(text)["data"]
        assert kept["id"] == large.data["id"]
        assert "words" not in kept


def test_percentiles() -> None:
    found = metrics({"e2e": e2e, "asr": 0.1} for e2e in (0.83, 1.11, 0.75, 1.24))
    assert found["e2e"] == {"p50": 0.97, "p90": 1.201, "p95": 1.22, "max": 1.24, "n": 4}
    assert found["tts_ttfb"] == {"p50": 0.0, "p90": 0.0, "p95": 0.0, "max": 0.0, "n": 0}


IDS = st.sampled_from(["a", "b", "c"])
ANY = st.one_of(
    st.builds(events.CallStarted, language=st.just("en")),
    st.builds(events.ChatStarted, language=st.just("en"), model=st.just("m")),
    st.builds(events.UserSpeaking, turn_id=st.integers(1, 3), text=IDS, confidence=st.just(1.0)),
    st.builds(
        events.UserMessage,
        turn_id=st.integers(1, 3),
        message_id=IDS,
        text=IDS,
        confidence=st.just(1.0),
        lag_ms=st.integers(0, 900),
    ),
    st.builds(
        events.TurnEnd,
        turn_id=st.integers(1, 3),
        message_id=IDS,
        text=IDS,
        probability=st.just(1.0),
        latency_ms=st.integers(0, 900),
    ),
    st.builds(
        events.TurnLatency,
        turn_id=st.just(1),
        message_id=IDS,
        stages=st.just({"llm": 5, "later": 1}),
        total_ms=st.integers(0, 900),
    ),
    st.builds(events.BotSpeaking, message_id=IDS, text=IDS),
    st.builds(events.BotWord, message_id=IDS, word=IDS, word_index=st.just(0)),
    st.builds(events.BotFinished, message_id=IDS, duration_ms=st.just(1), text=IDS),
    st.builds(
        events.BotInterrupted,
        message_id=IDS,
        played_ms=st.just(1),
        words_spoken=st.just(1),
        reason=st.just("cancelled"),
    ),
    st.builds(events.LlmResponse, text=IDS, finish_reason=st.just("stop"), engine=st.just("e")),
    st.builds(
        events.LlmToolCall,
        msg_id=IDS,
        tool_calls=st.lists(st.fixed_dictionaries({"id": IDS, "name": IDS, "arguments": IDS}), max_size=2),
    ),
    st.builds(events.LlmToolResult, msg_id=IDS, tool_call_id=IDS, tool=IDS, result=st.none()),
    st.builds(events.ChatMessage, message_id=IDS, text=IDS),
    st.builds(events.ChatToken, message_id=IDS, token=st.sampled_from(["a", " b ", ""]), text=IDS),
    st.builds(events.ChatDone, message_id=IDS, text=st.sampled_from(["", "a b"]), final=st.booleans()),
    st.builds(events.ChatError, error=IDS, code=IDS),
    st.builds(events.ChatFailed, error=IDS),
    st.builds(
        events.CallEnded, reason=IDS, duration_seconds=st.just(1.0), started_at=st.just(1.0), ended_at=st.just(2.0)
    ),
)


@given(st.lists(ANY, max_size=40))
def test_no_order_of_events_breaks_the_rules(happened: list[Event]) -> None:
    """What a pipeline would never do, too: the log is read when something went wrong."""
    once = False
    facts = []
    for number, event in enumerate(happened):
        if isinstance(event, (events.CallStarted, events.ChatStarted)):
            if once:
                continue
            once = True
        facts.append((event, 1000.0 + number))
    for entry in scribbled(facts):
        json.loads(with_seq(1, encode(entry, call="c1", agent="mara")))
