"""Whom a page may call, as it is told: the agents that would let it in, and no others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import assume, given
from hypothesis import strategies as st

from config.agent import AgentConfig, LlmConfig, SttConfig
from config.settings import Settings
from pipeline.engine import Engines
from server import http
from server.directory import Directory
from server.local_hub import Limits, LocalHub
from server.minting import Minting
from server.rate import MemoryCounter
from tests.server.sockets import visiting
from tokens.keys import ApiKeys
from tokens.ledger import MemoryLedger
from tokens.minting import TokenOffice

KEY = "pk_a_secret_key_of_the_test"
PUBLISHABLE = "pk_publishable_of_the_test"
STRANGERS = "pk_publishable_of_acme"
SHOP, OTHER = "https://shop.example", "https://other.example"


def agent(name: str, *origins: str, language: str = "en", **options: Any) -> AgentConfig:
    return AgentConfig(id=name, allowed_origins=origins, language=language, **{"llm": LlmConfig(), **options})


AGENTS = [
    agent("keyed"),
    agent("shop", SHOP),
    agent("both", SHOP, OTHER, language="es-MX"),
    agent("own", "http://localhost:*"),
    agent("spoken-by-a-backend", OTHER, llm=None),
    agent("named", OTHER, stt=SttConfig(provider="moonshine")),
]


@asynccontextmanager
async def directory(folder: Path, **options: Any) -> AsyncIterator[tuple[aiohttp.ClientSession, Engines]]:
    """A server with the routes for pages."""
    settings = Settings(models_dir=folder, **options)
    engines = Engines(settings)
    async with LocalHub(AGENTS, Limits(max_calls=1)) as hub:
        keys = ApiKeys([KEY], [PUBLISHABLE, f"acme:{STRANGERS}"])
        minting = Minting(settings, keys, TokenOffice(("s" * 32,), MemoryLedger(), ttl=60), hub, MemoryCounter())
        app = http.application()
        app.router.add_routes([*minting.routes(), *Directory(settings, minting, engines, MemoryCounter()).routes()])
        async with visiting(app) as session:
            yield session, engines
    await engines.aclose()


async def ask(session: aiohttp.ClientSession, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    async with session.get("/webrtc/agents", headers=headers) as response:
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        body = await response.json()
        if response.status == 200:
            assert response.headers["Cache-Control"] == "no-store"
            assert set(body) == {"agents"}
        return response.status, body


def names(body: Any) -> list[str]:
    return [entry["agent"] for entry in body["agents"]]


def spoken(body: Any, name: str) -> dict[str, Any]:
    """An agent's languages by tag."""
    entry = next(entry for entry in body["agents"] if entry["agent"] == name)
    return {language["language"]: language for language in entry["languages"]}


REQUESTS: list[tuple[dict[str, str], list[str]]] = [
    ({}, []),
    ({"Origin": "null"}, []),
    ({"Origin": "https://stranger.example"}, []),
    ({"Origin": SHOP}, ["shop", "both"]),
    ({"Origin": OTHER}, ["both", "spoken-by-a-backend", "named"]),
    ({"Sec-Fetch-Site": "same-origin"}, ["own"]),
    ({"Sec-Fetch-Site": "cross-site"}, []),
    ({"Origin": SHOP, "X-API-Key": PUBLISHABLE}, ["shop", "both"]),
    ({"Origin": SHOP, "X-API-Key": STRANGERS}, []),
    ({"X-API-Key": PUBLISHABLE}, []),
    ({"Authorization": f"Bearer {KEY}"}, [agent.id for agent in AGENTS]),
]


@pytest.mark.parametrize(("headers", "expected"), REQUESTS)
async def test_an_agent_is_listed_when_it_would_give_a_token(
    headers: dict[str, str], expected: list[str], tmp_path: Path
) -> None:
    async with directory(tmp_path) as (session, _):
        status, body = await ask(session, headers)
        assert (status, names(body)) == (200, expected)
        for listed in AGENTS:
            async with session.get("/webrtc/token", params={"agent_id": listed.id}, headers=headers) as response:
                assert (response.status == 200) == (listed.id in expected), listed.id


