"""What a browser may change, property by property."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from config.agent import AgentConfig
from server.visitor import MAX_DEPTH, MAX_GREETING, MAX_METADATA, visitor_agent, visitor_metadata

AGENT, _ = AgentConfig.parse(
    "demo", {"greeting": "Hi!", "prompt": "Be kind.", "llm": "local", "voice": "hibari/heart", "language": "en"}
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(sorted([*AgentConfig.model_fields, "tts", "config", "promptVars", "turnDetection"]))


@given(st.dictionaries(KEYS | st.text(max_size=10), JSON, max_size=6) | JSON)
def test_nothing_but_the_allowed_keys_ever_changes(wire: Any) -> None:
    agent, dropped = visitor_agent(AGENT, wire)
    for name in set(AgentConfig.model_fields) - {"voice", "language", "stt", "greeting", "flash"}:
        assert getattr(agent, name) == getattr(AGENT, name)
    assert agent.voice.options == AGENT.voice.options
    assert agent.stt.options == AGENT.stt.options
    if isinstance(wire, dict):
        assert {key for key in wire if key not in ("voice", "language", "stt", "tts", "greeting", "flash")} <= set(
            dropped
        )
    else:
        assert (agent, dropped) == (AGENT, [])


def test_the_allowed_keys_do_change() -> None:
    wire = {"voice": "hibari/bella", "language": "es", "stt": "deepgram", "flash": True, "greeting": "Hola"}
    agent, dropped = visitor_agent(AGENT, wire)
    assert dropped == []
    assert agent.voice.voice_id == "bella"
    assert (agent.language, agent.stt.provider, agent.flash) == ("es", "deepgram", True)
    assert agent.greeting_for("es") == "Hola"
    assert AGENT.greeting_for("en") == "Hi!"
    assert agent.prompt == "Be kind."


def test_a_browser_may_do_without_a_greeting() -> None:
    for nothing in ("", False):
        agent, dropped = visitor_agent(AGENT, {"greeting": nothing})
        assert agent.greeting_for("en") is None
        assert dropped == []
    for wrong in (True, 7, {"en": "Hi"}, "x" * (MAX_GREETING + 1), None):
        agent, dropped = visitor_agent(AGENT, {"greeting": wrong})
        assert agent.greeting_for("en") == "Hi!"
        assert dropped == ["greeting"]


def test_a_greeting_of_the_browser_reads_no_variable_of_the_agent() -> None:
    agent, _ = visitor_agent(AGENT, {"greeting": "Hi {{{secret}} and {{ secret }}"})
    assert agent.greeting_for("en") == "Hi secret and  secret "


def test_no_address_no_key_and_no_path_comes_through() -> None:
    voice = {"provider": "openai", "voice_id": "x", "base_url": "http://evil", "api_key": "k", "path": "/etc/passwd"}
    agent, _ = visitor_agent(AGENT, {"voice": voice, "stt": {"provider": "openai", "url": "http://evil"}})
    told = agent.model_dump_json()
    assert "evil" not in told
    assert "passwd" not in told
    assert "api_key" not in told


@given(JSON)
def test_metadata_is_a_small_object_or_nothing(wire: Any) -> None:
    kept = visitor_metadata(wire)
    assert kept in ({}, wire)
    assert len(json.dumps(kept, ensure_ascii=False, separators=(",", ":")).encode()) <= MAX_METADATA


def test_metadata_has_bounds() -> None:
    deep: Any = "x"
    for _ in range(MAX_DEPTH):
        deep = {"a": deep}
    assert visitor_metadata(deep) == deep
    assert visitor_metadata({"a": deep}) == {}
    assert visitor_metadata({"a": "x" * MAX_METADATA}) == {}
    assert visitor_metadata([1]) == {}
