"""Two organisations on one server, at every door: neither sees, mints for, drives or hears the other's agents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from server.commands import HISTORY, LATE, TOLD
from server.registry import AgentKey
from tests.server.backends import PAGE, PUBLISHABLE, Backend, House, Talk, bearer, house, until
from tokens.token import Channel

CHROMIUM = (Path(__file__).parent.parent / "media" / "offers" / "chromium.sdp").read_text()
OFFLINE = "Agent '{}' is not online"


class Two:
    """Acme and Globex, each with an agent of its own, one of the same name, and a call with each."""

    def __init__(self, server: House, acme: Backend, globex: Backend, ours: Talk, theirs: Talk) -> None:
        self.server = server
        self.acme = acme
        self.globex = globex
        self.ours = ours
        self.theirs = theirs


@asynccontextmanager
async def two() -> AsyncIterator[Two]:
    async with house() as server, server.backend("acme") as acme, server.backend("globex") as globex:
        for backend, name in ((acme, "ours"), (globex, "theirs")):
            await backend.create(name, allowed_origins=[PAGE])
            await backend.create("shared", prompt=name, allowed_origins=[PAGE])
        ours = await server.begin("acme", "ours", "c-ours")
        theirs = await server.begin("globex", "theirs", "c-theirs")
        yield Two(server, acme, globex, ours, theirs)
        for backend in (acme, globex):
            await backend.quiet()  # nothing came that nobody asked for


async def test_the_same_name_is_two_agents() -> None:
    async with two() as both:
        prompts = [both.server.hub.registry.get(AgentKey(org, "shared")) for org in ("acme", "globex")]
        assert [found and found.agent.prompt for found in prompts] == ["ours", "theirs"]
        assert (await both.acme.ask("agent.configure", agent_id="shared", prompt="new"))["event"] == "agent.configured"
        found = both.server.hub.registry.get(AgentKey("globex", "shared"))
        assert found is not None
        assert found.agent.prompt == "theirs"


@pytest.mark.parametrize("channel", ["webrtc", "chat"])
@pytest.mark.parametrize("spelling", ["theirs", "globex:theirs", "Theirs"])
async def test_mint(channel: str, spelling: str) -> None:
    async with two() as both:
        status, body = await both.server.token("acme", spelling, channel)
        assert (status, body["detail"]) == (404, OFFLINE.format(spelling))
        nobody = await both.server.token("acme", "nobody-at-all", channel)
        assert (nobody[0], nobody[1]["code"]) == (status, body["code"]), "no different from one that is not there"
        assert (await both.server.token("globex", spelling, channel))[0] == 200


async def test_mint_of_an_early_sdk() -> None:
    async with two() as both:

        async def mint(headers: dict[str, str], body: Any) -> tuple[int, Any]:
            async with both.server.http.post("/api/sdk/webrtc-token", json=body, headers=headers) as response:
                return response.status, await response.json()

        ours, theirs = ({"X-API-Key": bearer(org)["Authorization"].split()[1]} for org in ("acme", "globex"))
        assert (await mint(ours, {"agent_id": "theirs"}))[0] == 404
        status, body = await mint(theirs, {"agent_id": "theirs"})
        assert status == 200
        assert body["token"].startswith("wrtc_")
        assert body["server"].startswith("http")
        assert (await mint({"X-API-Key": PUBLISHABLE["globex"]}, {"agent_id": "theirs"}))[0] == 401
        assert (await mint({}, {"agent_id": "theirs"}))[0] == 401
        for bad in ({}, {"agent_id": 7}, {"agent_id": ""}):
            status, body = await mint(theirs, bad)
            assert (status, body["error"]) == (400, "agent_id is required")


async def test_publishable_key() -> None:
    async with two() as both:
        for agent_id, status in (("ours", 200), ("theirs", 404), ("globex:theirs", 404)):
            headers = {"Origin": PAGE, "X-API-Key": PUBLISHABLE["acme"]}
            assert (await both.server.get("/webrtc/token", headers, agent_id=agent_id))[0] == status
        _, body = await both.server.get("/webrtc/token", headers, agent_id="shared")
        record = await both.server.office.read(both.server.office.verify(body["token"], Channel.WEBRTC))
        assert (record.org, record.origin) == ("acme", PAGE)


async def test_page_without_a_key() -> None:
    async with two() as both:
        page = {"Origin": PAGE}
        status, body = await both.server.get("/webrtc/token", page, agent_id="shared")
        assert (status, body["detail"]) == (404, OFFLINE.format("shared")), "it could be either"
        for agent_id, org in (("acme:shared", "acme"), ("globex:shared", "globex"), ("theirs", "globex")):
            status, body = await both.server.get("/webrtc/token", page, agent_id=agent_id)
            assert status == 200
            record = await both.server.office.read(both.server.office.verify(body["token"], Channel.WEBRTC))
            assert record.org == org


async def test_stream_token() -> None:
    async with two() as both:
        _, body = await both.server.token("acme", "theirs,ours", "stream")
        record = await both.server.office.read(both.server.office.verify(body["token"], Channel.STREAM))
        assert (record.org, record.agents) == ("acme", ("theirs", "ours")), "an agent of that name of its own"
        status, body = await both.server.token("acme", "ours,globex:theirs", "stream")
        assert (status, body["detail"]) == (404, OFFLINE.format("globex:theirs"))


async def test_offer() -> None:
    """A token opens the agent of its own organisation, whoever else has one of that name."""
    async with two() as both:
        hub = both.server.hub
        _, body = await both.server.token("globex", "shared", metadata='{"secret": 1}')
        offer = {"sdp": CHROMIUM, "type": "offer", "token": body["token"]}
        async with both.server.http.post("/webrtc/offer", json=offer) as response:
            call_id = (await response.json())["session_id"]
        assert await hub.session("acme", call_id) is None
        running = await hub.session("globex", call_id)
        assert running is not None
        assert running.key == AgentKey("globex", "shared")


async def test_offer_after_the_agent_has_gone() -> None:
    async with two() as both, both.server.backend("globex") as brief:
        await brief.create("brief")
        _, body = await both.server.token("globex", "brief")
        async with both.server.backend("acme") as namesake:
            await namesake.create("brief")
            async with both.server.http.delete("/api/sdk/agents/brief", headers=bearer("globex")) as response:
                assert response.status == 200
            offer = {"sdp": CHROMIUM, "type": "offer", "token": body["token"]}
            async with both.server.http.post("/webrtc/offer", json=offer) as response:
                assert response.status == 404
            assert both.server.hub.running == 2


async def test_list_of_agents() -> None:
    async with two() as both:
        for path, names in (("/api/sdk/agents", "slug"), ("/webrtc/agents", "agent")):
            status, body = await both.server.get(path, bearer("acme"))
            assert status == 200
            assert sorted(entry[names] for entry in body["agents"]) == ["ours", "shared"]
            assert "theirs" not in str(body)
            assert "globex" not in str(body)


async def test_kick() -> None:
    async with two() as both:
        for slug in ("theirs", "globex:theirs"):
            async with both.server.http.delete(f"/api/sdk/agents/{slug}", headers=bearer("acme")) as response:
                assert response.status == 404
        async with both.server.http.delete("/api/sdk/agents/shared", headers=bearer("acme")) as response:
            assert (await response.json())["org_id"] == "acme"
        assert (await both.acme.next())["event"] == "agent.displaced"
        assert both.server.hub.registry.get(AgentKey("globex", "shared")) is not None


async def test_control_socket_configures_nobody_elses_agent() -> None:
    async with two() as both:
        for event in ("agent.configure", "channel.add", "channel.configure", "channel.remove"):
            answer = await both.acme.ask(event, agent_id="theirs", type="webrtc", prompt="Evil.")
            assert answer["code"] == "AGENT_NOT_REGISTERED"
        for event in ("session.pause", "session.resume", "session.send"):
            assert (await both.acme.ask(event, agent_id="theirs", text="Evil."))["code"] == "AGENT_NOT_REGISTERED"
        found = both.server.hub.registry.get(AgentKey("globex", "theirs"))
        assert found is not None
        assert (found.agent.prompt, found.channels, found.paused) == ("", {}, False)
        assert both.theirs.commands == []


async def test_control_socket_drives_nobody_elses_call() -> None:
    async with two() as both:
        for event in sorted({*TOLD, *LATE, *HISTORY}):
            await both.acme.send(event, call_id="c-theirs", text="Evil.", action="start", request_id="rq")
        for event in ("session.configure", "session.pause", "session.resume", "session.send"):
            await both.acme.send(event, session_id="c-theirs", agent_id="theirs", text="Evil.")
        await both.acme.send("ping")
        answers = []
        while (frame := await both.acme.next())["event"] != "pong":
            answers.append(frame)
        assert {frame.get("code") or frame["error"] for frame in answers} == {
            "CALL_NOT_FOUND",
            "SESSION_NOT_FOUND",
            "call not found",
        }
        assert "theirs" not in [frame.get("agent_id") for frame in answers if frame["event"].startswith("history")]
        assert (both.theirs.commands, both.theirs.reason) == ([], None)


async def test_control_socket_learns_nothing_of_an_ended_call() -> None:
    async with two() as both:
        both.theirs.hangup("hangup")
        await until(lambda: both.server.hub.running == 1)
        answer = await both.acme.ask("history.get", call_id="c-theirs", request_id="rq")
        assert (answer["agent_id"], answer["error"]) == ("ours", "call not found")


async def test_events_reach_the_owner_alone() -> None:
    async with two() as both:
        for org, backend in (("globex", both.globex), ("acme", both.acme)):
            assert both.server.hub.tell(AgentKey(org, "shared"), {"event": "user.message", "text": org})
            assert await backend.next() == {"event": "user.message", "agent_id": "shared", "text": org}


async def test_no_conflict_and_no_probe() -> None:
    async with two() as both, both.server.backend("globex") as other:
        await other.create("ours")
        await other.create("acme:ours")


async def test_losing_a_backend_concerns_its_own_calls_only() -> None:
    async with house() as server, server.backend("acme") as acme:
        await acme.create("shared")
        ours = await server.begin("acme", "shared", "same-id")
        async with server.backend("globex") as globex:
            await globex.create("shared")
            theirs = await server.begin("globex", "shared", "same-id")
        await until(lambda: theirs.attended == [True, False])
        assert ours.attended == [True]
        async with server.backend("globex") as globex:
            await globex.create("shared")
            assert ours.attended == [True]
            assert theirs.attended == [True, False, True]


async def test_public_information_names_the_channels_alone() -> None:
    async with two() as both:
        channels = [{"type": "webrtc"}, {"type": "chat"}]
        assert await both.server.get("/api/sdk/agent-info/Theirs") == (200, {"agent": "theirs", "channels": channels})
        assert await both.server.get("/api/sdk/agent-info/acme:shared") == (
            200,
            {"agent": "acme:shared", "channels": channels},
        )
        for unknown in ("shared", "nobody"):
            status, body = await both.server.get(f"/api/sdk/agent-info/{unknown}")
            assert (status, body["detail"]) == (404, OFFLINE.format(unknown))
