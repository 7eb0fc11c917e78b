from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.agent import AgentConfig
from config.identity import base_language
from config.settings import Settings
from media.audio import INPUT_RATE, OUTPUT_RATE, Pcm
from pipeline.apology import FOLDER, apology
from pipeline.engine import LANGUAGES, TABLE, CallEngines, EngineError, Engines, Unavailable
from pipeline.llm import GenerateOptions, TextDelta
from pipeline.stt import Transcript
from pipeline.tts import Voice, espeak, hibari, pico


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
            "deepgram is not set up: DEEPGRAM_API_KEY is not set; moonshine takes its place",
            "openai is not set up: OPENAI_API_KEY is not set; local takes its place",
            "elevenlabs is not set up: ELEVENLABS_API_KEY is not set; hibari takes its place",
        )
    assert len(caplog.records) == 3


# --- languages


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("en", ("moonshine", "local", "hibari")),
        ("en-GB", ("moonshine", "local", "hibari")),
        ("es", ("whisper", "local", "pico")),
        ("es-MX", ("whisper", "local", "pico")),
        ("FR", ("whisper", "local", "pico")),
        ("de", ("whisper", "local", "pico")),
        ("it", ("whisper", "local", "pico")),
    ],
)
def test_the_language_chooses_the_engines(tmp_path: Path, language: str, expected: tuple[str, str, str]) -> None:
    chosen = engines(tmp_path).choose(agent(language=language, llm="local"))
    assert names(chosen) == expected
    assert chosen.language == language
    assert chosen.warnings == ()
    assert chosen.apology is apology(language)


@pytest.mark.parametrize("language", ["pt-BR", "multi", "tlh"])
def test_a_language_that_nobody_speaks_becomes_english_with_a_warning(tmp_path: Path, language: str) -> None:
    chosen = engines(tmp_path).choose(agent(language=language, llm="local"))
    assert names(chosen) == ("moonshine", "local", "hibari")
    assert chosen.language == "en"
    assert chosen.warnings == (f"nobody here hears and speaks {language!r}; the call is in English",)
    assert chosen.apology is apology("en")


def test_an_agent_that_names_an_engine_for_another_language_gets_one_that_knows_its_own(tmp_path: Path) -> None:
    chosen = engines(tmp_path).choose(agent(language="es", llm="rules", voice="hibari/heart", stt="moonshine"))
    assert names(chosen) == ("whisper", "rules", "pico")
    assert chosen.warnings == (
        "moonshine does not know 'es'; whisper takes its place",
        "hibari does not know 'es'; pico takes its place",
    )


@pytest.mark.parametrize(
    ("wire", "voice", "warned"),
    [
        ({"language": "es"}, "", 0),
        ({"language": "es", "voice": "pico/es-ES"}, "es-ES", 0),
        ({"language": "es", "voice": "pico"}, "", 0),
        ({"language": "es", "voice": "pico/fr-FR"}, "", 1),
        ({"language": "es", "voice": "Sarah"}, "", 1),
        ({"language": "en", "voice": "pico:en-GB"}, "en-GB", 0),
        ({"language": "es", "voice": "elevenlabs:EXAVITQu4vr4xnSDxMaL"}, "", 1),
    ],
)
def test_a_voice_speaks_one_language(tmp_path: Path, wire: dict[str, Any], voice: str, warned: int) -> None:
    chosen = engines(tmp_path).choose(agent(**wire))
    assert chosen.tts.name == "pico"
    assert chosen.voice == voice
    assert len(chosen.warnings) == warned


def test_settings_may_prefer_the_engines_of_many_languages(tmp_path: Path) -> None:
    here = engines(tmp_path, stt="whisper", tts="pico")
    assert names(here.choose(agent(llm="rules"))) == ("whisper", "rules", "pico")


def test_a_small_model_is_not_asked_in_spanish_but_that_of_the_operator_is(tmp_path: Path) -> None:
    assert engines(tmp_path).model_languages == {"en"}
    assert engines(tmp_path, llm_file=tmp_path / "big.gguf").model_languages is None


def test_the_table_of_languages_says_what_the_voices_speak() -> None:
    for engine in (hibari.Hibari, pico.Pico, espeak.Espeak):
        assert {base_language(tag) for voice in engine.voices for tag in voice.languages} == LANGUAGES[engine.name]


