"""Hold, mute, a person who takes over, hang-ups and limits, as the backend sees them. Protocol 3.18, 7.7, 8.8, 8.9."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.backend.scene import LONG, Scene, ends, perform

# --- hold


def test_hold_silences_the_bot_and_hears_nobody() -> None:
    async def scene(stage: Scene) -> None:
        stage.say("m1", LONG)
        stage.say("m2", "Next.")
        await stage.words(2)
        stage.send("call.hold")
        stage.send("call.hold")
        stage.say("m3", "Dropped.")
        stage.reply("m4", "Dropped.", to="")
        stage.person.say("is anybody there")
        await asyncio.sleep(3)
        stage.send("call.unhold")
        stage.person.say("hello again")
        await stage.frame("bot.finished")

    stage = perform("Hello.", greeting="")(scene)
    assert stage.story("user.speaking", "bot.word")[1:] == [
        f"bot.speaking m1 '{LONG}'",
        "bot.interrupted m1 words_spoken=2 last_word=is reason=cancelled",
        "message.confirmed m1 'This is'",
        "bot.interrupted m2 words_spoken=0 reason=cancelled",
        "call.held",
        "call.held",
        "bot.interrupted m3 words_spoken=0 reason=cancelled",
        "bot.interrupted m4 words_spoken=0 reason=cancelled",
        "call.unheld",
        "speech.started turn_id=1",
        "user.message turn_id=1 A 'hello again'",
        "speech.ended turn_id=1",
        "turn.end turn_id=1 A 'hello again'",
        "llm.before turn=1",
        "bot.speaking B ''",
        "message.confirmed B 'Hello.'",
        "bot.finished B 'Hello.'",
        "call.ended reason=hangup",
    ]
    assert all({"agent_id", "call_id"} <= frame.keys() for frame in stage.all_frames("call.held"))


def test_a_turn_that_is_under_way_when_the_call_is_held_is_told_and_not_answered() -> None:
    async def scene(stage: Scene) -> None:
        stage.person.say("I was just going to say")
        await stage.frame("user.speaking", 3)
        stage.send("call.hold")
        await stage.frame("turn.end")
        await asyncio.sleep(2)
        stage.send("call.unhold")
        await asyncio.sleep(2)

    stage = perform(greeting="")(scene)
    assert stage.llm.asked == []
    assert len(stage.all_frames("user.message")) == 1


def test_hold_while_the_bot_thinks_and_before_the_greeting() -> None:
    async def thinking(stage: Scene) -> None:
        stage.llm.first_token = 2.0
        stage.person.say("tell me")
        await stage.frame("turn.end")
        stage.send("call.hold")
        await asyncio.sleep(5)
        stage.send("call.unhold")
        await asyncio.sleep(5)

    async def starting(stage: Scene) -> None:
        await stage.frame("call.started")
        stage.send("call.hold")
        await asyncio.sleep(3)
        stage.send("call.unhold")
        stage.person.say("hello")
        await stage.frame("bot.finished")

    stage = perform("Never said.", greeting="")(thinking)
    assert not stage.all_frames("bot.speaking")
    assert stage.texts() == [("user", "tell me")]
    stage = perform("Hello.")(starting)
    assert [frame["text"] for frame in stage.all_frames("bot.finished")] == ["Hello."]


def test_hold_and_the_mute_of_the_browser_do_not_undo_one_another() -> None:
    async def scene(stage: Scene) -> None:
        stage.call.on_message('{"action":"mute"}')
        stage.send("call.hold")
        stage.send("call.unhold")
        stage.person.say("not heard")
        await asyncio.sleep(2)
        stage.send("call.hold")
        stage.call.on_message('{"action":"unmute"}')
        stage.person.say("not heard either")
        await asyncio.sleep(2)
        stage.send("call.unhold")
        stage.person.say("heard")
        await stage.frame("bot.finished")

    assert [frame["text"] for frame in perform(greeting="")(scene).all_frames("user.message")] == ["heard"]


def test_a_call_on_hold_is_not_idle() -> None:
    async def scene(stage: Scene) -> None:
        stage.send("call.hold")
        await asyncio.sleep(300)
        stage.send("call.unhold")

    stage = perform(greeting="")(scene)
    assert stage.all_frames("call.ended")[0]["reason"] == "hangup"
    assert not stage.all_frames("session.idle_warning")


# --- mute


def test_who_is_muted_is_written_down_and_not_told_of() -> None:
    async def scene(stage: Scene) -> None:
        stage.send("call.mute")
        stage.person.say("my number is one two three")
        await asyncio.sleep(4)
        stage.person.say("and four")
        await asyncio.sleep(3)
        stage.send("call.unmute")
        stage.person.say("hello")
        await stage.frame("bot.finished")

    stage = perform("Hi.", greeting="")(scene)
    assert stage.story("user.speaking", "bot.word")[1:] == [
        "call.muted",
        "call.unmuted muted_transcript=my number is one two three and four",
        "speech.started turn_id=3",
        "user.message turn_id=3 A 'hello'",
        "speech.ended turn_id=3",
        "turn.end turn_id=3 A 'hello'",
        "llm.before turn=3",
        "bot.speaking B ''",
        "message.confirmed B 'Hi.'",
        "bot.finished B 'Hi.'",
        "call.ended reason=hangup",
    ]
    assert stage.asked() == [("user", "hello")]


def test_unmute_in_the_middle_of_a_sentence_keeps_what_was_said_so_far() -> None:
    async def scene(stage: Scene) -> None:
        stage.send("call.mute")
        stage.person.say("one two three four five six seven eight nine ten")
        await asyncio.sleep(0.9)
        stage.send("call.unmute")
        await asyncio.sleep(4)

    stage = perform(greeting="")(scene)
    [unmuted] = stage.all_frames("call.unmuted")
    [message] = stage.all_frames("user.message")
    assert unmuted["muted_transcript"] == "one two three four"
    assert message["text"] == "six seven eight nine ten"


@pytest.mark.parametrize("muted", [True, False])
def test_nothing_was_said_while_muted(muted: bool) -> None:
    async def scene(stage: Scene) -> None:
        if muted:
            stage.send("call.mute")
            await asyncio.sleep(1)
        stage.send("call.unmute")

    [unmuted] = perform(greeting="")(scene).all_frames("call.unmuted")
    assert unmuted == {"event": "call.unmuted", "agent_id": "demo", "call_id": "c1", "muted_transcript": None}


def test_who_is_muted_does_not_interrupt() -> None:
    async def scene(stage: Scene) -> None:
        stage.send("call.mute")
        stage.say("m1", LONG)
        await stage.words(4)
        stage.person.say("stop it now please stop")
        await stage.frame("bot.finished")
        stage.send("call.unmute")
        await asyncio.sleep(2)

    stage = perform(greeting="")(scene)
    assert ends(stage) == [("m1", "bot.finished")]
    assert stage.all_frames("call.unmuted")[0]["muted_transcript"] == "stop it now please stop"
    assert not stage.all_frames("speech.started")


def test_a_turn_that_is_under_way_at_mute_is_finished_first() -> None:
    async def scene(stage: Scene) -> None:
        stage.person.say("one two three four")
        await stage.frame("user.speaking", 2)
        stage.send("call.mute")
        await stage.frame("bot.finished")
        stage.send("call.unmute")

    stage = perform(greeting="")(scene)
    assert stage.story("user.speaking", "bot.word")[1:] == [
        "speech.started turn_id=1",
        "call.muted",
        "user.message turn_id=1 A 'one two'",
        "speech.ended turn_id=1",
        "turn.end turn_id=1 A 'one two'",
        "llm.before turn=1",
        "bot.speaking B ''",
        "message.confirmed B 'I see.'",
        "bot.finished B 'I see.'",
        "call.unmuted muted_transcript=three four",
        "call.ended reason=hangup",
    ]


def test_the_recogniser_breaks_while_a_turn_from_before_the_mute_waits_for_its_text() -> None:
    async def scene(stage: Scene) -> None:
        stage.stt.final_seconds = 5.0
        stage.person.say("one two three four five six")
        await stage.frame("user.speaking", 2)
        stage.send("call.mute")
        await asyncio.sleep(0.5)
        stage.stt.broken = "gone"
        await asyncio.sleep(3)
        stage.stt.broken = ""
        stage.send("call.unmute")

    stage = perform(greeting="")(scene)
    assert [line.split()[0] for line in stage.story("bot.word")[1:6]] == [
        "speech.started",
        "user.speaking",
        "call.muted",
        "error",
        "speech.ended",
    ]


def test_the_call_ends_while_a_turn_from_before_the_mute_waits_for_its_text() -> None:
    async def scene(stage: Scene) -> None:
        stage.stt.final_seconds = 5.0
        stage.person.say("one two three four five six")
        await stage.frame("user.speaking", 2)
        stage.send("call.mute")
        await asyncio.sleep(0.5)

    assert perform(greeting="")(scene).story("user.speaking")[1:] == [
        "speech.started turn_id=1",
        "call.muted",
        "speech.ended turn_id=1",
        "call.ended reason=hangup",
    ]


# --- a person takes over


def test_a_person_takes_over_and_hands_back() -> None:
    async def scene(stage: Scene) -> None:
        stage.send("session.pause", session_id="c1")
        stage.person.say("are you a robot")
        await stage.frame("turn.end")
        await asyncio.sleep(3)
        stage.send("session.send", session_id="c1", text="No, I am Eva.")
        await stage.frame("bot.finished")
        stage.send("session.resume", session_id="c1")
        await asyncio.sleep(1)
        stage.person.say("good")
        await stage.frame("bot.finished", 2)

    stage = perform("Indeed.", greeting="")(scene)
    assert stage.story("user.speaking", "bot.word", "message.confirmed")[1:] == [
        "session.paused",
        "speech.started turn_id=1",
        "user.message turn_id=1 A 'are you a robot'",
        "speech.ended turn_id=1",
        "turn.end turn_id=1 A 'are you a robot'",
        "session.sent",
        "bot.speaking B 'No, I am Eva.'",
        "bot.finished B 'No, I am Eva.'",
        "session.resumed",
        "speech.started turn_id=2",
        "user.message turn_id=2 C 'good'",
        "speech.ended turn_id=2",
        "turn.end turn_id=2 C 'good'",
        "llm.before turn=2",
        "bot.speaking D ''",
        "bot.finished D 'Indeed.'",
        "call.ended reason=hangup",
    ]
    assert stage.asked() == [("user", "are you a robot"), ("assistant", "No, I am Eva."), ("user", "good")]
    assert {frame["session_id"] for frame in stage.frames if frame["event"].startswith("session.")} == {"c1"}


def test_a_person_who_takes_over_while_the_bot_thinks_is_not_talked_over() -> None:
    async def scene(stage: Scene) -> None:
        stage.llm.first_token = 1.0
        stage.person.say("I want a person")
        await stage.frame("turn.end")
        stage.send("session.pause", session_id="c1")
        await asyncio.sleep(5)

    stage = perform("Never said.", greeting="")(scene)
    assert not stage.all_frames("bot.speaking")


@pytest.mark.parametrize("text", [None, "", 7, "x" * 40_000])
def test_a_person_who_says_nothing(text: Any) -> None:
    async def scene(stage: Scene) -> None:
        assert stage.ask("session.send", session_id="c1", text=text)["event"] == "error"

    perform(greeting="")(scene)


# --- hang-ups


def test_the_backend_hangs_up_in_the_middle_of_a_word() -> None:
    async def scene(stage: Scene) -> None:
        stage.say("m1", LONG)
        stage.say("m2", "Next.")
        await stage.words(3)
        stage.send("call.hangup", reason="done")
        stage.send("call.hangup")
        await asyncio.sleep(0)

    stage = perform(greeting="")(scene)
    assert stage.story("bot.word")[1:] == [
        f"bot.speaking m1 '{LONG}'",
        "bot.interrupted m1 words_spoken=3 last_word=a reason=cancelled",
        "message.confirmed m1 'This is a'",
        "bot.interrupted m2 words_spoken=0 reason=cancelled",
        "call.ended reason=hangup",
    ]
    [ended] = stage.all_frames("call.ended")
    assert ended["direction"] == "inbound"
    assert ended["messages"] == [{"role": "assistant", "content": "This is a"}]
    assert ended["duration_seconds"] == pytest.approx(ended["ended_at"] - ended["started_at"], abs=0.002)


def test_a_good_bye_is_heard_to_its_end_before_the_backend_hangs_up() -> None:
    async def scene(stage: Scene) -> None:
        stage.say("m1", "Good-bye, and thanks for calling.")
        await stage.frame("bot.finished")
        stage.send("call.hangup")
        await stage.call.wait_ended()

    stage = perform(greeting="")(scene)
    assert [frame["event"] for frame in stage.frames[-3:]] == ["message.confirmed", "bot.finished", "call.ended"]
    assert sum(stage.line.sound) * 20 == pytest.approx(5 * 250, abs=20)


def test_the_browser_leaves_while_the_bot_speaks_and_a_turn_is_open() -> None:
    async def scene(stage: Scene) -> None:
        stage.say("m1", LONG)
        await stage.words(3)
        await stage.line.drop("disconnected")
        await stage.call.wait_ended()

    stage = perform(greeting="")(scene)
    assert stage.story("bot.word")[2:] == [
        "bot.interrupted m1 words_spoken=3 last_word=a reason=cancelled",
        "message.confirmed m1 'This is a'",
        "call.ended reason=disconnected",
    ]


# --- limits


async def to_the_end(stage: Scene) -> None:
    await stage.until(lambda: stage.line.closed, 2000)


def test_an_idle_call_is_warned_twice_and_ended() -> None:
    stage = perform(greeting="Hi.")(to_the_end)
    assert stage.story("bot.word", "message.confirmed")[3:] == [
        "session.idle_warning remaining_seconds=15 idle_timeout_seconds=60",
        "session.idle_warning remaining_seconds=10 idle_timeout_seconds=60",
        "session.timeout reason=idle_timeout",
        "call.ended reason=idle_timeout",
    ]
    quiet = stage.log.at("bot.finished")
    at = [round(moment - quiet) for moment, event in stage.log.events if event.name.startswith("session.")][1:4]
    assert at == [45, 60, 70]
    assert stage.all_frames("session.timeout")[0]["session_id"] == "c1"


def test_who_answers_a_warning_stretches_the_time_and_who_speaks_begins_it_anew() -> None:
    async def scene(stage: Scene) -> None:
        stage.send("session.configure", session_id="c1", sessionLimits={"idleTimeoutSeconds": 20})
        await stage.frame("session.idle_warning")
        stage.say("m1", "Are you still there?")
        await stage.frame("session.idle_warning", 2)
        stage.person.say("yes")
        await to_the_end(stage)

    stage = perform("Good.", greeting="")(scene)
    at = [round(moment) for moment, event in stage.log.events if event.name == "session.idle_warning"]
    assert at[1] - at[0] == 15 + 1
    answered = [moment for moment, event in stage.log.events if event.name == "bot.finished"][-1]
    assert stage.log.at("session.timeout") > answered + 29


def test_a_message_is_cut_at_the_longest_duration() -> None:
    async def scene(stage: Scene) -> None:
        await asyncio.sleep(8)
        stage.say("m1", LONG)
        await to_the_end(stage)

    stage = perform(greeting="", session_limits={"max_duration_seconds": 10})(scene)
    assert stage.story("bot.word")[-4:] == [
        "bot.interrupted m1 words_spoken=9 last_word=two reason=cancelled",
        "message.confirmed m1 'This is a long sentence of more than two'",
        "session.timeout reason=max_duration",
        "call.ended reason=max_duration",
    ]
    assert stage.all_frames("call.ended")[0]["duration_seconds"] == pytest.approx(10, abs=0.5)


def test_limits_that_are_shorter_than_what_has_passed() -> None:
    async def scene(stage: Scene) -> None:
        await asyncio.sleep(30)
        limits = {"idle_timeout_seconds": 5, "idle_warning_seconds": 0, "idle_grace_seconds": 0}
        stage.send("session.configure", session_id="c1", session_limits=limits)
        await to_the_end(stage)

    stage = perform(greeting="")(scene)
    assert stage.all_frames("call.ended")[0]["reason"] == "idle_timeout"
    assert stage.all_frames("call.ended")[0]["duration_seconds"] < 32


def test_limits_of_nothing_end_nothing() -> None:
    async def scene(stage: Scene) -> None:
        stage.send("session.configure", session_id="c1", session_limits={"idle_timeout_seconds": 0})
        await asyncio.sleep(500)

    stage = perform(greeting="")(scene)
    assert stage.all_frames("call.ended")[0]["reason"] == "hangup"


def test_a_tool_that_runs_and_a_reply_that_is_awaited_stop_the_idle_clock() -> None:
    async def scene(stage: Scene) -> None:
        stage.person.say("tell me")
        await stage.frame("turn.end")
        await asyncio.sleep(9)
        stage.say("m1", "Here I am.")
        await stage.frame("bot.finished")

    limits = {"idle_timeout_seconds": 8, "idle_warning_seconds": 0, "idle_grace_seconds": 0}
    stage = perform(greeting="", llm=None, session_limits=limits)(scene)
    assert ends(stage) == [("m1", "bot.finished")]
