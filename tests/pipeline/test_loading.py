"""Calls that come before the engines are loaded."""

from __future__ import annotations

import dataclasses

from pipeline.call import LOADING_SECONDS
from tests import virtual_time
from tests.pipeline.scripted import ScriptedTts
from tests.pipeline.stage import GREETING, Stage


async def greeted_after(load_seconds: float) -> tuple[Stage, float]:
    stage = Stage()
    stage.load_seconds = load_seconds
    stage.line.start(stage.call, channel_after=0.1)
    await stage.greeted()
    stage.call.hangup("hangup")
    await stage.call.wait_ended()
    started = next(at for at, event in stage.log.events if event.name == "session.started")
    speaking = next(at for at, event in stage.log.events if event.name == "bot.speaking")
    return stage, speaking - started


def test_the_greeting_waits_for_the_engines() -> None:
    async def dialogue() -> None:
        stage, waited = await greeted_after(4.0)
        assert 4.0 <= waited < 5.0
        assert stage.log.all("bot.finished")[0].text == GREETING

    virtual_time.run(dialogue())


def test_the_call_goes_on_without_engines_that_take_too_long() -> None:
    async def dialogue() -> None:
        _, waited = await greeted_after(3600.0)
        assert LOADING_SECONDS <= waited < LOADING_SECONDS + 2

    virtual_time.run(dialogue())


def test_a_call_that_ends_while_they_load_leaves_nothing() -> None:
    async def dialogue() -> None:
        stage = Stage()
        stage.load_seconds = 5.0
        stage.line.start(stage.call, channel_after=0.1)
        await stage.event("session.started")
        stage.call.hangup("hangup")
        await stage.call.wait_ended()
        assert stage.log.all("bot.speaking") == []
        assert stage.stt.open_streams == 0

    virtual_time.run(dialogue())


def test_engines_are_chosen_again_once_they_are_loaded() -> None:
    async def dialogue() -> None:
        stage = Stage()
        stage.load_seconds = 2.0
        stage.line.start(stage.call, channel_after=0.1)
        await stage.event("session.started")
        other = ScriptedTts()
        stage.engines = dataclasses.replace(stage.engines, tts=other)
        await stage.greeted()
        assert (len(stage.tts.voices), len(other.voices)) == (0, 1)
        stage.call.hangup("hangup")
        await stage.call.wait_ended()

    virtual_time.run(dialogue())


def test_a_switch_of_language_waits_for_its_engines() -> None:
    async def dialogue() -> None:
        stage = Stage("One.", "Uno.")
        stage.line.start(stage.call, channel_after=0.1)
        await stage.greeted()
        stage.load_seconds = 5.0
        stage.call.on_message('{"action":"configure","language":"es-MX"}')
        stage.call.on_message('{"action":"inject_text","text":"one"}')
        await stage.event("bot.finished", 2)
        assert stage.log.all("call.updated") == []
        await stage.event("call.updated")
        assert 4.9 < stage.log.at("call.updated") - stage.log.at("config.updated") < 5.1
        stage.call.on_message('{"action":"inject_text","text":"dos"}')
        await stage.event("bot.finished", 3)
        assert [language for _, language in stage.tts.voices] == ["en", "en", "es-MX"]
        await stage.hang_up()

    virtual_time.run(dialogue())


def test_the_last_of_several_switches_counts() -> None:
    async def dialogue() -> None:
        stage = Stage()
        stage.line.start(stage.call, channel_after=0.1)
        await stage.greeted()
        stage.load_seconds = 3.0
        for language in ("es", "fr", "de"):
            stage.call.on_message(f'{{"action":"configure","language":"{language}"}}')
        await stage.event("call.updated")
        assert [event.language for event in stage.log.all("call.updated")] == ["de"]
        stage.call.on_message('{"action":"configure","language":"it"}')
        await stage.hang_up()  # in the middle of the next one
        assert len(stage.log.all("call.updated")) == 1

    virtual_time.run(dialogue())