class Cloud:
    """Takes any name, and knows some of them by another."""

    name = "cloud"
    voices = (Voice("EXAVITQu4vr4xnSDxMaL", ("en", "es"), "Sarah", alias="sarah"),)
    any_voice = True

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize(
    ("wish", "name"),
    [
        ("cloud/sarah", "EXAVITQu4vr4xnSDxMaL"),
        ("cloud:EXAVITQu4vr4xnSDxMaL", "EXAVITQu4vr4xnSDxMaL"),
        ("cloud:Another", "Another"),
    ],
)
def test_an_alias_is_looked_up_among_the_voices_of_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wish: str, name: str
) -> None:
    monkeypatch.setitem(TABLE["tts"], "cloud", lambda _: Cloud())
    chosen = engines(tmp_path).choose(agent(language="es", llm="rules", voice=wish))
    assert (chosen.tts.name, chosen.voice, chosen.warnings) == ("cloud", name, ())


def test_what_can_be_asked_for_is_what_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak.Espeak, "available", True)  # not everywhere
    here = engines(tmp_path, tts="pico")
    assert list(here.offers("tts")) == ["pico", "hibari", "espeak"]
    assert list(here.offers("tts", "es-MX")) == ["pico", "espeak"]
    assert list(here.offers("stt", "es")) == ["whisper"]
    monkeypatch.setattr(pico, "find_spec", lambda _: None)
    assert "pico" not in here.offers("tts")
    assert list(engines(tmp_path, tts="instant", stt="instant").offers("tts")) == ["instant"]


# --- when they are loaded


