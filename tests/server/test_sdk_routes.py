"""What an SDK asks over HTTP: the registry, tokens for chats and streams, and what is not here."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from config.agent import AgentConfig
from tests.server.backends import PAGE, PUBLISHABLE, House, bearer, house
from tests.server.test_http import shape
from tokens.record import Record
from tokens.token import Channel

OPEN = {"webrtc": {"count": 1, "refs": []}, "chat": {"count": 1, "refs": []}}


async def sealed(server: House, token: str, channel: Channel) -> Record:
    return await server.office.read(server.office.verify(token, channel))


async def test_the_registry_lists_agents_of_backends_and_of_the_operator() -> None:
    async with house(AgentConfig(id="own")) as server, server.backend() as backend:
        await backend.create("My Agent")
        entries = [
            {"slug": slug, "org_id": "default", "phones": [], "active": True, "channels": OPEN}
            for slug in ("own", "my-agent")
        ]
        assert await server.get("/api/sdk/agents", bearer("default")) == (
            200,
            {
                "success": True,
                "total": 2,
                "agents": entries,
                "phone_map": {},
                "dev_overrides": None,
                "dev_callers": None,
            },
        )


@pytest.mark.parametrize("path", ["/api/sdk/agents", "/api/sdk/phone-numbers", "/api/sdk/twilio-balance"])
@pytest.mark.parametrize("headers", [{}, {"X-API-Key": "pk_wrong_key"}, {"X-API-Key": PUBLISHABLE["acme"]}])
async def test_the_registry_needs_a_secret_key(path: str, headers: dict[str, str]) -> None:
    async with house() as server:
        status, body = await server.get(path, headers)
        assert (status, body["detail"], body["code"]) == (401, "Invalid API key", "INVALID_KEY")


async def test_what_is_not_here_says_so() -> None:
    async with house() as server:
        got = await server.get("/api/sdk/phone-numbers", bearer("acme"))
        assert got == (200, {"success": True, "phones": [], "total": 0})
        assert await server.get("/api/sdk/twilio-balance", bearer("acme")) == (200, {"success": False})
        for path, word in (("/api/memory", "memory"), ("/api/memory/a/b", "memory"), ("/api/knowledge/x", "knowledge")):
            for method in ("GET", "POST", "DELETE"):
                async with server.http.request(method, path) as response:
                    body = await response.json()
                    assert (response.status, body["success"]) == (501, False)
                    assert body["error"] == body["detail"] == f"{word} is not available"


async def test_a_chat_token_seals_metadata_and_language() -> None:
    async with house() as server, server.backend() as backend:
        await backend.create("mara", allowed_origins=[PAGE])
        status, body = await server.token("default", "Mara", "chat", metadata='{"user": "ana"}', lang="pt_BR")
        assert (status, body["expires_in"], body["expiresIn"]) == (200, 60, 60)
        assert body["token"].startswith("cht_")
        assert await sealed(server, body["token"], Channel.CHAT) == Record(
            "default", "mara", Channel.CHAT, {"user": "ana"}, language="pt-BR"
        )
        page = {"Origin": PAGE}
        _, body = await server.get("/chat/token", page, agent_id="mara", metadata='{"admin": 1}', lang="es")
        assert await sealed(server, body["token"], Channel.CHAT) == Record(
            "default", "mara", Channel.CHAT, origin=PAGE, language="es"
        )
        status, body = await server.token("default", "mara", "chat", lang="??")
        assert (status, body["code"]) == (400, "BAD_LANGUAGE")
        offer = {"sdp": "v=0", "type": "offer", "token": (await server.token("default", "mara", "chat"))[1]["token"]}
        async with server.http.post("/webrtc/offer", json=offer) as response:
            assert response.status == 403


async def test_a_stream_token_is_for_a_set_of_agents_and_is_used_again_and_again() -> None:
    async with house() as server:
        status, body = await server.token("acme", "Mara, leo,mara", "stream", call_id="c1")
        assert (status, body["expires_in"], body["agent_id"]) == (200, 900, "mara,leo")
        assert body["token"].startswith("str_")
        for _ in range(3):
            record = await sealed(server, body["token"], Channel.STREAM)
            assert record == Record("acme", "mara,leo", Channel.STREAM, scope="observe", call_id="c1")
        _, body = await server.token("acme", "mara", "stream", scope="supervise")
        assert (await sealed(server, body["token"], Channel.STREAM)).scope == "supervise"


STREAM_REFUSALS: list[tuple[dict[str, str], dict[str, str], int, str]] = [
    ({}, {"agent_id": "mara"}, 401, "INVALID_KEY"),
    ({"Origin": PAGE}, {"agent_id": "mara"}, 401, "INVALID_KEY"),
    ({"X-API-Key": "pk_wrong_key"}, {"agent_id": "mara"}, 401, "INVALID_KEY"),
    ({"X-API-Key": PUBLISHABLE["acme"], "Origin": PAGE}, {"agent_id": "mara"}, 403, "SCOPE_NOT_ALLOWED"),
    (bearer("acme"), {}, 400, "AGENT_ID_REQUIRED"),
    (bearer("acme"), {"agent_id": " , "}, 400, "AGENT_ID_REQUIRED"),
    (bearer("acme"), {"agent_id": "mara,***"}, 404, "AGENT_OFFLINE"),
    (bearer("acme"), {"agent_id": ",".join("abcdefghijklmnopqrstuvwxyz0123456789")}, 400, "BAD_AGENT_ID"),
    (bearer("acme"), {"agent_id": "mara", "scope": "participate"}, 403, "SCOPE_NOT_ALLOWED"),
    (bearer("acme"), {"agent_id": "mara", "scope": "all"}, 400, "BAD_SCOPE"),
    (bearer("acme"), {"agent_id": "mara", "call_id": "x" * 201}, 400, "BAD_CALL_ID"),
]


@pytest.mark.parametrize(("headers", "query", "status", "code"), STREAM_REFUSALS)
async def test_who_gets_no_stream_token(headers: dict[str, str], query: dict[str, str], status: int, code: str) -> None:
    async with house() as server:
        got, body = await server.get("/stream/token", headers, **query)
        assert (got, body["code"]) == (status, code)
        assert isinstance(body["detail"], str)


async def test_a_page_is_told_of_an_agent_so_often() -> None:
    async with house(AgentConfig(id="own"), mint_rate=2) as server:
        statuses: list[Any] = [(await server.get("/api/sdk/agent-info/own"))[0] for _ in range(3)]
        assert statuses == [200, 200, 429]
        async with server.http.get("/api/sdk/agent-info/own") as response:
            assert response.headers["Access-Control-Allow-Origin"] == "*"


NOWHERE = [
    "/live/c1/player",
    "/live/c1/ws",
    "/api",
    "/api/",
    "/api/usage/calls",
    "/api/conversations/c1",
    "/api/orgs/me",
    "/api/models/access",
    "/api/rates/models",
    "/api/sdk/nothing",
    "/v1/audio/nothing",
    "/v1/nothing",
]
"""Protocol 2.11: not here, and said so in the one shape."""


@pytest.mark.parametrize("path", NOWHERE)
async def test_what_is_nowhere_is_not_found_in_the_one_shape(path: str) -> None:
    async with house() as server:
        for method in ("GET", "POST", "DELETE"):
            async with server.http.request(method, path, headers=bearer("acme")) as response:
                assert response.status == 404
                assert (await shape(response))["code"] == "NOT_FOUND"


async def test_live_listening_is_no_socket() -> None:
    async with house() as server:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
            await server.http.ws_connect("/live/c1/ws?api_key=x")
        assert refusal.value.status == 404


PUBLIC = [
    ("GET", "/api/sdk/agent-info/nobody", 404),
    ("GET", "/api/sdk/voice-preview?voice=nobody", 404),
    ("POST", "/api/scribe", 401),
    ("GET", "/webrtc/token", 400),
    ("GET", "/chat/token", 400),
    ("POST", "/webrtc/offer", 400),
    ("GET", "/v1/calls/c1/events", 401),
    ("GET", "/v1/agents/mara/calls", 401),
    ("GET", "/api/scribe/nowhere", 404),
    ("PUT", "/webrtc/offer", 405),
]


@pytest.mark.parametrize(("method", "path", "status"), PUBLIC)
async def test_pages_may_read_why_they_are_refused(method: str, path: str, status: int) -> None:
    """However many slashes an address was put together with."""
    async with house() as server:
        for address in (path, f"/{path}", path.replace("/", "//")):
            url = f"http://localhost:{server.listener.port}{address}"
            async with server.http.request(method, url, headers={"Origin": PAGE}) as response:
                assert response.status == status
                await shape(response)
                assert response.headers["Access-Control-Allow-Origin"] == "*"
            async with server.http.options(url, headers={"Origin": PAGE}) as response:
                assert response.status == 204
                assert "POST" in response.headers["Access-Control-Allow-Methods"]
