"""The user speaks over the bot, or goes on with what they said: what the backend hears of it. Protocol 8.2 to 8.6."""

from __future__ import annotations

import asyncio

from tests.backend.scene import LONG, Scene, perform

ANSWER = "It is twelve, as far as I can tell you now from what you have said."


def test_a_whole_call_with_a_greeting() -> None:
    """Protocol 8.2."""

    async def scene(stage: Scene) -> None:
        await stage.frame("bot.finished")
        stage.person.pause(300)
        stage.person.say("what is seven plus five")
        await stage.frame("bot.finished", 2)
        await stage.line.drop("disconnected")
        await stage.call.wait_ended()

    stage = perform("Twelve.", metadata={"userId": "u_1"}, greeting="Hi there.")(scene)
    assert stage.story() == [
        'call.started metadata={"userId": "u_1"}',
        "bot.speaking A 'Hi there.'",
        "bot.word A 'Hi there.'",
        "message.confirmed A 'Hi there.'",
        "bot.finished A 'Hi there.'",
        "speech.started turn_id=1",
        "user.speaking turn_id=1 'what is seven plus five' B",
        "user.message turn_id=1 B 'what is seven plus five'",
        "speech.ended turn_id=1",
        "turn.end turn_id=1 B 'what is seven plus five'",
        "llm.before turn=1",
        "bot.speaking C ''",
        "bot.word C 'Twelve.'",
        "message.confirmed C 'Twelve.'",
        "bot.finished C 'Twelve.'",
        "call.ended reason=disconnected",
    ]
    [started], [ended] = stage.all_frames("call.started"), stage.all_frames("call.ended")
    where = {"agent_id": "demo", "call_id": "c1", "session_id": "c1"}
    line = {"from": "webrtc", "to": "webrtc", "direction": "inbound", "transport": "webrtc", "language": "en"}
    assert (where | line).items() <= started.items()
    assert (where | {"direction": "inbound"}).items() <= ended.items()
    assert stage.texts() == [
        ("assistant", "Hi there."),
        ("user", "what is seven plus five"),
        ("assistant", "Twelve."),
    ]
    for frame in stage.all_frames("bot.word"):
        assert frame["word"] == frame["word"].strip()
    assert [frame["word_index"] for frame in stage.all_frames("bot.word")] == [0, 1, 0]
    assert [frame["duration_ms"] for frame in stage.all_frames("bot.finished")] == [500, 250]
    assert isinstance(started["ts"], float)


def test_who_interrupts_after_two_seconds_begins_a_new_turn() -> None:
    """Protocol 8.5."""

    async def scene(stage: Scene) -> None:
        stage.person.say("what is seven plus five")
        await stage.words(9)
        stage.person.say("and seven plus six please")
        await stage.frame("bot.finished")

    stage = perform(ANSWER, "Thirteen.", greeting="")(scene)
    assert stage.story()[5:] == [
        "turn.end turn_id=1 A 'what is seven plus five'",
        "llm.before turn=1",
        "bot.speaking B ''",
        "bot.word B 'It is twelve, as far as I can tell'",
        "speech.started turn_id=2",
        "barge_in cancelled_message_id=B",
        "bot.interrupted B words_spoken=9 last_word=tell reason=user_spoke",
        "message.confirmed B 'It is twelve, as far as I can tell'",
        "user.speaking turn_id=2 'and seven plus six please' C",
        "user.message turn_id=2 C 'and seven plus six please'",
        "speech.ended turn_id=2",
        "turn.end turn_id=2 C 'and seven plus six please'",
        "llm.before turn=2",
        "bot.speaking D ''",
        "bot.word D 'Thirteen.'",
        "message.confirmed D 'Thirteen.'",
        "bot.finished D 'Thirteen.'",
        "call.ended reason=hangup",
    ]
    [cut] = stage.all_frames("bot.interrupted")
    assert 2000 <= cut["played_ms"] <= 2500
    assert stage.texts() == [
        ("user", "what is seven plus five"),
        ("assistant", "It is twelve, as far as I can tell"),
        ("user", "and seven plus six please"),
        ("assistant", "Thirteen."),
    ]
    assert stage.asked() == stage.texts()[:-1]


