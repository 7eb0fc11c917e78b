from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.agent import MAX_PROBLEMS, MAX_TOOLS, AgentConfig, SessionLimits
from config.problem import Problem
from config.turns import InterruptionConfig, Preset, TurnDetectionConfig, TurnMode, VadConfig


def parse(**wire: object) -> AgentConfig:
    agent, problems = AgentConfig.parse("mara", wire)
    assert problems == []
    return agent


def problems(wire: object) -> list[tuple[str, str]]:
    return [(problem.key, problem.kind) for problem in AgentConfig.parse("mara", wire)[1]]


def test_nothing_set_gives_the_defaults_of_the_protocol() -> None:
    agent = parse()
    assert (agent.id, agent.language, agent.timezone, agent.prompt, agent.llm) == ("mara", "en", "UTC", "", None)
    assert agent.greeting_for("en") is None
    assert agent.allowed_origins == ()
    assert agent.interruption is None
    assert agent.session_limits == SessionLimits(
        max_duration_seconds=600, idle_timeout_seconds=60, idle_warning_seconds=15, idle_grace_seconds=10
    )
    assert not agent.generates


def test_the_frame_of_the_protocol() -> None:
    agent, found = AgentConfig.parse(
        "Mara_1",
        json.loads("""{"event":"agent.create","agent_id":"mara","voice":"elevenlabs/sarah","language":"es",
            "stt":"deepgram/flux","llm":"openai/gpt-5.4-nano","prompt":"You are Mara.","greeting":"¡Hola!",
            "tools":[{"type":"function","function":{"name":"book","description":"…",
            "parameters":{"type":"object","properties":{}}}}],"allowed_origins":["http://localhost:*"]}"""),
    )
    assert found == []
    assert agent.id == "mara-1"
    assert (agent.voice.provider, agent.voice.voice_id) == ("elevenlabs", "sarah")
    assert (agent.stt.provider, agent.stt.model) == ("deepgram", "flux")
    assert agent.llm is not None
    assert (agent.llm.provider, agent.llm.model, agent.llm.temperature) == ("openai", "gpt-5.4-nano", 0.7)
    assert agent.greeting_for("es") == "¡Hola!"
    assert agent.generates


def test_an_agent_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse().prompt = "x"


@pytest.mark.parametrize("key", ["promptVars", "prompt_vars", "vars"])
def test_variables_become_text(key: str) -> None:
    wire = {key: {"name": "Ana", "age": 7, "price": 2.5, "whole": 3.0}}
    assert parse(**wire).vars == {"name": "Ana", "age": "7", "price": "2.5", "whole": "3"}


def test_camel_case_of_updates_is_understood() -> None:
    agent = parse(
        rawPrompt=True,
        greetingInChat=True,
        instructions="Be kind.",
        allowedOrigins=["https://a.example"],
        sessionLimits={"maxDurationSeconds": 5, "idle_grace_seconds": 0},
    )
    assert agent.raw_prompt
    assert agent.greeting_in_chat
    assert agent.prompt == "Be kind."
    assert agent.allowed_origins == ("https://a.example",)
    assert agent.session_limits == SessionLimits(max_duration_seconds=5, idle_grace_seconds=0)


@pytest.mark.parametrize("wire", [{"instructions": "a", "prompt": "b"}, {"prompt": "b", "instructions": "a"}])
def test_the_canonical_spelling_wins(wire: dict[str, str]) -> None:
    assert parse(**wire).prompt == "b"


def test_null_is_not_set() -> None:
    assert parse(voice=None, llm=None, prompt=None, tools=None, config=None) == parse()


def test_the_prompt_inside_the_model_of_early_clients() -> None:
    llm = {"provider": "gpt-4.1-mini", "model": "gpt-4.1-mini", "enabled": True, "prompt": "Inner."}
    assert parse(llm=llm).effective_prompt == "Inner."
    assert parse(llm=llm, prompt="Outer.").effective_prompt == "Outer."
    assert parse(llm="gpt-4.1").effective_prompt == parse().effective_prompt == ""


@pytest.mark.parametrize(("llm", "generates"), [("local", True), (False, False), ("", False), (None, False)])
def test_without_a_model_the_backend_answers(llm: object, generates: bool) -> None:
    assert parse(llm=llm).generates is generates
    assert not parse(llm={"model": "gpt-4.1", "enabled": False}).generates


@pytest.mark.parametrize(
    ("language", "expected"), [("pt-BR", "Oi"), ("pt-pt", "Olá"), ("EN-us", "Hi"), ("fr", "Hi"), ("multi", "Hi")]
)
def test_a_greeting_follows_the_language(language: str, expected: str) -> None:
    agent = parse(greeting={"es": "Hola", "en": "Hi", "pt": "Oi", "pt-PT": "Olá"})
    assert agent.greeting_for(language) == expected


def test_a_greeting_without_the_language_is_the_first_one() -> None:
    assert parse(greeting={"es": "Hola", "de": "Hallo"}).greeting_for("fr") == "Hola"
    assert parse(greeting={"es": " ", "de": "Hallo"}).greeting_for("es") == "Hallo"


