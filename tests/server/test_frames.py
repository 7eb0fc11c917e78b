"""What a browser hears of its call, and what the log does."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from pipeline.events import CallEnded, CallStarted, Event, LlmResponse, SessionStarted, UserMessage
from server.feed import Feed, log_fact
from server.frames import BrowserFrames

EVENTS: list[Event] = [
    CallStarted(language="en", metadata={"account": "sealed"}),
    SessionStarted(agent="demo", language="en", engines={"llm": "local"}),
    UserMessage(turn_id=1, message_id="m", text="my private words", confidence=1.0, lag_ms=3),
    LlmResponse(text="a private answer", finish_reason="stop", engine="rules"),
    CallEnded(
        reason="hangup", duration_seconds=2.0, started_at=1.0, ended_at=3.0, messages=[{"role": "user", "content": "x"}]
    ),
]


def test_frames_are_numbered_and_hold_nothing_that_is_the_backends(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    sent: list[str] = []
    frames = BrowserFrames("demo")
    frames.open(sent.append)
    feed = Feed("c1", frames, log_fact)
    for event in EVENTS:
        feed.publish(event)
    got: list[dict[str, Any]] = [json.loads(text) for text in sent]
    assert [(frame["seq"], frame["event"]) for frame in got] == [
        (2, "session.started"),
        (3, "user.message"),
        (4, "llm.response"),
        (5, "call.ended"),
    ]
    assert all((f["call_id"], f["session_id"], f["agent_id"]) == ("c1", "c1", "demo") for f in got)
    assert "messages" not in got[-1]
    assert "sealed" not in "".join(sent)
    assert [record.message for record in caplog.records] == [
        "call c1: answered by rules",
        "call c1 ended after 2.0 s: hangup",
    ]
