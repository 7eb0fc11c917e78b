"""Engines that fail: an event and a spoken apology, never silence, and the call goes on."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.engine import EngineError
from tests.pipeline.stage import GREETING, Stage, play


def test_a_language_model_that_fails_is_apologised_for() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.person.say("hello there")
        await stage.event("bot.finished", 2)
        stage.person.say("hello again")
        await stage.event("bot.finished", 3)

    broken = ["I", "was", "saying.", "And", EngineError("out of memory")]
    stage = play(broken, "Hi.", greeting="")(dialogue)
    assert stage.log.all("llm.error")[0].error == "out of memory"
    said = [event.text for event in stage.log.all("bot.finished")]
    assert said == ["I was saying.", "Sorry, that failed.", "Hi."]
    assert stage.history() == [
        ("user", "hello there"),
        ("assistant", "I was saying."),
        ("user", "hello again"),
        ("assistant", "Hi."),
    ]


@pytest.mark.parametrize("answer", [[EngineError("gone")], [], "👍 🎉", [RuntimeError("a bug")]])
def test_an_answer_without_words_is_apologised_for(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def dialogue(stage: Stage) -> None:
        stage.person.say("hello")
        await stage.event("bot.finished")

    stage = play(answer, greeting="")(dialogue)
    assert stage.log.all("llm.error") or stage.log.all("error")
    assert stage.log.all("bot.finished")[0].text == "Sorry, that failed."
    assert ("a bug" in caplog.text) == (answer != [] and isinstance(answer[0], RuntimeError))


def test_a_language_model_that_hangs_is_given_up() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.llm.first_token = 1e6
        stage.person.say("hello")
        await stage.event("bot.finished")

    stage = play("never", greeting="")(dialogue)
    assert stage.log.at("llm.error") - stage.log.at("eager.turn") == pytest.approx(15, abs=0.1)


def test_a_voice_that_fails_is_replaced_by_the_recording() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.tts.failing = "upon"
        stage.person.say("tell me")
        await stage.event("bot.finished", 2)

    stage = play("It was long ago. Once upon a time.", greeting="")(dialogue)
    assert [event.text for event in stage.log.all("bot.finished")] == ["It was long ago.", "Sorry, that failed."]
    assert stage.log.all("error")[0].code == "TTS_FAILED"


def test_a_voice_that_never_works_still_lets_the_user_hear_something() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.tts.failing = "*"
        await stage.greeted()
        stage.person.say("hello")
        await stage.event("bot.finished", 2)

    stage = play("Hi.")(dialogue)
    assert [event.text for event in stage.log.all("bot.finished")] == ["Sorry, that failed."] * 2
    assert stage.history()[0] == ("assistant", GREETING)


def test_a_voice_that_hangs_is_given_up_but_may_wait_for_its_text() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.llm.token_seconds = 7.0  # slower than the voice may be
        stage.person.say("hello")
        await stage.event("bot.finished")
        stage.llm.token_seconds, stage.tts.pace = 0.01, 1e6
        stage.person.say("again")
        await stage.event("bot.finished", 2)

    stage = play("One two three. Four five six.", "Seven.", greeting="")(dialogue)
    said = [event.text for event in stage.log.all("bot.finished")]
    assert said == ["One two three. Four five six.", "Sorry, that failed."]
    assert stage.log.all("error")[0].error == "The voice took too long"


def test_a_voice_without_a_sound_is_replaced_by_the_recording() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.tts.silent = True
        stage.person.say("hello")
        await stage.event("bot.finished")

    stage = play("Hi.", greeting="")(dialogue)
    assert stage.log.all("error")[0].error == "The voice made no sound"
    assert [event.text for event in stage.log.all("bot.finished")] == ["Sorry, that failed."]


def test_a_voice_slower_than_real_time_goes_on() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.tts.pace = 0.5
        stage.person.say("hello")
        await stage.event("bot.finished")

    stage = play("This is one. And here is two. That was it.", greeting="")(dialogue)
    assert stage.log.all("bot.finished")[0].text == "This is one. And here is two. That was it."
    assert stage.log.all("bot.finished")[0].duration_ms == 10 * 250


@pytest.mark.parametrize("broken", ["gone", "at once", "a bug", "the end"])
def test_a_recogniser_that_fails_is_apologised_for_when_the_user_is_done(broken: str) -> None:
    async def dialogue(stage: Stage) -> None:
        await stage.greeted()
        stage.stt.broken = broken
        stage.call._hearing.recognition._stale = True  # so that "at once" is met on the next listen
        stage.person.say("can you hear me")
        await stage.event("bot.finished", 2)
        stage.stt.broken = ""
        stage.person.say("and now")
        await stage.event("bot.finished", 3)

    stage = play("Yes.")(dialogue)
    assert stage.log.all("error")[0].code == "STT_FAILED"
    names = stage.log.names("bot.word", "user.speaking")
    ended = names.index("speech.ended")
    assert names[ended + 1 : ended + 3] == ["bot.speaking", "message.confirmed"]
    assert stage.history()[-2:] == [("user", "and now"), ("assistant", "Yes.")]


def test_a_recogniser_that_hangs_is_given_up() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.stt.final_seconds = 1e6
        stage.person.say("hello")
        await stage.event("bot.finished")

    stage = play(greeting="")(dialogue)
    assert stage.log.all("error")[0].error == "The speech recogniser took too long"
    assert stage.log.all("bot.finished")[0].text == "Sorry, that failed."
