"""What a browser asks for over the DataChannel. Protocol 4.5, 9.4."""

from __future__ import annotations

import asyncio

import pytest

from tests.pipeline.stage import Stage, play


def test_text_interrupts_and_is_answered() -> None:
    async def dialogue(stage: Stage) -> None:
        await stage.until(lambda: len(stage.log.all("bot.word")) == 3)
        stage.call.on_message('{"action":"inject_text","text":"  what time is it  "}')
        await stage.event("bot.finished")

    stage = play("Noon.")(dialogue)
    names = stage.log.names("bot.word", "llm.response")
    assert names[2:] == [
        "bot.speaking",
        "barge_in",
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


@pytest.mark.parametrize("spoken", [True, False])
def test_text_typed_before_anything_was_answered_joins_the_question(spoken: bool) -> None:
    """Published clients replace the last text of the user until the bot has said a word. Protocol 4.4, rule 3."""

    async def dialogue(stage: Stage) -> None:
        await stage.greeted()
        if spoken:
            stage.person.say("how are you")
        else:
            stage.call.on_message('{"action":"inject_text","text":"how are you"}')
        await stage.event("turn.end")
        stage.call.on_message('{"action":"inject_text","text":"and who"}')
        await stage.event("bot.finished", 2)
        stage.call.on_message('{"action":"inject_text","text":"thanks"}')
        await stage.event("bot.finished", 3)

    stage = play("Fine.", "You are welcome.")(dialogue)
    first, joined, last = stage.log.all("user.message")
    assert [first.text, joined.text, last.text] == ["how are you", "how are you and who", "thanks"]
    assert first.turn_id == joined.turn_id < last.turn_id
    assert len({first.message_id, joined.message_id, last.message_id}) == 3
    assert stage.log.all("bot.interrupted") == []
    assert [text for role, text in stage.history() if role == "user"] == ["how are you and who", "thanks"]


def test_mute_finishes_the_turn_and_hears_nothing_more() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.person.say("one two three four five six")
        await stage.until(lambda: len(stage.log.all("user.speaking")) == 3)
        stage.call.on_message('{"action":"mute"}')
        await stage.event("bot.finished")
        stage.person.say("nobody hears this")
        await asyncio.sleep(2)
        stage.call.on_message('{"action":"unmute"}')
        stage.person.say("background", voiced=False)
        await stage.until(lambda: not stage.person.frames)
        stage.call.on_message('{"action":"mute"}')
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
    assert [(event.error, event.code) for event in stage.log.all("error")] == [("no such voice", "FALLBACK")]
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
