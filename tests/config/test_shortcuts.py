from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from config import shortcuts


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("elevenlabs/sarah", {"provider": "elevenlabs", "voice_id": "sarah"}),
        ("ElevenLabs/Sarah", {"provider": "elevenlabs", "voice_id": "sarah"}),
        ("elevenlabs:EXAVITQu4vr4xnSDxMaL", {"provider": "elevenlabs", "voice_id": "EXAVITQu4vr4xnSDxMaL"}),
        ("cartesia:a:B/c", {"provider": "cartesia", "voice_id": "a:B/c"}),
        ("polly", {"provider": "polly"}),
        ("hibari", {"provider": "hibari"}),
        ("elevenlabs/", {"provider": "elevenlabs"}),
        ("Coral", {"voice_id": "coral"}),
        ({"provider": "Polly", "voiceId": "Lucia"}, {"provider": "polly", "voice_id": "Lucia"}),
        ({"voice": "a"}, {"voice_id": "a"}),
        ({"id": "a", "voice": "b"}, {"voice_id": "b"}),
        ({"voice_id": "a", "id": "b", "model": None}, {"voice_id": "a"}),
        (
            {"provider": "elevenlabs", "stability": 0.5, "useSpeakerBoost": True, "speed": 1.1},
            {"provider": "elevenlabs", "speed": 1.1, "options": {"stability": 0.5, "use_speaker_boost": True}},
        ),
    ],
)
def test_voice(value: object, expected: dict[str, Any]) -> None:
    assert shortcuts.voice(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("deepgram/nova-3", {"provider": "deepgram", "model": "nova-3"}),
        ("deepgram:nova-3", {"provider": "deepgram", "model": "nova-3"}),
        ("deepgram:nova-3:es", {"provider": "deepgram", "model": "nova-3", "language": "es"}),
        ("deepgram", {"provider": "deepgram"}),
        ("transcribe", {"provider": "transcribe"}),
        ("moonshine", {"provider": "moonshine"}),
        ("flux", {"provider": "deepgram", "model": "flux"}),
        ("deepgram-flux", {"provider": "deepgram", "model": "flux"}),
        ("deepgram/flux-en", {"provider": "deepgram", "model": "flux-en"}),
        (
            {"provider": "deepgram-flux", "eot_threshold": 0.7, "languageHint": "es"},
            {"provider": "deepgram", "model": "flux", "options": {"eot_threshold": 0.7, "language_hint": "es"}},
        ),
        (
            {"provider": "soniox", "turn": "smart_turn", "language": "es"},
            {"provider": "soniox", "language": "es", "options": {"turn": "smart_turn"}},
        ),
    ],
)
def test_stt(value: object, expected: dict[str, Any]) -> None:
    assert shortcuts.stt(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("gpt-4.1-mini", {"provider": "openai", "model": "gpt-4.1-mini"}),
        ("openai/gpt-5.4-nano", {"provider": "openai", "model": "gpt-5.4-nano"}),
        ("openai:gpt-4.1-mini", {"provider": "openai", "model": "gpt-4.1-mini"}),
        ("openrouter/x-ai/grok-4", {"provider": "openrouter", "model": "x-ai/grok-4"}),
        ("openrouter:x-ai/grok-4", {"provider": "openrouter", "model": "x-ai/grok-4"}),
        ("openrouter/x-ai/grok-4:free", {"provider": "openrouter", "model": "x-ai/grok-4:free"}),
        ("gemini/flash", {"provider": "google", "model": "flash"}),
        ("claude/haiku", {"provider": "anthropic", "model": "haiku"}),
        ("grok:4", {"provider": "xai", "model": "4"}),
        ("claude", {"provider": "anthropic", "model": ""}),
        ("local", {"provider": "local", "model": ""}),
        ("rules", {"provider": "rules", "model": ""}),
        ("qwen3:8b", {"provider": "openai", "model": "qwen3:8b"}),
        ("somebody/new", {"provider": "somebody", "model": "new"}),
        ("pinecall/fast", {"provider": None, "model": "fast"}),
        ("pinecall:fast", {"provider": None, "model": "fast"}),
        ({"provider": "openai", "model": "gpt-4.1"}, {"provider": "openai", "model": "gpt-4.1"}),
        ({"engine": "openai", "llm": "gpt-4.1"}, {"provider": "openai", "model": "gpt-4.1"}),
        ({"model": "anthropic/haiku"}, {"provider": "anthropic", "model": "haiku"}),
        ({"llm": "gpt-4.1"}, {"provider": "openai", "model": "gpt-4.1"}),
        ({"provider": "openai", "model": "openai/gpt-4.1"}, {"provider": "openai", "model": "gpt-4.1"}),
        ({"provider": "openrouter", "model": "x-ai/grok-4"}, {"provider": "openrouter", "model": "x-ai/grok-4"}),
        ({"provider": "groq", "model": "openai/gpt-oss"}, {"provider": "groq", "model": "openai/gpt-oss"}),
        ({"provider": "claude", "model": "haiku"}, {"provider": "anthropic", "model": "haiku"}),
        ({"provider": "pinecall"}, {"provider": None}),
        ({"provider": "pinecall", "model": "pinecall/fast"}, {"provider": None, "model": "fast"}),
        ({"provider": "", "model": "gpt-4.1"}, {"provider": "openai", "model": "gpt-4.1"}),
        ({"provider": "local"}, {"provider": "local"}),
        (
            {"provider": "openai", "model": "openai/gpt-oss", "baseURL": "http://localhost:8000/v1"},
            {"provider": "openai", "model": "openai/gpt-oss", "base_url": "http://localhost:8000/v1"},
        ),
        # Early clients cannot tell the provider of a model without a colon.
        (
            {"provider": "gpt-4.1-mini", "model": "gpt-4.1-mini", "enabled": True, "prompt": "Hi"},
            {"provider": "openai", "model": "gpt-4.1-mini", "enabled": True, "prompt": "Hi"},
        ),
        (
            {"engine": "GPT-4.1", "model": "GPT-4.1", "instructions": "Hi"},
            {"provider": "openai", "model": "GPT-4.1", "prompt": "Hi"},
        ),
        (
            {"provider": "openai/gpt-4.1", "model": "openai/gpt-4.1"},
            {"provider": "openai", "model": "gpt-4.1"},
        ),
        ({"provider": "gemini", "model": "gemini"}, {"provider": "google", "model": ""}),
    ],
)
def test_llm(value: object, expected: dict[str, Any]) -> None:
    assert shortcuts.llm(value) == expected


