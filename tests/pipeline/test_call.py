"""Whole dialogues in virtual time: what is said, what is heard, which events follow in which order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from config.agent import AgentConfig
from pipeline.call import Call
from pipeline.engine import EngineError, Engines
from tests import virtual_time
from tests.pipeline.scripted import (
    Log,
    Person,
    ScriptedLine,
    ScriptedLlm,
    ScriptedStt,
    ScriptedTts,
    Vocabulary,
    spoken,
)

GREETING = "Hello, how can I help you today?"


class Stage:
    """A call with scripted engines, and the person on its other end."""

    def __init__(self, *answers: Any, **agent: Any) -> None:
        self.vocabulary = Vocabulary()
        self.stt = ScriptedStt(self.vocabulary)
        self.llm = ScriptedLlm(*answers)
        self.tts = ScriptedTts()
        engines = SimpleNamespace(
            stt=self.stt, llm=self.llm, tts=self.tts, apology=spoken("Sorry, that failed.".split())
        )
        config, problems = AgentConfig.parse("demo", {"llm": "local", "greeting": GREETING} | agent)
        assert not problems
        self.log = Log(asyncio.get_running_loop().time)
        self.person = Person(self.vocabulary)
        self.line = ScriptedLine(self.person)
        self.call = Call(
            id="c1",
            agent=config,
            engines=cast(Engines, engines),
            publish=self.log.publish,
            language=config.language,
            metadata={"user": "u1"},
        )
        self.call.attach(self.line)

    async def until(self, condition: Callable[[], bool], seconds: float = 30.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.005)

    async def event(self, name: str, count: int = 1) -> None:
        """Until the event was published that often."""
        await self.until(lambda: len(self.log.all(name)) >= count)

    async def greeted(self) -> None:
        await self.event("bot.finished")

    async def hang_up(self) -> None:
        self.call.hangup("hangup")
        await self.call.wait_ended()

    def history(self) -> list[tuple[str, str]]:
        return [(message["role"], message["content"]) for message in self.log.all("call.ended")[0].messages]


def play(*answers: Any, channel_after: float | None = 0.1, **agent: Any) -> Callable[..., Stage]:
    """Run a dialogue on a stage to the end of its call, and check what holds for every call."""

    def run(dialogue: Callable[[Stage], Awaitable[None]]) -> Stage:
        async def main() -> Stage:
            stage = Stage(*answers, **agent)
            stage.line.start(stage.call, channel_after=channel_after)
            if agent.get("greeting") == "":
                await stage.until(lambda: stage.call._listening)
            await dialogue(stage)
            if not stage.call._over.done():
                stage.call.hangup("hangup")
            await stage.call.wait_ended()
            assert stage.line.closed
            assert (stage.stt.open_streams, stage.llm.open_streams, stage.tts.open_streams) == (0, 0, 0)
            check_rules(stage.log)
            return stage

        return virtual_time.run(main())

    return run


def check_rules(log: Log) -> None:
    """What protocol 3.10, 3.11 and 4.4 demand of every call."""
    names = [event.name for _, event in log.events]
    if names:
        assert names[0] == "call.started"
        assert names.count("call.started") == names.count("call.ended") == 1
    announced: dict[str, str] = {}
    words: dict[str, int] = {}
    speaking_turn = None
    turns = [0]
    for _, event in log.events:
        match event.name:
            case "bot.speaking":
                assert event.message_id not in announced
                announced[event.message_id] = "open"
                words[event.message_id] = 0
            case "bot.word":
                assert announced[event.message_id] == "open"
                assert event.word_index == words[event.message_id]
                assert event.word == event.word.strip() != ""
                words[event.message_id] += 1
            case "bot.finished":
                assert announced[event.message_id] == "open"
                assert words[event.message_id] > 0
                announced[event.message_id] = "over"
            case "bot.interrupted":
                assert announced[event.message_id] == "open"
                assert event.words_spoken == words[event.message_id]
                announced[event.message_id] = "over"
            case "message.confirmed":
                assert event.text
            case "speech.started":
                assert speaking_turn is None
                speaking_turn = event.turn_id
                assert event.turn_id >= turns[-1]
                turns.append(event.turn_id)
            case "speech.ended":
                assert speaking_turn == event.turn_id
                speaking_turn = None
    assert set(announced.values()) <= {"over"}
    assert speaking_turn is None


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
    assert names[at - 1 : at + 3] == ["speech.started", "bot.interrupted", "message.confirmed", "user.message"]


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


def test_going_on_before_the_final_came_is_one_message() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.stt.final_seconds = 1.0
        stage.person.say("what is seven")
        stage.person.pause(800)
        stage.person.say("plus five")
        await stage.event("bot.finished")

    stage = play("Twelve.", greeting="")(dialogue)
    assert [event.text for event in stage.log.all("user.message")] == ["what is seven plus five"]
    assert len(stage.log.all("speech.started")) == 1


def test_noise_that_withdrew_an_answer_has_it_answered_again() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.person.say("what is seven")
        await stage.until(lambda: len(stage.log.all("bot.word")) == 3)
        stage.person.noise(500)
        await stage.event("bot.finished")

    stage = play("Seven is a number, and a nice one at that.", "A number.", greeting="")(dialogue)
    assert stage.history() == [("user", "what is seven"), ("assistant", "A number.")]


def test_an_interrupted_greeting_stays_in_full() -> None:
    async def dialogue(stage: Stage) -> None:
        await stage.until(lambda: len(stage.log.all("bot.word")) == 3)
        stage.person.say("hello there")
        await stage.event("bot.finished")

    stage = play("Hi.")(dialogue)
    assert stage.log.all("bot.interrupted")[0].reason == "user_spoke"
    spoken_part = " ".join(GREETING.split()[: stage.log.all("bot.interrupted")[0].words_spoken])
    assert stage.log.all("message.confirmed")[0].text == spoken_part
    assert stage.log.all("turn.end")[0].turn_id == 1
    assert stage.history() == [("assistant", GREETING), ("user", "hello there"), ("assistant", "Hi.")]


def test_words_interrupt_where_the_voice_is_too_soft() -> None:
    async def dialogue(stage: Stage) -> None:
        await stage.until(lambda: len(stage.log.all("bot.word")) == 2)
        stage.person.say("please stop", level=-55)
        await stage.event("bot.finished")

    stage = play("Yes.")(dialogue)
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
        await stage.until(lambda: len(stage.log.all("bot.word")) == 6)
        stage.person.say("now it is my turn")  # goes on after it
        await stage.event("bot.finished", 2)

    stage = play("Yes.", interruption=False)(dialogue)
    assert stage.log.all("bot.interrupted") == []
    assert [event.text for event in stage.log.all("user.message")] == ["now it is my turn"]
    finished = stage.log.names("bot.word").index("bot.finished")
    assert stage.log.names("bot.word")[finished + 1] == "speech.started"


def test_text_interrupts_and_is_answered() -> None:
    async def dialogue(stage: Stage) -> None:
        await stage.until(lambda: len(stage.log.all("bot.word")) == 3)
        stage.call.on_message('{"action":"inject_text","text":"  what time is it  "}')
        await stage.event("bot.finished")

    stage = play("Noon.")(dialogue)
    names = stage.log.names("bot.word", "llm.response")
    assert names[2:] == [
        "bot.speaking",
        "bot.interrupted",
        "message.confirmed",
        "user.message",
        "turn.end",
        "llm.thinking",
        "bot.speaking",
        "turn.latency",
        "message.confirmed",
        "bot.finished",
        "call.ended",
        "session.ended",
        "session.timeout",
    ]
    message = stage.log.all("user.message")[0]
    assert (message.text, message.confidence, message.lag_ms) == ("what time is it", 1.0, 0)
    assert stage.log.all("turn.latency")[0].stages["turn"] == 0


def test_text_before_the_call_began_is_not_lost() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.call.on_message('{"action":"inject_text","text":"hello"}')
        await stage.event("bot.finished")

    assert play("Hi.")(dialogue).log.all("user.message")[0].text == "hello"


def test_text_typed_while_speaking_joins_what_was_said() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.person.say("my number is")
        await stage.until(lambda: len(stage.log.all("user.speaking")) == 3)
        stage.call.on_message('{"action":"inject_text","text":"12345"}')
        await stage.event("bot.finished")

    stage = play("Thanks.", greeting="")(dialogue)
    assert [event.text for event in stage.log.all("user.message")] == ["my number is 12345"]


def test_mute_finishes_the_turn_and_hears_nothing_more() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.person.say("one two three four five six")
        await stage.until(lambda: len(stage.log.all("user.speaking")) == 3)
        stage.call.on_message('{"action":"mute"}')
        await stage.event("bot.finished")
        stage.person.say("nobody hears this")
        await asyncio.sleep(2)
        stage.call.on_message('{"action":"unmute"}')
        stage.person.say("but this")
        await stage.event("bot.finished", 2)

    stage = play("Right.", "Yes.", greeting="")(dialogue)
    assert [event.text for event in stage.log.all("user.message")] == ["one two three", "but this"]


def test_context_of_the_page_is_in_the_prompt() -> None:
    async def dialogue(stage: Stage) -> None:
        await stage.greeted()
        for number in range(40):
            stage.call.on_message(f'{{"action":"set_context","key":"k{number}","value":{{"n":{number}}}}}')
        stage.call.on_message('{"action":"set_context","key":"k0","value":null}')
        stage.call.on_message('{"action":"set_context","key":"cart","value":"two apples"}')
        stage.call.on_message('{"action":"inject_text","text":"buy"}')
        await stage.event("bot.finished", 2)

    prompt = play("Done.", prompt="You sell fruit.")(dialogue).llm.asked[0][0]["content"]
    assert "You sell fruit." in prompt
    assert "### cart\ntwo apples" in prompt
    assert '### k31\n{"n": 31}' in prompt
    assert "k0\n" not in prompt
    assert "k32" not in prompt


def test_a_browser_switches_the_language() -> None:
    async def dialogue(stage: Stage) -> None:
        await stage.greeted()
        stage.call.on_message('{"action":"configure","language":"es-MX","voice":"other/pepe","prompt":"x","llm":"y"}')
        stage.person.say("hola")
        await stage.event("bot.finished", 2)

    stage = play("Hola.")(dialogue)
    assert stage.log.all("config.updated")[0].config == {"language": "es-MX", "voice": "other/pepe"}
    assert stage.log.all("call.updated")[0].language == "es"
    assert stage.stt.languages == ["en", "es-MX"]
    assert stage.tts.voices[-1][1] == "es-MX"


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "ping",
        "{",
        "null",
        "[]",
        '"mute"',
        '{"action":7}',
        '{"action":"fly"}',
        '{"action":"inject_text"}',
        '{"action":"inject_text","text":"   "}',
        '{"action":"inject_text","text":["a"]}',
        '{"action":"set_context","key":"","value":"x"}',
        '{"action":"set_context","key":["k"],"value":"x"}',
        '{"action":"set_context","key":"k","value":"' + "x" * 20_000 + '"}',
        '{"action":"configure","language":5,"voice":{"provider":{}}}',
        "[" * 60_000,
        "x" * 200_000,
    ],
)
def test_garbage_costs_nothing(garbage: str) -> None:
    async def dialogue(stage: Stage) -> None:
        stage.call.on_message(garbage)
        await stage.greeted()
        stage.call.on_message(garbage)
        stage.person.say("still there")
        await stage.event("bot.finished", 2)

    stage = play("Yes.")(dialogue)
    assert stage.log.names("config.updated").count("bot.finished") == 2


# --- engines that fail


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
    assert stage.log.at("llm.error") - stage.log.at("llm.thinking") == pytest.approx(15, abs=0.1)


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
        stage.llm.token_seconds = 5.0  # slower than the voice may be
        stage.person.say("hello")
        await stage.event("bot.finished")
        stage.tts.pace = 1e6
        stage.person.say("again")
        await stage.event("bot.finished", 2)

    stage = play("One two three.", "Four.", greeting="")(dialogue)
    assert [event.text for event in stage.log.all("bot.finished")] == ["One two three.", "Sorry, that failed."]
    assert stage.log.all("error")[0].error == "The voice took too long"


def test_a_voice_slower_than_real_time_goes_on() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.tts.pace = 0.5
        stage.person.say("hello")
        await stage.event("bot.finished")

    stage = play("This is one. And here is two. That was it.", greeting="")(dialogue)
    assert stage.log.all("bot.finished")[0].text == "This is one. And here is two. That was it."
    assert stage.log.all("bot.finished")[0].duration_ms == 10 * 250


@pytest.mark.parametrize("broken", ["gone", "at once"])
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


# --- the end


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
    assert stage.log.all("speech.ended")[0].duration_ms > 450


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


def test_the_longest_call() -> None:
    async def dialogue(stage: Stage) -> None:
        await stage.until(lambda: stage.line.closed, 200)

    stage = play(session_limits={"max_duration_seconds": 30, "idle_timeout_seconds": 0})(dialogue)
    assert stage.log.all("session.timeout")[0].reason == "max_duration"
    assert stage.log.all("call.ended")[0].duration_seconds == pytest.approx(30, abs=0.5)


def test_each_turn_explains_its_latency() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.person.say("hello")
        await stage.event("bot.finished")

    stage = play("Hi there.", greeting="")(dialogue)
    latency = stage.log.all("turn.latency")[0]
    assert list(latency.stages) == ["turn", "stt", "llm", "clause", "tts", "send"]
    assert sum(latency.stages.values()) == latency.total_ms
    assert latency.stages["turn"] == pytest.approx(560, abs=20)
    assert latency.stages["stt"] == pytest.approx(100, abs=20)
    assert latency.stages["llm"] == pytest.approx(220, abs=20)
    assert latency.stages["send"] <= 20
    assert latency.message_id == stage.log.all("bot.speaking")[0].message_id
