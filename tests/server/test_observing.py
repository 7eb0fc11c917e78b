"""Watching calls: over HTTP and over sockets, from any cursor, by those who may."""

from __future__ import annotations

import asyncio
import json
import logging
import socket as sockets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest
import redis
from aiohttp import web

from config.agent import AgentConfig
from pipeline import events
from server import observing
from server.feed import Feed
from server.log_store import LogKey, StoreError
from server.observer import MAX_UNSENT, Pipe
from server.registry import AgentKey
from tests.redis_server import RedisServer
from tests.server.backends import SECONDS, House, bearer, house, until
from tests.server.sockets import visiting
from tests.server.test_chat import page, say, think

MARA, LEO, THEIRS = AgentKey("acme", "mara"), AgentKey("acme", "leo"), AgentKey("globex", "mara")


class Session:
    """A call as the pipeline tells of it."""

    def __init__(self, server: House, key: AgentKey, call_id: str) -> None:
        self.id = call_id
        self.publish = Feed(call_id, server.log.sink(key, call_id)).publish
        self.words = 0

    def start(self, **metadata: str) -> Session:
        self.publish(events.CallStarted(language="en", metadata=metadata))
        return self

    def partial(self, text: str) -> None:
        self.publish(events.UserSpeaking(turn_id=1, text=text, confidence=1.0, message_id="u1"))

    def hear(self, text: str) -> None:
        self.publish(events.UserMessage(turn_id=1, message_id="u1", text=text, confidence=1.0, lag_ms=20))
        ended = events.TurnEnd(turn_id=1, message_id="u1", text=text, probability=1.0, latency_ms=10)
        self.publish(ended)

    def say(self, text: str) -> None:
        self.words += 1
        message_id = f"b{self.words}"
        self.publish(events.BotSpeaking(message_id=message_id, text=""))
        for index, word in enumerate(text.split()):
            timed = {"start_time": float(index), "end_time": index + 1.0}
            self.publish(events.BotWord(message_id=message_id, word=word, word_index=index, **timed))
        self.publish(events.BotFinished(message_id=message_id, duration_ms=5, text=text))

    def end(self) -> None:
        ended = {"started_at": 1.0, "ended_at": 3.0, "duration_seconds": 2.0}
        self.publish(events.CallEnded(reason="hangup", **ended))


