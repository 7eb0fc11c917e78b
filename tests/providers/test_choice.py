"""Who is asked for an agent: the providers that the operator has set up, and nobody else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from config.agent import AgentConfig
from config.problem import SettingsError
from config.settings import Settings
from pipeline.engine import Engines
from pipeline.llm import GenerateOptions, LanguageModel, TextDelta
from pipeline.llm.failover import LlmFailover
from tests.providers.openai_chat import OpenAiServer, Script

SEED = {"model": "gpt-4.1-mini", "provider": "gpt-4.1-mini", "enabled": True, "prompt": "Sé breve."}
"""What the seed's client sends for ``model: "gpt-4.1-mini"`` (protocol 7.4)."""


def agent(llm: Any, **wire: Any) -> AgentConfig:
    config, problems = AgentConfig.parse("demo", {"llm": llm, **wire})
    assert not problems
    return config


def engines(tmp_path: Path, **settings: Any) -> Engines:
    return Engines(Settings(models_dir=tmp_path, **settings))


def line(model: LanguageModel) -> list[tuple[str, str]]:
    """Who is asked in turn, and for which model."""
    if not isinstance(model, LlmFailover):
        return [(model.name, "")]
    return [(candidate.engine.name, candidate.model) for candidate in model.candidates]


KEYS = ["openai:sk-openai-1", "groq:gsk-groq-1"]


