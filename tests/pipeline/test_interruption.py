"""The user speaks while the bot thinks or speaks. Protocol 7.5, 8.5, 8.6."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from pipeline.engine import EngineError
from pipeline.turn_settings import TurnSettings
from tests.pipeline.stage import GREETING, Stage, play


def test_barge_in_after_two_seconds_is_a_new_turn() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.person.say("tell me a story")
        await stage.until(lambda: len(stage.log.all("bot.word")) == 10)
        stage.began = asyncio.get_running_loop().time()  # type: ignore[attr-defined]
        stage.person.say("no stop please")
        await stage.event("bot.interrupted")
        assert stage.line.playout.pending == 0
        await stage.event("bot.finished")

    story = "Once upon a time there was a king who had three sons, and all of them were brave and kind and strong."
    stage = play(story, "All right.", greeting="")(dialogue)
    assert stage.log.at("bot.interrupted") - stage.began < 0.5  # type: ignore[attr-defined]
    interrupted = stage.log.all("bot.interrupted")[0]
    heard = story.split()[: interrupted.words_spoken]
    assert interrupted.reason == "user_spoke"
    assert interrupted.last_word == heard[-1]
    assert interrupted.played_ms == pytest.approx(250 * len(heard), abs=250)
    assert [event.turn_id for event in stage.log.all("turn.end")] == [1, 2]
    assert stage.history() == [
        ("user", "tell me a story"),
        ("assistant", " ".join(heard)),
        ("user", "no stop please"),
        ("assistant", "All right."),
    ]
    names = stage.log.names("bot.word", "user.speaking", "llm.response", "turn.latency")
    at = names.index("bot.interrupted")
    assert names[at - 2 : at + 2] == ["speech.started", "barge_in", "bot.interrupted", "message.confirmed"]
    assert names[at + 2 : at + 4] == ["eager.turn", "user.message"]


def test_barge_in_before_two_seconds_continues_the_turn() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.person.say("what is seven")
        await stage.until(lambda: len(stage.log.all("bot.word")) == 3)
        stage.person.say("plus five")
        await stage.event("bot.finished")

    stage = play("Seven is a number, and a nice one at that.", "Twelve.", greeting="")(dialogue)
    assert stage.log.all("bot.interrupted")[0].reason == "continuation"
    first, second = stage.log.all("user.message")
    assert (first.turn_id, second.turn_id) == (1, 1)
    assert first.message_id != second.message_id
    assert second.text == "what is seven plus five"
    assert [e.text for e in stage.log.all("user.speaking")][-1] == "what is seven plus five"
    assert [event.text for event in stage.log.all("message.confirmed")] == ["Twelve."]
    assert stage.history() == [("user", "what is seven plus five"), ("assistant", "Twelve.")]


def test_going_on_while_the_bot_thinks_continues_the_turn_unannounced() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.llm.first_token = 2.0
        stage.person.say("what is seven")
        await stage.event("llm.thinking")
        stage.person.say("plus five")
        await stage.event("bot.finished")

    stage = play("Seven.", "Twelve.", greeting="")(dialogue)
    assert stage.log.all("bot.interrupted") == []
    assert [event.text for event in stage.log.all("user.message")] == ["what is seven", "what is seven plus five"]
    assert len(stage.log.all("bot.speaking")) == 1
    assert stage.history() == [("user", "what is seven plus five"), ("assistant", "Twelve.")]


@pytest.mark.parametrize("greeting", [GREETING, "Good morning, this is the office. How can I help you today?"])
def test_going_on_before_the_final_came_is_one_message(greeting: str) -> None:
    async def dialogue(stage: Stage) -> None:  # however long the bot had spoken before
        await stage.greeted()
        stage.stt.final_seconds = 1.0
        stage.person.say("what is seven")
        stage.person.pause(800)
        stage.person.say("plus five")
        await stage.event("bot.finished", 2)

    stage = play("Twelve.", greeting=greeting)(dialogue)
    assert [event.text for event in stage.log.all("user.message")] == ["what is seven plus five"]
    assert len(stage.log.all("speech.started")) == 1
    assert stage.history() == [
        ("assistant", greeting),
        ("user", "what is seven plus five"),
        ("assistant", "Twelve."),
    ]


def test_going_on_after_a_pause_and_before_the_final_came_resumes_the_speech() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.ears.verdicts.extend([0.0, 1.0])
        stage.stt.final_seconds = 1.0
        stage.person.say("what is seven")
        stage.person.pause(TurnSettings().unfinished_ms + 100)
        stage.person.say("plus five")
        await stage.event("bot.finished")

    stage = play("Twelve.", greeting="")(dialogue)
    assert stage.log.names("user.speaking", "call.started", "session.started")[:7] == [
        "speech.started",
        "speech.ended",
        "turn.pause",
        "speech.started",
        "turn.resumed",
        "user.message",
        "speech.ended",
    ]
    assert stage.history() == [("user", "what is seven plus five"), ("assistant", "Twelve.")]


def test_a_noise_halts_the_bot_which_goes_on_at_the_same_place() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.person.say("what is seven")
        await stage.until(lambda: len(stage.log.all("bot.word")) == 3)
        stage.person.noise(500)
        await stage.event("bot.finished")

    answer = "Seven is a number, and a nice one at that."
    stage = play(answer, greeting="")(dialogue)
    assert stage.history() == [("user", "what is seven"), ("assistant", answer)]
    assert len(stage.log.all("speech.started")) == 1
    assert stage.log.all("bot.finished")[0].duration_ms == 10 * 250
    sound = "".join("x" if sent else "." for sent in stage.line.sound).strip(".")
    said, silence = sound.count("x") * 20, sound.count(".") * 20
    assert said == pytest.approx(10 * 250, abs=20)  # not a sample twice, none left out
    assert 400 <= silence <= 600  # until the recogniser said that there are no words
    assert re.fullmatch(r"x+\.+x+", sound)


async def halted(stage: Stage) -> None:
    """The bot was heard for a while, and fell silent because someone may be speaking."""
    await stage.until(lambda: len(stage.log.all("bot.word")) == 9)
    stage.person.noise(600)
    await stage.until(lambda: stage.line.sound[-1:] == [False], 2)


def test_who_mutes_the_microphone_while_the_bot_waits_lets_it_go_on() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.person.say("tell me a story")
        await halted(stage)
        stage.call.on_message('{"action":"mute"}')
        await asyncio.sleep(0.05)
        assert stage.line.sound[-1]
        await stage.event("bot.finished")

    stage = play(" ".join(["word"] * 20), greeting="")(dialogue)
    assert stage.log.all("bot.interrupted") == []
    assert stage.log.all("bot.finished")[0].duration_ms == 5000


def test_who_types_while_the_bot_waits_interrupts_it() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.person.say("tell me a story")
        await halted(stage)
        stage.person.frames.clear()
        stage.call.on_message('{"action":"inject_text","text":"stop"}')
        await stage.event("bot.finished")

    stage = play(" ".join(["word"] * 20), "All right.", greeting="")(dialogue)
    assert [event.reason for event in stage.log.all("bot.interrupted")] == ["user_spoke"]
    assert stage.log.all("bot.finished")[0].text == "All right."  # in full voice: it is heard to its end
    assert stage.history()[-2:] == [("user", "stop"), ("assistant", "All right.")]


def test_a_call_that_ends_while_the_bot_waits_tells_what_was_heard() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.person.say("tell me a story")
        await halted(stage)
        await stage.hang_up()

    stage = play(" ".join(["word"] * 20), greeting="")(dialogue)
    [interrupted] = stage.log.all("bot.interrupted")
    assert interrupted.reason == "cancelled"
    assert stage.history()[-1] == ("assistant", " ".join(["word"] * interrupted.words_spoken))


def test_going_on_during_an_apology_withdraws_what_was_said_before_it() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.person.say("what is seven")
        await stage.event("llm.error")
        await stage.event("bot.speaking", 2)
        stage.person.say("plus five")
        await stage.until(lambda: any(event.text == "Twelve." for event in stage.log.all("bot.finished")))

    broken = ["Seven", "is.", "And", EngineError("out of memory")]
    stage = play(broken, "Twelve.", greeting="")(dialogue)
    assert stage.log.all("bot.interrupted")[0].reason == "continuation"
    assert stage.history() == [("user", "what is seven plus five"), ("assistant", "Twelve.")]


def test_an_interrupted_greeting_stays_in_full() -> None:
    async def dialogue(stage: Stage) -> None:
        await stage.until(lambda: len(stage.log.all("bot.word")) == 3)
        stage.person.say("hello there friend")
        await stage.event("bot.finished")

    stage = play("Hi.")(dialogue)
    assert stage.log.all("bot.interrupted")[0].reason == "user_spoke"
    spoken_part = " ".join(GREETING.split()[: stage.log.all("bot.interrupted")[0].words_spoken])
    assert stage.log.all("message.confirmed")[0].text == spoken_part
    assert stage.log.all("turn.end")[0].turn_id == 1
    assert stage.history() == [("assistant", GREETING), ("user", "hello there friend"), ("assistant", "Hi.")]


def test_words_interrupt_where_the_voice_is_too_soft() -> None:
    async def dialogue(stage: Stage) -> None:
        await stage.until(lambda: len(stage.log.all("bot.word")) == 2)
        stage.person.say("please stop", level=-55)
        await stage.event("bot.finished")

    stage = play("Yes.", interruption={"min_words": 2})(dialogue)
    assert stage.log.all("bot.interrupted")[0].reason == "user_spoke"
    assert stage.log.all("user.message")[0].text == "please stop"


@pytest.mark.parametrize("soft", [{"text": "mhm okay", "level": -55}, {"text": "hm", "level": -20}])
def test_an_acknowledgement_interrupts_nothing_and_shows_nowhere(soft: dict[str, Any]) -> None:
    async def dialogue(stage: Stage) -> None:
        await stage.until(lambda: len(stage.log.all("bot.word")) == 2)
        stage.person.say(**soft)
        await stage.greeted()
        await asyncio.sleep(2)

    stage = play()(dialogue)
    assert not {"bot.interrupted", "speech.started", "user.speaking"} & set(stage.log.names())


def test_an_agent_that_cannot_be_interrupted() -> None:
    async def dialogue(stage: Stage) -> None:
        await stage.until(lambda: len(stage.log.all("bot.word")) == 1)
        stage.person.say("be quiet")  # ends before the greeting does: it never counted
        await stage.until(lambda: len(stage.log.all("bot.word")) == 12)
        stage.person.say("now it is my turn")  # goes on after it
        await stage.event("bot.finished", 2)

    stage = play("Yes.", interruption=False, greeting=f"{GREETING} I am all yours, now and later.")(dialogue)
    assert stage.log.all("bot.interrupted") == []
    assert [event.text for event in stage.log.all("user.message")] == ["now it is my turn"]
    finished = stage.log.names("bot.word").index("bot.finished")
    assert stage.log.names("bot.word")[finished + 1] == "speech.started"
