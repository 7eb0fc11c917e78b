"""Whatever one backend sends, in whatever order: it costs nobody else anything, and crosses no organisation."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.commands import HISTORY, LATE, TOLD
from server.registry import AgentKey
from tests.server.backends import house

OTHERS = """
ping pong connect dev.config register agent.create agent.configure channel.add channel.configure channel.remove
session.configure session.pause session.resume session.send llm.chat line.create line.destroy
call.dial call.bridge call.route call.forward
"""
EVENTS = st.sampled_from(sorted({*HISTORY, *TOLD, *LATE, *OTHERS.split()}))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
IDS = st.sampled_from(["mara", "globex:mara", "Mara", "leo", "c-globex", "c-acme", "chat-1", ""])
NAMES = """
prompt voice llm tools language greeting text type ref request_id action message_id messages vars api_key number contact
allowed_origins config skills
"""
KEYS = st.sampled_from(NAMES.split())


@st.composite
def frames(draw: st.DrawFn) -> dict[str, Any]:
    frame: dict[str, Any] = {"event": draw(EVENTS), **draw(st.dictionaries(KEYS, JSON, max_size=4))}
    for key in ("agent_id", "call_id", "session_id"):
        if draw(st.booleans()):
            frame[key] = draw(IDS | JSON)
    return frame


TEXTS = frames().map(json.dumps) | JSON.map(json.dumps) | st.text(st.characters(codec="utf-8"), max_size=30)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=st.lists(TEXTS | st.binary(max_size=10), max_size=25))
async def test_no_sequence_of_frames_harms_another(sent: list[str | bytes], caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    async with house(newest_backend_wins=True) as server:
        async with server.backend("globex") as other, server.backend("acme") as wild, server.backend("acme") as friend:
            await other.create("mara", prompt="Theirs.")
            await friend.create("leo")
            theirs = await server.begin("globex", "mara", "c-globex")
            before = server.hub.registry.get(AgentKey("globex", "mara"))
            for message in sent:
                await (wild.socket.send_bytes(message) if isinstance(message, bytes) else wild.socket.send_str(message))
            await wild.send("the.end", request_id="the last of all")
            while (frame := await wild.next()).get("request_id") != "the last of all":
                assert isinstance(frame["event"], str)
                assert "Theirs." not in json.dumps(frame)
            assert server.hub.registry.get(AgentKey("globex", "mara")) is before
            assert (theirs.commands, theirs.agents, theirs.reason, theirs.attended) == ([], [], None, [True])
            await other.quiet()
            await friend.send("ping")
            while (await friend.next())["event"] != "pong":
                pass  # it may have lost its agent to the other connection of its organisation
        assert server.hub.registry.all("globex") in ([], [before])
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
