"""Layers of configuration: what a frame sets, laid over what was there. Protocol 3.8, 7.1."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from config.agent import AgentConfig
from config.patch import parse_patch, patched


def agent(**wire: object) -> AgentConfig:
    config, problems = AgentConfig.parse("mara", wire)
    assert not problems
    return config


def test_a_patch_holds_what_the_frame_sets_and_nothing_else():
    wire = {
        "event": "session.configure",
        "session_id": "c1",
        "promptVars": {"n": 1},
        "rawPrompt": True,
        "stt": "deepgram:nova-3:es",
        "sessionLimits": {"idleTimeoutSeconds": 5},
        "tools": [{"name": "book", "schema": {}, "ephemeral": True, "_jsonSchema": {"type": "object", "required": []}}],
    }
    patch, problems = parse_patch(wire)
    assert not problems
    assert set(patch) == {"vars", "raw_prompt", "stt", "session_limits", "tools"}
    assert (patch["stt"].provider, patch["stt"].model, patch["stt"].language) == ("deepgram", "nova-3", "es")
    assert patch["tools"][0]["function"]["parameters"] == {"type": "object", "required": []}
    assert patch["session_limits"].idle_timeout_seconds == 5


def test_origins_are_no_part_of_a_patch():
    patch, _ = parse_patch({"allowed_origins": ["https://evil.example"], "agent_id": "x"})
    assert patch == {}


def test_later_patches_win_and_what_they_leave_out_stays():
    base = agent(prompt="a", language="es", voice="elevenlabs/sarah")
    first, _ = parse_patch({"language": "en", "prompt": "b"})
    second, _ = parse_patch({"prompt": "c"})
    result = patched(base, first, second)
    assert (result.prompt, result.language, result.voice.voice_id) == ("c", "en", "sarah")
    assert base.prompt == "a"


def test_an_adjustment_keeps_the_voice_and_the_model():
    base = agent(voice="elevenlabs/sarah", llm={"provider": "openai", "model": "gpt-4.1-mini", "max_tokens": 5})
    patch, _ = parse_patch({"voice": {"speed": 1.2}, "llm": {"temperature": 0}})
    result = patched(base, patch)
    assert (result.voice.voice_id, result.voice.speed) == ("sarah", 1.2)
    assert (result.llm.model, result.llm.max_tokens, result.llm.temperature) == ("gpt-4.1-mini", 5, 0)
    another, _ = parse_patch({"llm": "rules"})
    assert patched(result, another).llm.max_tokens is None


def test_what_cannot_be_used_is_reported_and_the_rest_is_kept():
    patch, problems = parse_patch({"prompt": 5, "language": "fr", "shoe_size": 44})
    assert set(patch) == {"language"}
    assert [(problem.key, problem.kind) for problem in problems] == [("shoe_size", "unknown"), ("prompt", "invalid")]


def test_skills_and_preparing():
    tool = {"type": "function", "function": {"name": "refund", "description": "", "parameters": {}}}
    skill = {"name": "billing", "description": "Money", "instructions": "Be exact.", "tools": [tool], "rag_top_k": 3}
    config = agent(skills=[skill | {"activation": "manual"}], preparing=True)
    [kept] = config.skills
    assert (kept.name, kept.activation, kept.tools[0]["function"]["name"]) == ("billing", "manual", "refund")
    assert kept.instructions == "Be exact."
    assert (config.preparing.enabled, config.preparing.timeout_ms) == (True, 1500)
    assert agent(preparing={"timeout_ms": 300}).preparing.timeout_ms == 300
    assert agent(preparing={"timeoutMs": 300}).preparing.timeout_ms == 300
    assert not agent(preparing=False).preparing.enabled


def test_a_wrong_skill_costs_itself_alone():
    wire = {
        "skills": [{"name": "a"}, {"description": "no name"}, {"name": "b", "activation": "never"}, {"name": "a"}, 7]
    }
    config, problems = AgentConfig.parse("mara", wire)
    assert [skill.name for skill in config.skills] == ["a"]
    assert [problem.key for problem in problems] == ["skills[1]", "skills[2].activation", "skills[3]", "skills[4]"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda j: st.lists(j) | st.dictionaries(st.text(), j)
    )
)
def test_any_json_makes_a_patch_that_can_be_laid_over(wire):
    patch, _ = parse_patch(wire)
    assert patched(AgentConfig(id="mara"), patch).id == "mara"
