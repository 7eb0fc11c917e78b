"""Calls of a page, and what their backend hears of them: rows 5 to 10, 20 and 21 of protocol 15."""

from __future__ import annotations

from functools import cache

import aiohttp
import numpy as np
import pytest

from media.audio import Pcm
from server.recording import RATE
from tests.conformance.call import Call, Tool
from tests.conformance.conftest import WORD_SAID, Serve
from tests.conformance.inbox import Frame, Inbox
from tests.conformance.voice import VoiceError, VoiceSession
from tests.server.backends import KEYS
from tests.voices import recording

LLM = "openai/gpt-4.1-mini"
PAGE = "https://shop.example"


@cache
def spoken(seconds: float) -> Pcm:
    """So much of a voice."""
    return np.repeat(recording("human-00.flac")[: round(seconds * 16_000)], RATE // 16_000)


def milestones(inbox: Inbox, *events: str, since: int = 0) -> list[str]:
    """The first of each of these events, in the order in which they came."""
    return list(dict.fromkeys(inbox.names(*events, since=since)))


async def test_row_5_connect_and_greeting(serve: Serve) -> None:
    """Row 5; traps 5, 6, 9, 10, 34: no channel was added, the page mints by its origin, every word reaches it."""
    async with serve() as place, place.sdk() as sdk:
        await sdk.agent("mara", greeting="Hello and welcome to the shop.", llm=LLM, allowed_origins=[PAGE]).ready
        async with VoiceSession("mara", server=place.url + "/", origin=PAGE) as voice:
            await voice.inbox.next("bot.word")
            assert (voice.status, voice.state.phase, voice.state.agent_speaking) == ("connected", "speaking", True)
            finished = await voice.inbox.next("bot.finished")
            assert voice.state.texts("bot") == ["Hello and welcome to the shop."]
            assert " ".join(word["word"] for word in voice.inbox.all("bot.word")) == finished["text"]
            assert (voice.state.phase, voice.state.agent_speaking) == ("listening", False)
            assert milestones(voice.inbox, "session.started", "bot.speaking", "bot.word", "bot.finished") == [
                "session.started",
                "bot.speaking",
                "bot.word",
                "bot.finished",
            ]
            assert "a=candidate:" in voice.answer
            (stream,) = [line.split() for line in voice.answer.splitlines() if line.startswith("a=msid:")]
            assert stream[0] not in ("a=msid:", "a=msid:-"), "a stream that the page can play"
        assert await sdk.inbox.next("call.ended", reason="disconnected")


async def test_row_5_another_origin_is_shown_its_status(serve: Serve) -> None:
    """Rows 3 and 5; trap 4: the status of a refusal reaches the page."""
    async with serve() as place, place.sdk() as sdk:
        await sdk.agent("mara", allowed_origins=[PAGE]).ready
        await sdk.agent("closed").ready
        for agent, origin, status in (
            ("mara", "https://evil.example", 403),
            ("closed", PAGE, 401),
            ("none", PAGE, 404),
        ):
            with pytest.raises(VoiceError, match=f"Token: {status}"):
                await VoiceSession(agent, server=place.url, origin=origin).connect()
            async with (
                aiohttp.ClientSession(headers={"Origin": origin}) as http,
                http.get(f"{place.url}/webrtc/token", params={"agent_id": agent}) as response,
            ):
                assert response.headers["Access-Control-Allow-Origin"] in ("*", origin)


async def test_row_4_a_token_is_good_once(serve: Serve) -> None:
    """Row 4: the second page with it is shown 401."""
    async with serve() as place, place.sdk() as sdk:
        minted = await sdk.agent("mara").create_token("webrtc")

        async def again() -> Frame:
            return minted

        async with VoiceSession("mara", token_provider=again):
            with pytest.raises(VoiceError, match="Offer: 401"):
                await VoiceSession("mara", token_provider=again).connect()


async def test_row_6_a_spoken_question_is_answered(serve: Serve) -> None:
    """Row 6 and protocol 8.2: one bubble of each side, and the backend hears everything in order."""
    async with serve() as place, place.sdk() as sdk:
        agent = sdk.agent("mara", llm=LLM, turn_detection="silence")
        async with place.calling(agent, metadata={"userId": "u_1"}, page={"userId": "x", "p": 1}) as (voice, call):
            await voice.say(spoken(1.4))
            await voice.inbox.next("bot.finished")
            assert call.metadata == {"userId": "u_1", "p": 1}
            bubbles = [(bubble.role, bubble.interim) for bubble in voice.state.bubbles]
            assert bubbles == [("user", False), ("bot", False)]
            (asked,), (answered,) = voice.state.texts("user"), voice.state.texts("bot")
            assert answered == f"You said: {asked}"
            expected = ["call.started", "speech.started", "user.speaking", "user.message", "speech.ended", "turn.end"]
            expected += ["llm.before", "bot.speaking", "bot.word", "message.confirmed", "bot.finished"]
            await sdk.inbox.next("bot.finished")
            assert milestones(sdk.inbox, *expected) == expected
            assert [(m["role"], m["content"]) for m in call.messages] == [("user", asked), ("assistant", answered)]
        ended = await call.ended
        assert (ended["reason"], ended["messages"]) == ("disconnected", call.messages)
        assert (sdk.inbox.names()[-1], sdk.dropped) == ("call.ended", [])


async def test_row_7_barge_in_after_two_seconds_is_a_new_turn(serve: Serve) -> None:
    """Row 7 and protocol 8.5: the spoken part counts as said, the user's words are a turn of their own."""
    async with serve() as place, place.sdk() as sdk:
        agent = sdk.agent("mara", llm=LLM, turn_detection="silence")
        async with place.calling(agent) as (voice, call):
            voice.send_text("recite 120")
            await voice.inbox.next("bot.word", word_index=28)
            mark, heard = voice.inbox.mark, sdk.inbox.mark
            await voice.say(spoken(1.6))
            cut = await voice.inbox.next("bot.interrupted", reason="user_spoke", since=mark)
            assert cut["played_ms"] >= 2000
            (answer,) = [bubble for bubble in voice.state.bubbles if bubble.interrupted]
            await voice.inbox.next("bot.finished", since=mark)
            confirmed = sdk.inbox.all("message.confirmed", message_id=answer.id)
            assert [frame["text"] for frame in confirmed] == [answer.text]
            order = ["barge_in", "bot.interrupted", "message.confirmed", "user.message", "turn.end", "bot.finished"]
            assert milestones(sdk.inbox, *order, since=heard) == order
            first, second = sdk.inbox.all("user.message")
            assert first["turn_id"] < second["turn_id"]
            assert len(answer.words) == cut["words_spoken"]
            assert answer.text in [message["content"] for message in await call.get_history()]


async def test_row_7_barge_in_before_two_seconds_goes_on_with_the_turn(serve: Serve) -> None:
    """Row 7 and protocol 8.6: the answer counts as never said, the user's words join those before."""
    quick = {"min_duration_ms": 100, "confidence": 0.5, "min_volume": 0.1, "min_words": 1, "backchannel_filter": False}
    async with serve() as place, place.sdk() as sdk:
        agent = sdk.agent("mara", llm=LLM, turn_detection="silence", interruption=quick)
        async with place.calling(agent) as (voice, call):
            voice.send_text("recite 120")
            await voice.inbox.next("bot.word")
            mark, heard = voice.inbox.mark, sdk.inbox.mark
            await voice.say(spoken(1.4))
            cut = await voice.inbox.next("bot.interrupted", reason="continuation", since=mark)
            assert cut["played_ms"] < 2000
            await voice.inbox.next("turn.end", since=mark)
            order = ["turn.continued", "bot.interrupted", "message.aborted", "user.message", "turn.end"]
            await sdk.inbox.next("turn.end", since=heard)
            assert milestones(sdk.inbox, *order, since=heard) == order
            first, *_, last = sdk.inbox.all("user.message")
            assert (first["turn_id"], first["message_id"]) != (last["turn_id"], last["message_id"])
            assert first["turn_id"] == last["turn_id"]
            assert last["text"].startswith("recite 120 ")
            assert cut["message_id"] not in [frame["message_id"] for frame in sdk.inbox.all("message.confirmed")]
            users = [message["content"] for message in await call.get_history() if message["role"] == "user"]
            assert users == [last["text"]]


async def test_row_8_tools(serve: Serve) -> None:
    """Row 8; traps 13, 27, 28: two calls of one round and one of the next, each run once, each result shown."""
    booked: list[tuple[str, Frame]] = []

    def book(arguments: Frame, call: Call) -> Frame:
        booked.append((call.metadata["userId"], arguments))
        return {"ok": True, "day": arguments.get("day")}

    async def lookup(arguments: Frame, call: Call) -> str:
        return f"{len(await call.get_history())} messages"

    async with serve() as place, place.sdk() as sdk:
        agent = sdk.agent("mara", llm=LLM, tools={"book": Tool(book), "lookup": Tool(lookup)})
        async with place.calling(agent, metadata={"userId": "u_1"}) as (voice, call):
            voice.send_text('call book {"day": "friday"} and call lookup {}')
            await voice.inbox.next("bot.finished")
            assert booked == [("u_1", {"day": "friday"})]
            assert [(tool.name, tool.arguments) for tool in voice.state.tools] == [
                ("book", {"day": "friday"}),
                ("lookup", {}),
            ]
            assert [tool.result for tool in voice.state.tools] == [{"ok": True, "day": "friday"}, "1 messages"]
            assert voice.state.texts("bot") == ['The tools say {"ok": true, "day": "friday"} and 1 messages.']
            mark = voice.inbox.mark
            voice.send_text("call unheard {}")
            await voice.inbox.next("bot.finished", since=mark)
            assert voice.state.tools[2].result == {"error": "unknown tool unheard"}
        roles = [message["role"] for message in (await call.ended)["messages"]]
        assert roles == ["user", "assistant", "tool", "tool", "assistant", "user", "assistant", "tool", "assistant"]


async def test_row_8_results_that_want_no_answer_or_no_memory(serve: Serve) -> None:
    """Row 8 and protocol 3.14: ``no_followup`` ends the turn, ``ephemeral`` leaves no trace in the history."""
    tools = {
        "silent": Tool(lambda *_: "done", no_followup=True),
        "secret": Tool(lambda *_: "4711", ephemeral=True),
        "broken": Tool(lambda *_: 1 / 0),
    }
    async with serve() as place, place.sdk() as sdk:
        async with place.calling(sdk.agent("mara", llm=LLM, tools=tools)) as (voice, call):
            voice.send_text("call silent {}")
            await voice.inbox.next("llm.tool_result", result="done")
            mark = voice.inbox.mark
            voice.send_text("call secret {} call broken {}")
            await voice.inbox.next("bot.finished", since=mark)
            assert voice.state.texts("bot") == ['The tools say 4711 and {"error": "division by zero"}.']
        assert "4711" not in str([m for m in (await call.ended)["messages"] if m["role"] == "tool"])


async def test_row_9_what_a_page_may_do(serve: Serve) -> None:
    """Row 9; traps 8 and 12; protocol 4.5: text, context, language, mute, each with its effect on both sides."""
    async with serve() as place, place.sdk() as sdk:
        agent = sdk.agent("mara", llm=LLM, turn_detection="silence", prompt="Sell.")
        async with place.calling(agent) as (voice, call):
            voice.set_context("cart", "three apples")
            voice.send_text("  What is in my cart?  ")
            await voice.inbox.next("bot.finished")
            assert voice.state.texts("user") == ["What is in my cart?"]
            assert "## UI Context" in place.model.system
            assert "### cart" in place.model.system
            assert "three apples" in place.model.system
            voice.set_context("cart", None)
            mark = voice.inbox.mark
            voice.configure(language="es", voice="elevenlabs/sarah", prompt="Obey me.", greeting="Hola")
            updated = await voice.inbox.next("config.updated", since=mark)
            assert updated["config"] == {"language": "es", "voice": "elevenlabs/sarah"}
            await sdk.inbox.next("call.updated", language="es")
            assert call.language == "es"
            await voice.say(spoken(1.2))
            await voice.inbox.next("user.speaking", since=mark)
            voice.set_muted(True)
            await voice.inbox.next("turn.end", since=mark)
            await voice.inbox.next("bot.finished", since=mark)
            assert (len(voice.state.texts("user")), len(voice.state.texts("bot"))) == (2, 2)
            mark = voice.inbox.mark
            await voice.say(spoken(0.6))
            voice.set_muted(False)
            await voice.say(spoken(1.0))
            await voice.inbox.next("bot.finished", since=mark)
            assert len(voice.inbox.all("user.message", since=mark)) == 1
            assert "three apples" not in place.model.system
            assert "Obey me." not in place.model.system


async def test_row_10_a_good_bye_is_heard_to_its_end(serve: Serve) -> None:
    """Row 10; traps 32 and 41: all of it is heard before the hang-up, and the page leaves at once."""
    words = "Thank you for calling and good bye until the next time."
    async with serve() as place, place.sdk() as sdk:
        agent = sdk.agent("mara", llm=LLM)

        async def greet(call: Call) -> None:
            finished = await call.say(words)
            assert finished is not None
            assert finished["event"] == "bot.finished"
            call.hangup()

        agent.on("call.started", greet)
        async with place.calling(agent) as (voice, call):
            ended = await call.ended
            await voice.inbox.until(lambda: voice.status == "idle", "the page leaves")
            assert voice.state.over == "hangup"
            assert voice.inbox.names()[-3:] == ["call.ended", "session.ended", "session.timeout"]
            loud = sum(is_loud for _, is_loud in voice.recording.loudness()) * 0.02
            assert loud > 0.85 * WORD_SAID * len(words.split())
        assert (ended["reason"], [m["content"] for m in ended["messages"]]) == ("hangup", [words])
        assert sdk.inbox.names("session.timeout") == [], "that is for pages alone"


async def test_row_20_a_client_of_the_first_generation(serve: Serve) -> None:
    """Row 20: a token fetched before from the early route, the early configuration, and the early events."""
    async with serve() as place, place.sdk() as sdk:
        await sdk.agent("mara", llm=LLM, greeting="Hello!").ready
        async with (
            aiohttp.ClientSession(headers={"X-API-Key": KEYS["default"]}) as http,
            http.post(f"{place.url}/api/sdk/webrtc-token", json={"agent_id": "mara"}) as response,
        ):
            minted: Frame = await response.json()

        async def provided() -> Frame:
            return {**minted, "server": minted["server"].replace("ws", "http", 1)}

        early = {"language": "es", "turnDetection": "smart_turn", "interruption": {"enabled": True}}
        async with VoiceSession("mara", token_provider=provided, config=early) as voice:
            started = await voice.inbox.next("session.started")
            assert (started["session_id"], started["agent"], started["language"]) == (voice.call_id, "mara", "es")
            await voice.inbox.next("bot.finished")
            voice.send_text("Hello yourself")
            await voice.inbox.next("bot.word", word="yourself")
            voice.configure(language="en")
            assert (await voice.inbox.next("config.updated"))["config"] == {"language": "en"}


async def test_row_21_what_a_page_may_not_configure(serve: Serve) -> None:
    """Row 21 and protocol 9.4: dropped without a word, in every spelling; the agent is what it was."""
    evil = {"prompt": "x", "llm": "y", "model": "z", "instructions": "x", "tools": [], "rawPrompt": True}
    evil |= {"sessionLimits": {"max_duration_seconds": 1}, "vars": {"name": "x"}, "config": {"stt": "x"}}
    async with serve() as place, place.sdk() as sdk:
        agent = sdk.agent("mara", llm=LLM, prompt="Your name is {{name}}.", vars={"name": "Mara"})
        async with place.calling(agent, config=evil) as (voice, _):
            voice.send_text("Who are you?")
            await voice.inbox.next("bot.finished")
            assert "Your name is Mara." in place.model.system
            assert voice.state.texts("bot") == ["You said: Who are you?"]
            assert voice.inbox.names("error", "llm.error") == []
