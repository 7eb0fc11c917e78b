"""A page that types with an agent, over the real socket, and what the agent's backend hears of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.agent import AgentConfig
from pipeline.chat import MAX_LINE
from pipeline.llm import ToolCall
from server import chat as chat_module
from server import outbox
from server.backend import MAX_BYTES
from server.threads import ThreadKey, Threads
from tests.pipeline.test_chat import Model
from tests.server.backends import Backend, Frame, House, bearer, house, until

BOOK = {"type": "function", "function": {"name": "book", "description": "", "parameters": {}}}
AGENT = {"llm": "local", "prompt": "Be kind."}


def think(server: House, *answers: Any) -> Model:
    """Let a scripted model answer in every chat."""
    model = Model(answers)

    async def ready(*_: Any) -> None:
        """It is."""

    server.engines.ready = ready  # type: ignore[method-assign]
    server.engines.choose_model = lambda agent: model  # type: ignore[method-assign,assignment,return-value]
    return model


async def chat_token(server: House, org: str = "acme", agent_id: str = "mara", **query: str) -> str:
    status, body = await server.token(org, agent_id, "chat", **query)
    assert status == 200, body
    return str(body["token"])


@asynccontextmanager
async def page(server: House, path: str = "/chat/ws", thread: str = "", **sealed: str) -> AsyncIterator[Backend]:
    """A chat with ``mara`` of acme that has begun: its first frame is still to be read."""
    query = {"token": await chat_token(server, **sealed), **({"thread": thread} if thread else {})}
    address = f"http://localhost:{server.listener.port}{path}"
    async with aiohttp.ClientSession() as client, client.ws_connect(address, params=query) as socket:
        yield Backend(socket)


async def heard(reader: Backend, *names: str) -> list[Frame]:
    """Frames up to one of these names."""
    frames = [await reader.next()]
    while frames[-1]["event"] not in names:
        frames.append(await reader.next())
    return frames


async def say(reader: Backend, text: str) -> list[Frame]:
    await reader.send("message", text=text)
    frames = await heard(reader, "chat.done", "chat.error")
    while frames[-1]["event"] == "chat.done" and not frames[-1]["final"]:
        frames += await heard(reader, "chat.done", "chat.error")
    return frames


def brief(frames: Sequence[Frame], *keys: str) -> list[tuple[Any, ...]]:
    return [tuple(frame[key] for key in ("event", *keys) if key in frame) for frame in frames]


async def test_a_line_from_the_page_to_the_backend_and_back() -> None:
    async with house() as server, server.backend("acme") as backend:
        model = think(server, ["Hello", " you."])
        await backend.create("Mara", **AGENT)
        async with page(server, metadata='{"userId": "u1"}', lang="pt-BR") as browser:
            connected = await browser.next()
            assert brief([connected], "agent") == [("chat.connected", "Mara")]
            chat_id = connected["session_id"]
            assert chat_id.startswith("chat-")
            frames = await say(browser, " Hi ")
            assert brief(frames, "token", "text") == [
                ("chat.token", "Hello", "Hello"),
                ("chat.token", " you.", "Hello you."),
                ("chat.done", "Hello you."),
            ]
            assert len({frame["message_id"] for frame in frames}) == 1
            assert "type" not in frames[-1]
        told = await heard(backend, "llm.chat.ended")
        assert brief(told, "text", "language", "metadata") == [
            ("llm.chat.started", "pt", {"userId": "u1"}),
            ("chat.message", "Hi"),
            ("chat.response", "Hello you."),
            ("llm.chat.ended",),
        ]
        assert {(frame["call_id"], frame["agent_id"]) for frame in told} == {(chat_id, "Mara")}
        assert [message["content"] for message in told[-1]["messages"]] == ["Hi", "Hello you."]
        await until(lambda: not server.hub.running)
        assert model.open == 0


async def test_tools_stand_between_two_segments() -> None:
    call = ToolCall("call_a1", "book", '{"day":"friday"}')
    async with house() as server, server.backend("acme") as backend:
        think(server, ["One moment.", call], "Done.")
        await backend.create("mara", **AGENT, tools=[BOOK])
        async with page(server) as browser:
            await browser.next()
            await browser.send("message", text="Book a table for Friday")
            asked = (await heard(backend, "llm.tool_call"))[-1]
            results = [{"tool_call_id": "call_a1", "result": {"ok": True}}]
            await backend.send("llm.tool_result", call_id=asked["call_id"], msg_id=asked["msg_id"], results=results)
            frames = [await browser.next() for _ in range(6)]
            assert brief(frames, "text", "tool_calls", "name", "result") == [
                ("chat.token", "One moment."),
                ("chat.done", "One moment."),
                ("chat.tool_call", [{"id": "call_a1", "name": "book", "arguments": '{"day":"friday"}'}]),
                ("chat.tool_result", "book", {"ok": True}),
                ("chat.token", "Done."),
                ("chat.done", "Done."),
            ]
            assert frames[3]["tool_call_id"] == "call_a1"
            assert frames[1]["message_id"] != frames[5]["message_id"]


async def test_the_earlier_dialect_gets_one_message_for_each_turn() -> None:
    call = ToolCall("c1", "book", "{}")
    async with house() as server, server.backend("acme") as backend:
        think(server, ["One moment.", call], "Done.", [RuntimeError("no")])
        await backend.create("mara", **AGENT, tools=[BOOK], greeting="Hi!", greetingInChat=True)
        async with page(server) as browser:
            await browser.next()
            greeting = await browser.next()
            assert brief([greeting], "type", "text") == [("chat.done", "bot.message", "Hi!")]
            await browser.socket.send_str('{"type": "user.message", "text": "Book it"}')
            asked = (await heard(backend, "llm.tool_call"))[-1]
            results = [{"tool_call_id": "c1", "result": 1}]
            await backend.send("llm.tool_result", call_id=asked["call_id"], msg_id=asked["msg_id"], results=results)
            frames = await heard(browser, "chat.done")
            assert [(frame["type"], frame["text"]) for frame in frames if "type" in frame] == [
                ("bot.message", "One moment.\nDone.")
            ]
            await browser.socket.send_str('{"type": "user.message", "text": "And now?"}')
            [failed] = await heard(browser, "chat.error")
            assert (failed["type"], failed["error"]) == ("error", "The reply broke")
            await browser.socket.send_str('{"type": "set_context", "key": "cart", "value": "empty"}')
            await browser.socket.send_str('{"type": "user.message", "text": "Still there?"}')
            assert [frame["text"] for frame in await heard(browser, "chat.done") if "type" in frame] == ["I see."]


@pytest.mark.parametrize("path", ["/ws", "//chat/ws"])
async def test_other_ways_to_spell_the_address(path: str) -> None:
    async with house() as server, server.backend("acme") as backend:
        think(server)
        await backend.create("mara", **AGENT)
        async with page(server, path) as browser:
            assert (await browser.next())["event"] == "chat.connected"


async def refused(server: House, **query: str) -> tuple[str, str]:
    async with server.http.ws_connect("/chat/ws", params=query) as socket:
        reader = Backend(socket)
        frame = await reader.next()
        assert (frame["event"], frame["type"]) == ("error", "error")
        code, reason = await reader.closed()
        assert (code, reason) == (1008, frame["error"])
        return frame["code"], frame["error"]


async def test_who_is_not_let_in_is_told_why_after_the_upgrade() -> None:
    async with house() as server:
        async with server.backend("acme") as backend:
            think(server)
            await backend.create("mara", **AGENT)
            bad = ("INVALID_TOKEN", "Invalid or expired token")
            assert await refused(server) == bad
            assert await refused(server, token="cht_nonsense") == bad
            _, body = await server.token("acme", "mara", "webrtc")
            assert await refused(server, token=body["token"]) == bad
            token = await chat_token(server)
            async with server.http.ws_connect("/chat/ws", params={"token": token}) as socket:
                assert (await Backend(socket).next())["event"] == "chat.connected"
            assert await refused(server, token=token) == bad
            late = await chat_token(server)
        await until(lambda: not server.hub.registry.held)
        assert await refused(server, token=late) == ("AGENT_OFFLINE", "Agent 'mara' is not online")


async def test_seats_and_openings_are_limited_and_a_refusal_costs_no_token() -> None:
    async with house(max_chats=1, offer_rate=4) as server, server.backend("acme") as backend:
        think(server)
        await backend.create("mara", **AGENT)
        second = await chat_token(server)
        async with page(server) as browser:
            await browser.next()
            assert (await refused(server, token=second))[0] == "SERVER_AT_CAPACITY"
            assert (await server.token("acme", "mara", "chat"))[0] == 503
            assert (await server.token("acme", "mara", "webrtc"))[0] == 200, "who types takes no place of a call"
            _, health = await server.get("/health")
            assert (health["calls"], health["chats"]) == (0, 1)
        await until(lambda: not server.hub.running)
        async with server.http.ws_connect("/chat/ws", params={"token": second}) as socket:
            assert (await Backend(socket).next())["event"] == "chat.connected"
        await until(lambda: not server.hub.running)
        third = await chat_token(server)
        assert (await refused(server, token="x"))[0] == "INVALID_TOKEN"
        assert await refused(server, token=third) == ("RATE_LIMITED", "Too many chats")


async def test_what_is_wrong_is_told_and_costs_nothing_else() -> None:
    async with house() as server, server.backend("acme") as backend:
        model = think(server)
        await backend.create("mara", **AGENT)
        async with page(server) as browser:
            await browser.next()
            for text in ("no json", "[]", '{"event": 5}', '{"event": []}', "{}", '{"event": "set_context", "key": ""}'):
                await browser.socket.send_str(text)
                assert brief([await browser.next()], "code") in (
                    [("chat.error", "BAD_JSON")],
                    [("chat.error", "BAD_FRAME")],
                )
            await browser.socket.send_bytes(b"\0")
            assert (await browser.next())["code"] == "BAD_FRAME"
            for text, code in (("  ", "BAD_MESSAGE"), (None, "BAD_MESSAGE"), ("x" * 20_000, "MESSAGE_TOO_LONG")):
                await browser.send("message", text=text)
                assert brief([await browser.next()], "code") == [("chat.error", code)]
            await browser.send("nobody.knows")
            await browser.send("set_context", key="cart", value={"eggs": 3})
            assert (await say(browser, "Hi"))[-1]["text"] == "I see."
            assert '### cart\n{"eggs": 3}' in model.asked[0][0]["content"]
            await browser.socket.send_str("x" * (chat_module.MAX_FRAME + 1))
            code, _ = await browser.closed()
            assert code == 1009


async def test_no_visitor_can_say_so_much_that_the_backend_is_sent_away() -> None:
    """The end of a chat tells all that was said, in a frame that the connection of the backend has to hold."""
    async with house() as server, server.backend("acme") as backend:
        think(server)
        await backend.create("mara", **AGENT)
        async with page(server) as browser:
            await browser.next()
            line = json.dumps({"event": "message", "text": "\u6f22" * MAX_LINE}, ensure_ascii=False)
            for _ in range(MAX_BYTES // (6 * MAX_LINE) + 1):
                await browser.socket.send_str(line)
                await heard(browser, "chat.done")
                await heard(backend, "chat.response")
        ended = (await heard(backend, "llm.chat.ended"))[-1]
        assert (ended["reason"], ended["messages"][-1]["content"]) == ("closed", "I see.")


async def test_hanging_up_ends_the_line_that_was_waited_for() -> None:
    async with house() as server, server.backend("acme") as backend:
        think(server, ["Well", *[","] * 1000])
        await backend.create("mara", **AGENT)
        async with page(server) as browser:
            await browser.next()
            await browser.send("message", text="Tell me all")
            await heard(browser, "chat.token")
            call_id = (await heard(backend, "chat.message"))[-1]["call_id"]
            await backend.send("call.hangup", call_id=call_id)
            frames = await heard(browser, "chat.error")
            assert frames[-1]["code"] == "CHAT_ENDED"
            assert await browser.closed() == (1000, "hangup")
        assert (await heard(backend, "llm.chat.ended"))[-1]["reason"] == "hangup"


async def test_a_frame_that_is_refused_ends_nothing_but_itself() -> None:
    """Neither the answer that is being written, nor what is owed when the chat ends; in either dialect."""
    async with house() as server, server.backend("acme") as backend:
        for dialect, line in (("event", "message"), ("type", "user.message")):
            think(server, ["Well", *[","] * 1000])
            await backend.create(f"mara-{dialect}", **AGENT)
            token = await chat_token(server, agent_id=f"mara-{dialect}")
            async with server.http.ws_connect("/chat/ws", params={"token": token}) as socket:
                page = Backend(socket)
                await page.next()
                await socket.send_str(json.dumps({dialect: line, "text": "Tell me all"}))
                await heard(page, "chat.token")
                await socket.send_str("nonsense")
                assert (await heard(page, "chat.error"))[-1]["code"] == "BAD_FRAME"
                await socket.send_str(json.dumps({dialect: line, "text": "x" * 20_000}))
                assert (await heard(page, "chat.error"))[-1]["code"] == "MESSAGE_TOO_LONG"
                assert (await page.next())["event"] == "chat.token", "it goes on"
                for session in server.hub.calls.values():
                    session.hangup("hangup")
                assert (await heard(page, "chat.error"))[-1]["code"] == "CHAT_ENDED"
            await heard(backend, "llm.chat.ended")


async def test_a_server_that_leaves_says_so() -> None:
    async with house() as server, server.backend("acme") as backend:
        think(server)
        await backend.create("mara", **AGENT)
        async with page(server) as browser:
            await browser.next()
            await server.hub.hang_up_all()
            assert await browser.closed() == (1001, "server_shutdown")


async def test_the_backend_answers_and_speaks_up_itself() -> None:
    async with house() as server, server.backend("acme") as backend:
        await backend.create("mara", prompt="I answer myself")
        async with page(server) as browser:
            await browser.next()
            started = (await heard(backend, "llm.chat.started"))[-1]
            call_id = started["call_id"]
            await backend.send("bot.reply", call_id=call_id, message_id="m1", text="Welcome!", in_reply_to="")
            assert brief(await heard(browser, "chat.done"), "message_id", "text") == [("chat.done", "m1", "Welcome!")]
            confirmed = await heard(backend, "bot.finished")
            assert brief(confirmed, "message_id", "text") == [
                ("message.confirmed", "m1", "Welcome!"),
                ("bot.finished", "m1", "Welcome!"),
            ]
            await browser.send("message", text="Hi")
            asked = (await heard(backend, "turn.end"))[-1]
            stream = {"call_id": call_id, "message_id": "m2"}
            await backend.send("bot.reply.stream", **stream, action="start", in_reply_to=asked["message_id"])
            for token in ("Good", " day."):
                await backend.send("bot.reply.stream", **stream, action="chunk", token=token)
            await backend.send("bot.reply.stream", **stream, action="end")
            assert brief(await heard(browser, "chat.done"), "text") == [
                ("chat.token", "Good"),
                ("chat.token", "Good day."),
                ("chat.done", "Good day."),
            ]


async def test_a_thread_goes_on_for_who_may_know_it() -> None:
    async with house() as server, server.backend("acme") as backend:
        model = think(server)
        await backend.create("mara", **AGENT, greeting="Hi!", greetingInChat=True)

        async def first_frames(thread: str = "", **sealed: str) -> list[str]:
            async with page(server, thread=thread, **sealed) as browser:
                frames = await heard(browser, "chat.connected")
                frames += await heard(browser, "chat.history", "chat.done")
                texts = [frame.get("text") or [line["text"] for line in frame["messages"]] for frame in frames[1:]]
                await say(browser, "And?")
            await until(lambda: not server.hub.running)
            return texts

        assert await first_frames("t1") == ["Hi!"]
        assert await first_frames("t1") == [["Hi!", "And?", "I see."]]
        assert [message["role"] for message in model.asked[-1]] == ["system", "assistant", "user", "assistant", "user"]
        assert await first_frames("t2") == ["Hi!"]
        assert await first_frames() == ["Hi!"]
        sealed = {"metadata": '{"threadId": "t1"}'}
        assert await first_frames(**sealed) == ["Hi!"], "what a page can name is not what a backend has sealed"
        assert await first_frames("t2", **sealed) == [["Hi!", "And?", "I see."]], "the sealed one wins"
        async with server.backend("acme") as second:
            await second.create("nora", **AGENT)
            token = await chat_token(server, agent_id="nora")
            async with server.http.ws_connect("/chat/ws", params={"token": token, "thread": "t1"}) as socket:
                other = Backend(socket)
                await other.next()
                assert brief(await say(other, "Hi"), "text") == [("chat.token", "I see."), ("chat.done", "I see.")]


async def test_threads_outlive_the_server_and_are_forgotten_in_the_end(tmp_path: Path) -> None:
    file, key = tmp_path / "data" / "threads.sqlite", ThreadKey("acme", "mara", "t1")
    lines = [{"role": "user", "content": "á" * 100_000}, {"role": "assistant", "content": "b" * 100_000}]
    threads = Threads(file)
    await threads.save(key, lines)
    await threads.aclose()
    assert file.stat().st_mode & 0o077 == 0
    threads = Threads(file)
    assert await threads.load(key) == lines
    assert await threads.load(key._replace(org="globex")) == []
    await threads.save(key, lines * 2)
    assert await threads.load(key) == lines, "the beginning of what is too long is forgotten"
    await threads.aclose()
    threads = Threads(file, days=0)
    assert await threads.load(key) == []
    await threads.aclose()
    broken = Threads(tmp_path / "data" / "threads.sqlite" / "no folder")
    await broken.save(key, lines)
    assert await broken.load(key) == []
    await broken.aclose()


async def test_a_long_thread_is_kept_without_keeping_the_calls_waiting() -> None:
    threads, key = Threads(None), ThreadKey("acme", "mara", "t1")
    lines = [{"role": role, "content": f"{n} {role}"} for n in range(20_000) for role in ("user", "assistant")]
    loop = asyncio.get_running_loop()
    began = loop.time()
    await threads.save(key, lines)
    assert loop.time() - began < 5, "the time grows with the thread, not with its square"
    kept = await threads.load(key)
    assert (kept[0]["role"], kept[-1]) == ("user", lines[-1])
    assert kept == lines[-len(kept) :]
    await threads.aclose()


async def test_a_page_without_a_key_and_one_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "CLOSE_SECONDS", 0.1)
    monkeypatch.setattr(chat_module, "MAX_BYTES", 200_000)
    declared, _ = AgentConfig.parse("demo", {**AGENT, "allowed_origins": ["https://page.example"]})
    async with house(declared) as server:
        think(server, *[["x" * 10_000] * 10] * 5)
        origin = {"Origin": "https://page.example"}
        _, body = await server.get("/chat/token", origin, agent_id="demo")
        async with server.http.ws_connect("/chat/ws", params={"token": body["token"]}) as socket:
            deaf = Backend(socket)
            await deaf.next()
            socket._conn.transport.pause_reading()  # type: ignore[union-attr]
            for _ in range(5):
                await deaf.send("message", text="Go on")
            await until(lambda: not server.hub.running)


LINES = st.sampled_from(["hello", "", "x" * 17_000, None, 7, "\ud800"])
FRAMES = st.one_of(
    st.fixed_dictionaries({"event": st.sampled_from(["message", "set_context", "x", []]), "text": LINES, "key": LINES}),
    st.fixed_dictionaries({"type": st.sampled_from(["user.message", "message", "y", {}]), "text": LINES}),
    st.recursive(
        st.none() | st.booleans() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    ),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(FRAMES, max_size=12))
def test_any_frames_are_survived_and_a_line_after_them_is_answered(frames: list[Any]) -> None:
    async def main() -> None:
        declared, _ = AgentConfig.parse("mara", AGENT)
        async with house(declared) as server:
            model = think(server)
            _, body = await server.get("/chat/token", bearer("default"), agent_id="mara")
            async with server.http.ws_connect("/chat/ws", params={"token": body["token"]}) as socket:
                browser = Backend(socket)
                await browser.next()
                for frame in frames:
                    await socket.send_str(json.dumps(frame))
                await browser.send("message", text="last", type="user.message")
                while not model.asked or model.asked[-1][-1]["content"] != "last":
                    await heard(browser, "chat.done", "chat.error")
                await socket.close()
            await until(lambda: not server.hub.running)

    asyncio.run(main())
