"""Replies of a backend that answers its agent's calls itself, or does beside the model. Protocol 3.12, 8.7."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from tests.backend.scene import LONG, Scene, ends, perform

CLIENT = {"llm": None, "greeting": ""}


def test_a_reply_is_spoken_clause_by_clause_while_it_is_written() -> None:
    async def scene(stage: Scene) -> None:
        stage.person.say("what time is it")
        end = await stage.frame("turn.end")
        stage.reply("r1", "It is ", "five o'clock. ", "Any", to=end["message_id"], end=False)
        await stage.words(4)
        assert stage.tts.pieces == ["It is five o'clock."]
        await asyncio.sleep(2)
        stage.write("r1", "thing ", "else?")
        await stage.frame("bot.finished")

    stage = perform(**CLIENT)(scene)
    assert stage.story() == [
        "call.started metadata={}",
        "speech.started turn_id=1",
        "user.speaking turn_id=1 'what time is it' A",
        "user.message turn_id=1 A 'what time is it'",
        "speech.ended turn_id=1",
        "turn.end turn_id=1 A 'what time is it'",
        "bot.speaking r1 ''",
        "bot.word r1 'It is five o'clock. Anything else?'",
        "message.confirmed r1 'It is five o'clock. Anything else?'",
        "bot.finished r1 'It is five o'clock. Anything else?'",
        "call.ended reason=hangup",
    ]
    assert stage.texts() == [("user", "what time is it"), ("assistant", "It is five o'clock. Anything else?")]
    assert stage.llm.asked == []


def test_a_stream_that_ends_without_a_word_ends_silently() -> None:
    async def scene(stage: Scene) -> None:
        stage.person.say("hello")
        end = await stage.frame("turn.end")
        stage.reply("r1", to=end["message_id"])
        stage.reply("r2", "", to=end["message_id"])
        await asyncio.sleep(1)
        assert not stage.call.bot_state().busy

    assert "r1" not in str(perform(**CLIENT)(scene).frames)


def test_a_stream_that_nobody_goes_on_with() -> None:
    async def scene(stage: Scene) -> None:
        stage.reply("r1", "Well, ", "let me see. ", to="", end=False)
        stage.say("m1", "Next.")
        await stage.frame("bot.finished", 2)
        stage.write("r1", "Too late.")

    stage = perform(**CLIENT)(scene)
    assert ends(stage) == [("r1", "bot.finished"), ("m1", "bot.finished")]
    assert not stage.all_frames("error")


def test_a_reply_to_what_the_user_has_gone_on_from_is_rejected() -> None:
    async def scene(stage: Scene) -> None:
        stage.person.say("one")
        first = (await stage.frame("turn.end"))["message_id"]
        stage.send("bot.reply", message_id="r0", text="Uno.", in_reply_to=first)
        await stage.frame("bot.finished")
        stage.person.say("two")
        second = (await stage.frame("turn.end", 2))["message_id"]
        stage.send("bot.reply", message_id="r1", text="Late.", in_reply_to=first)
        stage.reply("r2", "Late.", to=first)
        stage.reply("r3", "Dos.", to=second)
        await stage.frame("bot.finished", 2)

    stage = perform(**CLIENT)(scene)
    assert [line for line in stage.story() if re.search(r" r\d", line) and "word" not in line] == [
        "bot.speaking r0 'Uno.'",
        "message.confirmed r0 'Uno.'",
        "bot.finished r0 'Uno.'",
        "reply.rejected r1 in_reply_to=A expected_reply_to=B reason=message_obsolete",
        "reply.rejected r2 in_reply_to=A expected_reply_to=B reason=message_obsolete",
        "bot.speaking r3 ''",
        "message.confirmed r3 'Dos.'",
        "bot.finished r3 'Dos.'",
    ]
    assert ends(stage) == [
        ("r0", "bot.finished"),
        ("r1", "reply.rejected"),
        ("r2", "reply.rejected"),
        ("r3", "bot.finished"),
    ]


def test_who_goes_on_before_the_reply_came() -> None:
    async def scene(stage: Scene) -> None:
        stage.person.say("book a table")
        first = (await stage.frame("turn.end"))["message_id"]
        stage.send("bot.reply.stream", action="start", message_id="r1", in_reply_to=first)
        stage.person.say("for two please")
        await stage.frame("turn.continued")
        stage.write("r1", "Which ", "day?")  # they crossed
        stage.send("bot.reply", message_id="r2", text="Which day?", in_reply_to=first)
        second = (await stage.frame("turn.end", 2))["message_id"]
        stage.reply("r3", "For two.", to=second)
        await stage.frame("bot.finished")

    stage = perform(**CLIENT)(scene)
    assert stage.story("user.speaking")[4:] == [
        "turn.end turn_id=1 A 'book a table'",
        "speech.started turn_id=1",
        "turn.continued turn_id=1",
        "reply.rejected r2 in_reply_to=A expected_reply_to=B reason=message_obsolete",
        "user.message turn_id=1 B 'book a table for two please'",
        "speech.ended turn_id=1",
        "turn.end turn_id=1 B 'book a table for two please'",
        "bot.speaking r3 ''",
        "bot.word r3 'For two.'",
        "message.confirmed r3 'For two.'",
        "bot.finished r3 'For two.'",
        "call.ended reason=hangup",
    ]
    assert stage.texts() == [("user", "book a table for two please"), ("assistant", "For two.")]


def test_who_goes_on_early_in_a_reply_has_it_aborted() -> None:
    async def scene(stage: Scene) -> None:
        stage.person.say("book a table")
        first = (await stage.frame("turn.end"))["message_id"]
        stage.reply("r1", "Which day would you like to come?", to=first, end=False)
        await stage.words(2)
        stage.person.say("for two please")
        await stage.frame("turn.continued")
        stage.send("bot.reply.stream", action="end", message_id="r1")  # as the SDK does
        second = (await stage.frame("turn.end", 2))["message_id"]
        stage.reply("r2", "For two.", to=second)
        await stage.frame("bot.finished")

    stage = perform(**CLIENT)(scene)
    assert stage.story("user.speaking")[4:] == [
        "turn.end turn_id=1 A 'book a table'",
        "bot.speaking r1 ''",
        "bot.word r1 'Which day'",
        "speech.started turn_id=1",
        "turn.continued turn_id=1",
        "bot.interrupted r1 words_spoken=2 last_word=day reason=continuation",
        "message.aborted r1 reason=continuation",
        "user.message turn_id=1 B 'book a table for two please'",
        "speech.ended turn_id=1",
        "turn.end turn_id=1 B 'book a table for two please'",
        "bot.speaking r2 ''",
        "bot.word r2 'For two.'",
        "message.confirmed r2 'For two.'",
        "bot.finished r2 'For two.'",
        "call.ended reason=hangup",
    ]
    assert stage.texts() == [("user", "book a table for two please"), ("assistant", "For two.")]


def test_who_interrupts_a_reply_late_begins_a_new_turn() -> None:
    async def scene(stage: Scene) -> None:
        stage.person.say("tell me a story")
        first = (await stage.frame("turn.end"))["message_id"]
        stage.reply("r1", LONG, to=first, end=False)
        await stage.words(10)
        stage.person.say("thanks that is enough")
        await stage.frame("barge_in")
        stage.write("r1", " And more.")
        second = (await stage.frame("turn.end", 2))["message_id"]
        stage.reply("r2", "Bye.", to=second)
        await stage.frame("bot.finished")

    stage = perform(**CLIENT)(scene)
    heard = "This is a long sentence of more than two seconds,"
    assert stage.story("user.speaking", "bot.word")[4:] == [
        "turn.end turn_id=1 A 'tell me a story'",
        "bot.speaking r1 ''",
        "speech.started turn_id=2",
        "barge_in cancelled_message_id=r1",
        "bot.interrupted r1 words_spoken=10 last_word=seconds, reason=user_spoke",
        f"message.confirmed r1 '{heard}'",
        "user.message turn_id=2 B 'thanks that is enough'",
        "speech.ended turn_id=2",
        "turn.end turn_id=2 B 'thanks that is enough'",
        "bot.speaking r2 ''",
        "message.confirmed r2 'Bye.'",
        "bot.finished r2 'Bye.'",
        "call.ended reason=hangup",
    ]


# --- replies to a guess


def test_a_reply_to_an_early_guess_is_not_heard_before_the_turn_is_over() -> None:
    async def scene(stage: Scene) -> None:
        stage.ears.verdicts.append(0.9)
        stage.person.say("what time is it?")
        guess = await stage.frame("eager.turn")
        stage.reply("r1", "Five.", to=guess["message_id"])
        await stage.frame("bot.finished")

    stage = perform(**CLIENT)(scene)
    assert stage.story("user.speaking", eager=True)[2:] == [
        "eager.turn turn_id=1 A 'what time is it?'",
        "user.message turn_id=1 A 'what time is it?'",
        "speech.ended turn_id=1",
        "turn.end turn_id=1 A 'what time is it?'",
        "bot.speaking r1 ''",
        "bot.word r1 'Five.'",
        "message.confirmed r1 'Five.'",
        "bot.finished r1 'Five.'",
        "call.ended reason=hangup",
    ]


def test_a_reply_to_a_guess_that_was_wrong_is_dropped() -> None:
    async def scene(stage: Scene) -> None:
        stage.ears.verdicts.extend([0.9, 0.9])
        stage.person.say("what time is it?")
        guess = await stage.frame("eager.turn")
        stage.reply("r1", "Five.", to=guess["message_id"])
        stage.person.say("in Rome?")
        await stage.frame("turn.continued")
        stage.reply("r2", "Six.", to=guess["message_id"])
        end = await stage.frame("turn.end")
        stage.reply("r3", "Seven.", to=end["message_id"])
        await stage.frame("bot.finished")

    stage = perform(**CLIENT)(scene)
    assert ends(stage) == [("r1", "bot.interrupted"), ("r2", "reply.rejected"), ("r3", "bot.finished")]
    assert stage.texts() == [("user", "what time is it? in Rome?"), ("assistant", "Seven.")]


def test_a_reply_to_a_guess_whose_text_was_not_the_last_is_rejected() -> None:
    async def scene(stage: Scene) -> None:
        stage.ears.verdicts.append(0.9)
        stage.person.say("what time is it?")
        guess = await stage.frame("eager.turn")
        stage.reply("r1", "Five.", to=guess["message_id"])
        stage.call.on_message('{"action":"inject_text","text":"in Rome"}')
        end = await stage.frame("turn.end")
        assert end["message_id"] != guess["message_id"]
        stage.reply("r2", "Six.", to=end["message_id"])
        await stage.frame("bot.finished")
        await asyncio.sleep(1)

    stage = perform(**CLIENT)(scene)
    assert ends(stage) == [("r1", "reply.rejected"), ("r2", "bot.finished")]


def test_a_message_that_answers_nothing_does_not_wait_for_the_turn() -> None:
    async def scene(stage: Scene) -> None:
        stage.ears.verdicts.append(0.6)
        stage.person.say("what time is it?")
        guess = await stage.frame("eager.turn")
        stage.reply("r1", "Five.", to=guess["message_id"])
        stage.say("m1", "One moment.")
        await stage.frame("bot.finished", 2)

    stage = perform(**CLIENT)(scene)
    assert sorted(ends(stage)) == [("m1", "bot.finished"), ("r1", "bot.finished")]


def test_a_backend_may_reply_in_place_of_the_model_too() -> None:
    async def scene(stage: Scene) -> None:
        stage.person.say("tell me")
        end = await stage.frame("turn.end")
        stage.send("bot.reply", message_id="r1", text="From the backend.", in_reply_to=end["message_id"])
        await stage.frame("bot.finished", 2)
        stage.person.say("again")
        await stage.frame("bot.finished", 3)

    stage = perform("From the model.", "Again.", greeting="")(scene)
    assert [frame["text"] for frame in stage.all_frames("bot.finished")][:2] == ["From the backend.", "From the model."]
    assert {text for _, text in stage.asked()[1:-1]} == {"From the backend.", "From the model."}


@pytest.mark.parametrize(
    "frame",
    [{}, {"action": "pause"}, {"action": "chunk"}, {"action": "end", "message_id": 7}, {"action": ["start"]}],
)
def test_a_stream_frame_that_says_nothing(frame: Any) -> None:
    async def scene(stage: Scene) -> None:
        stage.send("bot.reply.stream", **frame)
        stage.send("bot.reply.stream", action="chunk", message_id="nobody", token="x")
        stage.send("bot.reply.stream", action="end", message_id="nobody")

    stage = perform(**CLIENT)(scene)
    assert len(stage.all_frames("error")) == 1