def test_who_interrupts_before_two_seconds_goes_on_with_the_same_turn() -> None:
    """Protocol 8.6."""

    async def scene(stage: Scene) -> None:
        stage.person.say("what is seven")
        await stage.words(3)
        stage.person.say("plus five please")
        await stage.frame("bot.finished")

    stage = perform(ANSWER, "Twelve.", greeting="")(scene)
    assert stage.story()[5:] == [
        "turn.end turn_id=1 A 'what is seven'",
        "llm.before turn=1",
        "bot.speaking B ''",
        "bot.word B 'It is twelve,'",
        "speech.started turn_id=1",
        "turn.continued turn_id=1",
        "bot.interrupted B words_spoken=3 last_word=twelve, reason=continuation",
        "message.aborted B reason=continuation",
        "user.speaking turn_id=1 'what is seven plus five please' C",
        "user.message turn_id=1 C 'what is seven plus five please'",
        "speech.ended turn_id=1",
        "turn.end turn_id=1 C 'what is seven plus five please'",
        "llm.before turn=1",
        "bot.speaking D ''",
        "bot.word D 'Twelve.'",
        "message.confirmed D 'Twelve.'",
        "bot.finished D 'Twelve.'",
        "call.ended reason=hangup",
    ]
    assert stage.texts() == [("user", "what is seven plus five please"), ("assistant", "Twelve.")]


def test_who_goes_on_while_the_bot_thinks_goes_on_with_the_same_turn() -> None:
    async def scene(stage: Scene) -> None:
        stage.llm.first_token = 2.0
        stage.person.say("what is seven")
        await stage.frame("turn.end")
        stage.person.say("plus five please")
        await stage.frame("bot.finished")

    stage = perform(ANSWER, "Twelve.", greeting="")(scene)
    assert stage.story("user.speaking")[4:11] == [
        "turn.end turn_id=1 A 'what is seven'",
        "llm.before turn=1",
        "speech.started turn_id=1",
        "turn.continued turn_id=1",
        "user.message turn_id=1 B 'what is seven plus five please'",
        "speech.ended turn_id=1",
        "turn.end turn_id=1 B 'what is seven plus five please'",
    ]
    assert stage.texts() == [("user", "what is seven plus five please"), ("assistant", "Twelve.")]


def test_an_interrupted_greeting_was_said_and_is_no_turn_to_go_on_with() -> None:
    async def scene(stage: Scene) -> None:
        await stage.words(2)
        stage.person.say("I have a question")
        await stage.frame("bot.finished")

    stage = perform("Ask.", greeting=LONG)(scene)
    assert stage.story("user.speaking", "bot.word")[1:9] == [
        f"bot.speaking A '{LONG}'",
        "speech.started turn_id=1",
        "barge_in cancelled_message_id=A",
        "bot.interrupted A words_spoken=2 last_word=is reason=user_spoke",
        "message.confirmed A 'This is'",
        "user.message turn_id=1 B 'I have a question'",
        "speech.ended turn_id=1",
        "turn.end turn_id=1 B 'I have a question'",
    ]
    assert stage.texts() == [("assistant", LONG), ("user", "I have a question"), ("assistant", "Ask.")]


def test_a_pause_in_mid_sentence_is_told() -> None:
    """Protocol 8.3."""

    async def scene(stage: Scene) -> None:
        stage.ears.verdicts.append(0.1)
        stage.person.say("book a table for")
        stage.person.pause(900)
        stage.person.say("two please")
        await stage.frame("bot.finished")

    stage = perform("Done.", greeting="")(scene)
    assert stage.story()[1:9] == [
        "speech.started turn_id=1",
        "user.speaking turn_id=1 'book a table for' A",
        "speech.ended turn_id=1",
        "turn.pause turn_id=1",
        "speech.started turn_id=1",
        "turn.resumed turn_id=1",
        "user.speaking turn_id=1 'book a table for two please' A",
        "user.message turn_id=1 A 'book a table for two please'",
    ]


