"""A backend that asks for anything at any time, in a real call: nobody else notices, and the call has its end."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from tests.conformance.call import Call, new_id
from tests.conformance.conftest import Serve
from tests.conformance.test_talking import LLM

JUNK: list[Any] = [None, True, -1, 1e300, "", "x" * 3000, "\ud800", [], [[]], {}, {"a": {"b": None}}, "{{name}}", "𝄞"]
EVENTS = """
bot.reply bot.reply.stream bot.cancel bot.clear history.get history.add history.set history.clear history.set_vars
history.add_context history.set_instructions llm.tool_result llm.ready call.hold call.unhold call.mute call.unmute
session.pause session.resume session.send session.configure skill.load skill.unload set_context call.forward
"""


def anything(dice: random.Random, call: Call, streams: list[str]) -> dict[str, Any]:
    """A frame that is half sensible."""
    event = dice.choice(EVENTS.split())
    frame: dict[str, Any] = {"event": event, "call_id": call.id, "session_id": call.id, "agent_id": "mara"}
    sensible: dict[str, Any] = {
        "action": dice.choice(["start", "chunk", "end"]),
        "message_id": dice.choice(streams),
        "in_reply_to": dice.choice(["", call.last_message_id, "gone"]),
        "text": dice.choice(["One two three.", "", "Four."]),
        "token": "five six ",
        "messages": [{"role": dice.choice(["user", "assistant", "tool"]), "content": "Before."}],
        "vars": {"name": "Zoe"},
        "prompt": "Be {{name}}.",
        "skill": "refunds",
        "turn": dice.randrange(4),
        "results": [{"tool_call_id": "call_1_0", "result": 1}],
        "msg_id": "tr_1",
        "key": "cart",
        "value": "apples",
        "language": dice.choice(["en", "es"]),
        "interruption": dice.choice([False, {"min_words": 1}]),
        "session_limits": {"idle_timeout_seconds": 60},
        "request_id": new_id(),
    }
    for key, value in sensible.items():
        if dice.random() < 0.7:
            frame[key] = dice.choice(JUNK) if dice.random() < 0.15 else value
    if event == "bot.reply" or (event == "bot.reply.stream" and frame.get("action") == "start"):
        frame["message_id"] = new_id()
        streams.append(frame["message_id"])
    return frame


@pytest.mark.parametrize("seed", range(2))
async def test_disorder_costs_nobody_anything(serve: Serve, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    dice = random.Random(seed)
    skills = [{"name": "refunds", "description": "Pay.", "instructions": "Be generous.", "activation": "model"}]
    async with serve() as place, place.sdk() as wild, place.sdk("acme") as calm:
        agent, other = wild.agent("mara", llm=LLM, skills=skills), calm.agent("leo", llm=LLM)
        async with place.calling(agent) as (voice, call), place.calling(other) as (theirs, _):
            streams = ["none"]
            for number in range(600):
                wild.send_now(anything(dice, call, streams))
                if number % 60 == 0:
                    voice.send_text(f"Question {number}")
                    await asyncio.sleep(dice.random() * 0.1)
            theirs.send_text("All quiet?")
            await theirs.inbox.next("bot.finished")
            assert theirs.state.texts("bot") == ["You said: All quiet?"]
            for event in ("call.unhold", "call.unmute", "session.resume", "bot.clear"):
                wild.send_now({"event": event, "call_id": call.id, "session_id": call.id, "agent_id": "mara"})
            await call.clear_history()
            mark = voice.inbox.mark
            voice.send_text("And here?")
            ended = await voice.inbox.next("turn.end", since=mark)
            answer = await voice.inbox.next("bot.finished", since=voice.inbox.frames.index(ended))
            assert answer["text"] == f"You said: {ended['text']}"
        assert (await call.ended)["reason"] == "disconnected"
        announced = {frame["message_id"] for frame in wild.inbox.all("bot.speaking")}
        over = [frame["message_id"] for frame in wild.inbox.all("bot.finished", "bot.interrupted")]
        assert announced <= set(over)
        assert len(over) == len(set(over))
        assert wild.connections == 1
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