@pytest.mark.parametrize("resolve", [shortcuts.voice, shortcuts.stt, shortcuts.llm])
@pytest.mark.parametrize("value", [5, True, [], None, "", "  ", " :/ "])
def test_what_is_neither_text_nor_object_is_refused(resolve: Any, value: object) -> None:
    with pytest.raises(ValueError, match="expected a"):
        resolve(value)


@pytest.mark.parametrize("resolve", [shortcuts.voice, shortcuts.stt, shortcuts.llm])
@given(text=st.text(alphabet="ab/:- \u00e9A", min_size=1))
def test_any_text_gives_an_object_of_texts(resolve: Any, text: str) -> None:
    assume(text.strip("/: "))
    found = resolve(text)
    assert set(found) <= {"provider", "model", "voice_id", "language"}
    assert all(isinstance(value, str) and value == value.strip() for value in found.values())
    assert all(found.values()) or found.get("model") == ""


FUNCTION = {"name": "book", "description": "Books", "parameters": {"type": "object", "properties": {"day": {}}}}


@pytest.mark.parametrize(
    "value", [{"type": "function", "function": FUNCTION}, FUNCTION, FUNCTION | {"type": "function"}]
)
def test_a_tool_may_be_nested_or_flat(value: object) -> None:
    assert shortcuts.tool(value) == {"type": "function", "function": FUNCTION}


def test_a_tool_needs_a_name_alone() -> None:
    assert shortcuts.tool({"name": "ping"})["function"] == {
        "name": "ping",
        "description": "",
        "parameters": {"type": "object", "properties": {}},
    }


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "book",
        {},
        {"name": ""},
        {"name": "a b"},
        {"name": "a" * 65},
        {"name": 5},
        {"name": "a", "description": 5},
        {"name": "a", "parameters": []},
        {"type": "web_search"},
        {"function": []},
    ],
)
def test_what_no_model_could_be_offered_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        shortcuts.tool(value)
