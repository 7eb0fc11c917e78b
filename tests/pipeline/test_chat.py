"""Chats in virtual time: every line of the user has exactly one end, whoever answers it and whatever goes wrong."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, cast

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.agent import AgentConfig
from pipeline import messages
from pipeline.chat import IDLE_SECONDS, MAX_WAITING, Chat
from pipeline.engine import EngineError, Engines
from pipeline.llm import Delta, GenerateOptions, Message, TextDelta, ToolCall
from pipeline.messages import MAX_WAITING as MAX_STREAMS
from tests import virtual_time
from tests.pipeline.scripted import Log

BOOK = {"type": "function", "function": {"name": "book", "description": "", "parameters": {}}}


class Model:
    """Writes ``answers`` one after another, piece by piece; what is no text is yielded or raised as it is."""

    name = "scripted"

    def __init__(self, answers: Sequence[Any]) -> None:
        self.answers = deque(answers)
        self.asked: list[list[Message]] = []
        self.offered: list[list[str]] = []
        self.open = 0

    async def generate(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], options: GenerateOptions
    ) -> AsyncIterator[Delta]:
        self.asked.append(list(messages))
        self.offered.append([tool["function"]["name"] for tool in tools])
        answer = self.answers.popleft() if self.answers else "I see."
        self.open += 1
        try:
            for piece in [answer] if isinstance(answer, str) else answer:
                await asyncio.sleep(0.1)
                if isinstance(piece, Exception):
                    raise piece
                yield TextDelta(piece, self.name) if isinstance(piece, str) else piece
        finally:
            self.open -= 1


class Room:
    """A chat, and both ends of it."""

    def __init__(self, *answers: Any, attended: bool = True, history: Sequence[Message] = (), **agent: Any) -> None:
        self.model = Model(answers)
        config, problems = AgentConfig.parse("mara", {"llm": "local"} | agent)
        assert not problems
        self.log = Log(asyncio.get_running_loop().time)
        self.replies: list[dict[str, Any]] = []
        self.chat = Chat(
            id="chat-1",
            agent=config,
            engines=cast(Engines, self),
            publish=self.log.publish,
            metadata={"user": "u1"},
            history=history,
        )
        self.chat.attend(attended)
        self.chat.start()

    async def ready(self, agent: AgentConfig, kinds: object) -> None:
        """``Engines.ready``."""

    def choose_model(self, agent: AgentConfig) -> Model:
        """``Engines.choose_model``."""
        return self.model

    def command(self, event: str, **fields: Any) -> None:
        self.chat.command({"event": event, "call_id": "chat-1", **fields}, self.replies.append)

    async def event(self, name: str, count: int = 1) -> Any:
        async with asyncio.timeout(200):
            while len(self.log.all(name)) < count:
                await asyncio.sleep(0.01)
        return self.log.all(name)[count - 1]

    async def say(self, text: str) -> None:
        """Write a line and wait for its end."""
        ends = len(self.ends)
        self.chat.write(text)
        async with asyncio.timeout(200):
            while len(self.ends) == ends:
                await asyncio.sleep(0.01)

    @property
    def ends(self) -> list[Any]:
        return [event for _, event in self.log.events if event.name == "chat.error" or getattr(event, "final", False)]

    def shown(self) -> list[str]:
        return [event.text for event in self.log.all("chat.done")]

    def history(self) -> list[tuple[str, str]]:
        [ended] = self.log.all("llm.chat.ended")
        return [(message["role"], message["content"]) for message in ended.messages]


def chat(*answers: Any, **agent: Any) -> Callable[[Callable[[Room], Awaitable[None]]], Room]:
    def run(scene: Callable[[Room], Awaitable[None]]) -> Room:
        async def main() -> Room:
            room = Room(*answers, **agent)
            await scene(room)
            room.chat.hangup("closed")
            await room.chat.wait_ended()
            assert room.model.open == 0
            names = [event.name for _, event in room.log.events]
            assert names[0] == "llm.chat.started"
            assert names[-1] == "llm.chat.ended"
            return room

        return virtual_time.run(main())

    return run


def test_a_line_is_answered_piece_by_piece() -> None:
    async def scene(room: Room) -> None:
        await room.say("  Hi there ")

    room = chat(["Hello", " you."], prompt="Be kind.")(scene)
    assert room.log.names() == [
        "llm.chat.started",
        "chat.message",
        "chat.token",
        "llm.response",
        "chat.done",
        "chat.response",
        "llm.chat.ended",
    ]
    tokens = room.log.all("chat.token")
    assert [(token.token, token.text) for token in tokens] == [("Hello", "Hello"), (" you.", "Hello you.")]
    [done] = room.log.all("chat.done")
    assert {token.message_id for token in tokens} == {done.message_id}
    assert room.history() == [("user", "Hi there"), ("assistant", "Hello you.")]
    assert "You are writing in a chat" in room.model.asked[0][0]["content"]
    [started] = room.log.all("llm.chat.started")
    assert (started.language, started.metadata) == ("en", {"user": "u1"})


def test_lines_are_answered_one_after_another() -> None:
    async def scene(room: Room) -> None:
        for number in range(MAX_WAITING + 1):
            room.chat.write(f"line {number}")
        await room.event("chat.done", MAX_WAITING)

    room = chat()(scene)
    [error] = room.log.all("chat.error")
    assert error.code == "TOO_MANY_MESSAGES"
    names = [event.name for _, event in room.log.events if event.name in ("chat.message", "chat.done")]
    assert names == ["chat.message", "chat.done"] * MAX_WAITING


def test_the_greeting_is_shown_only_when_it_is_wished_and_nobody_comes_back() -> None:
    async def scene(room: Room) -> None:
        await asyncio.sleep(0.1)
        await room.say("Hi.")

    assert chat("Yes?", greeting="Welcome, {{name}}!", vars={"name": "Ana"}, greetingInChat=True)(scene).shown() == [
        "Welcome, Ana!",
        "Yes?",
    ]
    assert chat("Yes?", greeting="Welcome!")(scene).shown() == ["Yes?"]
    before = [{"role": "user", "content": "Book it."}, {"role": "assistant", "content": "Done."}]
    again = chat("Yes?", greeting="Welcome!", greetingInChat=True, history=before)(scene)
    assert again.shown() == ["Yes?"]
    assert [message["content"] for message in again.model.asked[0][1:]] == ["Book it.", "Done.", "Hi."]


def test_a_tool_between_two_segments() -> None:
    async def scene(room: Room) -> None:
        room.chat.write("Book a table.")
        call = await room.event("llm.tool_call")
        assert json.loads(call.tool_calls[0]["arguments"]) == {"day": "friday"}
        room.chat.write("And hurry.")
        room.command("bot.reply", message_id="m1", text="Looking it up.", in_reply_to="")
        result = {"tool_call_id": call.tool_calls[0]["id"], "result": {"ok": True}}
        room.command("llm.tool_result", msg_id=call.msg_id, results=[result])
        await room.event("chat.done", 4)

    answers = (["One moment.", ToolCall("a", "book", '{"day":"friday"}')], "Done.", "Sure.")
    room = chat(*answers, tools=[BOOK])(scene)
    assert room.shown() == ["One moment.", "Looking it up.", "Done.", "Sure."]
    assert [event.final for event in room.log.all("chat.done")] == [False, False, True, True]
    assert len({event.message_id for event in room.log.all("chat.done")}) == 4
    assert [text for _, text in room.history()] == [
        "Book a table.",
        "One moment.",
        "",
        '{"ok": true}',
        "Looking it up.",
        "Done.",
        "And hurry.",
        "Sure.",
    ]
    assert [event.message_id for event in room.log.all("bot.finished")] == ["m1"]
    assert "Looking it up." not in str(room.model.asked)
    assert room.model.offered[0] == ["book"]


def test_a_round_that_wants_no_answer_ends_the_turn_all_the_same() -> None:
    async def scene(room: Room) -> None:
        room.chat.write("Play music.")
        call = await room.event("llm.tool_call")
        row = {"tool_call_id": call.tool_calls[0]["id"], "no_followup": True}
        room.command("llm.tool_result", msg_id=call.msg_id, results=[row])
        await room.event("chat.done")

    room = chat([ToolCall("a", "book", "")], tools=[BOOK])(scene)
    assert [(event.text, event.final) for event in room.log.all("chat.done")] == [("", True)]
    assert room.log.all("llm.tool_call")[0].tool_calls[0]["arguments"] == "{}"


def test_a_model_that_fails_leaves_the_chat_usable() -> None:
    async def scene(room: Room) -> None:
        await room.say("One.")
        await room.say("Two.")
        await room.say("Three.")

    room = chat(["Wel", EngineError("the model broke")], [RuntimeError("a secret")], "Fine.")(scene)
    assert [(event.error, event.code) for event in room.log.all("chat.error")] == [
        ("the model broke", "LLM_FAILED"),
        ("The reply broke", "INTERNAL"),
    ]
    assert room.shown() == ["Fine."]


def test_half_a_character_is_no_text() -> None:
    """Some servers cut what they send in the middle of one."""

    async def scene(room: Room) -> None:
        await room.say("Hi")
        await room.say("Book it")

    call = ToolCall("a", "book", '{"day": "\ud83d\ude00"}')
    room = chat(["Hel\ud83d", "\ude00lo", " \udc00you\ud83d"], [call], tools=[BOOK], attended=False)(scene)
    assert room.shown()[0] == "Hel\N{GRINNING FACE}lo \ufffdyou"
    assert [event.token for event in room.log.all("chat.token")][:3] == ["Hel", "\N{GRINNING FACE}lo", " \ufffdyou"]
    json.dumps(room.model.asked[-1], ensure_ascii=False).encode()


def test_a_backend_that_answers_itself() -> None:
    async def scene(room: Room) -> None:
        room.chat.write("Hi.")
        end = await room.event("turn.end")
        room.command("bot.reply.stream", action="start", message_id="r1", in_reply_to=end.message_id)
        for token in ("Hello", " there."):
            room.command("bot.reply.stream", action="chunk", message_id="r1", token=token)
        room.command("bot.reply.stream", action="end", message_id="r1")
        await room.event("chat.done")
        room.command("bot.reply", message_id="r2", text="Late.", in_reply_to="another")
        room.command("bot.reply", message_id="r1", text="Twice.", in_reply_to="")
        await room.say("Are you there?")

    room = chat(llm={"enabled": False})(scene)
    assert [token.text for token in room.log.all("chat.token")] == ["Hello", "Hello there."]
    assert room.shown() == ["Hello there."]
    [rejected] = room.log.all("reply.rejected")
    assert (rejected.message_id, rejected.in_reply_to) == ("r2", "another")
    assert [reply["code"] for reply in room.replies] == ["BAD_COMMAND"]
    [error] = room.log.all("chat.error")
    assert error.error == "No answer came in time"
    assert room.log.at("chat.error") > 30


def test_a_person_takes_over() -> None:
    async def scene(room: Room) -> None:
        room.command("session.pause", session_id="chat-1")
        await room.say("Are you a robot?")
        room.command("session.send", session_id="chat-1", text="No, I am Eva.")
        room.command("session.resume", session_id="chat-1")
        await room.say("Good.")

    room = chat("Indeed.")(scene)
    assert room.shown() == ["", "No, I am Eva.", "Indeed."]
    assert [text for _, text in room.history()] == ["Are you a robot?", "No, I am Eva.", "Good.", "Indeed."]
    assert [reply["event"] for reply in room.replies] == ["session.paused", "session.sent", "session.resumed"]


def test_what_the_backend_says_waits_for_the_end_of_an_answer() -> None:
    async def scene(room: Room) -> None:
        room.chat.write("Hi.")
        await room.event("chat.token")
        room.command("bot.reply", message_id="m1", text="Your taxi is here.", add_to_history=True)
        await room.event("bot.finished")
        room.command("bot.reply", message_id="m2", text="  ")

    room = chat(["Let", " me", " see."])(scene)
    assert room.shown() == ["Let me see.", "Your taxi is here."]
    [dropped] = room.log.all("bot.interrupted")
    assert (dropped.message_id, dropped.reason) == ("m2", "cancelled")


def test_a_tool_may_be_called_like_those_of_skills_when_there_are_none() -> None:
    async def scene(room: Room) -> None:
        room.chat.write("Load it.")
        asked = await room.event("llm.tool_call")
        assert [call["name"] for call in asked.tool_calls] == ["loadSkill"]
        results = [{"tool_call_id": "c1", "result": "loaded"}]
        room.command("llm.tool_result", msg_id=asked.msg_id, results=results)
        await room.event("chat.done")

    tool = {"type": "function", "function": {"name": "loadSkill", "description": "", "parameters": {}}}
    room = chat([ToolCall("c1", "loadSkill", "{}")], "Done.", tools=[tool])(scene)
    assert room.shown() == ["Done."]


def test_only_so_much_waits_for_the_end_of_an_answer() -> None:
    async def scene(room: Room) -> None:
        room.chat.write("Tell me all")
        await room.event("chat.token")
        for number in range(2 * messages.MAX_WAITING):
            room.command("session.send", text=str(number))
        await room.event("chat.done", 1 + messages.MAX_WAITING)

    room = chat(["Well", *[","] * 20])(scene)
    assert room.shown()[1:] == [str(number) for number in range(messages.MAX_WAITING)]
    errors = [reply["error"] for reply in room.replies if reply["event"] == "error"]
    assert errors == ["at most 64 messages may be written at once"] * messages.MAX_WAITING


def test_streams_that_are_never_ended_make_room_after_a_while() -> None:
    async def scene(room: Room) -> None:
        for number in range(MAX_STREAMS + 1):
            room.command("bot.reply.stream", action="start", message_id=f"s{number}", in_reply_to="")
        assert [reply["error"] for reply in room.replies] == [f"at most {MAX_STREAMS} messages may be written at once"]
        await asyncio.sleep(31)
        room.command("bot.reply", message_id="m1", text="At last.", in_reply_to="")
        await room.event("bot.finished")

    room = chat()(scene)
    assert room.shown() == ["At last."]
    assert len(room.log.all("bot.interrupted")) == MAX_STREAMS + 1


def test_who_takes_over_while_the_model_writes_ends_its_line_there() -> None:
    async def scene(room: Room) -> None:
        room.chat.write("Tell me all.")
        await room.event("chat.token", 2)
        room.command("session.pause", session_id="chat-1")
        await room.event("chat.done")
        room.command("session.send", session_id="chat-1", text="I am Ana.")
        await room.say("Hello?")

    room = chat(["Well,", " there", " is", " a lot."])(scene)
    assert room.shown() == ["Well, there", "I am Ana.", ""]
    assert room.model.open == 0
    assert len(room.model.asked) == 1


def test_cancelling_an_answer_ends_the_turn() -> None:
    async def scene(room: Room) -> None:
        room.chat.write("Tell me a story.")
        await room.event("chat.token", 2)
        room.command("bot.cancel")
        await room.event("chat.done")
        await room.say("Thanks.")

    room = chat(["Once", " upon", " a time"], "Bye.")(scene)
    assert room.shown() == ["Once upon", "Bye."]


def test_the_barrier_is_for_those_who_asked_for_it() -> None:
    async def scene(room: Room) -> None:
        if room.chat._mind.agent.preparing:
            await room.event("llm.before")
            room.command("history.set_vars", vars={"name": "Ana"}, request_id="rq_1")
            room.command("llm.ready", turn=0)
        room.chat.write("Hi.")
        if room.chat._mind.agent.preparing:
            await room.event("llm.before", 2)
            room.command("llm.ready", turn=1)
        await room.event("chat.done")

    asked = chat("Hello.", prompt="The user is {{name}}.", preparing=True)(scene)
    assert [event.turn for event in asked.log.all("llm.before")] == [0, 1]
    assert "The user is Ana." in asked.model.asked[0][0]["content"]
    assert asked.replies == [{"event": "history.updated", "count": 0, "call_id": "chat-1", "request_id": "rq_1"}]
    assert not asked.log.all("llm.preparing_timeout")
    assert chat("Hello.")(scene).log.all("llm.before") == []


def test_an_idle_chat_ends() -> None:
    async def scene(room: Room) -> None:
        await room.say("Hi.")
        async with asyncio.timeout(IDLE_SECONDS + 60):
            await room.chat.wait_ended()

    room = chat("Hello.")(scene)
    assert room.log.all("llm.chat.ended")[0].reason == "idle_timeout"


TEXTS = st.sampled_from(["", "hello", "m1", "m2", "\ud800", "x" * 40_000])
FRAMES = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(["hello", "", "  "])),
    st.tuples(st.just("wait"), st.sampled_from([0.05, 0.3, 31.0])),
    st.tuples(
        st.sampled_from(
            [
                "bot.reply",
                "bot.reply.stream",
                "bot.cancel",
                "session.pause",
                "session.resume",
                "session.send",
                "llm.tool_result",
                "llm.ready",
                "history.set",
                "session.configure",
                "skill.load",
                "nonsense",
            ]
        ),
        st.fixed_dictionaries(
            {},
            optional={
                "message_id": TEXTS,
                "text": TEXTS | st.none() | st.integers(),
                "token": TEXTS,
                "action": st.sampled_from(["start", "chunk", "end", "?"]),
                "in_reply_to": TEXTS,
                "messages": st.just([{"role": "user", "content": "x"}]) | st.integers(),
                "results": st.just([]) | st.none(),
                "llm": st.sampled_from(["local", {"enabled": False}, 5]),
            },
        ),
    ),
)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.sampled_from(["Fine.", ["a", "b"], [EngineError("broke")], [ToolCall("a", "book", "{}")]]), max_size=6),
    st.lists(FRAMES, max_size=25),
)
def test_any_sequence_of_frames(answers: list[Any], frames: list[tuple[str, Any]]) -> None:
    async def scene(room: Room) -> None:
        for name, value in frames:
            match name:
                case "write":
                    room.chat.write(value)
                case "wait":
                    await asyncio.sleep(value)
                case _:
                    room.command(name, **value)
        await asyncio.sleep(300)

    room = chat(*answers, tools=[BOOK])(scene)
    assert len(room.ends) >= len(room.log.all("chat.message"))
    ended = [event.message_id for name in ("bot.finished", "bot.interrupted") for event in room.log.all(name)]
    assert len(ended) == len(set(ended))
    turn_open = False
    for _, event in room.log.events:
        if event.name == "chat.message":
            assert not turn_open
            turn_open = True
        elif event.name == "chat.error" or getattr(event, "final", False):
            turn_open = False
    assert not turn_open