@pytest.mark.parametrize("greeting", ["Hi", {"text": "Hi"}, {"text": "Hi", "addToHistory": True}, {"*": "Hi"}])
def test_one_greeting_for_all(greeting: object) -> None:
    assert parse(greeting=greeting).greeting_for("es") == "Hi"


def test_an_empty_greeting_is_none() -> None:
    assert parse(greeting="").greeting_for("en") is None


@pytest.mark.parametrize("value", [False, {"enabled": False}])
def test_interruption_can_be_switched_off(value: object) -> None:
    assert parse(interruption=value).interruption == InterruptionConfig(enabled=False)


def test_interruption_keeps_the_protocols_defaults_of_a_group_that_is_set() -> None:
    value = {"minDurationMs": 500, "energy_threshold_db": -40}
    assert parse(interruption=value).interruption == InterruptionConfig(min_duration_ms=500)
    assert parse(interruption=True).interruption is None


def test_nested_config_is_hoisted_and_the_top_level_wins() -> None:
    agent = parse(
        stt="deepgram",
        config={"stt": "gladia", "tts": {"provider": "cartesia", "voice_id": "x"}, "interruption": False},
    )
    assert agent.stt.provider == "deepgram"
    assert agent.voice.provider == "cartesia"
    assert agent.interruption is not None


def test_flat_and_nested_tools() -> None:
    agent, found = AgentConfig.parse("mara", {"tools": [{"name": "a"}, {"function": {"name": "b"}}, {"name": "a"}, 5]})
    assert [tool["function"]["name"] for tool in agent.tools] == ["a", "b"]
    assert [problem.key for problem in found] == ["tools[2]", "tools[3]"]


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ({"colour": 1}, [("colour", "unknown")]),
        ({"id": "x"}, [("id", "unknown")]),
        ({"interruption": {"colour": 1}}, [("interruption.colour", "unknown")]),
        ({"llm": {"model": "gpt-4.1", "colour": 1}}, [("llm.colour", "unknown")]),
        (
            {"config": {"colour": 1, "speaker_filter": {}}},
            [("config.colour", "unknown"), ("config.speaker_filter", "unsupported")],
        ),
        ({"config": 5}, [("config", "invalid")]),
        ({"knowledgeBase": "x", "skills": 1}, [("knowledge_base", "unsupported"), ("skills", "invalid")]),
        ({"memory": {}, "mode": 1, "media": {}}, []),
        ({"prompt": 5}, [("prompt", "invalid")]),
        ({"prompt": "\ud800"}, [("prompt", "invalid")]),
        ({"voice": 5}, [("voice", "invalid")]),
        ({"voice": {"speed": 9}}, [("voice.speed", "invalid")]),
        ({"voice": {"style": ["\ud800"]}}, [("voice.options", "invalid")]),
        ({"stt": {"provider": "deepgram", "keyterms": float("inf")}}, [("stt.options", "invalid")]),
        ({"tools": [{"name": "a", "description": "\ud800"}]}, [("tools[0]", "invalid")]),
        ({"language": "x"}, [("language", "invalid")]),
        ({"language": "en\nes"}, [("language", "invalid")]),
        ({"timezone": "Mars"}, [("timezone", "invalid")]),
        ({"timezone": "../../etc/passwd"}, [("timezone", "invalid")]),
        ({"flash": "yes"}, [("flash", "invalid")]),
        ({"llm": {"model": "x", "base_url": "file:///etc/passwd"}}, [("llm.base_url", "invalid")]),
        ({"llm": {"model": "x", "temperature": 10**400}}, [("llm.temperature", "invalid")]),
        ({"llm": {"model": "x", "max_tokens": 0}}, [("llm.max_tokens", "invalid")]),
        ({"llm": "pinecall/gpt-realtime"}, [("llm.model", "unsupported")]),
        ({"allowed_origins": "https://a.example"}, [("allowed_origins", "invalid")]),
        ({"allowed_origins": ["https://a.example", 5]}, [("allowed_origins[1]", "invalid")]),
        ({"vars": {"a": True}}, [("vars.a", "invalid")]),
        ({"vars": {"a": 10**5000}}, [("vars", "invalid")]),
        ({"turn_detection": "psychic"}, [("turn_detection", "invalid")]),
        ({"turn_detection": {"max_silence_seconds": 61}}, [("turn_detection.max_silence_seconds", "invalid")]),
        ({"vad": {"threshold": 2}}, [("vad.threshold", "invalid")]),
        (
            {"session_limits": {"idle_timeout_seconds": float("nan")}},
            [("session_limits.idle_timeout_seconds", "invalid")],
        ),
        ({"tools": {}}, [("tools", "invalid")]),
        ({"tools": [{"name": str(n)} for n in range(MAX_TOOLS + 1)]}, [("tools", "invalid")]),
        ([1], [("", "invalid")]),
        (None, [("", "invalid")]),
    ],
)
def test_what_cannot_be_used_is_named(wire: object, expected: list[tuple[str, str]]) -> None:
    assert problems(wire) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("silence", TurnDetectionConfig(mode=TurnMode.SILENCE)),
        ("patient", TurnDetectionConfig(preset=Preset.PATIENT)),
        ({"mode": "native", "nativeSilenceMs": 900}, TurnDetectionConfig(mode=TurnMode.NATIVE, native_silence_ms=900)),
    ],
)
def test_turn_detection_in_its_spellings(value: object, expected: TurnDetectionConfig) -> None:
    assert parse(turn_detection=value).turn_detection == expected
    assert parse(turnDetection=value).turn_detection == expected
    assert parse(config={"turn_detection": value}).turn_detection == expected


