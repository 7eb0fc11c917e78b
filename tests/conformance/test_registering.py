"""A backend comes, registers, is refused and is taken out: rows 1, 2, 17 and 19 of protocol 15. Row 12 is with the
processes.
"""

from __future__ import annotations

import aiohttp
import pytest

from server import commands
from tests.conformance.conftest import Serve
from tests.conformance.sdk import Sdk, SdkError
from tests.server.backends import bearer

LLM = "openai/gpt-4.1-mini"


async def test_row_1_connect_and_create_an_agent(serve: Serve) -> None:
    """Row 1; traps 22 and 23: nothing comes before ``connected``, and each ``agent.create`` is answered."""
    async with serve() as place, place.sdk() as sdk:
        agent = sdk.agent("My Agent", prompt="You are Mara.")
        agent.update(greeting="Hello!")
        await agent.ready
        await sdk.inbox.next("agent.configured", agent_id="My Agent")
        before = sdk.inbox.mark
        agent.create()
        await sdk.inbox.next("agent.created", since=before)
        assert (await sdk.ready)["orgId"] == "default"
        assert sdk.inbox.names() == ["connected", "agent.created", "agent.configured", "agent.created"]


async def test_row_1_a_wrong_key_is_an_error_and_no_connection(serve: Serve) -> None:
    """Row 1; trap 21: an error frame and then the close, so that the application is told; the SDK goes on trying."""
    async with serve() as place, Sdk(place.url, "pk_of_somebody_else", first_retry=0.01) as sdk:
        agent = sdk.agent("mara")
        told: list[str] = []
        sdk.on("error", lambda event: told.append(event["code"]))
        await sdk.inbox.until(lambda: len(told) == 2, "a second refusal")
        assert (set(told), set(sdk.inbox.names())) == ({"INVALID_KEY"}, {"error"})
        assert (sdk.ready.done(), agent.ready.done()) == (False, False)
        assert await place.house.hub.agents(None) == []


@pytest.mark.parametrize("slash", ["", "/"])
async def test_row_2_tokens_of_every_kind(serve: Serve, slash: str) -> None:
    """Row 2; traps 1, 2 and 44: an http address, the expiry in both spellings, and an ``apiUrl`` that ends in "/"."""
    async with serve() as place, Sdk(place.url + slash, bearer("default")["Authorization"].split()[1]) as sdk:
        agent = sdk.agent("My Agent")
        for channel, prefix in (("webrtc", "wrtc_"), ("chat", "cht_"), ("stream", "str_")):
            minted = await agent.create_token(channel, {"userId": "u_1"} if channel != "stream" else None)
            assert minted["token"].startswith(prefix)
            assert minted["server"] == place.url
            assert minted["expiresIn"] == minted["expires_in"] > 0


async def test_row_2_a_token_for_nobody_says_why(serve: Serve) -> None:
    """Row 2; trap 3: ``detail`` is a text, which the SDK shows."""
    async with serve() as place, place.sdk() as sdk:
        with pytest.raises(SdkError, match="404: Agent 'nobody' is not online"):
            await sdk.create_token("webrtc", "nobody")


async def test_row_12_a_typed_conflict_and_then_the_agent(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 12; trap 24, as frames: the SDK retries by itself, and has the agent soon after its holder has left."""
    monkeypatch.setattr(commands, "RETRY_SECONDS", 0.1)
    async with serve() as place, place.sdk() as first, place.sdk() as second:
        await first.agent("mara").ready
        agent = second.agent("mara")
        conflicts: list[str] = []
        agent.on("conflict", lambda event: conflicts.append(event["code"]))
        await second.inbox.next("error", code="AGENT_CONFLICT", agent_id="mara", holder_alive=True)
        await first.disconnect()
        await agent.ready
        assert set(conflicts) == {"AGENT_CONFLICT"}


async def test_row_17_agents_and_kick(serve: Serve) -> None:
    """Row 17: the backend hears of it, keeps its socket and does not come back; its tokens are gone. Protocol 3.5."""
    async with serve() as place, place.sdk() as sdk, aiohttp.ClientSession(place.url, headers=bearer("default")) as cli:
        agent, other = sdk.agent("My Agent"), sdk.agent("leo")
        await other.ready
        async with cli.get("/api/sdk/agents") as response:
            assert [entry["slug"] for entry in (await response.json())["agents"]] == ["my-agent", "leo"]
        removed: list[str] = []
        agent.on("channel.removed", lambda: removed.append(agent.id))
        async with cli.delete("/api/sdk/agents/my-agent") as response:
            assert (response.status, (await response.json())["displaced"]) == (200, "my-agent")
        await sdk.inbox.next("agent.displaced", agent_id="My Agent", reason="kicked")
        with pytest.raises(SdkError, match="404"):
            await sdk.create_token("webrtc", "my-agent")
        await other.create_token("webrtc")
        assert (removed, sdk.connections) == (["My Agent"], 1)


async def test_row_19_what_is_not_here_fails_fast(serve: Serve) -> None:
    """Row 19: each of them in a call that goes on."""
    async with serve() as place, place.sdk() as sdk:
        agent = sdk.agent("mara", llm=LLM)
        errors: list[str] = []
        sdk.on("error", lambda event: errors.append(event["code"]))
        async with place.calling(agent) as (voice, call):
            said = call.say("One two three four five six seven.")
            with pytest.raises(SdkError, match="DIAL_FAILED: unsupported"):
                await agent.dial("+15550100", "+15550101")
            with pytest.raises(SdkError, match="LINE_CONFIG_ERROR: phone lines are not available"):
                await sdk.line("+15550101")
            agent.add_phone_number("+15550101")
            await sdk.inbox.next("error", code="CHANNEL_UNSUPPORTED", agent_id="mara")
            async with aiohttp.ClientSession(place.url) as http, http.post("/api/memory/search") as response:
                assert (response.status, (await response.json())["error"]) == (501, "memory is not available")
            finished = await said
            assert finished is not None
            assert finished["event"] == "bot.finished"
            assert (agent.registered, errors, voice.status) == (True, ["CHANNEL_UNSUPPORTED"], "connected")


async def test_trap_43_a_model_without_a_provider(serve: Serve) -> None:
    """Trap 43: what early clients send for ``deploy(name, {model: "gpt-4.1-mini", prompt})``. Protocol 7.4."""
    deployed = {"provider": "gpt-4.1-mini", "model": "gpt-4.1-mini", "enabled": True, "prompt": "You are early."}
    async with serve() as place, place.sdk() as sdk:
        agent = sdk.agent("mara", llm=deployed)
        async with place.calling(agent) as (voice, _):
            voice.send_text("Hello there")
            await voice.inbox.next("bot.finished")
            assert voice.state.texts("bot") == ["You said: Hello there"]
            assert "You are early." in place.model.system
