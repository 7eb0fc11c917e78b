"""An agent that is configured anew, for one call or for all, and the time before the greeting. Protocol 3.8."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from config.agent import AgentConfig
from config.patch import parse_patch, patched
from pipeline.call import CONFIGURE_SECONDS
from tests.backend.scene import LONG, Scene, perform, tool

HELLO = {"en": "Hello!", "es": "Hola."}


async def turn(stage: Scene, count: int) -> None:
    stage.person.say("tell me")
    await stage.frame("bot.finished", count)


def configure(stage: Scene, **fields: Any) -> None:
    """``agent.configure``, as the hub hands it on to a running call."""
    patch, problems = parse_patch(fields)
    assert not problems
    stage.config = patched(stage.config, patch)
    stage.call.reload(stage.config)


# --- session.configure

ENCODED = {
    "agent_id": "demo",
    "voice": {"provider": "hibari", "voice_id": "sky"},
    "language": "es-MX",
    "prompt": "Be brief with {{name}}.",
    "vars": {"name": "Ana"},
    "raw_prompt": True,
    "session_limits": {"idle_timeout_seconds": 0},
    "tools": [tool("book")],
    "tool_filler": "Espera.",
}
RAW = {
    "voice": "hibari/sky",
    "language": "es-MX",
    "prompt": "Be brief with {{name}}.",
    "promptVars": {"name": "Ana"},
    "rawPrompt": True,
    "sessionLimits": {"idleTimeoutSeconds": 0},
    "stt": "deepgram:nova-3:es",
    "tools": [
        {
            "name": "book",
            "description": "",
            "schema": {"_def": {"typeName": "ZodObject"}},
            "ephemeral": False,
            "noFollowup": False,
            "_jsonSchema": {"type": "object", "properties": {"day": {"type": "string"}}},
        }
    ],
}


@pytest.mark.parametrize("fields", [ENCODED, RAW], ids=["encoded", "raw"])
def test_both_spellings(fields: dict[str, Any]) -> None:
    async def scene(stage: Scene) -> None:
        await turn(stage, 1)
        stage.send("session.configure", session_id="c1", **fields)
        await turn(stage, 2)
        await asyncio.sleep(200)

    stage = perform(greeting="", prompt="Be kind.", vars={"name": "all"})(scene)
    assert [line for line in stage.story() if line.startswith(("session.", "call.", "error"))] == [
        "call.started metadata={}",
        "session.configured",
        "call.updated",
        "call.ended reason=hangup",
    ]
    [configured] = stage.all_frames("session.configured")
    assert configured == {"event": "session.configured", "agent_id": "demo", "session_id": "c1", "call_id": "c1"}
    assert stage.all_frames("call.updated")[0]["language"] == "es"
    assert stage.tts.voices == [("", "en"), ("sky", "es-MX")]
    assert stage.stt.languages == ["en", "es-MX"]
    assert stage.prompt(0).startswith("Be kind.\n\nYou are speaking")
    assert stage.prompt(1) == "Be brief with Ana."
    assert stage.llm.offered == [[], ["book"]]


def test_a_key_that_cannot_be_used_is_named_and_the_others_count() -> None:
    async def scene(stage: Scene) -> None:
        stage.send("session.configure", session_id="c1", prompt=7, language="es", nonsense=1, tools="x", request_id="r")
        await turn(stage, 1)

    stage = perform(greeting="", prompt="Be kind.")(scene)
    [error] = stage.all_frames("error")
    assert (error["code"], error["call_id"]) == ("BAD_COMMAND", "c1")
    assert "prompt" in error["error"]
    assert "tools" in error["error"]
    assert "nonsense" not in error["error"]
    assert stage.tts.voices == [("", "es")]
    assert "Be kind." in stage.prompt()


def test_a_part_adjusts_what_was_chosen() -> None:
    async def scene(stage: Scene) -> None:
        stage.send("session.configure", session_id="c1", voice="hibari/sky")
        stage.send("session.configure", session_id="c1", voice={"speed": 1.5})
        await asyncio.sleep(0.1)
        await turn(stage, 1)

    stage = perform(greeting="")(scene)
    assert stage.tts.voices == [("sky", "en")]
    assert stage.call._mind.agent.voice.speed == 1.5


def test_the_model_is_switched_off_and_on() -> None:
    async def scene(stage: Scene) -> None:
        stage.send("session.configure", session_id="c1", llm={"enabled": False})
        stage.person.say("tell me")
        end = await stage.frame("turn.end")
        stage.reply("r1", "I tell.", to=end["message_id"])
        await stage.frame("bot.finished")
        stage.send("session.configure", session_id="c1", llm={"enabled": True})
        await turn(stage, 2)

    stage = perform("The model tells.", greeting="")(scene)
    assert [frame["text"] for frame in stage.all_frames("bot.finished")] == ["I tell.", "The model tells."]
    assert stage.asked() == [("user", "tell me"), ("assistant", "I tell."), ("user", "tell me")]


def test_a_voice_that_there_is_not_is_told_to_who_asked_for_it() -> None:
    async def scene(stage: Scene) -> None:
        await stage.frame("bot.finished")
        assert not stage.all_frames("error"), "what the agent asks for is told at its registration"
        stage.send("session.configure", session_id="c1", voice="other/voice")
        await asyncio.sleep(0.5)
        stage.send("session.configure", session_id="c1", language="es")
        await asyncio.sleep(0.5)

    stage = perform()(scene)
    assert [(frame["code"], frame["error"]) for frame in stage.all_frames("error")] == [("FALLBACK", "no such voice")]
    stage = perform(voice="other/voice")(scene)
    assert stage.all_frames("error") == []


RULES = {"minDurationMs": 900, "minWords": 20, "backchannelFilter": False}


def test_how_turns_are_taken() -> None:
    async def scene(stage: Scene) -> None:
        stage.send("session.configure", session_id="c1", interruption=False)
        stage.say("m1", LONG)
        await stage.words(2)
        stage.person.say("stop it now please stop")
        await stage.frame("bot.finished")
        await asyncio.sleep(3)
        stage.send("session.configure", session_id="c1", interruption=RULES)
        stage.say("m2", LONG)
        await stage.words(20)
        stage.person.noise(1500)
        await stage.frame("bot.interrupted")

    stage = perform("I see.", greeting="", llm=None)(scene)
    assert [frame["message_id"] for frame in stage.all_frames("bot.finished")] == ["m1"]
    assert [frame["message_id"] for frame in stage.all_frames("bot.interrupted")] == ["m2"]


# --- before the greeting


def greeted_at(stage: Scene) -> float:
    return round(stage.log.at("bot.speaking") - stage.log.at("call.started"), 2)


def test_a_call_with_metadata_waits_for_its_backend_and_no_other_does() -> None:
    async def scene(stage: Scene) -> None:
        await stage.event("bot.finished")

    assert greeted_at(perform(greeting="Hi.")(scene)) < 0.2
    assert greeted_at(perform(greeting="Hi.", metadata={"a": 1}, attended=False)(scene)) < 0.2
    assert CONFIGURE_SECONDS <= greeted_at(perform(greeting="Hi.", metadata={"a": 1})(scene)) < CONFIGURE_SECONDS + 0.1


def test_the_greeting_is_that_of_the_language_that_was_chosen() -> None:
    async def scene(stage: Scene) -> None:
        await stage.frame("call.started")
        await asyncio.sleep(0.2)
        stage.send("session.configure", session_id="c1", language="es", voice="pico/es")
        await stage.frame("bot.finished")
        stage.person.say("buenos días")
        await stage.frame("bot.finished", 2)

    stage = perform("Bien.", greeting=HELLO, metadata={"lang": "es"})(scene)
    assert stage.story("user.speaking", "bot.word", "message.confirmed") == [
        'call.started metadata={"lang": "es"}',
        "session.configured",
        "call.updated",
        "bot.speaking A 'Hola.'",
        "bot.finished A 'Hola.'",
        "speech.started turn_id=1",
        "user.message turn_id=1 B 'buenos días'",
        "speech.ended turn_id=1",
        "turn.end turn_id=1 B 'buenos días'",
        "llm.before turn=1",
        "bot.speaking C ''",
        "bot.finished C 'Bien.'",
        "call.ended reason=hangup",
    ]
    assert 0.2 <= greeted_at(stage) < 0.35
    assert stage.tts.voices == [("es", "es")] * 2
    assert stage.texts()[0] == ("assistant", "Hola.")


def test_the_greeting_itself_may_be_chosen_and_filled_in() -> None:
    async def scene(stage: Scene) -> None:
        await stage.frame("call.started")
        stage.ask("history.set_vars", vars={"name": "Ana"}, request_id="r")
        stage.send("session.configure", session_id="c1", greeting="Good day, {{name}}!")
        await stage.frame("bot.finished")

    assert perform(greeting=HELLO, metadata={"a": 1})(scene).texts() == [("assistant", "Good day, Ana!")]


def test_a_backend_may_want_no_greeting() -> None:
    async def scene(stage: Scene) -> None:
        await stage.frame("call.started")
        stage.send("session.configure", session_id="c1", greeting="")
        await asyncio.sleep(3)

    assert perform(greeting="Hello!", metadata={"a": 1})(scene).messages() == []


def test_a_backend_that_greets_by_itself() -> None:
    async def scene(stage: Scene) -> None:
        await stage.frame("call.started")
        stage.say("m1", "Hello from code.")
        await stage.frame("bot.finished")
        await turn(stage, 2)

    stage = perform("Yes.", greeting="", metadata={"a": 1})(scene)
    assert [frame["text"] for frame in stage.all_frames("bot.finished")] == ["Hello from code.", "Yes."]


# --- agent.configure


def test_what_is_hot_counts_from_the_next_turn_of_running_calls() -> None:
    async def scene(stage: Scene) -> None:
        await stage.frame("bot.finished")
        await turn(stage, 2)
        configure(
            stage,
            prompt="New, {{name}} of {{town}}.",
            tools=[tool("new")],
            vars={"name": "b", "town": "B"},
            skills=[{"name": "s", "instructions": "Know this.", "activation": "always"}],
            voice="hibari/sky",
            language="es",
            greeting="Never said.",
            session_limits={"max_duration_seconds": 1},
        )
        await turn(stage, 3)

    stage = perform(prompt="Old, {{name}}.", vars={"name": "a"}, tools=[tool("old")], rawPrompt=True)(scene)
    assert [stage.prompt(n) for n in range(2)] == ["Old, a.", "New, b of B.\n\nKnow this."]
    assert stage.llm.offered == [["old"], ["new"]]
    assert stage.tts.voices == [("", "en")] * 3
    assert not stage.all_frames("call.updated")


def test_what_the_call_has_of_its_own_stays() -> None:
    async def scene(stage: Scene) -> None:
        stage.ask("history.set_vars", vars={"name": "own"}, request_id="r")
        stage.send("session.configure", session_id="c1", tools=[tool("own")], prompt="Own, {{name}} of {{town}}.")
        configure(stage, prompt="New.", tools=[tool("new")], vars={"name": "b", "town": "B"})
        await turn(stage, 1)
        stage.ask("history.set_instructions", prompt="Newest, {{name}}.")
        configure(stage, prompt="Newer.")
        await turn(stage, 2)
        stage.send("session.configure", session_id="c1", prompt="Last.")
        await turn(stage, 3)

    stage = perform(greeting="", rawPrompt=True)(scene)
    assert [stage.prompt(n) for n in range(3)] == ["Own, own of B.", "Newest, own.", "Last."]
    assert stage.llm.offered == [["own"]] * 3


def test_a_tool_that_comes_while_the_model_answers_is_there_for_the_next_pass() -> None:
    async def scene(stage: Scene) -> None:
        stage.person.say("tell me")
        await stage.frame("bot.speaking")
        configure(stage, tools=[tool("new")])
        await stage.frame("bot.finished")
        await turn(stage, 2)

    assert perform(LONG, greeting="", tools=[tool("old")])(scene).llm.offered == [["old"], ["new"]]


def test_an_agent_that_is_registered_anew_without_anything() -> None:
    async def scene(stage: Scene) -> None:
        stage.call.reload(AgentConfig(id="demo"))
        await turn(stage, 1)

    stage = perform(greeting="", prompt="Old.", tools=[tool("old")])(scene)
    assert "Old." not in stage.prompt()
    assert stage.llm.offered == [[]]


# --- the browser beside it


def test_the_backend_beats_the_browser() -> None:
    async def scene(stage: Scene) -> None:
        stage.call.on_message('{"action":"configure","language":"fr","prompt":"Mine."}')
        await asyncio.sleep(0.2)
        stage.send("session.configure", session_id="c1", language="es")
        await asyncio.sleep(0.2)
        stage.call.on_message('{"action":"configure","language":"de"}')
        await turn(stage, 1)

    stage = perform(greeting="", prompt="Be kind.")(scene)
    assert [frame["language"] for frame in stage.all_frames("call.updated")] == ["fr", "es"]
    assert stage.tts.voices == [("", "es")]
    assert "Be kind." in stage.prompt()