async def test_a_wrong_key_is_refused(tmp_path: Path) -> None:
    async with directory(tmp_path) as (session, _):
        status, body = await ask(session, {"Origin": SHOP, "Authorization": "Bearer pk_publishable_guessed"})
        assert (status, body["code"]) == (401, "INVALID_KEY")
        assert "agents" not in body


async def test_it_is_told_who_answers_in_which_language(tmp_path: Path) -> None:
    async with directory(tmp_path) as (session, _):
        _, body = await ask(session, {"Authorization": f"Bearer {KEY}"})
        assert set(body["agents"][0]) == {"agent", "language", "languages"}, "nothing of its prompt"
        english, spanish = spoken(body, "shop")["en"], spoken(body, "shop")["es"]
        assert english == {
            "language": "en",
            "engines": {"stt": "moonshine", "llm": "local", "tts": "hibari"},
            "answers": "tiny",
            "state": "unloaded",
        }
        assert spanish["engines"] == {"stt": "whisper", "llm": "local", "tts": "pico"}
        assert spanish["answers"] == "rules", "the tiny model makes no sense in Spanish"
        assert set(spoken(body, "both")) == {"en", "es"}, "nobody would answer in the other ones"
        assert body["agents"][2]["language"] == "es-MX"
        assert set(spoken(body, "spoken-by-a-backend")) == {"de", "en", "es", "fr", "it"}
        assert spoken(body, "spoken-by-a-backend")["fr"]["answers"] == "backend"
        assert spoken(body, "named")["es"]["engines"]["stt"] == "whisper", "the one it names hears English only"


async def test_a_model_of_the_operator_answers_in_every_language(tmp_path: Path) -> None:
    async with directory(tmp_path, llm_file=tmp_path / "model.gguf") as (session, _):
        _, body = await ask(session, {"Origin": SHOP})
        answers = {tag: entry["answers"] for tag, entry in spoken(body, "shop").items()}
        assert answers == dict.fromkeys(("de", "en", "es", "fr", "it"), "model")
    async with directory(tmp_path, llm="rules") as (session, _):
        _, body = await ask(session, {"Origin": SHOP})
        assert {tag: entry["answers"] for tag, entry in spoken(body, "shop").items()} == {"en": "rules", "es": "rules"}


@pytest.mark.models
async def test_the_state_follows_the_loading(tmp_path: Path) -> None:
    async with directory(tmp_path, llm="rules") as (session, engines):

        async def states() -> dict[str, str]:
            _, body = await ask(session, {"Origin": SHOP})
            return {tag: entry["state"] for tag, entry in spoken(body, "shop").items()}

        assert await states() == {"en": "unloaded", "es": "unloaded"}
        loading = asyncio.create_task(engines.ready(agent("anyone")))
        await asyncio.sleep(0)  # a worker process takes longer to start than an answer to be given
        assert await states() == {"en": "loading", "es": "unloaded"}
        await loading
        assert await states() == {"en": "ready", "es": "unloaded"}


async def test_the_list_is_limited_like_the_tokens(tmp_path: Path) -> None:
    async with directory(tmp_path, mint_rate=3) as (session, _):
        answers = [await ask(session, {"Origin": SHOP}) for _ in range(4)]
        assert [status for status, _ in answers] == [200, 200, 200, 429]
        assert answers[-1][1]["code"] == "RATE_LIMITED"
        async with session.get("/webrtc/token", params={"agent_id": "shop"}, headers={"Origin": SHOP}) as response:
            assert response.status == 200, "looking does not use up the right to call"


@given(st.text(st.characters(codec="latin-1"), max_size=80))
async def test_no_other_origin_is_told_anything(origin: str) -> None:
    """The same rule as for tokens, asked without a socket."""
    assume(origin.rstrip("/").lower().removesuffix(":443") not in (SHOP, OTHER))
    minting = Minting(
        Settings(),
        ApiKeys([KEY], []),
        TokenOffice(("s" * 32,), MemoryLedger(), ttl=60),
        LocalHub([agent("shop", SHOP), agent("both", SHOP, OTHER), agent("keyed")], Limits(max_calls=1)),
        MemoryCounter(),
    )
    assert await minting.reachable(make_mocked_request("GET", "/webrtc/agents", {"Origin": origin})) == []
