from __future__ import annotations

import json

from pipeline import events
from pipeline.events import BotInterrupted, CallStarted, Event, KnownError, SessionOver, UserSpeaking


def test_a_frame_holds_what_is_known() -> None:
    event = BotInterrupted(message_id="m", played_ms=0, words_spoken=0, reason="cancelled")
    assert event.frame(call_id="c") == {
        "event": "bot.interrupted",
        "call_id": "c",
        "message_id": "m",
        "played_ms": 0,
        "words_spoken": 0,
        "reason": "cancelled",
    }
    assert UserSpeaking(turn_id=1, text="", confidence=0.0).frame()["text"] == ""


def test_every_event_has_a_name_of_its_own_and_is_json() -> None:
    kinds = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)]
    names = [kind.name for kind in kinds if kind not in (Event, SessionOver, KnownError)]  # read as their namesakes
    assert len(names) == len(set(names)) > 20
    assert json.loads(json.dumps(CallStarted(language="en").frame()))["metadata"] == {}
