"""The rules notice what they are for, and the table of the README names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.rules import BackendRules, BrowserRules

ROOT = Path(__file__).parents[2]
CALL = {"agent_id": "mara", "call_id": "c", "session_id": "c", "ts": 1.5}
STARTED = {"event": "call.started", **CALL, "seq": 1, "transport": "webrtc", "metadata": {}, "language": "en"}
ENDED = {"event": "call.ended", **CALL, "reason": "hangup", "direction": "inbound", "duration_seconds": 1.0}
ENDED |= {"started_at": 1.0, "ended_at": 2.0}
SAID = {"event": "user.message", **CALL, "message_id": "u", "turn_id": 1, "text": "Hi"}
SPEAKING = {"event": "bot.speaking", **CALL, "message_id": "b", "text": ""}
WORD = {"event": "bot.word", **CALL, "message_id": "b", "word": "Hi.", "word_index": 0}
FINISHED = {"event": "bot.finished", **CALL, "message_id": "b", "duration_ms": 1, "text": "Hi."}
TOOLS = {"event": "llm.tool_call", **CALL, "msg_id": "r", "tool_calls": [{"id": "1", "name": "a", "arguments": "{}"}]}
OPENED = {"event": "session.started", **CALL, "agent": "mara"}
TURN_END = {"event": "turn.end", **CALL, "turn_id": 1}
CONFIRMED = {"event": "message.confirmed", **CALL, "message_id": "b", "text": "Hi."}

Frames = list[dict[str, Any]]


def test_a_whole_call_keeps_them() -> None:
    conversation: Frames = [SAID, TURN_END, SPEAKING, WORD, CONFIRMED, FINISHED]
    for rules, first, last in (
        (BackendRules(), STARTED, [TOOLS, ENDED]),
        (BrowserRules(), OPENED, [{"event": "session.timeout", **CALL, "reason": "hangup"}]),
    ):
        for frame in [first, *conversation, *last]:
            rules.check(frame)
        rules.assert_kept()


@pytest.mark.parametrize(
    ("frames", "rule"),
    [
        ([SAID | {"event": "session.idleWarning"}], "trap 12"),
        ([SAID | {"messageId": "u"}], "snake_case"),
        ([SAID, SAID], "trap 30"),
        ([CONFIRMED, CONFIRMED], "trap 30"),
        ([WORD | {"word": " Hi."}], "trap 11"),
        ([WORD, FINISHED, WORD | {"word_index": 1}], "trap 11"),
        ([WORD | {"word_index": 1}], "numbered"),
        ([FINISHED], "trap 10"),
        ([WORD, FINISHED, FINISHED], "one terminal"),
        ([SAID | {"agent_id": None}], "trap 20"),
        ([STARTED, STARTED | {"seq": 2}], "trap 26"),
        ([STARTED | {"seq": 2}], "first of all"),
        ([STARTED | {"call_id": "wrt_1", "session_id": "wrt_1"}], "trap 17"),
        ([{key: value for key, value in ENDED.items() if key != "direction"}], "trap 33b"),
        ([STARTED, ENDED | {"seq": 2}, SAID | {"seq": 3}], "the last event"),
        ([TOOLS, TOOLS], "trap 27"),
        ([TOOLS | {"tool_calls": [{"id": "1", "name": "a", "arguments": ""}]}], "trap 28"),
        ([TOOLS | {"tool_calls": [{"id": "1", "name": "a", "arguments": {}}]}], "trap 28"),
        ([{"event": "call.error", **CALL}], "never sent"),
        ([OPENED], "browsers alone"),
    ],
)
def test_a_breach_of_the_backends_is_noticed(frames: Frames, rule: str) -> None:
    rules = BackendRules()
    for frame in frames:
        rules.check(frame)
    assert any(rule in breach for breach in rules.breaches), rules.breaches


@pytest.mark.parametrize(
    ("frames", "rule"),
    [
        ([SAID], "first frame"),
        ([OPENED, {"event": "llm.tool_result", **CALL, "results": []}], "trap 13"),
        ([OPENED, ENDED | {"messages": []}], "backend's alone"),
        ([OPENED, SAID, TURN_END, SPEAKING, WORD, SAID | {"message_id": "u2"}], "rule 3"),
        ([OPENED, {"event": "session.timeout", **CALL, "reason": "hangup"}, ENDED], "last frame"),
    ],
)
def test_a_breach_of_the_pages_is_noticed(frames: Frames, rule: str) -> None:
    rules = BrowserRules()
    for frame in frames:
        rules.check(frame)
    assert any(rule in breach or "come before their answer" in breach for breach in rules.breaches), rules.breaches


def test_the_table_names_tests_that_are_there() -> None:
    """And every row and trap of this folder stands in it."""
    here = Path(__file__).parent
    table = (here / "README.md").read_text()
    elsewhere = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", table)
    assert len(elsewhere) > 12
    for path, test in elsewhere:
        assert f"def {test}(" in (ROOT / path).read_text(), f"{path}::{test}"
    source = "".join(path.read_text() for path in sorted(here.glob("test_*.py")))
    own = set(re.findall(r"def (test_(?:row|trap)_\w+)\(", source))
    assert own == set(re.findall(r"`(test_(?:row|trap)_\w+)`", table))