def test_vad_stands_at_the_top_or_inside_config() -> None:
    assert parse(vad={"min_silence_ms": 500}).vad == VadConfig(min_silence_ms=500)
    assert parse(config={"vad": {"minSilenceMs": 500}}).vad == VadConfig(min_silence_ms=500)


def test_only_the_bad_key_is_lost() -> None:
    wire = {
        "prompt": "Hi",
        "llm": {"model": "gpt-4.1", "temperature": "hot", "colour": 1},
        "interruption": {"min_words": [], "min_duration_ms": 500},
        "allowed_origins": ["a", 1, "b", {}, "c"],
        "vars": {"a": "1", "b": None},
        "session_limits": 5,
    }
    agent, found = AgentConfig.parse("mara", wire)
    assert len(found) == 7
    assert agent.prompt == "Hi"
    assert agent.llm is not None
    assert (agent.llm.model, agent.llm.temperature) == ("gpt-4.1", 0.7)
    assert agent.interruption == InterruptionConfig(min_duration_ms=500)
    assert agent.allowed_origins == ("a", "b", "c")
    assert agent.vars == {"a": "1"}


def test_a_realtime_model_falls_back_to_the_servers_own() -> None:
    agent, _ = AgentConfig.parse("mara", {"llm": {"provider": "openai", "model": "gpt-realtime", "prompt": "Hi"}})
    assert agent.llm is not None
    assert (agent.llm.provider, agent.llm.model, agent.effective_prompt) == (None, "", "Hi")


def test_problems_are_fit_for_a_log() -> None:
    _, found = AgentConfig.parse("mara", {f"a\nERROR forged {n}" + "x" * 1000: "private" for n in range(500)})
    assert len(found) == MAX_PROBLEMS
    text = str(found[0])
    assert text.isprintable()
    assert len(text) < 120
    assert "private" not in text


@pytest.mark.parametrize("key", ["allowed_origins", "vars", "llm", "interruption", "session_limits", "tools", "config"])
@pytest.mark.parametrize("many", [[0] * 100_000, {f"{n}": [] for n in range(100_000)}], ids=["list", "object"])
def test_a_large_bad_frame_costs_little(key: str, many: Any) -> None:
    agent, found = AgentConfig.parse("mara", {key: many, "prompt": "Hi"})
    assert agent == parse(prompt="Hi")
    assert 0 < len(found) <= MAX_PROBLEMS


def test_a_frame_of_many_unknown_keys_costs_little() -> None:
    agent, found = AgentConfig.parse("mara", {f"{n}": [] for n in range(100_000)} | {"prompt": "Hi"})
    assert agent == parse(prompt="Hi")
    assert len(found) == MAX_PROBLEMS


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["deepgram:nova-3:es", "elevenlabs/sarah", "Europe/Madrid", "\ud800", "openai/", ":", "realtime"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = [
    *AgentConfig.model_fields,
    "promptVars",
    "instructions",
    "config",
    "greetingInChat",
    "toolFiller",
    "sessionLimits",
]
PARTS = [
    "provider",
    "engine",
    "model",
    "llm",
    "voiceId",
    "voice",
    "min_words",
    "enabled",
    "prompt",
    "text",
    "stt",
    "tts",
]
PARTS += ["speed", "temperature", "base_url", "function", "name", "parameters", "idle_grace_seconds", "interruption"]
WIRE = st.dictionaries(
    st.sampled_from(KEYS), JSON | st.dictionaries(st.sampled_from(PARTS), JSON, max_size=4), max_size=6
)


@given(WIRE | JSON)
def test_any_json_gives_an_agent_and_a_list_of_problems(wire: Any) -> None:
    agent, found = AgentConfig.parse("mara", wire)
    assert agent.id == "mara"
    assert all(isinstance(problem, Problem) and str(problem).isprintable() for problem in found)
    agent.greeting_for("pt-BR")
    agent.model_dump_json()  # nothing inside that could not be sent on
    assert AgentConfig.parse("mara", wire) == (agent, found) or "nan" in repr(wire)


@given(WIRE)
def test_a_bad_key_does_not_change_what_the_others_say(wire: dict[str, Any]) -> None:
    clean = {key: value for key, value in wire.items() if key not in ("prompt", "instructions")}
    agent, _ = AgentConfig.parse("mara", {**clean, "prompt": "Hi", "colour": 1, "flash": "no"})
    assert agent.prompt == "Hi"
    assert agent.flash is False
