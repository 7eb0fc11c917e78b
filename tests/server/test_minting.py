"""Who gets a token, and what it seals."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.agent import AgentConfig
from config.settings import Settings
from server import http
from server.local_hub import Limits, LocalHub
from server.minting import Minting
from server.rate import Counter, MemoryCounter, RedisCounter
from tests.redis_server import RedisServer
from tests.server.sockets import listening, raw, visiting
from tokens.keys import ApiKeys
from tokens.ledger import Ledger, MemoryLedger, RedisLedger
from tokens.minting import TokenOffice
from tokens.record import Record
from tokens.token import Channel

KEY = "pk_a_secret_key_of_the_test"
BEARER = {"Authorization": f"Bearer {KEY}"}
PUBLISHABLE = "pk_publishable_of_the_test"
PAGE = {"Origin": "https://page.example"}
SIGNING = ("s" * 32,)


def agent(name: str, *origins: str) -> AgentConfig:
    return AgentConfig(id=name, allowed_origins=origins)


class Mint:
    """A server with the token routes alone."""

    def __init__(
        self,
        ledger: Ledger | None = None,
        counter: Counter | None = None,
        *,
        max_calls: int = 5,
        ttl: int = 60,
        **options: Any,
    ) -> None:
        self.hub = LocalHub(
            [agent("closed"), agent("open", "https://page.example", "http://localhost:*")], Limits(max_calls=max_calls)
        )
        self.office = TokenOffice(SIGNING, ledger or MemoryLedger(), ttl=ttl)
        keys = ApiKeys([KEY, "acme:pk_key_of_acme"], [PUBLISHABLE, "acme:pk_publishable_of_acme"])
        self.minting = Minting(Settings(**options), keys, self.office, self.hub, counter or MemoryCounter())

    @property
    def app(self) -> web.Application:
        app = http.application()
        app.router.add_routes(self.minting.routes())
        return app

    async def sealed(self, token: str) -> Record:
        return await self.office.spend(self.office.verify(token, Channel.WEBRTC))


async def get(session: aiohttp.ClientSession, headers: dict[str, str] | None = None, **query: str) -> tuple[int, Any]:
    async with session.get("/webrtc/token", params=query, headers=headers) as response:
        body = await response.json()
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        if response.status == 200:
            assert response.headers["Cache-Control"] == "no-store"
        else:
            assert isinstance(body["detail"], str)
            assert body["error"] == body["detail"]
            assert body["code"]
        return response.status, body


@pytest.mark.parametrize("headers", [BEARER, {"X-API-Key": KEY}, {"Authorization": f"bearer  {KEY} "}])
async def test_a_key_mints(headers: dict[str, str]) -> None:
    mint = Mint()
    async with listening(mint.app) as listener, aiohttp.ClientSession(f"http://localhost:{listener.port}") as session:
        metadata = {"user": "ana", "n": 1}
        status, body = await get(session, headers, agent_id=" Closed ", metadata=json.dumps(metadata))
        assert status == 200
        assert body["server"] == f"http://localhost:{listener.port}"
        assert body["expires_in"] == body["expiresIn"] == 60
        assert body["agent_id"] == "closed"
        assert body["token"].startswith("wrtc_")
        assert "ana" not in body["token"]
        assert KEY not in json.dumps(body)
        record = await mint.sealed(body["token"])
        assert record == Record("default", "closed", Channel.WEBRTC, metadata)


async def test_a_page_mints_by_its_origin_and_seals_nothing() -> None:
    mint = Mint()
    async with visiting(mint.app) as session:
        query = {"agent_id": "open", "metadata": '{"admin": true}', "scope": "supervise"}
        status, body = await get(session, {"Origin": "https://page.example"}, **query)
        assert status == 200
        record = await mint.sealed(body["token"])
        assert record == Record("default", "open", Channel.WEBRTC, {}, None, None, "https://page.example")


SPELLINGS: list[tuple[dict[str, str], dict[str, str]]] = [
    ({"Authorization": f"Bearer {PUBLISHABLE}"}, {}),
    ({"X-API-Key": PUBLISHABLE}, {}),
    ({}, {"api_key": PUBLISHABLE}),
    ({}, {"apiKey": PUBLISHABLE}),
    ({}, {"api_key": "", "apiKey": PUBLISHABLE, "metadata": "", "scope": ""}),
]


@pytest.mark.parametrize(("headers", "query"), SPELLINGS)
async def test_a_page_mints_with_a_publishable_key(headers: dict[str, str], query: dict[str, str]) -> None:
    mint = Mint()
    async with visiting(mint.app) as session:
        status, body = await get(session, headers | PAGE, agent_id="open", **query)
        assert status == 200
        assert PUBLISHABLE not in json.dumps(body)
        record = await mint.sealed(body["token"])
        assert record == Record("default", "open", Channel.WEBRTC, {}, None, None, "https://page.example")


@pytest.mark.parametrize(("headers", "query"), SPELLINGS[:4])
@pytest.mark.parametrize(
    ("status", "detail", "origin", "more"),
    [
        (403, "Origin https://evil.example is not allowed for agent 'open'", "https://evil.example", {}),
        (403, "Origin null is not allowed for agent 'open'", None, {}),
        (
            403,
            "Origin https://page.example is not allowed for agent 'closed'",
            "https://page.example",
            {"agent_id": "closed"},
        ),
        (403, "A publishable key cannot seal metadata", "https://page.example", {"metadata": '{"admin": true}'}),
        (403, "A publishable key cannot set a scope", "https://page.example", {"scope": "participate"}),
        (404, "Agent 'nobody' is not online", "https://page.example", {"agent_id": "nobody"}),
    ],
)
async def test_what_a_publishable_key_cannot_do(
    status: int,
    detail: str,
    origin: str | None,
    more: dict[str, str],
    headers: dict[str, str],
    query: dict[str, str],
) -> None:
    async with visiting(Mint().app) as session:
        shown = headers | ({"Origin": origin} if origin else {})
        got, body = await get(session, shown, **{"agent_id": "open"} | query | more)
        assert (got, body["detail"]) == (status, detail)


async def test_our_own_page_mints_though_a_browser_sends_no_origin_then() -> None:
    mint = Mint()
    async with listening(mint.app) as listener:
        same = {"Sec-Fetch-Site": "same-origin"}
        async with aiohttp.ClientSession(f"http://localhost:{listener.port}") as session:
            assert (await get(session, same, agent_id="open"))[0] == 200
            assert (await get(session, {"Sec-Fetch-Site": "none"}, agent_id="open"))[0] == 403
            assert (await get(session, same | {"Host": "rebound.example"}, agent_id="open"))[0] == 403
            assert (await get(session, same | {"Origin": "https://other.example"}, agent_id="open"))[0] == 403


async def test_our_own_page_mints_behind_a_proxy_that_ends_tls() -> None:
    mint = Mint(public_url="https://page.example/voice")
    same = {"Sec-Fetch-Site": "same-origin"}
    async with visiting(mint.app) as session:
        assert (await get(session, same | {"Host": "page.example"}, agent_id="open"))[0] == 200
        assert (await get(session, same | {"Host": "rebound.example"}, agent_id="open"))[0] == 403


REFUSALS = [
    (400, "agent_id is required", BEARER, {}),
    (400, "agent_id is required", BEARER, {"agent_id": "  "}),
    (400, "agent_id must name one agent", BEARER, {"agent_id": "open,closed"}),
    (400, "agent_id is longer than 200 characters", BEARER, {"agent_id": "a" * 201}),
    (400, "metadata is not valid JSON", BEARER, {"agent_id": "open", "metadata": "{"}),
    (400, "metadata must be a JSON object", BEARER, {"agent_id": "open", "metadata": "[1]"}),
    (
        400,
        "metadata is larger than 2048 bytes",
        BEARER,
        {"agent_id": "open", "metadata": json.dumps({"a": "x" * 2048})},
    ),
    (
        400,
        "metadata is larger than 2048 bytes",
        BEARER,
        {"agent_id": "open", "metadata": json.dumps({"a": "x" * 20000})},
    ),
    (400, "scope must be one of observe, participate, supervise", BEARER, {"agent_id": "open", "scope": "all"}),
    (401, "Invalid API key", {}, {"agent_id": "closed"}),
    (401, "Invalid API key", {"Authorization": "Bearer wrong"}, {"agent_id": "closed"}),
    (401, "Invalid API key", {"Authorization": "Bearer"}, {"agent_id": "closed"}),
    (401, "Invalid API key", {"Authorization": "Bearer wrong"}, {"agent_id": "nobody"}),
    (401, "Invalid API key", {"X-API-Key": ""}, {"agent_id": "closed"}),
    (401, "Invalid API key", {"X-API-Key": "wrong", "Origin": "https://page.example"}, {"agent_id": "open"}),
    (401, "Invalid API key", {"X-API-Key": "pk_publishable_x", "Origin": "https://page.example"}, {"agent_id": "open"}),
    (401, "Invalid API key", {}, {"agent_id": "nobody", "api_key": "pk_publishable_unknown"}),
    (401, "Invalid API key", PAGE, {"agent_id": "open", "apiKey": "pk_publishable_unknown"}),
    (401, "Invalid API key", PAGE, {"agent_id": "open", "api_key": KEY}),
    (401, "Invalid API key", PAGE | {"X-API-Key": "wrong"}, {"agent_id": "open", "api_key": PUBLISHABLE}),
    (401, "Invalid API key", {"Authorization": "Basic eDp5"}, {"agent_id": "closed"}),
    (
        403,
        "Origin https://evil.example is not allowed for agent 'open'",
        {"Origin": "https://evil.example"},
        {"agent_id": "open"},
    ),
    (403, "Origin null is not allowed for agent 'open'", {}, {"agent_id": "open"}),
    (403, "Origin null is not allowed for agent 'open'", {"Origin": "null"}, {"agent_id": "open"}),
    (404, "Agent 'open' is not online", {"X-API-Key": "pk_key_of_acme"}, {"agent_id": "open"}),
    (
        404,
        "Agent 'open' is not online",
        PAGE,
        {"agent_id": "open", "api_key": "pk_publishable_of_acme"},
    ),
    (403, "scope 'observe' is not allowed for a webrtc token", BEARER, {"agent_id": "open", "scope": "observe"}),
    (404, "Agent 'My Agent' is not online", BEARER, {"agent_id": "My Agent"}),
    (404, "Agent 'nobody' is not online", {"Origin": "https://page.example"}, {"agent_id": "nobody"}),
    (404, "Agent '***' is not online", BEARER, {"agent_id": "***"}),
]


@pytest.mark.parametrize(("status", "detail", "headers", "query"), REFUSALS)
async def test_refusals(status: int, detail: str, headers: dict[str, str], query: dict[str, str]) -> None:
    mint = Mint()
    async with visiting(mint.app) as session:
        got, body = await get(session, headers, **query)
        assert (got, body["detail"]) == (status, detail)


async def test_no_token_for_a_server_without_a_seat() -> None:
    mint = Mint(max_calls=1)
    async with visiting(mint.app) as session:
        with mint.hub.seat(mint.hub.registry.all()[1], "webrtc"):
            status, body = await get(session, BEARER, agent_id="open")
            assert (status, body["code"]) == (503, "SERVER_AT_CAPACITY")
        assert (await get(session, BEARER, agent_id="open"))[0] == 200
        await mint.hub.drain(0)
        status, body = await get(session, BEARER, agent_id="open")
        assert (status, body["code"]) == (503, "SERVER_DRAINING")


@pytest.mark.parametrize("headers", [PAGE, PAGE | {"X-API-Key": PUBLISHABLE}, {"X-API-Key": "wrong"}, {}])
async def test_the_public_path_is_limited_and_the_keyed_one_is_not(headers: dict[str, str]) -> None:
    async with visiting(Mint(mint_rate=5).app) as session:
        got = [(await get(session, headers, agent_id="open"))[0] for _ in range(6)]
        assert 429 not in got[:5]
        assert got[5] == 429
        async with session.get("/webrtc/token", params={"agent_id": "nobody"}) as response:
            body = await response.json()
            assert (response.status, body["detail"], body["code"]) == (429, "Too many token requests", "RATE_LIMITED")
            assert body["error"] == body["detail"]
            assert 1 <= int(response.headers["Retry-After"]) <= 12
            assert response.headers["Access-Control-Allow-Origin"] == "*"
            assert response.headers["Access-Control-Expose-Headers"] == "Retry-After"
        assert {(await get(session, BEARER, agent_id="open"))[0] for _ in range(10)} == {200}


async def test_addresses_have_limits_of_their_own() -> None:
    async with visiting(Mint(mint_rate=1, trust_proxy=True).app) as session:

        async def status(client: str) -> int:
            return (await get(session, PAGE | {"X-Forwarded-For": client}, agent_id="open"))[0]

        assert [await status("192.0.2.1"), await status("192.0.2.2"), await status("192.0.2.1")] == [200, 200, 429]
        assert [await status("2001:db8::1"), await status("2001:db8::2"), await status("2001:db8:0:1::1")] == [
            200,
            429,
            200,
        ]
        assert await status("192.0.2.9, 192.0.2.1") == 429


async def test_nobody_says_himself_where_he_comes_from() -> None:
    async with visiting(Mint(mint_rate=1).app) as session:
        for number, expected in enumerate([200, 429, 429]):
            headers = PAGE | {"X-Forwarded-For": f"192.0.2.{number}"}
            assert (await get(session, headers, agent_id="open"))[0] == expected


async def test_an_agent_has_a_limit_whoever_asks() -> None:
    async with visiting(Mint(agent_mint_rate=3, trust_proxy=True).app) as session:

        async def status(number: int, headers: dict[str, str], **query: str) -> int:
            client = {"X-Forwarded-For": f"192.0.2.{number}"}
            return (await get(session, headers | client, agent_id="open", **query))[0]

        assert [await status(number, {"Origin": "https://evil.example"}) for number in range(5)] == [403] * 5
        assert [await status(number, PAGE, api_key=PUBLISHABLE) for number in range(2)] == [200] * 2
        assert [await status(number, PAGE) for number in range(3)] == [200, 429, 429]
        assert await status(9, BEARER) == 200


async def test_without_limits() -> None:
    async with visiting(Mint(mint_rate=0, agent_mint_rate=0).app) as session:
        assert {(await get(session, PAGE, agent_id="open"))[0] for _ in range(100)} == {200}


async def test_servers_on_one_redis_limit_together(own_redis: RedisServer) -> None:
    counters = [RedisCounter(own_redis.url, timeout=60) for _ in range(2)]
    apps = [Mint(None, counter, mint_rate=3).app for counter in counters]
    async with visiting(apps[0]) as here, visiting(apps[1]) as there:
        got = [(await get(session, PAGE, agent_id="open"))[0] for session in (here, there, here, there, here)]
        assert got == [200, 200, 200, 429, 429]
    for counter in counters:
        await counter.aclose()


async def test_the_public_address_stands_in_the_answer() -> None:
    async with visiting(Mint(public_url="https://voice.example/").app) as session:
        assert (await get(session, BEARER, agent_id="open"))[1]["server"] == "https://voice.example"
    async with visiting(Mint(trust_proxy=True).app) as session:
        forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "voice.example"}
        assert (await get(session, BEARER | forwarded, agent_id="open"))[1]["server"] == "https://voice.example"


async def test_repeated_slashes_and_other_methods() -> None:
    async with listening(Mint().app) as listener, aiohttp.ClientSession() as session:
        base = f"http://localhost:{listener.port}"
        async with session.get(f"{base}//webrtc/token?agent_id=open", headers=BEARER) as response:
            assert response.status == 200
        for method in ("HEAD", "POST", "DELETE"):
            async with session.request(method, f"{base}/webrtc/token?agent_id=open", headers=BEARER) as response:
                assert response.status == 405
        async with session.options(f"{base}//webrtc/token") as response:
            assert response.status == 204


async def test_without_its_redis_nothing_is_minted(redis_url: str) -> None:
    working, gone = RedisLedger(redis_url), RedisLedger("redis://127.0.0.1:1")
    async with visiting(Mint(working).app) as session:
        assert (await get(session, BEARER, agent_id="open"))[0] == 200
    async with visiting(Mint(gone).app) as session:
        status, body = await get(session, BEARER, agent_id="open")
        assert (status, body["code"]) == (503, "LEDGER_UNAVAILABLE")
    await working.aclose()
    await gone.aclose()


async def test_keys_tokens_and_metadata_stay_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with visiting(Mint().app) as session:
        _, body = await get(session, BEARER, agent_id="open", metadata='{"user": "confidential"}')
        await get(session, {"X-API-Key": "pk_wrong_but_secret"}, agent_id="open")
        await get(session, PAGE, agent_id="open", api_key=PUBLISHABLE)
        await get(session, PAGE, agent_id="open", apiKey="pk_publishable_wrong")
    assert "GET /webrtc/token 200" in caplog.text
    for secret in (KEY, "pk_wrong_but_secret", "confidential", body["token"], "pk_publishable"):
        assert secret not in caplog.text


HEADER = st.none() | st.binary(max_size=60).map(lambda value: value.translate(None, b"\r\n\0"))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    query=st.dictionaries(
        st.sampled_from(["agent_id", "metadata", "scope", "call_id", "api_key", "apiKey"]), st.text(max_size=40)
    ),
    key=HEADER,
    origin=HEADER,
)
async def test_no_request_upsets_the_mint(
    query: dict[str, str], key: bytes | None, origin: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    head = f"GET /webrtc/token?{urlencode(query)} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n".encode()
    lines = [name + value for name, value in ((b"X-API-Key: ", key), (b"Origin: ", origin)) if value is not None]
    async with listening(Mint().app) as listener:
        got = await raw(listener.port, head + b"".join(line + b"\r\n" for line in lines) + b"\r\n")
    assert got.split(b" ")[1] in (b"400", b"401", b"403", b"404")
    assert json.loads(got.partition(b"\r\n\r\n")[2])["detail"]
    assert not caplog.records


async def test_tokens_of_racing_requests_differ() -> None:
    async with visiting(Mint().app) as session:
        answers = await asyncio.gather(*(get(session, BEARER, agent_id="open") for _ in range(50)))
        assert len({body["token"] for _, body in answers}) == 50
