from __future__ import annotations

from pathlib import Path

import pytest
import tzlocal

from config.agent import AgentConfig
from config.agents import load_agents
from config.problem import SettingsError
from config.settings import Settings


def agents(settings: Settings) -> dict[str, AgentConfig]:
    return {agent.id: agent for agent in load_agents(settings)}


def test_a_fresh_server_has_two_agents() -> None:
    assert list(agents(Settings())) == ["demo", "mara"]


def test_the_demo_agent_answers_on_a_fresh_server() -> None:
    demo = agents(Settings())["demo"]
    assert demo.language == "en"
    assert demo.generates
    assert demo.llm is not None
    assert demo.llm.provider == "local"
    assert "{{time}}" in demo.effective_prompt
    assert "demo agent" in (demo.greeting_for("en") or "")
    hosts = ("localhost", "127.0.0.1")
    assert demo.allowed_origins == tuple(f"{scheme}://{host}:*" for scheme in ("http", "https") for host in hosts)


def test_mara_speaks_spanish() -> None:
    mara = agents(Settings())["mara"]
    assert mara.language == "es"
    assert mara.generates
    assert "You are Mara" in mara.effective_prompt
    assert (mara.greeting_for("es-MX") or "").startswith("¡Hola!")
    assert (mara.voice.provider, mara.voice.voice_id) == ("elevenlabs", "EXAVITQu4vr4xnSDxMaL")


@pytest.mark.parametrize("zone", ["America/Lima", "Asia/Kathmandu"])
def test_the_shipped_agents_live_in_the_time_zone_of_their_machine(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        tzlocal.reload_localzone()
        assert {agent.timezone for agent in load_agents(Settings())} == {zone}
    tzlocal.reload_localzone()


@pytest.mark.parametrize(
    "settings",
    [
        Settings(host="0.0.0.0"),
        Settings(host="::"),
        Settings(trust_proxy=True),
        Settings(host="0.0.0.0", published_on="0.0.0.0"),
        Settings(host="0.0.0.0", published_on="192.0.2.1"),
        Settings(host="0.0.0.0", published_on="127.0.0.1", trust_proxy=True),
    ],
)
def test_the_shipped_agents_are_open_to_nobody_when_others_can_reach_it(settings: Settings) -> None:
    assert {agent.allowed_origins for agent in load_agents(settings)} == {()}


@pytest.mark.parametrize("address", ["127.0.0.1", "[::1]", "localhost"])
def test_the_shipped_agents_are_open_in_a_container_that_only_its_own_machine_can_reach(address: str) -> None:
    assert all(agent.allowed_origins for agent in load_agents(Settings(host="0.0.0.0", published_on=address)))


def test_agents_are_declared_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "voice.toml"
    file.write_text("""
        host = "0.0.0.0"
        [agents.Front_Desk]
        greeting = { en = "Hello", es = "Hola" }
        voice = "elevenlabs/sarah"
        llm = "gpt-4.1-mini"
        allowed_origins = ["https://mysite.com"]
        [[agents.Front_Desk.tools]]
        name = "book"
        [agents.demo]
        greeting = "Mine"
    """)
    found = agents(Settings.load(file))
    assert list(found) == ["demo", "mara", "front-desk"]
    demo, desk = found["demo"], found["front-desk"]
    assert demo.greeting_for("en") == "Mine"
    assert desk.id == "front-desk"
    assert desk.greeting_for("es-MX") == "Hola"
    assert (desk.voice.provider, desk.voice.voice_id) == ("elevenlabs", "sarah")
    assert desk.tools[0]["function"]["name"] == "book"
    assert desk.allowed_origins == ("https://mysite.com",)  # the operator's own words count wherever HTTP is bound


def test_a_declared_agent_answers_unless_its_model_is_switched_off(tmp_path: Path) -> None:
    file = tmp_path / "voice.toml"
    file.write_text("""
        [agents.receptionist]
        prompt = "You answer the phone of a small dental clinic."
        [agents.silent]
        llm = { enabled = false }
        [agents.mute]
        llm = false
    """)
    *_, receptionist, silent, mute = load_agents(Settings.load(file))
    assert receptionist.generates
    assert receptionist.llm is not None
    assert receptionist.llm.provider is None
    assert not silent.generates
    assert not mute.generates


def test_any_problem_of_a_declared_agent_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "voice.toml"
    file.write_text("""
        [agents.mara]
        promt = "secret plan"
        timezone = "Mars/Olympus"
        knowledge_base = "x"
        interruption = { min_words = "two" }
        [agents.Mara]
        [agents."!!"]
    """)
    with pytest.raises(SettingsError) as caught:
        Settings.load(file)
    text = str(caught.value)
    assert f"agents.mara.promt in {file}: unknown key; did you mean prompt?" in text
    assert "secret plan" not in text
    assert f"agents.mara.timezone = 'Mars/Olympus' in {file}: unknown time zone" in text
    assert f"agents.mara.interruption.min_words = 'two' in {file}: expected a valid integer" in text
    assert f"agents.mara.knowledge_base = 'x' in {file}: has no effect" in text
    assert f"agents.Mara in {file}: expected a name" in text
    assert f"agents.!! in {file}: expected a name" in text


@pytest.mark.parametrize("content", ["agents = 5", "[[agents]]\nname = 'x'", "[agents]\nmara = 5"])
def test_agents_that_are_no_tables_stop_the_start(content: str, tmp_path: Path) -> None:
    file = tmp_path / "voice.toml"
    file.write_text(content)
    with pytest.raises(SettingsError, match="expected"):
        Settings.load(file)