def test_an_early_guess_that_was_right_and_one_that_was_wrong() -> None:
    async def right(stage: Scene) -> None:
        stage.ears.verdicts.append(0.9)
        stage.person.say("what time is it?")
        await stage.frame("bot.finished")

    async def wrong(stage: Scene) -> None:
        stage.ears.verdicts.extend([0.9, 0.9])
        stage.person.say("what time is it?")
        await stage.frame("eager.turn")
        stage.person.say("in Rome?")
        await stage.frame("bot.finished")

    stage = perform("Five.", greeting="")(right)
    assert stage.story(eager=True)[1:8] == [
        "speech.started turn_id=1",
        "user.speaking turn_id=1 'what time is it?' A",
        "eager.turn turn_id=1 A 'what time is it?'",
        "user.message turn_id=1 A 'what time is it?'",
        "speech.ended turn_id=1",
        "turn.end turn_id=1 A 'what time is it?'",
        "llm.before turn=1",
    ]
    stage = perform("Five.", "Six.", greeting="")(wrong)
    assert stage.story("user.speaking", eager=True)[1:] == [
        "speech.started turn_id=1",
        "eager.turn turn_id=1 A 'what time is it?'",
        "turn.continued turn_id=1",
        "eager.turn turn_id=1 B 'what time is it? in Rome?'",
        "user.message turn_id=1 B 'what time is it? in Rome?'",
        "speech.ended turn_id=1",
        "turn.end turn_id=1 B 'what time is it? in Rome?'",
        "llm.before turn=1",
        "bot.speaking C ''",
        "bot.word C 'Six.'",
        "message.confirmed C 'Six.'",
        "bot.finished C 'Six.'",
        "call.ended reason=hangup",
    ]
    assert stage.texts() == [("user", "what time is it? in Rome?"), ("assistant", "Six.")]


def test_text_that_is_typed_is_a_turn_without_speech() -> None:
    async def scene(stage: Scene) -> None:
        stage.call.on_message('{"action":"inject_text","text":" hello "}')
        await stage.frame("bot.finished")

    stage = perform("Hi.", greeting="")(scene)
    assert stage.story()[1:4] == [
        "user.message turn_id=1 A 'hello'",
        "turn.end turn_id=1 A 'hello'",
        "llm.before turn=1",
    ]
    assert stage.all_frames("user.message")[0]["confidence"] == 1


def test_a_call_goes_on_without_its_backend_and_no_second_beginning_is_told() -> None:
    """Protocol 8.12."""

    async def scene(stage: Scene) -> None:
        await stage.frame("bot.finished")
        stage.go()
        stage.person.say("hello")
        await stage.event("bot.finished", 2)
        stage.come()
        stage.person.say("hello again")
        await stage.frame("bot.finished", 2)

    stage = perform("Hi.", "Hi again.", greeting="Good day.")(scene)
    assert [line.split()[0] for line in stage.story("user.speaking", "bot.word")] == [
        "call.started",
        "bot.speaking",
        "message.confirmed",
        "bot.finished",
        "speech.started",
        "user.message",
        "speech.ended",
        "turn.end",
        "llm.before",
        "bot.speaking",
        "message.confirmed",
        "bot.finished",
        "call.ended",
    ]
    assert len(stage.messages()) == 5


def test_a_call_that_began_without_a_backend_does_not_end_for_one() -> None:
    async def scene(stage: Scene) -> None:
        await stage.event("bot.finished")
        stage.come()
        stage.person.say("hello")
        await stage.frame("bot.finished")
        await asyncio.sleep(0.1)

    stage = perform("Hi.", greeting="Good day.", attended=False)(scene)
    assert not stage.all_frames("call.started")
    assert not stage.all_frames("call.ended")
