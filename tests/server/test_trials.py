"""``llm.chat``: lines that a backend writes to an agent over the control socket."""

from __future__ import annotations

from typing import Any

from pipeline.llm import ToolCall
from tests.server.backends import house, until
from tests.server.test_chat import AGENT, BOOK, brief, heard, think

SESSION = {"session_id": "chat-m1-9x", "agent_id": "mara"}


async def test_who_tries_and_who_serves_an_agent_are_two() -> None:
    call = ToolCall("c1", "book", '{"day": 5}')
    async with house() as server, server.backend("acme") as owner, server.backend("acme") as asker:
        think(server, ["One moment.", call], ["Do", "ne."], "Bye.")
        await owner.create("Mara", **AGENT, tools=[BOOK], greeting="Hi!", greetingInChat=True)
        await asker.send("llm.chat", **SESSION, text=" Book it ", metadata={"console": True})
        asked = (await heard(owner, "llm.tool_call"))[-1]
        results = [{"tool_call_id": "c1", "result": {"ok": True}}]
        await owner.send("llm.tool_result", call_id=asked["call_id"], msg_id=asked["msg_id"], results=results)
        frames = await heard(asker, "llm.chat.done")
        assert brief(frames, "token", "text", "name", "result") == [
            ("llm.chat.started",),
            ("chat.done", "Hi!"),
            ("llm.chat.token", "One moment.", "One moment."),
            ("llm.chat.tool_call",),
            ("llm.chat.tool_result", "book", '{"ok": true}'),
            ("llm.chat.token", "Do", "Do"),
            ("llm.chat.token", "ne.", "Done."),
            ("llm.chat.done", "One moment.\nDone."),
        ]
        ids = {"agent_id": "mara", "session_id": "chat-m1-9x", "call_id": "chat-m1-9x"}
        assert all(ids.items() <= frame.items() for frame in frames)
        assert (frames[0]["model"], frames[-1]["model"]) == ("scripted", "scripted")
        assert frames[3]["tool_calls"] == [{"id": "c1", "name": "book", "arguments": '{"day": 5}'}]
        await asker.send("llm.chat", **SESSION, text="Thanks")
        assert brief(await heard(asker, "llm.chat.done"), "text")[-1] == ("llm.chat.done", "Bye.")
        await asker.socket.close()
        told = await heard(owner, "llm.chat.ended")
        assert (told[-1]["reason"], told[-1]["call_id"]) == ("closed", "chat-m1-9x")
        await until(lambda: not server.hub.running)


async def test_who_serves_an_agent_may_try_it_and_hears_of_one_session() -> None:
    async with house() as server, server.backend("acme") as backend:
        think(server, "Hello.", [RuntimeError("no")], "Back.")
        await backend.create("mara", **AGENT)
        await backend.send("llm.chat", **SESSION, text="Hi", metadata={"console": True})
        frames = await heard(backend, "llm.chat.done")
        started = [frame for frame in frames if frame["event"] == "llm.chat.started"]
        assert brief(started, "metadata", "model", "language") == [
            ("llm.chat.started", {"console": True}, "scripted", "en")
        ]
        assert {frame["event"] for frame in frames} == {
            "llm.chat.started",
            "chat.message",
            "llm.chat.token",
            "llm.chat.done",
        }
        assert (await backend.next())["event"] == "chat.response"
        await backend.send("llm.chat", **SESSION, text="Fail")
        assert (await heard(backend, "chat.error"))[-1]["error"] == "The reply broke"
        await backend.send("llm.chat", **SESSION, text="Again")
        assert (await heard(backend, "llm.chat.done"))[-1]["text"] == "Back.", "the session was not ended by that"


async def test_a_line_that_waits_ends_with_its_session() -> None:
    async with house() as server, server.backend("acme") as owner, server.backend("acme") as asker:
        think(server)
        await owner.create("mara", **AGENT, preparing={"timeout_ms": 5000})
        await asker.send("llm.chat", **SESSION, text="Hi")
        await heard(owner, "llm.before")
        await owner.send("call.hangup", call_id="chat-m1-9x")
        frames = await heard(asker, "llm.chat.error")
        assert brief(frames, "error") == [("llm.chat.started",), ("llm.chat.error", "The session has ended")]


async def test_every_refusal_is_what_clients_wait_for() -> None:
    async with house(agent_max_calls=2) as server, server.backend("acme") as owner, server.backend("acme") as asker:
        think(server)
        await owner.create("mara", **AGENT)

        async def refused(**fields: Any) -> str:
            frame = await asker.ask("llm.chat", **{**SESSION, "text": "Hi"} | fields)
            assert frame["event"] == "llm.chat.error"
            assert frame["session_id"] == (fields.get("session_id", "chat-m1-9x") or "")
            return str(frame["error"])

        assert await refused(agent_id="nobody") == "Agent 'nobody' is not online"
        assert await refused(text=None) == "text: expected a line"
        assert await refused(session_id="") == "session_id: expected a text of at most 200 characters"
        assert await refused(metadata=[1]) == "metadata must be a JSON object"
        await owner.send("llm.chat", **SESSION, text="Hi")
        await heard(owner, "llm.chat.done")
        assert await refused() == "a session of this id is running"
        assert await refused(text="x" * 20_000) == "a session of this id is running"
        await asker.send("llm.chat", **SESSION | {"session_id": "chat-2"}, text="x" * 20_000)
        frames = await heard(asker, "llm.chat.error")
        assert frames[-1]["error"] == "A message has at most 16384 characters"
        assert "capacity" in await refused(session_id="chat-3")


async def test_a_session_of_another_organisation_cannot_be_reached() -> None:
    async with house() as server, server.backend("acme") as owner, server.backend("globex") as other:
        think(server)
        await owner.create("mara", **AGENT)
        assert (await other.ask("llm.chat", **SESSION, text="Hi"))["error"] == "Agent 'mara' is not online"
        await other.create("mara", **AGENT)
        await owner.send("llm.chat", **SESSION, text="Hi")
        await heard(owner, "llm.chat.done")
        await other.send("llm.chat", **SESSION, text="Hi")
        assert (await heard(other, "llm.chat.done"))[-1]["text"] == "I see.", "the same id, another session"
        assert server.hub.running == 2