class Slow:
    """Engines of any kind that load when they are told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.started: list[str] = []

    def make(self, name: str) -> Slow.Engine:
        return Slow.Engine(self, name)

    class Engine:
        def __init__(self, slow: Slow, name: str) -> None:
            self.name, self._slow = name, slow

        async def start(self) -> None:
            self._slow.started.append(self.name)
            await self._slow.go.wait()
            if self.name == "failing":
                raise EngineError("failing could not start")

        async def aclose(self) -> None: ...


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    """The real table, with engines that load slowly in the place of the real ones."""
    slow = Slow()
    for kind, makers in TABLE.items():
        monkeypatch.setitem(TABLE, kind, {name: lambda _, name=name: slow.make(name) for name in makers})
    return slow


async def test_only_what_is_needed_is_loaded_and_only_once(tmp_path: Path, slow: Slow) -> None:
    here = engines(tmp_path)
    starting = asyncio.create_task(here.start())
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(here.ready(agent(language="es", llm="local"))) for _ in range(3)]
    await asyncio.sleep(0.01)
    assert sorted(slow.started) == ["hibari", "local", "moonshine", "pico", "whisper"]
    assert not any(task.done() for task in (starting, *waiting))
    waiting.pop().cancel()  # a caller who hangs up takes nothing from the others
    slow.go.set()
    await asyncio.gather(starting, *waiting)
    assert {state["state"] for state in here.status().values()} == {"ready"}
    await here.ready(agent())
    assert len(slow.started) == 5
    await here.aclose()


async def test_english_alone_loads_nothing_else(tmp_path: Path, slow: Slow) -> None:
    here = engines(tmp_path, agents=(agent(llm="rules"),))
    slow.go.set()
    await here.start()
    assert sorted(slow.started) == ["hibari", "local", "moonshine", "rules"]
    await here.aclose()


async def test_a_declared_agent_has_its_engines_loaded_at_the_start(tmp_path: Path, slow: Slow) -> None:
    here = engines(tmp_path, agents=(agent(language="es-ES"),))
    slow.go.set()
    await here.start()
    assert sorted(slow.started) == ["hibari", "local", "moonshine", "pico", "whisper"]
    await here.aclose()


async def test_what_still_loads_at_the_end_is_given_up(tmp_path: Path, slow: Slow) -> None:
    here = engines(tmp_path)
    starting = asyncio.create_task(here.start())
    await asyncio.sleep(0)
    await here.aclose()
    await starting
    await here.ready(agent(language="es"))  # which ends, too


async def test_an_engine_that_fails_is_replaced_by_another_of_its_language(
    tmp_path: Path, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TABLE["tts"], "hibari", lambda _: slow.make("failing"))
    here = engines(tmp_path)
    slow.go.set()
    await here.ready(agent())
    chosen = here.choose(agent())
    assert chosen.tts.name == "pico"
    assert chosen.warnings == ("failing could not start; pico takes its place",)
    assert "pico" in slow.started
    await here.aclose()


async def test_a_platform_without_the_better_voice_of_a_language_gets_the_other(
    tmp_path: Path, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TABLE["tts"], "pico", lambda _: slow.make("failing"))
    here = engines(tmp_path)
    slow.go.set()
    await here.ready(agent(language="es"))
    chosen = here.choose(agent(language="es"))
    assert names(chosen) == ("whisper", "local", "espeak")
    assert chosen.language == "es"
    assert chosen.warnings == ("failing could not start; espeak takes its place",)


async def test_a_language_whose_voice_fails_becomes_english_and_says_why(
    tmp_path: Path, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TABLE["tts"], "pico", lambda _: slow.make("failing"))
    monkeypatch.setitem(TABLE["tts"], "espeak", lambda _: slow.make("failing"))
    here = engines(tmp_path)
    slow.go.set()
    await here.ready(agent(language="es"))
    chosen = here.choose(agent(language="es"))
    assert names(chosen) == ("moonshine", "local", "hibari")
    assert chosen.language == "en"
    assert chosen.warnings == ("failing could not start; the call is in English",)
    await here.aclose()


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
    assert "stt = ears: there is no speech recognition engine 'ears' here; moonshine takes its place" in caplog.text


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
    """Nobody else hears or speaks."""
    for kind, makers in TABLE.items():
        others = makers if kind == "llm" else {}
        monkeypatch.setitem(TABLE, kind, others | {"broken": lambda _: Broken()})


@pytest.mark.usefixtures("broken")
async def test_a_failure_is_told_and_never_raised(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    here = engines(tmp_path, stt="broken", llm="broken", tts="broken")
    loading = {"name": "broken", "state": "loading", "detail": ""}
    assert here.status() == dict.fromkeys(("stt", "llm", "tts"), loading)
    await here.start()
    failed = {"name": "broken", "state": "failed", "detail": "broken could not start: run `make setup`"}
    assert here.status() == dict.fromkeys(("stt", "llm", "tts"), failed)
    assert "speech recognition: broken could not start: run `make setup`" in caplog.text
    chosen = here.choose(agent())
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


@pytest.mark.parametrize("language", ["en-GB", "es-MX"])
def test_apology(language: str) -> None:
    recording = apology(language)
    assert recording.pcm.dtype == np.int16
    assert recording.pcm.ndim == 1
    assert 2 < len(recording.pcm) / OUTPUT_RATE < 6
    assert np.abs(recording.pcm).max() > 5000
    times = [time for word in recording.words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert times[-1] <= len(recording.pcm) / OUTPUT_RATE + 0.001
    assert " ".join(word.word for word in recording.words) in (FOLDER / "README.md").read_text()


@pytest.mark.parametrize("language", ["pt", "", "../en", "x" * 300])
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


@pytest.mark.models
async def test_the_spanish_engines_load_on_demand_and_understand_each_other() -> None:
    here = Engines(Settings.load())
    mara = agent(language="es-MX", llm="local")
    try:
        await here.ready(mara)
        chosen = here.choose(mara)
        assert names(chosen) == ("whisper", "local", "pico")
        assert chosen.warnings == ()
        assert here.status()["tts"]["state"] == "loading", "nobody needs it"
        question = [{"role": "user", "content": "¿Cuánto es siete más cinco?"}]
        options = GenerateOptions(language=chosen.language)
        deltas = [delta async for delta in chosen.llm.generate(question, [], options)]
        answer = "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))
        speaking = chosen.tts.speak(pieces(answer), voice=chosen.voice, language=chosen.language)
        heard = await transcribe(chosen, np.concatenate([chunk.pcm async for chunk in speaking]))
        assert "doce" in heard or "12" in heard
        assert "algo ha fallado" in await transcribe(chosen, chosen.apology.pcm)
    finally:
        await here.aclose()


async def transcribe(chosen: CallEngines, pcm: Pcm) -> str:
    heard = np.interp(np.arange(0, len(pcm), OUTPUT_RATE / INPUT_RATE), np.arange(len(pcm)), pcm).astype(np.int16)
    stream = chosen.stt.stream(chosen.language)
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
