"""How calls end, on both sides: protocol 3.9, 4.6, 8.8 and 8.9. What comes last is held by the rules of each side."""

from __future__ import annotations

import asyncio

import aiohttp

from tests.conformance.call import Call, Tool
from tests.conformance.conftest import Serve
from tests.conformance.inbox import SECONDS, Frame
from tests.conformance.test_talking import LLM, milestones
from tests.conformance.voice import VoiceSession
from tests.server.backends import bearer

LAST_OF_A_PAGE = ["call.ended", "session.ended", "session.timeout"]


async def left(voice: VoiceSession) -> str:
    """Why the page has left the call by itself."""
    await voice.inbox.until(lambda: voice.status == "idle", "the page leaves")
    assert voice.inbox.names()[-3:] == LAST_OF_A_PAGE
    return voice.state.over


async def test_a_backend_that_hangs_up_at_once(serve: Serve) -> None:
    async with serve() as place, place.sdk() as sdk:
        agent = sdk.agent("mara", llm=LLM, greeting="Never heard.")
        agent.on("call.started", lambda call: call.hangup())
        async with VoiceSession("mara", token_provider=lambda: agent.create_token("webrtc")) as voice:
            assert await left(voice) == "hangup"
            ended = await sdk.inbox.next("call.ended")
            assert (ended["reason"], ended["call_id"]) == ("hangup", voice.call_id)


async def test_a_page_that_leaves_while_a_tool_runs(serve: Serve) -> None:
    """The round is given up, a result that comes later means nothing, and the history stays valid."""
    running, goes_on = asyncio.Event(), asyncio.Event()

    async def slow(arguments: Frame, call: Call) -> str:
        running.set()
        await goes_on.wait()
        return "too late"

    async with serve() as place, place.sdk() as sdk:
        agent = sdk.agent("mara", llm=LLM, tools={"slow": Tool(slow)})
        async with place.calling(agent) as (voice, call):
            voice.send_text("call slow {}")
            async with asyncio.timeout(SECONDS):
                await running.wait()
        ended = await call.ended
        goes_on.set()
        assert ended["reason"] == "disconnected"
        calls = [each["id"] for m in ended["messages"] for each in m.get("tool_calls", ())]
        assert calls == [m["tool_call_id"] for m in ended["messages"] if m["role"] == "tool"]
        await agent.create_token("webrtc")
        assert (sdk.inbox.names("error"), sdk.connections) == ([], 1)


async def test_limits_are_told_before_they_end_a_call(serve: Serve) -> None:
    """Protocol 8.8: a warning, another one when the grace begins, then the end; the backend hears of the limit."""
    limits = {"idle_timeout_seconds": 1.0, "idle_warning_seconds": 0.5, "idle_grace_seconds": 0.5}
    async with serve() as place, place.sdk() as sdk:
        async with place.calling(sdk.agent("mara", llm=LLM, session_limits=limits)) as (voice, call):
            await voice.inbox.next("session.idle_warning")
            assert voice.state.idle_warning == 0.5
            assert await left(voice) == "idle_timeout"
        assert (await call.ended)["reason"] == "idle_timeout"
        order = ["call.started", "session.idle_warning", "session.timeout", "call.ended"]
        assert milestones(sdk.inbox, *order) == order
        assert len(sdk.inbox.all("session.idle_warning")) == 2


async def test_a_kick_ends_the_calls_after_the_grace_period(serve: Serve) -> None:
    """Protocol 8.9: the page stays in its call until then, whoever would have answered it."""
    async with (
        serve(agent_grace_seconds=0.5) as place,
        place.sdk() as sdk,
        aiohttp.ClientSession(place.url, headers=bearer("default")) as cli,
        place.calling(sdk.agent("mara", llm=LLM)) as (voice, _),
    ):
        async with cli.delete("/api/sdk/agents/mara") as response:
            assert response.status == 200
        assert voice.status == "connected"
        assert await left(voice) == "agent_disconnected"


async def test_a_server_that_leaves_ends_its_calls_first(serve: Serve) -> None:
    async with serve() as place, place.sdk() as sdk, place.calling(sdk.agent("mara", llm=LLM)) as (voice, call):
        await place.house.hub.hang_up_all()
        assert await left(voice) == "server_shutdown"
        assert (await call.ended)["reason"] == "server_shutdown"


async def test_two_pages_are_two_calls(serve: Serve) -> None:
    """Each hears its own answers, and the end of one is not the end of the other."""
    async with serve() as place, place.sdk() as sdk:
        agent = sdk.agent("mara", llm=LLM)
        async with place.calling(agent, metadata={"n": 1}) as (one, first):
            async with place.calling(agent, metadata={"n": 2}) as (two, second):
                one.send_text("I am one")
                two.send_text("I am two")
                await asyncio.gather(one.inbox.next("bot.finished"), two.inbox.next("bot.finished"))
            await second.ended
            said = await first.say("Still here.")
            assert said is not None
            assert (said["event"], list(sdk.calls)) == ("bot.finished", [first.id])
        texts = [voice.state.texts("bot")[0] for voice in (one, two)]
        assert texts == ["You said: I am one", "You said: I am two"]
        assert [call.metadata["n"] for call in (first, second)] == [1, 2]


async def test_who_reads_slowly_gets_everything_late_and_in_order(serve: Serve) -> None:
    """A backend that reads five frames a second: its page waits for nothing."""
    async with serve() as place, place.house.backend() as slow:
        await slow.create("mara", llm=LLM, greeting=" ".join(["and so on"] * 10))
        status, minted = await place.house.token("default", "mara")
        assert status == 200

        async def provider() -> Frame:
            token: Frame = minted
            return token

        frames: list[Frame] = []
        async with VoiceSession("mara", token_provider=provider) as voice:
            while not voice.inbox.names("bot.finished"):
                frames.append(await slow.next())
                await asyncio.sleep(0.2)
            behind = len(frames)
        while not frames or frames[-1]["event"] != "call.ended":
            frames.append(await slow.next())
        told = [frame for frame in frames if "seq" in frame]
        assert behind < len(frames) / 2
        assert [frame["seq"] for frame in told] == sorted({frame["seq"] for frame in told})
        assert len([frame for frame in told if frame["event"] == "bot.word"]) == 30
