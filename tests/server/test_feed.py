"""One stream of events, and who gets to hear what of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from pipeline import events
from pipeline.events import (
    BotWord,
    CallEnded,
    CallError,
    CallStarted,
    Event,
    KnownError,
    SessionEnded,
    SessionOver,
    SessionStarted,
    SessionTimeout,
    TurnLatency,
    UserMessage,
)
from server.feed import Fact, Feed
from server.frames import BACKEND_EVENTS, BROWSER_EVENTS, BackendFrames, BrowserFrames
from server.registry import AgentKey

KEY = AgentKey("acme", "mara")
FOR_CHAT_SOCKETS = {"chat.token", "chat.done", "chat.error"}

LIFE: list[Event] = [
    CallStarted(language="es", metadata={"userId": "u_1"}),
    SessionStarted(agent="mara", language="es", engines={}),
    UserMessage(turn_id=1, message_id="m1", text="Hola", confidence=1.0, lag_ms=3),
    TurnLatency(turn_id=1, message_id="m2", stages={}, total_ms=1),
    KnownError(error="there is no such voice here"),
    CallError(error="it broke", code="LLM_FAILED"),
    BotWord(message_id="m2", word="Sí", word_index=0),
    SessionTimeout(reason="idle_timeout"),
    CallEnded(reason="idle_timeout", duration_seconds=2.0, started_at=1.0, ended_at=3.0, messages=[]),
    SessionEnded(reason="idle_timeout"),
    SessionOver(reason="idle_timeout"),
]


class Owner:
    """Whoever holds the agent, when somebody does."""

    def __init__(self) -> None:
        self.here = True
        self.frames: list[dict[str, Any]] = []

    def tell(self, key: AgentKey, frame: Mapping[str, Any]) -> bool:
        assert key == KEY
        if self.here:
            self.frames.append(dict(frame))
        return self.here

    @property
    def names(self) -> list[str]:
        return [frame["event"] for frame in self.frames]


def test_each_receiver_hears_what_is_for_it_with_the_numbers_of_one_stream() -> None:
    owner, sent = Owner(), list[str]()
    browser = BrowserFrames("mara")
    browser.open(sent.append)
    feed = Feed("c1", browser, BackendFrames(owner.tell, KEY))
    for event in LIFE:
        feed.publish(event)
    seen = [(frame["seq"], frame["event"]) for frame in map(json.loads, sent)]
    assert seen == [
        (2, "session.started"),
        (3, "user.message"),
        (4, "turn.latency"),
        (5, "error"),
        (6, "error"),
        (7, "bot.word"),
        (9, "call.ended"),
        (10, "session.ended"),
        (11, "session.timeout"),
    ]
    assert [(frame["seq"], frame["event"]) for frame in owner.frames] == [
        (1, "call.started"),
        (3, "user.message"),
        (6, "error"),
        (7, "bot.word"),
        (8, "session.timeout"),
        (9, "call.ended"),
    ]
    started, ended = owner.frames[0], owner.frames[-1]
    assert isinstance(started.pop("ts"), float)
    assert started == {
        "event": "call.started",
        "call_id": "c1",
        "session_id": "c1",
        "seq": 1,
        "from": "webrtc",
        "to": "webrtc",
        "direction": "inbound",
        "transport": "webrtc",
        "metadata": {"userId": "u_1"},
        "language": "es",
    }
    assert (ended["direction"], ended["messages"]) == ("inbound", [])


def test_a_call_whose_beginning_nobody_heard_does_not_end_for_anyone_either() -> None:
    owner = Owner()
    owner.here = False
    feed = Feed("c1", BackendFrames(owner.tell, KEY))
    feed.publish(LIFE[0])
    owner.here = True
    for event in LIFE[1:]:
        feed.publish(event)
    assert owner.names == ["user.message", "error", "bot.word"]


def test_a_call_that_changes_hands_ends_for_whoever_has_it_then() -> None:
    owner = Owner()
    feed = Feed("c1", BackendFrames(owner.tell, KEY))
    feed.publish(LIFE[0])
    owner.here = False
    feed.publish(LIFE[2])
    owner.here = True
    feed.publish(LIFE[-3])
    assert owner.names == ["call.started", "call.ended"]


def test_a_receiver_that_fails_costs_the_others_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: Fact) -> None:
        raise RuntimeError("broken")

    owner = Owner()
    feed = Feed("c1", fail, BackendFrames(owner.tell, KEY))
    feed.publish(LIFE[0])
    assert owner.names == ["call.started"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "u_1" not in caplog.records[0].getMessage()


def test_somebody_has_decided_for_every_event_whom_it_is_for() -> None:
    kinds = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)]
    names = {kind.name for kind in kinds if kind is not Event}
    assert len(names) > 20
    assert names <= BROWSER_EVENTS | BACKEND_EVENTS | FOR_CHAT_SOCKETS


def test_no_event_is_one_at_which_a_backend_breaks() -> None:
    for name in ("call.error", "call.dialing", "call.ringing", "call.recording", "session.idleWarning"):
        assert name not in BACKEND_EVENTS
        assert name not in BROWSER_EVENTS