class Observer:
    """A reader as the public clients are."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.texts: list[str] = []

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(SECONDS):
            message = await self.socket.receive()
        assert message.type is aiohttp.WSMsgType.TEXT, (message, self.socket.close_code)
        self.texts.append(message.data)
        frame = json.loads(message.data)
        assert isinstance(frame, dict)
        return frame

    async def until(self, kind: str) -> list[dict[str, Any]]:
        frames = [await self.next()]
        while frames[-1].get("type") != kind:
            frames.append(await self.next())
        return frames

    async def closed(self) -> tuple[int | None, str]:
        async with asyncio.timeout(SECONDS):
            message = await self.socket.receive()
        assert message.type is aiohttp.WSMsgType.CLOSE, message
        return message.data, message.extra

    async def refused(self) -> str:
        frame = await self.next()
        assert "type" not in frame, "a client would take it for an entry"
        assert (await self.closed())[0] == 1000
        return str(frame["error"])


async def token(server: House, agents: str = "mara", org: str = "acme", **query: str) -> str:
    status, body = await server.token(org, agents, "stream", **query)
    assert status == 200, body
    return str(body["token"])


@asynccontextmanager
async def watching(
    server: House, path: str = "/v1/attach", headers: Mapping[str, str] | None = None, **query: object
) -> AsyncIterator[Observer]:
    asked = {name: str(value) for name, value in query.items()}
    async with server.http.ws_connect(path, params=asked, headers=headers, max_msg_size=0) as socket:
        yield Observer(socket)


def summary(frames: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(frame["seq"], frame["type"]) for frame in frames]


async def test_a_call_is_followed_from_its_beginning_to_its_summary() -> None:
    async with house() as server:
        call = Session(server, MARA, "c1").start(userId="u1")
        await server.log.settle(SECONDS)
        async with watching(server, token=await token(server), call="c1", after=0) as observer:
            started, caught_up = await observer.until("log.caught_up")
            assert (started["call"], started["agent"], started["data"]["metadata"]) == ("c1", "mara", {"userId": "u1"})
            assert (caught_up["seq"], caught_up["data"], caught_up["call"]) == (1, {"seq": 1}, "c1")
            call.partial("seven")
            call.partial("seven plus")
            call.hear("seven plus five")
            call.say("Twelve. I think.")
            call.end()
            live = await observer.until("call.summary")
            assert summary(live) == [
                (2, "turn.start"),
                (3, "user.message"),
                (4, "user.message"),
                (5, "user.message"),
                (6, "turn.end"),
                (7, "turn.start"),
                (8, "bot.speaking"),
                *[(9 + n, "bot.word") for n in range(3)],
                (12, "bot.speaking"),
                (13, "bot.finished"),
                (14, "turn.end"),
                (15, "call.ended"),
                (16, "call.summary"),
            ]
            assert [frame["ephemeral"] for frame in live[1:4]] == [True, True, False]
            assert await observer.closed() == (1000, "finished")
        stored = [text for text in observer.texts if not json.loads(text)["ephemeral"] and "caught_up" not in text]
        async with watching(server, token=await token(server), call="c1") as later:
            await later.until("log.caught_up")
            assert later.texts[:-1] == stored, "the same bytes live and later"
            assert json.loads(later.texts[-1])["seq"] == 16
            assert await later.closed() == (1000, "finished")
        async with server.http.get("/v1/calls/c1/events", headers=bearer("acme")) as response:
            assert await response.text() == f'{{"entries":[{",".join(stored)}],"live":false,"next":null}}'


async def test_nobody_misses_anything_by_coming_back() -> None:
    """Row 18 of protocol 15, with a connection that breaks again and again in the middle of what is said."""
    async with house() as server:
        call = Session(server, MARA, "c1").start()
        await server.log.settle(SECONDS)
        key, seen, cursor = await token(server), list[dict[str, Any]](), 0
        for _ in range(12):
            async with watching(server, token=key, call="c1", after=cursor) as observer:
                for turn in range(3):
                    call.hear(f"question {turn}")
                    call.say(f"The answer to number {turn}.")
                for _ in range(9):
                    frame = await observer.next()
                    if frame["type"] != "log.caught_up":
                        seen.append(frame)
                        cursor = frame["seq"]
        call.end()
        async with watching(server, token=key, call="c1", after=cursor) as observer:
            seen += [frame for frame in await observer.until("call.summary") if frame["type"] != "log.caught_up"]
        numbers = [frame["seq"] for frame in seen]
        assert numbers == sorted(set(numbers)), "nothing twice"
        _, whole = await server.get("/v1/calls/c1/events", bearer("acme"), limit="1000")
        assert [frame for frame in seen if not frame["ephemeral"]] == whole["entries"], "nothing lost"
        assert seen[-1]["type"] == "call.summary"


async def test_a_call_can_be_watched_before_it_has_begun() -> None:
    async with house(AgentConfig(id="mara")) as server, server.backend("acme") as backend:
        await backend.create("mara")
        talk = await server.begin("acme", "mara", "c1")
        assert await server.get("/v1/calls/c1/events", bearer("acme")) == (
            200,
            {"entries": [], "live": True, "next": None},
        )
        async with watching(server, token=await token(server), call="c1") as observer:
            [caught_up] = await observer.until("log.caught_up")
            assert caught_up["seq"] == 0
            Session(server, MARA, "c1").start()
            assert (await observer.next())["type"] == "call.started"
        talk.hangup("hangup")


async def test_pages_over_http() -> None:
    async with house() as server:
        call = Session(server, MARA, "c1").start()
        for turn in range(4):
            call.hear(f"question {turn}")
        await server.log.settle(SECONDS)
        key = await token(server)
        seen, after = [], "0"
        while True:
            status, page = await server.get("/v1/calls/c1/events", token=key, after=after, limit="5")
            assert (status, page["live"]) == (200, True)
            seen += page["entries"]
            if page["next"] is None:
                break
            assert len(page["entries"]) == 5
            assert page["next"] == seen[-1]["seq"]
            after = str(page["next"])
        assert [entry["type"] for entry in seen] == ["call.started"] + 4 * ["turn.start", "user.message", "turn.end"]
        _, rest = await server.get("/v1/calls/c1/events", token=key, after=str(seen[-1]["seq"]))
        assert rest == {"entries": [], "live": True, "next": None}
        call.end()
        await server.log.settle(SECONDS)
        _, rest = await server.get("/v1/calls/c1/events", token=key, after=str(seen[-1]["seq"]))
        assert ([entry["type"] for entry in rest["entries"]], rest["live"]) == (["call.ended", "call.summary"], False)


async def test_the_log_of_an_agent_tells_which_calls_there_are() -> None:
    async with house() as server:
        key = await token(server, "Mara")
        async with watching(server, token=key, agent="mara") as observer:
            await observer.until("log.caught_up")
            first = Session(server, MARA, "c1").start(userId="u1")
            first.hear("a secret")
            Session(server, MARA, "c2").start()
            Session(server, LEO, "c3").start()
            first.end()
            lines = [await observer.next() for _ in range(3)]
        told = [(line["seq"], line["type"], line["call"], line["data"]["call"]) for line in lines]
        started = [(1, "call.started", None, "c1"), (2, "call.started", None, "c2")]
        assert told == [*started, (3, "call.ended", None, "c1")]
        assert lines[0]["data"]["metadata"] == {"userId": "u1"}
        _, page = await server.get("/v1/agents/mara/calls", token=key, after="1")
        assert page == {"entries": lines[1:], "live": True, "next": None}
        assert "secret" not in json.dumps(lines)
        nobody = {"entries": [], "live": True, "next": None}
        assert await server.get("/v1/agents/nobody/calls", bearer("acme")) == (200, nobody)


REFUSED = (403, "AGENT_NOT_ALLOWED"), (404, "CALL_NOT_FOUND")


async def test_who_may_watch_what() -> None:
    async with house() as server:
        for key, call_id in ((MARA, "c1"), (LEO, "c2"), (THEIRS, "c3")):
            Session(server, key, call_id).start().end()
        await server.log.settle(SECONDS)
        both, mara = await token(server, "mara,leo"), await token(server, "mara")
        narrow = await token(server, "mara,leo", call_id="c1")
        theirs = await token(server, "mara", "globex")

        async def opens(key: str, path: str) -> bool:
            kind, name = path.split("/")
            suffix = "events" if kind == "calls" else "calls"
            status, body = await server.get(f"/v1/{kind}/{name}/{suffix}", token=key)
            async with watching(server, token=key, **{kind[:-1]: name}) as observer:
                if status == 200:
                    assert (await observer.next())["type"] == "call.started"
                else:
                    assert (status, body["code"]) in (*REFUSED, (403, "SCOPE_NOT_ALLOWED"))
                    assert await observer.refused() == body["detail"]
            return bool(status == 200)

        paths = ["calls/c1", "calls/c2", "calls/c3", "agents/mara", "agents/leo", "calls/none"]
        assert [await opens(both, path) for path in paths] == [True, True, False, True, True, False]
        assert [await opens(mara, path) for path in paths] == [True, False, False, True, False, False]
        assert [await opens(narrow, path) for path in paths] == [True, False, False, False, False, False]
        assert [await opens(theirs, path) for path in paths[:3]] == [False, False, True]
        for path, status in (("calls/c1/events", 200), ("calls/c3/events", 404), ("agents/leo/calls", 200)):
            assert (await server.get(f"/v1/{path}", bearer("acme")))[0] == status, "a key opens what is its own"


async def test_calls_of_two_organisations_may_have_one_id() -> None:
    async with house() as server:
        ours, theirs = Session(server, MARA, "chat-1").start(), Session(server, THEIRS, "chat-1").start()
        await server.log.settle(SECONDS)
        async with watching(server, token=await token(server), call="chat-1") as observer:
            await observer.until("log.caught_up")
            theirs.hear("their secret")
            ours.hear("ours")
            frames = await observer.until("turn.end")
        assert [frame["data"].get("text") for frame in frames] == [None, "ours", None]


async def test_refusals() -> None:
    async with house(AgentConfig(id="demo")) as server:
        _, voice = await server.token("default", "demo")
        good = await token(server)
        asked: list[tuple[dict[str, str], str]] = [
            ({"call": "c1"}, "Invalid or expired token"),
            ({"call": "c1", "token": "str_x"}, "Invalid or expired token"),
            ({"call": "c1", "token": voice["token"]}, "Invalid or expired token"),
            ({"token": good}, "Exactly one of call and agent is required"),
            ({"token": good, "call": "c1", "agent": "mara"}, "Exactly one of call and agent is required"),
            ({"token": good, "agent": "mara", "after": "-1"}, "after: expected a whole number, 0 or more"),
            ({"token": good, "agent": "mara", "after": "1" * 400}, "after: expected a whole number, 0 or more"),
            ({"token": good, "agent": "¡!"}, "The token is not for this agent"),
            ({"token": good, "call": "x" * 500}, "Call not found"),
        ]
        for query, text in asked:
            async with watching(server, **query) as observer:
                assert await observer.refused() == text
        async with watching(server, headers={"Authorization": "Bearer wrong"}, token=good, call="c1") as observer:
            assert await observer.refused() == "Invalid API key"
        Session(server, MARA, "c1").start()
        await server.log.settle(SECONDS)
        for query, status in (({}, 401), ({"token": voice["token"]}, 403), ({"token": good, "after": "x"}, 400)):
            async with server.http.get("/v1/agents/mara/calls", params=query) as response:
                assert response.status == status
                assert response.headers["Access-Control-Allow-Origin"] == "*", "or a page sees no status"
        assert (await server.get("/v1/attach", token=good, call="c1"))[0] == 400, "no upgrade"


async def test_a_token_opens_many_doors_and_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with house() as server:
        Session(server, MARA, "c1").start()
        await server.log.settle(SECONDS)
        key = await token(server)
        for _ in range(3):
            assert (await server.get("/v1/calls/c1/events", token=key))[0] == 200
            async with watching(server, token=key, call="c1") as observer:
                await observer.until("log.caught_up")
        async with server.http.get("/v1/nowhere", params={"token": key}) as response:
            assert response.status == 404
    assert "/v1/calls/c1/events" in caplog.text
    assert key not in caplog.text


async def test_a_cursor_into_what_was_deleted_is_told_of_the_gap() -> None:
    async with house(call_log_days=1) as server:
        for number in range(5):
            Session(server, MARA, f"c{number}").start().end()
        await server.log.settle(SECONDS)
        while await server.log._store.expire(time.time() + 2 * 86400):
            pass
        Session(server, MARA, "c5").start()
        await server.log.settle(SECONDS)
        key = await token(server)
        async with watching(server, token=key, agent="mara", after=3) as observer:
            gap, started, caught_up = await observer.until("log.caught_up")
        assert (gap["type"], gap["seq"], gap["data"]) == ("log.gap", 10, {"from": 4, "resume_from": 11})
        assert (started["seq"], caught_up["seq"]) == (11, 11)
        _, page = await server.get("/v1/agents/mara/calls", token=key)
        assert (page["entries"][0]["data"], page["entries"][1]["seq"]) == ({"from": 1, "resume_from": 11}, 11)
        assert (await server.get("/v1/calls/c0/events", token=key))[0] == 404
        async with watching(server, token=key, agent="mara", after=500) as observer:
            gap, caught_up = await observer.until("log.caught_up")
        assert gap["data"] == {"from": 501, "resume_from": 12}, "the cursor is of a log that is no more"


async def test_the_stream_of_an_agent_has_no_numbers() -> None:
    """They would be of several logs, and clients drop what is not above the highest they saw. Protocol 6.3."""
    async with house() as server:
        running = Session(server, MARA, "c1").start()
        running.hear("before anybody watched")
        await server.log.settle(SECONDS)
        async with watching(server, "/ws/stream", token=await token(server, "mara,leo"), agent="mara") as observer:
            assert (await observer.next())["type"] == "log.caught_up"
            await observer.socket.send_str('{"action": "ping"}')
            assert await observer.next() == {"event": "pong"}
            other = Session(server, MARA, "c2").start()
            Session(server, LEO, "c3").start()
            Session(server, THEIRS, "c4").start()
            running.partial("hm")
            other.end()
            running.end()
            frames = [await observer.next() for _ in range(8)]
        assert not any("seq" in json.loads(text) for text in observer.texts)
        assert [(frame["call"], frame["type"]) for frame in frames] == [
            ("c2", "call.started"),
            ("c1", "turn.start"),
            ("c1", "user.message"),
            ("c2", "call.ended"),
            ("c2", "call.summary"),
            ("c1", "turn.end"),
            ("c1", "call.ended"),
            ("c1", "call.summary"),
        ]


async def test_the_stream_of_one_session_resumes() -> None:
    async with house() as server:
        call = Session(server, MARA, "c1").start()
        call.hear("one")
        await server.log.settle(SECONDS)
        for query in ({"session": "c1"}, {}):
            narrow = {} if query else {"call_id": "c1"}
            key = await token(server, **narrow)
            async with watching(server, "/ws/stream", token=key, agent="mara", after=2, **query) as observer:
                *entries, caught_up = await observer.until("log.caught_up")
            assert summary(entries) == [(3, "user.message"), (4, "turn.end")]
            assert "seq" not in caught_up
            assert caught_up["data"] == {"seq": 4}
        async with watching(server, "/ws/stream", token=await token(server, "leo"), session="c1") as observer:
            assert await observer.refused() == "Call not found"
        async with watching(server, "/ws/stream", headers=bearer("acme")) as observer:
            assert await observer.refused() == "agent is required"


async def test_who_does_not_read_is_sent_away_and_slows_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with house() as server:
        key = await token(server)
        call = Session(server, MARA, "c1").start()
        await server.log.settle(SECONDS)
        slow = sockets.socket()
        slow.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", server.listener.port))
        upgrade = [
            f"GET /v1/attach?call=c1&token={key} HTTP/1.1",
            *("Host: localhost", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"),
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ]
        slow.sendall("\r\n".join([*upgrade, "", ""]).encode())
        await until(lambda: server.log._fanout._followers)
        async with watching(server, token=key, call="c1") as observer:
            await observer.until("log.caught_up")
            texts = [f"{number} " + 200 * "a long line of what the user said " for number in range(1200)]
            reading = asyncio.create_task(observer.until("call.summary"))
            for number, text in enumerate(texts):
                call.hear(text)
                if number % 20 == 19:
                    await server.log.settle(SECONDS)
            call.end()
            frames = await reading
        heard = [frame["data"]["text"] for frame in frames if frame["type"] == "user.message"]
        assert heard == texts, "the other one got all of it"
        await until(lambda: not server.log._fanout._followers)
        assert sum(map(len, texts)) > 10 * MAX_UNSENT
        slow.close()
    assert not caplog.records


async def test_there_are_not_too_many_observers() -> None:
    async with house(max_observers=2) as server:
        key = await token(server)
        async with watching(server, token=key, agent="mara") as one, watching(server, token=key, agent="mara"):
            async with watching(server, token=key, agent="mara") as third:
                assert await third.refused() == "Too many observers"
            await one.socket.close()
            await until(lambda: len(server.log._fanout._followers[LogKey("acme", "agent", "mara")]) == 1)
            async with watching(server, token=key, agent="mara") as again:
                assert (await again.next())["type"] == "log.caught_up"


async def test_there_are_not_too_many_when_all_come_at_once_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "PER_SECOND", 2)
    async with house(max_observers=1) as server, AsyncExitStack() as stack:
        key = await token(server)
        async with watching(server, token=key, agent="mara") as before:
            await before.next()
        await until(lambda: not server.log._fanout._followers)
        came = await asyncio.gather(
            *(stack.enter_async_context(watching(server, token=key, agent="mara")) for _ in range(4))
        )
        frames = [await observer.next() for observer in came]
        assert sorted(frame.get("error", "") for frame in frames) == ["", *["Too many observers"] * 3]


async def test_who_leaves_is_let_go_of_whatever_swallows_that() -> None:
    """``asyncio.wait_for`` of Python 3.11 does, when what it waits for is done at the same moment."""
    left = asyncio.Event()

    async def work() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        assert request.transport is not None
        await Pipe(socket, request, request.transport).run(work())
        return socket

    app = web.Application()
    app.add_routes([web.get("/", serve)])
    async with visiting(app) as visitor:
        await (await visitor.ws_connect("/")).close()
        async with asyncio.timeout(SECONDS):
            await left.wait()


async def test_observers_who_come_all_at_once_are_let_in_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "PER_SECOND", 2)
    monkeypatch.setattr(observing, "LONGEST_WAIT", 1.2)
    async with house() as server:
        key, loop = await token(server), asyncio.get_running_loop()
        began = loop.time()

        async def come() -> tuple[float, str]:
            async with watching(server, token=key, agent="mara") as observer:
                frame = await observer.next()
                return loop.time() - began, frame.get("error", "")

        came = await asyncio.gather(*(come() for _ in range(6)))
        refused = [text for _, text in came if text]
        assert set(refused) == {"Too many observers at once"}
        assert 1 <= len(refused) <= 4
        assert max(at for at, text in came if not text) > 0.9
        async with watching(server, token="forged", agent="mara") as observer:
            assert await observer.refused() == "Invalid or expired token", "who has no token waits for nothing"


async def test_observers_hear_the_end_before_the_server_leaves() -> None:
    async with house() as server:
        async with watching(server, token=await token(server), call="c1", agent="") as refused:
            assert await refused.refused() == "Call not found"
        call = Session(server, MARA, "c1").start()
        await server.log.settle(SECONDS)
        async with (
            watching(server, token=await token(server), call="c1") as of_call,
            watching(server, token=await token(server), agent="mara") as of_agent,
        ):
            await of_call.until("log.caught_up")
            await of_agent.until("log.caught_up")
            call.end()
            closing = asyncio.create_task(server.listener.close())
            assert (await of_call.until("call.summary"))[-1]["data"]["reason"] == "hangup"
            assert (await of_agent.until("call.ended"))[-1]["data"]["call"] == "c1"
            assert (await of_call.closed())[0] in (1000, 1001)
            assert (await of_agent.closed())[0] == 1001
            await closing


async def test_a_log_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house() as server:
        Session(server, MARA, "c1").start()
        await server.log.settle(SECONDS)

        async def fail(*_: object) -> None:
            raise StoreError("disk I/O error")

        monkeypatch.setattr(server.log, "read", fail)
        status, body = await server.get("/v1/calls/c1/events", bearer("acme"))
        assert (status, body["code"]) == (503, "LOG_UNAVAILABLE")
        async with watching(server, token=await token(server), call="c1") as observer:
            assert await observer.closed() == (1013, "the log is not available")


async def test_a_reader_of_a_long_log_gets_it_in_pages() -> None:
    async with house() as server:
        call = Session(server, MARA, "c1").start()
        for number in range(700):
            call.hear(str(number))
        await server.log.settle(SECONDS)
        async with watching(server, token=await token(server), call="c1") as observer:
            call.hear("while it reads")
            frames = await observer.until("log.caught_up")
            while len([frame for frame in frames if frame["type"] == "user.message"]) < 701:
                frames.append(await observer.next())
        numbers = [frame["seq"] for frame in frames if frame["type"] != "log.caught_up"]
        assert numbers == list(range(1, len(numbers) + 1))


async def test_any_server_of_a_fleet_shows_the_calls_of_all(own_redis: RedisServer) -> None:
    async with house(redis_url=own_redis.url) as one, house(redis_url=own_redis.url) as other:
        call = Session(one, MARA, "c1").start()
        call.hear("before")
        await one.log.settle(SECONDS)
        async with (
            watching(other, headers=bearer("acme"), call="c1") as of_call,
            watching(other, headers=bearer("acme"), agent="mara") as of_agent,
            watching(other, "/ws/stream", headers=bearer("acme"), agent="mara") as of_all,
        ):
            assert len(await of_call.until("log.caught_up")) == 5
            await of_agent.until("log.caught_up")
            await of_all.until("log.caught_up")
            with redis.Redis.from_url(own_redis.url) as client:
                client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")  # what was missed is read
            call.say("Here I am.")
            call.end()
            frames = await of_call.until("call.summary")
            assert (await of_agent.until("call.ended"))[-1]["data"]["call"] == "c1"
            assert await of_call.closed() == (1000, "finished")
        _, page = await one.get("/v1/calls/c1/events", bearer("acme"), after="4")
        stored = [frame for frame in frames if not frame["ephemeral"]]
        assert stored == page["entries"]


async def test_a_chat_is_written_down_like_a_call() -> None:
    async with house() as server, server.backend("acme") as backend:
        think(server, ["Hello", " you."])
        await backend.create("mara", llm="local", prompt="Be kind.")
        async with page(server, metadata='{"userId": "u1"}') as browser:
            chat_id = (await browser.next())["session_id"]
            async with watching(server, token=await token(server), call=chat_id) as observer:
                await server.log.settle(SECONDS)
                started = await observer.next()  # or the marker, when it came before the first entry was written
                started = started if started["type"] == "call.started" else await observer.next()
                assert (started["data"]["channel"], started["data"]["metadata"]) == ("chat", {"userId": "u1"})
                await say(browser, "Hi")
                await browser.socket.close()
                frames = await observer.until("call.summary")
        kinds = [frame["type"] for frame in frames if frame["type"] != "log.caught_up"]
        assert kinds == [
            *("turn.start", "user.message", "turn.end"),
            *("turn.start", "bot.speaking", "bot.word", "bot.speaking", "bot.finished", "turn.end"),
            *("call.ended", "call.summary"),
        ]
        assert [frame["data"].get("text") for frame in frames if frame["type"] == "bot.speaking"] == ["", "Hello you."]
        assert frames[-1]["data"]["metrics"]["e2e"]["n"] == 1


async def test_a_session_that_comes_back_under_its_id_goes_on_in_the_same_log() -> None:
    async with house() as server:
        Session(server, MARA, "chat-1").start().end()
        again = Session(server, MARA, "chat-1").start()
        await server.log.settle(SECONDS)
        async with watching(server, token=await token(server), call="chat-1", after=3) as observer:
            started, caught_up = await observer.until("log.caught_up")
            assert (started["type"], started["seq"], caught_up["seq"]) == ("call.started", 4, 4)
            again.end()
            assert summary(await observer.until("call.summary")) == [(5, "call.ended"), (6, "call.summary")]
            assert (await observer.closed())[0] == 1000
