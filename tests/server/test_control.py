"""The control socket from outside: the handshake, the heartbeat, bad frames, floods, and readers that do not read."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from server import backend, control, outbox
from server.pace import BURST, Pace
from server.registry import AgentKey
from tests.server.backends import KEYS, house, until

WATCHED = "Displaced"
"""A close reason with this word, in either case, keeps clients away for ever."""


async def test_a_backend_connects_with_its_key() -> None:
    async with house() as server, server.stranger() as backend:
        connected = await backend.ask("connect", api_key=KEYS["acme"])
        assert connected.pop("connection_id").startswith("c_")
        assert connected == {"event": "connected", "org_id": "acme", "protocol_version": "2"}
        pong = await backend.ask("ping")
        assert pong["event"] == "pong"
        assert isinstance(pong["timestamp"], float)
        await backend.send("pong")
        await backend.quiet()


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ({"event": "connect", "api_key": "pk_wrong"}, "INVALID_KEY"),
        ({"event": "connect", "api_key": "pk_publishable_of_acme"}, "INVALID_KEY"),
        ({"event": "connect", "api_key": ["pk_of_acme_corp"]}, "INVALID_KEY"),
        ({"event": "connect"}, "INVALID_KEY"),
        ({"event": "ping"}, "NOT_CONNECTED"),
        ({"event": "agent.create", "agent_id": "mara", "api_key": "pk_of_acme_corp"}, "NOT_CONNECTED"),
        ([1], "NOT_CONNECTED"),
    ],
)
async def test_who_shows_no_key_is_told_so_and_leaves(first: Any, code: str) -> None:
    async with house() as server, server.stranger() as backend:
        await backend.socket.send_str(json.dumps(first))
        refusal = await backend.next()
        assert (refusal["event"], refusal["code"]) == ("error", code)
        closing, reason = await backend.closed()
        assert closing == 1008
        assert WATCHED.lower() not in reason.lower()
        assert await server.hub.agents(None) == []


@pytest.mark.parametrize("first", ["{", "", b"\x00\xff"])
async def test_a_first_frame_that_is_none(first: str | bytes) -> None:
    async with house() as server, server.stranger() as backend:
        await (backend.socket.send_str(first) if isinstance(first, str) else backend.socket.send_bytes(first))
        assert (await backend.next())["code"] == "NOT_CONNECTED"
        assert (await backend.closed())[0] == 1008


async def test_who_says_nothing_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "HANDSHAKE_SECONDS", 0.05)
    async with house() as server, server.stranger() as backend:
        assert (await backend.next())["code"] == "NOT_CONNECTED"
        assert (await backend.closed())[0] == 1008


async def test_a_plain_request_is_no_connection() -> None:
    async with house() as server:
        status, body = await server.get("/client")
        assert status == 400
        assert body["detail"] == body["error"]


BAD_FRAMES = [
    "{",
    "[]",
    "7",
    "null",
    '"ping"',
    "{}",
    '{"event": 7}',
    '{"event": {"a": 1}}',
    '{"a": NaN}',
    "",
    "[" * 5000,
]


async def test_bad_frames_are_answered_and_cost_nothing() -> None:
    async with house() as server, server.backend() as backend:
        await backend.create("mara")
        for bad in BAD_FRAMES:
            await backend.socket.send_str(bad)
            answer = await backend.next()
            assert (answer["event"], answer["code"]) == ("error", "BAD_FRAME"), bad
        await backend.socket.send_bytes(b'{"event": "ping"}')
        assert (await backend.next())["code"] == "BAD_FRAME"
        answer = await backend.ask("no.such.thing", agent_id="mara", call_id="c", request_id="rq_1", session_id=7)
        assert {"event": "error", "code": "UNKNOWN_COMMAND", "agent_id": "mara"}.items() <= answer.items()
        assert (answer["call_id"], answer["request_id"]) == ("c", "rq_1")
        assert "session_id" not in answer
        await backend.quiet()


async def test_a_frame_of_a_mebibyte_is_read_and_a_larger_one_ends_the_connection() -> None:
    async with house() as server, server.backend() as backend:
        frame = {"event": "agent.create", "agent_id": "mara", "prompt": ""}
        frame["prompt"] = "x" * (control.MAX_FRAME - len(json.dumps(frame)) - 1)
        await backend.socket.send_str(json.dumps(frame))
        assert (await backend.next())["event"] == "agent.created"
        frame["prompt"] += "xx"
        await backend.socket.send_str(json.dumps(frame))
        code, reason = await backend.closed()
        assert code == 1009
        assert WATCHED.lower() not in reason.lower()
        await until(lambda: server.hub.registry.held == 0)


# What 3.21 says of each command that is out of scope: what comes back, or nothing.
DECLINED: list[tuple[dict[str, Any], dict[str, Any] | None]] = [
    (
        {"event": "line.create", "number": "+1555", "config": {}},
        {
            "event": "line.error",
            "number": "+1555",
            "code": "LINE_CONFIG_ERROR",
            "error": "phone lines are not available on this server",
        },
    ),
    ({"event": "line.destroy", "number": "+1555"}, {"event": "line.destroyed", "number": "+1555"}),
    (
        {"event": "call.route", "agent_id": "mara", "call_id": "c1", "agent": "leo"},
        {"event": "call.route_failed", "agent_id": "mara", "call_id": "c1", "agent": "leo", "reason": "unknown"},
    ),
    ({"event": "dev.config", "callers": ["+1555"]}, None),
]


@pytest.mark.parametrize(("frame", "expected"), DECLINED)
async def test_what_is_out_of_scope_is_answered_at_once(frame: dict[str, Any], expected: dict[str, Any] | None) -> None:
    async with house() as server, server.backend() as backend:
        await backend.send(**frame)
        if expected is not None:
            assert await backend.next() == expected
        await backend.quiet()


@pytest.mark.parametrize("frame", [{"event": "call.dial", "to": "+1"}, {"event": "call.bridge", "target": "+1"}])
async def test_a_call_that_cannot_be_made_has_ended_at_once(frame: dict[str, Any]) -> None:
    async with house() as server, server.backend() as backend:
        ended = await backend.ask(**frame, agent_id="mara", **{"from": "+2"})
        assert len(ended.pop("call_id")) == 36
        assert ended == {
            "event": "call.ended",
            "agent_id": "mara",
            "direction": "outbound",
            "reason": "unsupported",
            "from": "+2",
            "to": "+1",
        }


@pytest.mark.parametrize("event", ["call.forward", "call.dtmf", "call.accept", "call.reject"])
async def test_phone_commands_are_refused_by_a_generic_error(event: str) -> None:
    async with house() as server, server.backend() as backend:
        answer = await backend.ask(event, call_id="c1")
        assert (answer["event"], answer["code"], answer["call_id"]) == ("error", "UNSUPPORTED", "c1")


async def test_what_comes_faster_waits() -> None:
    now = 100.0
    pace = Pace(lambda: now)
    assert [pace.take(0) for _ in range(int(BURST))] == [0.0] * int(BURST)
    assert pace.take(0) == pytest.approx(0.001)
    assert pace.take(1 << 20) == pytest.approx(1.026)
    now += 1.026
    assert pace.take(0) == pytest.approx(0.001)
    now += 60
    assert pace.take(0) == 0.0


async def test_a_flood_of_one_leaves_the_others_their_turn() -> None:
    async with house() as server, server.backend("acme") as flooding, server.backend("globex") as other:
        await other.create("mara")

        async def flood() -> None:
            for number in range(3000):
                await flooding.send("no.such.thing", request_id=f"rq_{number}")

        async def read() -> list[str]:
            return [(await flooding.next())["request_id"] for _ in range(3000)]

        flooded, got = asyncio.create_task(flood()), asyncio.create_task(read())
        for _ in range(20):
            await other.quiet()
        await flooded
        assert await got == [f"rq_{number}" for number in range(3000)], "each is answered, in order"
        await flooding.quiet()


async def test_who_does_not_read_costs_only_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outbox, "CLOSE_SECONDS", 0.1)
    caplog.set_level(logging.WARNING)
    async with house() as server, server.backend("acme") as deaf, server.backend("globex") as other:
        await deaf.create("mara")
        await other.create("mara")
        deaf.socket._conn.transport.pause_reading()  # type: ignore[union-attr]
        talk = await server.begin("acme", "mara", "c1")
        frame = {"event": "bot.word", "call_id": "c1", "word": "x" * 10_000}
        async with asyncio.timeout(60):
            while server.hub.tell(AgentKey("acme", "mara"), frame):
                await asyncio.sleep(0)  # the writer gets its turn, and the sockets fill
        assert server.hub.tell(AgentKey("globex", "mara"), frame)
        await until(lambda: server.hub.registry.get(AgentKey("acme", "mara")) is None)
        assert talk.reason is None, "the call goes on"
        assert talk.attended == [True, False]
        assert (await other.next())["event"] == "bot.word"
        await other.quiet()
        assert "reads too slowly" in caplog.text


async def test_who_reads_slowly_is_told_why_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "MAX_FRAMES", 5)
    async with house() as server, server.backend("acme") as slow:
        await slow.create("mara")
        frame = {"event": "bot.word", "call_id": "c1", "word": "x"}
        told = [server.hub.tell(AgentKey("acme", "mara"), frame) for _ in range(7)]  # without a turn for the writer
        assert told == [True] * 5 + [False] * 2
        code, reason = await slow.closed()
        assert (code, reason) == (1013, "frames are read too slowly")
        assert WATCHED.lower() not in reason


async def test_a_server_that_leaves_says_so_after_all_it_had_to_say() -> None:
    async with house() as server, server.stranger() as stranger, server.backend() as backend:
        await backend.create("mara")
        talk = await server.begin("default", "mara", "c1")
        await server.hub.hang_up_all()
        assert talk.reason == "server_shutdown"
        server.hub.tell(AgentKey("default", "mara"), {"event": "call.ended", "call_id": "c1"})
        closing = asyncio.create_task(server.listener.close())
        assert (await backend.next())["event"] == "call.ended"
        assert await backend.closed() == (1001, "the server is going away")
        assert (await stranger.closed())[0] == 1001
        await closing
