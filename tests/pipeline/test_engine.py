from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.agent import AgentConfig
from config.settings import Settings
from media.audio import INPUT_RATE, OUTPUT_RATE, Pcm
from pipeline.apology import FOLDER, apology
from pipeline.engine import TABLE, CallEngines, EngineError, Engines, Unavailable
from pipeline.llm import GenerateOptions, TextDelta
from pipeline.stt import Transcript


def agent(**wire: Any) -> AgentConfig:
    config, problems = AgentConfig.parse("demo", wire)
    assert not problems
    return config


def engines(tmp_path: Path, **settings: Any) -> Engines:
    return Engines(Settings(models_dir=tmp_path, **settings))


def names(chosen: CallEngines) -> tuple[str, str, str]:
    return chosen.stt.name, chosen.llm.name, chosen.tts.name


# --- who is chosen


def test_an_agent_that_names_nothing_gets_the_engines_of_the_settings(tmp_path: Path) -> None:
    chosen = engines(tmp_path, llm="rules").choose(agent(llm={"prompt": "Hi."}))
    assert names(chosen) == ("moonshine", "rules", "hibari")
    assert (chosen.voice, chosen.warnings) == ("heart", ())


def test_an_agent_gets_what_it_names(tmp_path: Path) -> None:
    chosen = engines(tmp_path).choose(agent(llm="rules", voice="hibari/heart", stt="moonshine"))
    assert names(chosen) == ("moonshine", "rules", "hibari")
    assert (chosen.voice, chosen.warnings) == ("heart", ())
    assert engines(tmp_path).choose(agent(llm={"provider": "llamacpp"})).llm.name == "llamacpp"


