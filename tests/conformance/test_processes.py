"""Backends as processes of their own that hang, are killed and come back: rows 12 and 13 of protocol 15, trap 24.

The process is ``examples/agent.py``, which greets each caller once.
"""

from __future__ import annotations

import asyncio
import signal

import pytest

from server import commands
from server.registry import AgentKey
from tests.conformance.conftest import Place, Serve
from tests.conformance.inbox import SECONDS, Frame
from tests.conformance.program import Program
from tests.conformance.test_examples import agent
from tests.conformance.test_talking import LLM
from tests.conformance.voice import VoiceSession
from tests.server.backends import until

KEY = AgentKey("default", "receptionist")
GREETING = "Hello, this is Sunny Dental. How can I help?"


def page(place: Place) -> VoiceSession:
    """In a call with the process's agent, whoever serves it now."""

    async def provider() -> Frame:
        status, minted = await place.house.token("default", "receptionist")
        assert status == 200
        token: Frame = minted
        return token

    return VoiceSession("receptionist", token_provider=provider)


async def asked(voice: VoiceSession, text: str) -> str:
    """The answer to a typed question."""
    mark = voice.inbox.mark
    voice.send_text(text)
    ended = await voice.inbox.next("turn.end", since=mark)
    answer = await voice.inbox.next("bot.finished", since=voice.inbox.frames.index(ended))
    return str(answer["text"])


async def online(process: Program) -> None:
    await process.line("receptionist is online")


async def test_row_12_the_second_process_gets_the_agent_when_the_first_is_killed(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "RETRY_SECONDS", 0.5)
    monkeypatch.setattr(commands, "CONFLICTS", 100)
    async with serve() as place, agent(place.url) as first:
        await online(first)
        async with agent(place.url) as second:
            await second.line("AGENT_CONFLICT: Agent 'receptionist' is held by another connection")
            first.signal(signal.SIGKILL)
            await online(second)


async def test_row_12_a_process_that_hangs_loses_its_agent(serve: Serve) -> None:
    """Its connection stands, and nothing comes: it does not answer the probe. Protocol 3.4."""
    async with serve() as place, agent(place.url) as first:
        await online(first)
        before = place.house.hub.registry.get(KEY)
        first.signal(signal.SIGSTOP)
        async with agent(place.url) as second:
            await online(second)
            after = place.house.hub.registry.get(KEY)
            assert before is not None
            assert after is not None
            assert before.holder is not after.holder
            first.signal(signal.SIGCONT)
            async with page(place) as voice:
                await voice.inbox.next("bot.finished")
            await second.line(f"agent: {GREETING}")
        first.signal(signal.SIGTERM)
        await first.ended()
        assert not [line for line in first.lines if line.startswith("agent: ")]


async def test_row_13_a_killed_process_leaves_a_call_that_the_next_one_takes_up(serve: Serve) -> None:
    """Trap 26: nobody is greeted twice."""
    async with serve() as place:
        async with agent(place.url) as first:
            await online(first)
            voice = page(place)
            await voice.connect()
            await voice.inbox.next("bot.finished")
        assert await asked(voice, "Is anybody there?") == "You said: Is anybody there?"
        async with agent(place.url) as second:
            await online(second)
            answer = await asked(voice, 'call opening_hours {"day": "sunday"}')
            assert answer == 'The tools say {"day": "sunday", "open": "closed"}.'
            assert voice.state.texts("bot").count(GREETING) == 1
            await voice.disconnect()
            await second.line("call ended after")
        voice.rules.assert_kept()


async def test_a_process_that_does_not_read_costs_only_itself(serve: Serve) -> None:
    """Protocol 3.6: its connection ends, its call goes on, nobody else notices; when it reads again it is back."""
    async with serve() as place, place.sdk("acme") as sdk, agent(place.url) as deaf:
        other = sdk.agent("mara", llm=LLM)
        await online(deaf)
        async with page(place) as voice, place.calling(other) as (theirs, call):
            await voice.inbox.next("bot.finished")
            deaf.signal(signal.SIGSTOP)
            said = call.say("One two three four five six seven eight nine ten eleven twelve.")
            await sdk.inbox.next("bot.word")
            frame = {"event": "bot.word", "call_id": voice.call_id, "word": "x" * 10_000}
            async with asyncio.timeout(SECONDS):
                while place.house.hub.tell(KEY, frame):
                    await asyncio.sleep(0)  # the writer gets its turn, and the sockets fill
            assert await asked(voice, "Are you deaf?") == "You said: Are you deaf?"
            finished = await said
            assert finished is not None
            assert finished["event"] == "bot.finished"
            words = [word["word_index"] for word in sdk.inbox.all("bot.word", message_id=finished["messageId"])]
            assert words == list(range(12))
            assert await asked(theirs, "And you?") == "You said: And you?"
            await until(lambda: place.house.hub.registry.get(KEY) is None)
            deaf.signal(signal.SIGCONT)
            await deaf.line("not connected")
            await online(deaf)
            answer = await asked(voice, 'call opening_hours {"day": "monday"}')
            assert answer == 'The tools say {"day": "monday", "open": "from nine to six"}.'
            assert (voice.state.texts("bot").count(GREETING), sdk.connections) == (1, 1)
