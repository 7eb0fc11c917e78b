"""Calls in virtual time: how they begin, go and end, and in which order events follow."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.events import Event
from pipeline.turn_settings import TurnSettings
from tests import virtual_time
from tests.pipeline.stage import GREETING, Stage, play


def test_a_call_from_greeting_to_hangup() -> None:
    async def dialogue(stage: Stage) -> None:
        await stage.greeted()
        stage.person.pause(300)
        stage.person.say("what is seven plus five")
        await stage.event("bot.finished", 2)

    stage = play("Seven plus five is twelve. Anything else?")(dialogue)
    assert stage.log.names() == [
        "call.started",
        "session.started",
        "bot.speaking",
        "bot.word",
        "message.confirmed",
        "bot.finished",
        "speech.started",
        "user.speaking",
        "eager.turn",
        "user.message",
        "speech.ended",
        "turn.end",
        "llm.thinking",
        "llm.response",
        "bot.speaking",
        "turn.latency",
        "bot.word",
        "message.confirmed",
        "bot.finished",
        "call.ended",
        "session.ended",
        "session.timeout",
    ]
    assert stage.history() == [
        ("assistant", GREETING),
        ("user", "what is seven plus five"),
        ("assistant", "Seven plus five is twelve. Anything else?"),
    ]


def test_the_greeting_waits_for_the_channel_but_not_for_ever() -> None:
    async def dialogue(stage: Stage) -> None:
        await stage.event("bot.speaking")

    early, never = play(channel_after=0.3)(dialogue), play(channel_after=None)(dialogue)
    assert 0.3 < early.log.at("bot.speaking") < 0.6
    assert 1.0 < never.log.at("bot.speaking") < 1.3


def test_variables_in_a_greeting() -> None:
    async def dialogue(stage: Stage) -> None:
        await stage.greeted()

    stage = play(greeting="Hi {{name}}, it is *me*.", vars={"name": "Ana"})(dialogue)
    assert stage.log.all("bot.speaking")[0].text == "Hi Ana, it is me."
    assert stage.history() == [("assistant", "Hi Ana, it is me.")]


def test_words_follow_the_audio_and_the_end_is_the_last_sample() -> None:
    async def dialogue(stage: Stage) -> None:
        await stage.greeted()
        assert stage.line.playout.pending == 0

    stage = play()(dialogue)
    finished = stage.log.all("bot.finished")[0]
    assert finished.text == GREETING
    assert finished.duration_ms == 7 * 250
    began = stage.log.at("bot.speaking")
    for at, word in [(at, event) for at, event in stage.log.events if event.name == "bot.word"]:
        assert at - began == pytest.approx(word.start_time, abs=0.021)
    assert stage.log.at("bot.finished") - began == pytest.approx(1.75, abs=0.021)
    assert sum(stage.line.sound) * 20 == pytest.approx(1750, abs=20)


def test_the_first_syllable_is_not_lost_and_partials_grow() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.person.say("one two three four")
        await stage.event("turn.end")

    stage = play(greeting="")(dialogue)
    texts = [event.text for event in stage.log.all("user.speaking")]
    assert texts == ["one", "one two", "one two three", "one two three four"]
    message, end = stage.log.all("user.message")[0], stage.log.all("turn.end")[0]
    assert (message.text, message.turn_id, message.message_id) == (end.text, end.turn_id, end.message_id)
    assert {event.message_id for event in stage.log.all("user.speaking")} == {message.message_id}
    assert stage.log.all("speech.ended")[0].duration_ms == pytest.approx(800, abs=20)


def test_a_pause_within_a_sentence_is_no_end() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.person.say("well I think")
        stage.person.pause(450)
        stage.person.say("so")
        await stage.event("turn.end")
        await stage.event("bot.finished")

    stage = play(greeting="")(dialogue)
    assert [event.text for event in stage.log.all("user.message")] == ["well I think so"]


def test_noise_is_answered_by_nothing() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.person.noise(300)
        await stage.event("speech.ended")
        await asyncio.sleep(2)

    stage = play(greeting="")(dialogue)
    assert stage.log.names("call.started", "session.started") == [
        "speech.started",
        "speech.ended",
        "call.ended",
        "session.ended",
        "session.timeout",
    ]
    assert stage.llm.asked == []


def test_the_browser_leaves_in_the_middle_of_everything() -> None:
    async def dialogue(stage: Stage) -> None:
        await stage.until(lambda: len(stage.log.all("bot.word")) == 3)
        await stage.line.drop("disconnected")

    stage = play()(dialogue)
    assert stage.log.names("bot.word")[-3:] == ["bot.interrupted", "message.confirmed", "call.ended"]
    assert stage.log.all("bot.interrupted")[0].reason == "cancelled"
    assert stage.log.all("call.ended")[0].reason == "disconnected"


def test_hanging_up_while_the_user_speaks() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.person.say("I was just going to say that")
        await stage.until(lambda: len(stage.log.all("user.speaking")) == 3)
        await stage.hang_up()

    stage = play(greeting="")(dialogue)
    assert stage.log.names()[-4:] == ["speech.ended", "call.ended", "session.ended", "session.timeout"]
    assert stage.log.all("session.timeout")[0].reason == "hangup"
    assert stage.line.closed_at - stage.log.at("session.timeout") >= 0.2
    assert stage.log.all("speech.ended")[0].duration_ms > 450


def test_nothing_follows_the_end() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.person.say("one two three")
        await stage.until(lambda: len(stage.log.all("user.speaking")) == 2)
        stage.stt.broken = "gone"
        stage.call.hangup("hangup")
        stage.call.on_message('{"action":"inject_text","text":"hello"}')

    stage = play(greeting="")(dialogue)
    assert stage.log.all("error") == []


def test_a_subscriber_that_fails_leaves_nothing_open() -> None:
    async def main() -> None:
        stage = Stage()
        stage.line.start(stage.call)
        await stage.greeted()

        def publish(_: Event) -> None:
            raise RuntimeError("nobody listens")

        stage.call._publish = publish
        stage.call.hangup("hangup")
        with pytest.raises(RuntimeError, match="nobody listens"):
            await stage.call.wait_ended()
        assert stage.line.closed
        assert stage.stt.open_streams == 0

    virtual_time.run(main())


@pytest.mark.parametrize("reason", ["timeout", "failed"])
def test_a_line_that_never_connected_leaves_no_events(reason: str) -> None:
    async def main() -> None:
        stage = Stage()
        await asyncio.sleep(1)
        stage.call.on_closed(reason)
        await stage.call.wait_ended()
        assert stage.log.events == []

    virtual_time.run(main())


def test_hanging_up_before_the_line_connected_closes_it() -> None:
    async def main() -> None:
        stage = Stage()
        closed = asyncio.Event()

        async def close() -> None:
            closed.set()
            stage.call.on_closed("closed")

        stage.line.close = close  # type: ignore[method-assign]
        stage.call.hangup("server_shutdown")
        await stage.call.wait_ended()
        assert closed.is_set()
        assert stage.log.events == []

    virtual_time.run(main())


def test_nobody_speaks() -> None:
    async def dialogue(stage: Stage) -> None:
        await stage.until(lambda: stage.line.closed, 200)

    stage = play()(dialogue)
    finished = stage.log.at("bot.finished")
    warnings = [(at, e.remaining_seconds) for at, e in stage.log.events if e.name == "session.idle_warning"]
    assert [remaining for _, remaining in warnings] == [15, 10]
    assert warnings[0][0] - finished == pytest.approx(45, abs=1)
    assert stage.log.at("session.timeout") - finished == pytest.approx(70, abs=1)
    assert stage.log.all("call.ended")[0].reason == "idle_timeout"


def test_who_speaks_for_long_is_not_idle() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.person.say("so " * 40)
        await stage.event("bot.finished")

    limits = {"idle_timeout_seconds": 5, "idle_warning_seconds": 0, "idle_grace_seconds": 0}
    stage = play("I see.", greeting="", session_limits=limits)(dialogue)
    assert stage.log.all("call.ended")[0].reason == "hangup"


def test_the_longest_call() -> None:
    async def dialogue(stage: Stage) -> None:
        await stage.until(lambda: stage.line.closed, 200)

    stage = play(session_limits={"max_duration_seconds": 30, "idle_timeout_seconds": 0})(dialogue)
    assert stage.log.all("session.timeout")[0].reason == "max_duration"
    assert stage.log.all("call.ended")[0].duration_seconds == pytest.approx(30, abs=0.5)


def test_the_voice_begins_while_the_model_still_writes() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.llm.token_seconds = 0.3
        stage.person.say("how are you")
        await stage.event("bot.finished")

    stage = play("Very well, thank you. It is a fine day, is it not, and how are you?", greeting="")(dialogue)
    assert stage.log.at("bot.speaking") < stage.log.at("llm.response") - 2


def test_each_turn_explains_its_latency() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.person.say("book a")  # nothing is prepared before such a turn is over
        await stage.event("bot.finished")

    stage = play("Hi there.", greeting="")(dialogue)
    latency = stage.log.all("turn.latency")[0]
    assert list(latency.stages) == ["turn", "stt", "llm", "clause", "tts", "send"]
    assert sum(latency.stages.values()) == latency.total_ms
    assert latency.stages["turn"] == pytest.approx(TurnSettings().unfinished_ms, abs=20)
    assert latency.stages["stt"] == pytest.approx(100, abs=20)
    assert latency.stages["llm"] == pytest.approx(220, abs=20)
    assert latency.stages["send"] <= 20
    assert latency.message_id == stage.log.all("bot.speaking")[0].message_id


def test_captions_and_history_keep_what_was_written() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.person.say("what does it cost")
        await stage.event("bot.finished")

    stage = play("It costs **$12.50**, at 3 p.m. 🎉 Bye.", greeting="")(dialogue)
    assert [event.word for event in stage.log.all("bot.word")] == ["It", "costs", "$12.50,", "at", "3", "p.m.", "Bye."]
    assert stage.log.all("bot.finished")[0].text == "It costs $12.50, at 3 p.m. Bye."
    assert stage.history()[-1] == ("assistant", "It costs $12.50, at 3 p.m. Bye.")
    assert "twelve dollars and fifty cents" in " ".join(stage.tts.pieces)