@pytest.mark.parametrize(
    ("llm", "settings", "expected"),
    [
        ("gpt-4.1-mini", {}, [("openai", "gpt-4.1-mini"), ("local", "")]),
        (SEED, {}, [("openai", "gpt-4.1-mini"), ("local", "")]),
        ("openai/gpt-4.1", {}, [("openai", "gpt-4.1"), ("local", "")]),
        ("groq:llama-3.3-70b-versatile", {}, [("groq", "llama-3.3-70b-versatile"), ("local", "")]),
        ("openai", {}, [("openai", ""), ("local", "")]),
        ("local", {}, [("local", "")]),
        ("ollama/qwen3:8b", {}, [("ollama", "qwen3:8b"), ("local", "")]),
        ({"prompt": "Hi."}, {}, [("local", "")]),
        ({"prompt": "Hi."}, {"llm": "groq/llama-3.3-70b"}, [("groq", "llama-3.3-70b"), ("local", "")]),
        ("pinecall/fast", {"llm": "groq/llama-3.3-70b"}, [("groq", "llama-3.3-70b"), ("local", "")]),
        (
            "gpt-4.1",
            {"llm_fallbacks": ["groq/llama-3.3-70b", "ollama/qwen3:8b", "nobody/x"]},
            [("openai", "gpt-4.1"), ("groq", "llama-3.3-70b"), ("ollama", "qwen3:8b"), ("local", "")],
        ),
        ("gpt-5.4-nano", {"model_names": ["gpt-5.4-nano=ollama/qwen3:4b"]}, [("ollama", "qwen3:4b"), ("local", "")]),
        ("gpt-5.4-nano", {"model_names": ["gpt-*=groq/fast"]}, [("groq", "fast"), ("local", "")]),
        ("gpt-5.4-nano", {"model_names": ["gpt-5.4-nano=gpt-4.1"]}, [("openai", "gpt-4.1"), ("local", "")]),
        ("gpt-5.4-nano", {"model_names": ["gpt-5.4-nano=local"]}, [("local", "")]),
        ("house/any", {"provider_urls": ["house=http://10.0.0.5:8000/v1"]}, [("house", "any"), ("local", "")]),
    ],
)
def test_who_answers(tmp_path: Path, llm: Any, settings: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    here = engines(tmp_path, **{"provider_keys": KEYS, "provider_urls": ["ollama"], **settings})
    chosen = here.choose(agent(llm))
    assert (line(chosen.llm), chosen.warnings) == (expected, ())
    assert chosen.llm == here.choose(agent(llm)).llm  # an answer that was prepared for the one is good for the other
    assert line(here.choose_model(agent(llm))) == expected


@pytest.mark.parametrize(
    ("llm", "warning"),
    [
        ("gpt-4.1-mini", "openai is not set up: OPENAI_API_KEY is not set; local takes its place"),
        (SEED, "openai is not set up: OPENAI_API_KEY is not set; local takes its place"),
        ("claude/claude-sonnet-4-5", "anthropic is not set up: ANTHROPIC_API_KEY is not set; local takes its place"),
        ("ollama/qwen3:8b", "ollama is not set up: VOICE_PROVIDER_URLS does not name it; local takes its place"),
        ("deepgram/x", "there is no language model engine 'deepgram' here; local takes its place"),
        ("nobody/x", "there is no language model engine 'nobody' here; local takes its place"),
    ],
)
def test_without_a_key_the_local_engine_answers(tmp_path: Path, llm: Any, warning: str) -> None:
    chosen = engines(tmp_path).choose(agent(llm))
    assert (line(chosen.llm), chosen.warnings) == ([("local", "")], (warning,))


def test_speech_to_speech_is_not_supported_and_said_so(tmp_path: Path) -> None:
    config, problems = AgentConfig.parse("demo", {"llm": "openai/gpt-realtime"})
    assert [(problem.kind, problem.text) for problem in problems] == [
        ("unsupported", "speech-to-speech models are not supported; the server's own model answers")
    ]
    assert line(engines(tmp_path, provider_keys=KEYS).choose(config).llm) == [("local", "")]


# --- addresses that a backend names


@pytest.mark.parametrize(
    "url",
    ["http://169.254.169.254/latest/meta-data", "http://localhost:6379/", "https://user:secret@evil.example/v1"],
)
def test_a_backend_cannot_have_the_server_ask_any_address(tmp_path: Path, url: str) -> None:
    chosen = engines(tmp_path, provider_keys=KEYS).choose(agent({"provider": "openai", "model": "x", "base_url": url}))
    assert line(chosen.llm) == [("local", "")]
    [warning] = chosen.warnings
    assert "is no provider of this server's; local takes its place" in warning
    assert "secret" not in warning


@pytest.mark.parametrize(
    ("url", "settings", "provider"),
    [
        ("https://api.groq.com/openai/v1/", {}, "groq"),
        ("http://10.0.0.5:8000/v1", {"provider_urls": ["house=http://10.0.0.5:8000/v1"]}, "house"),
        ("http://10.0.0.5:8000/v1", {"provider_urls": ["openai=http://10.0.0.5:8000/v1"]}, "openai"),
    ],
)
def test_an_address_may_name_a_provider_of_the_operator(
    tmp_path: Path, url: str, settings: dict[str, Any], provider: str
) -> None:
    llm = {"provider": "openai", "model": "m", "base_url": url}
    chosen = engines(tmp_path, provider_keys=KEYS, **settings).choose(agent(llm))
    assert line(chosen.llm)[0] == (provider, "m")


# --- keys


async def test_each_organisation_asks_with_its_own_key(tmp_path: Path) -> None:
    here = engines(tmp_path, provider_keys=["openai:sk-of-all", "acme/openai:sk-of-acme"])
    common, acme, other = (here.of(org).choose(agent("gpt-4.1")).llm for org in ("default", "acme", "other"))
    assert common == other
    assert common != acme
    assert acme == here.of("acme").choose(agent("gpt-4.1")).llm
    async with OpenAiServer(key="sk-of-acme") as server:
        here = engines(tmp_path, provider_keys=["acme/openai:sk-of-acme"], provider_urls=[f"openai={server.url}"])
        of_acme = here.of("acme")
        await of_acme.ready(agent("gpt-4.1"), kinds=["llm"])
        async with aclosing(of_acme.choose(agent("gpt-4.1")).llm.generate([], [], GenerateOptions())) as deltas:
            assert await anext(deltas) == TextDelta("Hello there.", "openai")
        assert server.headers[-1]["Authorization"] == "Bearer sk-of-acme"
        await here.aclose()


def test_a_key_of_one_organisation_is_nobody_elses(tmp_path: Path) -> None:
    here = engines(tmp_path, provider_keys=["acme/openai:sk-of-acme"])
    assert line(here.of("acme").choose(agent("gpt-4.1")).llm)[0] == ("openai", "gpt-4.1")
    assert line(here.choose(agent("gpt-4.1")).llm) == [("local", "")]
    assert line(here.of("other").choose(agent("gpt-4.1")).llm) == [("local", "")]


def test_keys_of_the_environment_have_their_usual_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-usual")
    monkeypatch.setenv("GROQ_API_KEY", "")
    monkeypatch.setenv("VOICE_PROVIDER_KEYS", "acme/openai:sk-acme, deepgram:dg-1")
    monkeypatch.setenv("DEEPGRAM_API_KEY", "dg-usual")
    settings = Settings.load(models_dir=tmp_path)
    providers = Engines(settings).providers
    found = [providers.key("openai"), providers.key("openai", "acme"), providers.key("deepgram"), providers.key("groq")]
    assert found == ["sk-usual", "sk-acme", "dg-1", ""]
    shown = "\n".join(f"{row.name} {row.value}" for row in settings.describe())
    assert not [key for key in ("sk-usual", "sk-acme", "dg-1") if key in shown]


def test_keys_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# of the cloud\nopenai:sk-file\nacme/groq:gsk-file\n")
    providers = engines(tmp_path, provider_keys_file=file).providers
    assert (providers.key("openai"), providers.key("groq", "acme")) == ("sk-file", "gsk-file")
    file.write_text("openai:sk-file\nsk-lonely-secret\n")
    with pytest.raises(SettingsError, match="line 2: expected provider:key") as caught:
        engines(tmp_path, provider_keys_file=file)
    assert "lonely" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("provider_keys", "sk-no-provider-secret"),
        ("provider_keys", "Acme Inc/openai:sk-secret"),
        ("provider_urls", "nobody"),
        ("provider_urls", "openai=ftp://x"),
        ("provider_urls", "openai=http://user:secret@x/v1"),
        ("model_names", "gpt-4.1"),
    ],
)
def test_what_is_no_entry_is_refused_without_showing_a_secret(setting: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load(**{setting: value})
    assert f"--{setting.replace('_', '-')}" in str(caught.value)
    if setting == "provider_keys":
        assert "secret" not in str(caught.value)


def test_a_file_may_hold_tables(tmp_path: Path) -> None:
    file = tmp_path / "voice.toml"
    file.write_text('[provider_urls]\nhouse = "http://10.0.0.5/v1"\n[model_names]\n"gpt-*" = "house/qwen3"\n')
    settings = Settings.load(file)
    assert settings.provider_urls == ("house=http://10.0.0.5/v1",)
    assert line(Engines(settings).choose(agent("gpt-4.1")).llm)[0] == ("house", "qwen3")


# --- from the settings to the answer


@pytest.fixture
async def house() -> AsyncIterator[OpenAiServer]:
    async with OpenAiServer(key="") as server:
        yield server


async def test_a_provider_is_loaded_when_an_agent_needs_it_and_its_trouble_is_told(
    tmp_path: Path, house: OpenAiServer
) -> None:
    house.key = "sk-right-key"
    here = engines(tmp_path, llm="rules", provider_keys=["openai:sk-wrong"], provider_urls=[f"openai={house.url}"])
    asked = agent("gpt-4.1-mini")
    assert here.choose(asked).warnings == ()  # nobody knows yet
    assert house.listed == 0
    await here.ready(asked, kinds=["llm"])
    assert house.listed == 1
    [warning] = here.choose(asked).warnings
    assert warning.startswith("openai refuses the key (401)")
    deltas = here.choose(asked).llm.generate([{"role": "user", "content": "What is 2 plus 2?"}], [], GenerateOptions())
    answer = "".join([delta.text async for delta in deltas if isinstance(delta, TextDelta)])
    assert answer == "Two plus two is four."
    await here.aclose()


async def test_a_house_server_answers_in_the_place_of_openai(tmp_path: Path, house: OpenAiServer) -> None:
    house.scripts.append(Script("Claro."))
    here = engines(tmp_path, provider_urls=[f"ollama={house.url}"], model_names=["gpt-4.1-mini=ollama/qwen3:4b"])
    chosen = here.choose(agent(SEED)).llm
    await here.ready(agent(SEED), kinds=["llm"])
    async with aclosing(chosen.generate([{"role": "user", "content": "Hola"}], [], GenerateOptions())) as deltas:
        assert await anext(deltas) == TextDelta("Claro.", "ollama")
    assert house.requests[0]["model"] == "qwen3:4b"
    await here.aclose()


def test_nothing_is_imported_before_somebody_is_asked(tmp_path: Path) -> None:
    """The SDK takes a second."""
    program = f"""
import sys
import server.cli
from config.agent import AgentConfig
from config.settings import Settings
from pipeline.engine import Engines
settings = Settings(models_dir={str(tmp_path)!r}, provider_keys=["openai:sk-1", "elevenlabs:xi-1"])
agent, _ = AgentConfig.parse("demo", {{"llm": "gpt-4.1-mini", "voice": "elevenlabs/sarah", "stt": "openai"}})
assert Engines(settings).choose(agent).llm.name == "openai"
print(*sorted({{"openai", "httpx2"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
