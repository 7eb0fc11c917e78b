"""Rows 6, 8 and 10 of protocol 15 once more, with the models that everybody runs: what is said is really heard."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from pydantic import SecretStr

from config.settings import Settings
from media.audio import Pcm
from pipeline.engine import TABLE
from pipeline.llm import Delta, GenerateOptions, Message, ToolCall
from server.lifecycle import RunningServer, running
from server.recording import RATE
from tests.conformance.call import Call, Tool
from tests.conformance.conftest import calling
from tests.conformance.inbox import Frame
from tests.conformance.model import Obedient
from tests.conformance.sdk import Sdk
from tests.conformance.voice import VoiceSession
from tests.hearing import word_errors, words
from tests.server.backends import KEYS
from tests.voices import recording

pytestmark = [pytest.mark.models, pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]

SOUND = RATE // 16_000
"""What a microphone and a recogniser differ by."""


class Clerk(Obedient):
    """Looks up whatever the user says, and tells what came of it."""

    name = "clerk"

    async def generate(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], options: GenerateOptions
    ) -> AsyncGenerator[Delta, None]:
        if messages[-1]["role"] == "user":
            yield ToolCall("call_1", "look_up", json.dumps({"about": messages[-1]["content"]}))
        else:
            async for delta in super().generate(messages, tools, options):
                yield delta


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningServer]:
    """A server with everything that it has; beside its own models there is ``Clerk``."""
    folder: Path = tmp_path_factory.mktemp("data")
    TABLE["llm"]["clerk"] = lambda _: Clerk()
    try:
        async with running(Settings(port=0, udp_port=0, data_dir=folder, api_keys=(SecretStr(KEYS["default"]),))) as up:
            async with asyncio.timeout(90):
                while "loading" in [engine["state"] for engine in up.engines.status().values()]:
                    await asyncio.sleep(0.05)
            yield up
    finally:
        del TABLE["llm"]["clerk"]


def question(name: str) -> Pcm:
    """A recorded voice at the rate of a microphone."""
    return np.repeat(recording(name), SOUND)


async def heard(server: RunningServer, voice: VoiceSession) -> str:
    """All that was said to the page, by ear."""
    stream = server.engines.made("stt", "moonshine").stream("en")
    try:
        stream.write(voice.recording.pcm()[::SOUND])
        stream.flush()
        async for transcript in stream:
            if transcript.final:
                return str(transcript.text)
        raise AssertionError("the recogniser said nothing")
    finally:
        await stream.aclose()


async def test_row_6_a_sum_is_asked_aloud_and_answered_aloud(server: RunningServer) -> None:
    async with Sdk(server.url, KEYS["default"]) as sdk:
        agent = sdk.agent("mara", llm={"provider": "local"}, prompt="Be brief.")
        async with calling(agent) as (voice, call):
            await voice.say(question("question-sum.flac"))
            await voice.inbox.next("bot.finished")
            (asked,), (answered,) = voice.state.texts("user"), voice.state.texts("bot")
            assert words(asked) == ["what", "is", "seven", "plus", "five"]
            assert "twelve" in words(answered)
            assert "twelve" in words(await heard(server, voice))
        assert [message["content"] for message in (await call.ended)["messages"]] == [asked, answered]


async def test_row_8_a_tool_runs_for_what_was_said(server: RunningServer) -> None:
    asked: list[str] = []

    def look_up(arguments: Frame, call: Call) -> str:
        asked.append(arguments["about"])
        return "that the invoice was paid on Monday"

    async with Sdk(server.url, KEYS["default"]) as sdk:
        agent = sdk.agent("mara", llm="clerk/any", tools={"look_up": Tool(look_up)})
        async with calling(agent) as (voice, call):
            await voice.say(question("en-06.flac"))
            await voice.inbox.next("bot.finished")
            (told,) = asked
            assert "invoice" in words(told)
            assert voice.state.tools[0].result == "that the invoice was paid on Monday"
            assert {"invoice", "paid", "monday"} <= set(words(await heard(server, voice)))
        roles = [message["role"] for message in (await call.ended)["messages"]]
        assert roles == ["user", "assistant", "tool", "assistant"]


async def test_row_10_a_good_bye_is_said_to_its_last_word(server: RunningServer) -> None:
    text = "Thank you very much for calling the clinic today, and have a wonderful evening."

    async def leave(call: Call) -> None:
        await call.say(text)
        call.hangup()

    async with Sdk(server.url, KEYS["default"]) as sdk:
        agent = sdk.agent("mara", llm={"provider": "local"})
        agent.on("call.started", leave)
        async with calling(agent) as (voice, call):
            await call.ended
            await voice.inbox.until(lambda: voice.status == "idle", "the page leaves")
            assert voice.state.over == "hangup"
            said = await heard(server, voice)
        wrong, total = word_errors(text, said)
        assert wrong / total < 0.15, said
        assert words(said)[-1] == "evening"