def test_what_is_not_here_is_replaced_with_one_warning_each(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    here = engines(tmp_path)
    foreign = agent(llm="openai/gpt-5", voice="elevenlabs/sarah", stt="deepgram")
    for _ in range(3):
        chosen = here.choose(foreign)
        assert names(chosen) == ("moonshine", "local", "hibari")
        assert chosen.voice == ""
        assert chosen.warnings == (
            "there is no speech recognition engine 'deepgram' here; moonshine takes its place",
            "there is no language model engine 'openai' here; local takes its place",
            "there is no voice engine 'elevenlabs' here; hibari takes its place",
            "hibari has no voice 'sarah'; it speaks with its own",
        )
    assert len(caplog.records) == 4


def test_what_a_browser_asks_for_cannot_fill_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    here = engines(tmp_path)
    for i in range(1000):
        [warning] = here.choose(agent(voice={"voice_id": f"{i}\n" + "x" * 10_000})).warnings
        assert len(warning) < 200
        assert "\n" not in warning
    assert len(caplog.records) == 100


def test_the_model_file_can_be_another(tmp_path: Path) -> None:
    assert engines(tmp_path).model_file == tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert engines(tmp_path, llm_file=tmp_path / "big.gguf").model_file == tmp_path / "big.gguf"


def test_settings_that_name_an_unknown_engine_get_the_local_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = engines(tmp_path, stt="ears").choose(agent())
    assert chosen.stt.name == "moonshine"
    assert "stt = 'ears': there is no such engine, moonshine takes its place" in caplog.text


def test_every_engine_can_be_made_and_is_made_once(tmp_path: Path) -> None:
    here = engines(tmp_path)
    for kind, makers in TABLE.items():
        for name in makers:
            engine = here.made(kind, name)
            assert engine.name == name
            assert here.made(kind, name) is engine


# --- what cannot be loaded


class Broken:
    """An engine of any kind that does not load."""

    name = "broken"

    async def start(self) -> None:
        raise EngineError("broken could not start: run `make setup`")

    async def aclose(self) -> None: ...


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in TABLE:
        monkeypatch.setitem(TABLE[kind], "broken", lambda _: Broken())


@pytest.mark.usefixtures("broken")
async def test_a_failure_is_told_and_never_raised(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    here = engines(tmp_path, stt="broken", llm="broken", tts="broken")
    loading = {"name": "broken", "state": "loading", "detail": ""}
    assert here.status() == dict.fromkeys(("stt", "llm", "tts"), loading)
    await here.start()
    await here.loaded()
    failed = {"name": "broken", "state": "failed", "detail": "broken could not start: run `make setup`"}
    assert here.status() == dict.fromkeys(("stt", "llm", "tts"), failed)
    assert "speech recognition: broken could not start: run `make setup`" in caplog.text
    chosen = here.choose(agent(llm="local"))
    assert names(chosen) == ("broken", "rules", "broken")
    with pytest.raises(EngineError, match="make setup"):
        chosen.stt.stream("en")
    with pytest.raises(EngineError, match="make setup"):
        await anext(chosen.tts.speak(pieces("Hi."), voice="", language="en"))
    await here.aclose()


@pytest.mark.usefixtures("broken")
async def test_a_declared_agent_whose_engine_fails_gets_the_one_of_the_settings(tmp_path: Path) -> None:
    declared = agent(llm={"provider": "broken"})
    here = engines(tmp_path, llm="rules", stt="broken", tts="broken", agents=(declared,))
    await here.start()
    chosen = here.choose(declared)
    assert chosen.llm.name == "rules"
    assert chosen.warnings == ("broken could not start: run `make setup`; rules takes its place",)
    await here.aclose()


async def test_a_missing_model_is_told_to_every_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLE["stt"], "broken", lambda _: Broken())
    monkeypatch.setitem(TABLE["tts"], "broken", lambda _: Broken())
    here = engines(tmp_path, stt="broken", tts="broken")
    assert not any("model file" in warning for warning in here.choose(agent()).warnings)  # nobody knows yet
    await here.start()
    for _ in range(2):
        [warning] = [warning for warning in here.choose(agent()).warnings if "model file" in warning]
        assert warning.endswith("is missing: run `voice-server setup`")
    await here.aclose()


async def test_unavailable_refuses_everything() -> None:
    nothing = Unavailable("nothing", "it is missing")
    with pytest.raises(EngineError, match="it is missing"):
        await nothing.start()
    with pytest.raises(EngineError, match="it is missing"):
        await anext(nothing.generate([], [], GenerateOptions()))
    await nothing.aclose()


# --- the apology


def test_apology() -> None:
    recording = apology("en-GB")
    assert recording.pcm.dtype == np.int16
    assert recording.pcm.ndim == 1
    assert 2 < len(recording.pcm) / OUTPUT_RATE < 5
    assert np.abs(recording.pcm).max() > 5000
    times = [time for word in recording.words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert times[-1] <= len(recording.pcm) / OUTPUT_RATE + 0.001
    assert " ".join(word.word for word in recording.words) in (FOLDER / "README.md").read_text()


@pytest.mark.parametrize("language", ["es", "", "../en", "x" * 300])
def test_apology_is_english_where_there_is_none(language: str) -> None:
    assert apology(language) is apology("en")


# --- the real engines


async def pieces(*texts: str) -> AsyncIterator[str]:
    for text in texts:
        yield text


@pytest.mark.models
async def test_the_local_engines_load_and_understand_each_other() -> None:
    here = Engines(Settings.load())
    try:
        await here.start()
        status = here.status()
        assert {kind: state["state"] for kind, state in status.items()} == dict.fromkeys(("stt", "llm", "tts"), "ready")
        assert not any(state["detail"] for state in status.values())
        chosen = here.choose(agent())
        question = [{"role": "user", "content": "What is seven plus five?"}]
        deltas = [delta async for delta in chosen.llm.generate(question, [], GenerateOptions())]
        answer = "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))
        speech = [chunk.pcm async for chunk in chosen.tts.speak(pieces(answer), voice=chosen.voice, language="en")]
        assert "twelve" in await transcribe(chosen, np.concatenate(speech))
        assert "something went wrong" in await transcribe(chosen, chosen.apology.pcm)
    finally:
        await here.aclose()


async def transcribe(chosen: CallEngines, pcm: Pcm) -> str:
    heard = np.interp(np.arange(0, len(pcm), OUTPUT_RATE / INPUT_RATE), np.arange(len(pcm)), pcm).astype(np.int16)
    stream = chosen.stt.stream("en")
    try:
        stream.write(heard)
        stream.flush()
        async with asyncio.timeout(60):
            async for transcript in stream:
                assert isinstance(transcript, Transcript)
                if transcript.final:
                    return transcript.text.lower()
    finally:
        await stream.aclose()
    return ""
