"""What a backend makes its calls do: rows 11, 13 and 16 of protocol 15, and the methods of 10.2."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conformance.call import Call, ReplyStream, Tool
from tests.conformance.conftest import Serve
from tests.conformance.inbox import Frame
from tests.conformance.sdk import Sdk, SdkError
from tests.conformance.test_talking import LLM, milestones, spoken

LONG = " ".join(["and so on"] * 90)


async def test_row_11_variables_are_there_before_the_turn_is_answered(serve: Serve) -> None:
    """Row 11; trap 36: the barrier opens when the SDK is ready, not when its budget of 5 s is used up."""
    async with serve() as place, place.sdk() as sdk:
        agent = sdk.agent("mara", llm=LLM, prompt="It is {{weather}}.", preparing={"timeout_ms": 5000})

        async def prepare(call: Call) -> None:
            await call.set_prompt_vars(weather=f"sunny after {len(call.messages)} messages")

        agent.on("call.preparing", prepare)
        async with place.calling(agent) as (voice, _):
            for count in (1, 3):
                mark = voice.inbox.mark
                voice.send_text("How is the weather?")
                await voice.inbox.next("bot.finished", since=mark)
                assert f"It is sunny after {count} messages." in place.model.system
        before, spoke = (sdk.inbox.all(event)[-1]["ts"] for event in ("llm.before", "bot.speaking"))
        assert spoke - before < 4.0
        assert [frame["turn"] for frame in sdk.inbox.all("llm.before")] == [1, 2]
        assert sdk.inbox.names("llm.preparing_timeout") == []


def cut(sdk: Sdk) -> None:
    """The network goes: no closing handshake."""
    assert sdk.socket is not None
    sdk.socket._conn.transport.abort()  # type: ignore[union-attr]


async def test_row_13_a_call_outlives_the_socket_of_its_backend(serve: Serve) -> None:
    """Row 13; traps 17, 20, 26, 33b: the call goes on, a tool runs when the backend is back, nothing begins twice."""
    ran: list[Call] = []

    def book(arguments: Frame, call: Call) -> str:
        ran.append(call)
        return "booked"

    async with serve() as place, place.sdk(first_retry=0.2) as sdk:
        agent = sdk.agent("mara", llm=LLM, tools={"book": Tool(book)})
        lost: list[str] = []
        sdk.on("disconnected", lost.append)
        async with place.calling(agent, metadata={"userId": "u_1"}) as (voice, call):
            mark = sdk.inbox.mark
            cut(sdk)
            assert (await call.ended)["reason"] == "connection_closed"
            voice.send_text("Are you still there?")
            await voice.inbox.next("bot.finished")
            assert voice.state.texts("bot") == ["You said: Are you still there?"]
            await sdk.inbox.next("agent.created", since=mark)
            voice.send_text("call book {}")
            await voice.inbox.next("llm.tool_result", result="booked")
            await voice.inbox.next("bot.word", word="booked.")
            cut(sdk)
            voice.send_text("call book {}")  # while nobody is there to run it
            await voice.inbox.until(lambda: [tool.result for tool in voice.state.tools] == ["booked"] * 2, "both")
        ended = await sdk.inbox.next("call.ended", since=mark)
        assert (ended["call_id"], ended["direction"]) == (voice.call_id, "inbound")
        assert [each.is_stub for each in ran] == [True, True]
        assert (sdk.connections, len(lost), len(sdk.inbox.all("call.started"))) == (3, 2, 1)


async def test_row_16_the_applications_own_model_answers(serve: Serve) -> None:
    """Row 16 and protocol 8.7: streamed, spoken, taken back when the user goes on, and answered anew."""
    streams: list[tuple[ReplyStream, str]] = []

    def answer(call: Call, turn: Frame) -> None:
        stream = call.reply_stream(turn)
        streams.append((stream, turn["messageId"]))
        for word in (LONG if len(streams) == 1 else "This is my answer.").split():
            stream.write(f"{word} ")
        if len(streams) > 1:
            stream.end()

    async with serve() as place, place.sdk() as sdk:
        agent = sdk.agent("mara", turn_detection="silence", prompt="Unused: this agent has no model of ours.")
        agent.on("turn.end", answer)
        async with place.calling(agent) as (voice, call):
            voice.send_text("Tell me")
            await voice.inbox.next("bot.word")
            heard = sdk.inbox.mark
            await voice.say(spoken(1.4))
            await sdk.inbox.next("bot.finished", since=heard)
            (first, asked), (second, asked_again) = streams
            assert (first.aborted, second.aborted) == (True, False)
            expected = ["turn.continued", "bot.interrupted", "message.aborted", "user.message", "turn.end"]
            expected += ["bot.speaking", "message.confirmed", "bot.finished"]
            assert milestones(sdk.inbox, *expected, since=heard) == expected
            assert sdk.inbox.all("bot.interrupted")[0]["message_id"] == first.id
            assert sdk.inbox.all("bot.finished")[0]["message_id"] == second.id
            assert voice.state.texts("bot")[-1] == "This is my answer."
            stale = call.reply("Too late.", in_reply_to=asked)
            rejected = await sdk.inbox.next("reply.rejected", message_id=stale)
            assert (rejected["in_reply_to"], rejected["expected_reply_to"]) == (asked, asked_again)
            assert rejected["reason"] == "message_obsolete"
            good = call.reply("In time.")
            await sdk.inbox.next("bot.finished", message_id=good)
        assert place.model.asked == []


async def test_trap_31_every_say_settles(serve: Serve) -> None:
    """Trap 31: whatever becomes of a message, the promise of who said it settles."""
    async with serve() as place, place.sdk() as sdk, place.calling(sdk.agent("mara", llm=LLM)) as (voice, call):
        empty = await call.say("")
        assert empty is not None
        assert {"event": "bot.interrupted", "reason": "cancelled", "playedMs": 0, "wordsSpoken": 0}.items() <= (
            empty.items()
        )
        said = [call.say(LONG), call.say("Second."), call.say("Third.")]
        await sdk.inbox.next("bot.word")
        call.cancel()
        third = await asyncio.gather(*said)
        assert [event and event["event"] for event in third] == ["bot.interrupted", "bot.finished", "bot.finished"]
        said = [call.say(LONG), call.say("Never heard.")]
        call.clear()
        assert [event and event["reason"] for event in await asyncio.gather(*said)] == ["cancelled", "cancelled"]
        call.send("call.hold")
        held = await call.say("On hold.")
        assert held is not None
        assert held["reason"] == "cancelled"
        call.send("call.unhold")
        await sdk.inbox.next("call.unheld", agent_id="mara", call_id=call.id)
        last = [call.say(LONG), call.say("Never heard either.")]
        await sdk.inbox.next("bot.word", word_index=1, since=sdk.inbox.mark)
        call.hangup()
        assert [event and event["reason"] for event in await asyncio.gather(*last)] == ["cancelled", "cancelled"]
        await voice.inbox.until(lambda: voice.status == "idle")


async def test_say_enters_the_models_history_only_when_asked(serve: Serve) -> None:
    """Protocol 3.12: it counts as said either way."""
    async with serve() as place, place.sdk() as sdk, place.calling(sdk.agent("mara", llm=LLM)) as (_, call):
        await call.say("Aside.")
        await call.say("To remember.", add_to_history=True)
        assert [message["content"] for message in call.messages] == ["Aside.", "To remember."]
        assert [message["content"] for message in await call.get_history()] == ["To remember."]


async def test_trap_29_requests_at_the_same_time(serve: Serve) -> None:
    """Trap 29 and protocol 3.13: each promise gets its own answer; about a call that is over, at once a refusal."""
    user = {"role": "user", "content": "Before."}
    async with serve() as place, place.sdk() as sdk:
        async with place.calling(sdk.agent("My Agent", llm=LLM, prompt="First.")) as (voice, call):
            counts = await asyncio.gather(
                call.set_history([user, user]),
                call.add_history([user]),
                call.clear_history(),
                call.add_history([user]),
                call.set_prompt("Second, {{name}}."),
                call.set_prompt_vars(name="Zoe"),
                call.add_context("The shop is closed."),
            )
            assert (counts, await call.get_history()) == ([2, 3, 0, 1, 1, 1, 1], [user])
            voice.send_text("Hello")
            await voice.inbox.next("bot.finished")
            assert place.model.system.startswith("Second, Zoe.")
            assert "The shop is closed." in place.model.system
            with pytest.raises(SdkError, match="REQUEST_REJECTED"):
                await call.set_history([{"role": "nobody"}])
        await call.ended
        with pytest.raises(SdkError, match="REQUEST_REJECTED: call not found"):
            await call.get_history()
        answers = sdk.inbox.all("history.data", "history.updated")
        assert all((each["agent_id"], each["call_id"]) == ("My Agent", call.id) for each in answers)


async def test_trap_35_a_call_is_configured_as_the_developer_wrote_it(serve: Serve) -> None:
    """Trap 35 and protocol 3.8: raw camelCase and shortcuts, tools as SDK objects, resolved by the session alone."""
    tool = {"name": "book", "description": "Book.", "schema": {"zod": 1}, "ephemeral": False, "noFollowup": False}
    tool["_jsonSchema"] = {"type": "object", "properties": {"day": {"type": "string"}}}
    raw: dict[str, Any] = {"stt": "deepgram:nova-3:es", "voice": "elevenlabs:EXAVITQu4vr4xnSDxMaL", "tools": [tool]}
    raw |= {"promptVars": {"name": "Zoe"}, "rawPrompt": True, "sessionLimits": {"idle_timeout_seconds": 0}}
    async with serve() as place, place.sdk() as sdk:
        agent = sdk.agent("mara", llm=LLM, prompt="For {{name}}.")
        async with place.calling(agent) as (voice, call):
            call.update(**raw)
            assert (await sdk.inbox.next("session.configured"))["session_id"] == call.id
            voice.send_text("Hello")
            await voice.inbox.next("bot.finished")
            assert (place.model.system, place.model.asked[-1][1]) == ("For Zoe.", ["book"])
            agent.update(prompt="Again for {{name}}.")
            await sdk.inbox.next("agent.configured")
            mark = voice.inbox.mark
            voice.send_text("Hello again")
            await voice.inbox.next("bot.finished", since=mark)
            assert place.model.system == "Again for Zoe.", "hot reload, and the call's own variables on top"


async def test_a_backend_chooses_the_language_by_the_metadata(serve: Serve) -> None:
    """Protocol 3.8, the start-up window: the greeting waits for the configuration, when there is metadata."""
    async with serve() as place, place.sdk() as sdk:
        agent = sdk.agent("mara", llm=LLM, greeting={"en": "Hello there", "es": "Hola amiga"})
        agent.on("call.started", lambda call: call.update(language=call.metadata["lang"]))
        async with place.calling(agent, metadata={"lang": "es"}) as (voice, call):
            await voice.inbox.next("bot.finished")
            assert (voice.state.texts("bot"), call.language) == (["Hola amiga"], "es")


async def test_every_control_of_a_call_is_answered(serve: Serve) -> None:
    """Protocol 10.2 and 3.18: hold, mute, skills, and a person who takes over."""
    skill = {"name": "refunds", "description": "Pay back.", "instructions": "Be generous.", "tools": []}
    async with serve() as place, place.sdk() as sdk:
        agent = sdk.agent("mara", llm=LLM, prompt="Sell.", skills=[{**skill, "activation": "manual"}])
        async with place.calling(agent) as (voice, call):
            where: dict[str, Any] = {"agent_id": "mara", "call_id": call.id}
            for command, answer in (("hold", "held"), ("unhold", "unheld"), ("mute", "muted"), ("unmute", "unmuted")):
                call.send(f"call.{command}")
                await sdk.inbox.next(f"call.{answer}", **where)
            assert sdk.inbox.all("call.unmuted")[0]["muted_transcript"] is None
            call.send("skill.load", skill="refunds")
            await sdk.inbox.next("skill.loaded", skill="refunds", by="manual", **where)
            agent.send("session.pause", session_id=call.id)
            await sdk.inbox.next("session.paused", session_id=call.id, agent_id="mara")
            voice.send_text("Is a person there?")
            await voice.inbox.next("turn.end")
            agent.send("session.send", session_id=call.id, text="Yes, it is me.")
            await sdk.inbox.next("session.sent", session_id=call.id, agent_id="mara")
            await voice.inbox.next("bot.finished")
            assert (voice.state.texts("bot"), place.model.asked) == (["Yes, it is me."], [])
            agent.send("session.resume", session_id=call.id)
            await sdk.inbox.next("session.resumed", session_id=call.id, agent_id="mara")
            mark = voice.inbox.mark
            voice.send_text("And a machine?")
            await voice.inbox.next("bot.finished", since=mark)
            said = [message["content"] for message in place.model.asked[-1][0]]
            assert said[1:] == ["Is a person there?", "Yes, it is me.", "And a machine?"]
            assert "Be generous." in said[0]
