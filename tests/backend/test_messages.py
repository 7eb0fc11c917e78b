"""What a backend has the bot say beside the model: one terminal event for each message. Protocol 3.11, 3.12."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pipeline.messages import MAX_WAITING
from tests.backend.scene import LONG, Scene, ends, perform

DROPPED = "words_spoken=0 reason=cancelled"


# --- say


def test_several_messages_are_said_one_after_another() -> None:
    async def scene(stage: Scene) -> None:
        stage.say("m1", "One.")
        stage.say("m2", "Two three.", add_to_history=True)
        stage.say("m3", "Four.")
        await stage.frame("bot.finished", 3)
        stage.person.say("thanks")
        await stage.frame("bot.finished", 4)

    stage = perform("Bye.", greeting="")(scene)
    assert stage.story()[:13] == [
        "call.started metadata={}",
        "bot.speaking m1 'One.'",
        "bot.word m1 'One.'",
        "message.confirmed m1 'One.'",
        "bot.finished m1 'One.'",
        "bot.speaking m2 'Two three.'",
        "bot.word m2 'Two three.'",
        "message.confirmed m2 'Two three.'",
        "bot.finished m2 'Two three.'",
        "bot.speaking m3 'Four.'",
        "bot.word m3 'Four.'",
        "message.confirmed m3 'Four.'",
        "bot.finished m3 'Four.'",
    ]
    assert stage.asked() == [("assistant", "Two three."), ("user", "thanks")]
    assert [text for _, text in stage.texts()] == ["One.", "Two three.", "Four.", "thanks", "Bye."]


def test_a_message_waits_for_what_is_being_said() -> None:
    async def scene(stage: Scene) -> None:
        await stage.words(2)
        stage.say("m1", "By the way.")
        await stage.frame("bot.finished", 2)
        stage.person.pause(300)
        stage.person.say("tell me")
        await stage.words(11)
        stage.say("m2", "It rains.")
        await stage.frame("bot.finished", 4)

    stage = perform("A long answer it is.", greeting="Hello my dear.")(scene)
    texts = [frame["text"] for frame in stage.all_frames("bot.finished")]
    assert texts == ["Hello my dear.", "By the way.", "A long answer it is.", "It rains."]


@pytest.mark.parametrize("text", ["", None, "   ", "👍", "**"])
def test_a_message_without_anything_to_say_ends_at_once(text: Any) -> None:
    async def scene(stage: Scene) -> None:
        stage.say("m1", text)
        await stage.frame("bot.interrupted")

    stage = perform(greeting="")(scene)
    assert stage.story()[1:-1] == [f"bot.interrupted m1 {DROPPED}"]
    assert stage.messages() == []


@pytest.mark.parametrize("text", [7, ["a"], "x" * 40_000])
def test_a_message_that_cannot_be_said_ends_at_once_and_tells_why(text: Any) -> None:
    async def scene(stage: Scene) -> None:
        stage.say("m1", text)

    stage = perform(greeting="")(scene)
    assert ends(stage) == [("m1", "bot.interrupted")]
    assert [frame["code"] for frame in stage.all_frames("error")] == ["BAD_COMMAND"]


def test_an_id_is_used_once() -> None:
    async def scene(stage: Scene) -> None:
        stage.say("m1", "One.")
        stage.say("m1", "Two.")
        await stage.frame("bot.finished")
        stage.say("m1", "Three.")
        stage.reply("m1", "Four.", to="")
        await asyncio.sleep(1)
        stage.send("bot.reply", text="Five.")  # an id is made for it
        await stage.frame("bot.finished", 2)

    stage = perform(greeting="")(scene)
    assert len(stage.all_frames("error")) == 3
    assert [frame["text"] for frame in stage.all_frames("bot.finished")] == ["One.", "Five."]


def test_more_messages_than_may_wait() -> None:
    async def scene(stage: Scene) -> None:
        for number in range(MAX_WAITING + 2):
            stage.say(f"m{number}", "One two three.")
        await stage.frame("bot.speaking")
        stage.send("bot.clear")
        await asyncio.sleep(1)

    stage = perform(greeting="")(scene)
    assert sorted(ends(stage)) == sorted((f"m{number}", "bot.interrupted") for number in range(MAX_WAITING + 2))
    assert len(stage.all_frames("error")) == 2


def test_a_voice_that_breaks_ends_the_message_and_apologises() -> None:
    async def scene(stage: Scene) -> None:
        stage.tts.failing = "*"
        stage.say("m1", "One.")
        stage.say("m2", "Two.")
        await stage.frame("bot.finished", 2)
        stage.tts.failing = ""
        stage.say("m3", "Three.")
        await stage.frame("bot.finished", 3)

    stage = perform(greeting="")(scene)
    own = [end for end in ends(stage) if end[0].startswith("m") and "_" not in end[0]]
    assert own == [("m1", "bot.interrupted"), ("m2", "bot.interrupted"), ("m3", "bot.finished")]
    assert [frame["code"] for frame in stage.all_frames("error")] == ["TTS_FAILED", "TTS_FAILED"]


# --- cancel and clear


def test_cancel_stops_what_is_being_said_and_goes_on_with_the_next() -> None:
    async def scene(stage: Scene) -> None:
        stage.say("m1", "One two three four.")
        stage.say("m2", "Five.")
        await stage.words(2)
        stage.send("bot.cancel")
        await stage.frame("bot.finished")

    stage = perform(greeting="")(scene)
    assert stage.story()[1:-1] == [
        "bot.speaking m1 'One two three four.'",
        "bot.word m1 'One two'",
        "bot.interrupted m1 words_spoken=2 last_word=two reason=cancelled",
        "message.confirmed m1 'One two'",
        "bot.speaking m2 'Five.'",
        "bot.word m2 'Five.'",
        "message.confirmed m2 'Five.'",
        "bot.finished m2 'Five.'",
    ]


def test_cancel_takes_one_out_of_those_that_wait() -> None:
    async def scene(stage: Scene) -> None:
        for name in ("m1", "m2", "m3"):
            stage.say(name, "One two.")
        await stage.words(1)
        stage.send("bot.cancel", message_id="m2")
        stage.send("bot.cancel", message_id="m2")
        stage.send("bot.cancel", message_id="nobody")
        await stage.frame("bot.finished", 2)
        stage.send("bot.cancel", message_id="m1")

    stage = perform(greeting="")(scene)
    assert ends(stage) == [("m2", "bot.interrupted"), ("m1", "bot.finished"), ("m3", "bot.finished")]
    assert not stage.all_frames("error")


def test_clear_empties_the_queue() -> None:
    async def scene(stage: Scene) -> None:
        for name in ("m1", "m2", "m3"):
            stage.say(name, "One two three.")
        await stage.words(2)
        stage.send("bot.clear")
        stage.send("bot.clear")
        stage.send("bot.cancel")
        stage.say("m4", "Four.")
        await stage.frame("bot.finished")

    stage = perform(greeting="")(scene)
    assert stage.story()[3:-1] == [
        "bot.interrupted m1 words_spoken=2 last_word=two reason=cancelled",
        "message.confirmed m1 'One two'",
        f"bot.interrupted m2 {DROPPED}",
        f"bot.interrupted m3 {DROPPED}",
        "bot.speaking m4 'Four.'",
        "bot.word m4 'Four.'",
        "message.confirmed m4 'Four.'",
        "bot.finished m4 'Four.'",
    ]


def test_an_answer_of_the_model_is_cancelled_too_be_it_heard_or_not() -> None:
    async def heard(stage: Scene) -> None:
        stage.person.say("tell me")
        await stage.words(2)
        stage.send("bot.cancel", message_id=stage.all_frames("bot.speaking")[0]["message_id"])
        await asyncio.sleep(3)

    async def unheard(stage: Scene) -> None:
        stage.llm.first_token = 2.0
        stage.person.say("tell me")
        await stage.frame("turn.end")
        await asyncio.sleep(0.5)
        stage.send("bot.cancel")
        await asyncio.sleep(5)
        assert not stage.call.bot_state().busy

    stage = perform("One two three four.", greeting="")(heard)
    assert stage.texts() == [("user", "tell me"), ("assistant", "One two")]
    assert [frame["reason"] for frame in stage.all_frames("bot.interrupted")] == ["cancelled"]
    stage = perform("One two three four.", greeting="")(unheard)
    assert stage.texts() == [("user", "tell me")]
    assert not stage.all_frames("bot.interrupted")


def test_a_greeting_is_cancelled_by_its_id() -> None:
    async def scene(stage: Scene) -> None:
        await stage.words(2)
        stage.send("bot.cancel", message_id=stage.all_frames("bot.speaking")[0]["message_id"])
        await asyncio.sleep(1)
        assert not stage.call.bot_state().busy

    assert len(perform()(scene).all_frames("bot.interrupted")) == 1


# --- the user interrupts


def test_who_interrupts_drops_what_waits_and_a_message_is_no_turn_to_be_continued() -> None:
    async def scene(stage: Scene) -> None:
        stage.say("m1", LONG)
        stage.say("m2", "Never said.")
        await stage.words(3)
        stage.person.say("wait a moment please")
        await stage.frame("bot.finished")

    stage = perform("Sure.", greeting="")(scene)
    assert stage.story("bot.word")[1:] == [
        f"bot.speaking m1 '{LONG}'",
        "speech.started turn_id=1",
        "barge_in cancelled_message_id=m1",
        "bot.interrupted m1 words_spoken=3 last_word=a reason=user_spoke",
        "message.confirmed m1 'This is a'",
        f"bot.interrupted m2 {DROPPED}",
        "user.speaking turn_id=1 'wait a moment please' A",
        "user.message turn_id=1 A 'wait a moment please'",
        "speech.ended turn_id=1",
        "turn.end turn_id=1 A 'wait a moment please'",
        "llm.before turn=1",
        "bot.speaking B ''",
        "message.confirmed B 'Sure.'",
        "bot.finished B 'Sure.'",
        "call.ended reason=hangup",
    ]
