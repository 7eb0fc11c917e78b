"""What stands in ``examples``, run as its readers would run it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.browser.browsers import chromium
from tests.conformance.conftest import Serve
from tests.conformance.inbox import Frame
from tests.conformance.program import Program, free_port
from tests.conformance.voice import VoiceSession
from tests.live import LiveServer
from tests.server.backends import KEYS

EXAMPLES = Path(__file__).parents[2] / "examples"
KEY = KEYS["default"]

TOKEN_SERVERS = [
    pytest.param(("token_server.py", sys.executable), id="python"),
    pytest.param(
        ("token_server.mjs", "node"),
        id="node",
        marks=pytest.mark.skipif(shutil.which("node") is None, reason="there is no node here"),
    ),
]


def agent(url: str, key: str = KEY) -> Program:
    return Program(sys.executable, str(EXAMPLES / "agent.py"), VOICE_URL=url, VOICE_API_KEY=key)


def token_server(which: tuple[str, str], url: str, port: int, key: str = KEY) -> Program:
    file, interpreter = which
    return Program(interpreter, str(EXAMPLES / file), VOICE_URL=url, VOICE_API_KEY=key, PORT=str(port))


@pytest.mark.parametrize("which", TOKEN_SERVERS)
async def test_a_signed_in_user_calls_the_agent(serve: Serve, which: tuple[str, str]) -> None:
    """Agent and token server together: the name comes from the application's session by way of the sealed metadata."""
    port = free_port()
    jar = aiohttp.CookieJar(unsafe=True)  # which takes cookies of an address
    async with (
        serve() as place,
        agent(place.url) as backend,
        token_server(which, place.url, port) as tokens,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}", cookie_jar=jar) as http,
    ):
        await backend.line("receptionist is online")
        await tokens.line(f"http://localhost:{port}")
        async with http.get("/voice-token") as response:
            assert (response.status, (await response.json())["error"]) == (401, "Please sign in first")
        async with http.post("/sign-in", data={"name": "Ada"}) as response:
            assert "Call the clinic" in await response.text()

        async def provider() -> Frame:
            async with http.get("/voice-token") as response:
                assert (response.status, response.headers["Cache-Control"]) == (200, "no-store")
                minted: Frame = await response.json()
                return minted

        async with VoiceSession("receptionist", token_provider=provider) as voice:
            await voice.inbox.next("bot.finished")
            assert voice.state.texts("bot") == ["Hello Ada, this is Sunny Dental. How can I help?"]
            mark = voice.inbox.mark
            voice.send_text('call opening_hours {"day": "Sunday"} and call opening_hours {"hour": 1}')
            await voice.inbox.next("bot.finished", since=mark)
            assert voice.state.tools[0].result == {"day": "Sunday", "open": "closed"}
            assert "TypeError" in voice.state.tools[1].result["error"]
        await backend.line("agent: The tools say")
        await backend.line("disconnected")
        assert {"agent: Hello Ada, this is Sunny Dental. How can I help?"} <= set(backend.lines)


@pytest.mark.parametrize("which", TOKEN_SERVERS)
async def test_a_token_server_says_what_is_wrong(serve: Serve, which: tuple[str, str]) -> None:
    async with serve() as place:
        for url, key, status, error in (
            (place.url, KEY, 404, "Agent 'receptionist' is not online"),
            (place.url, "pk_of_somebody_else", 502, "The voice server refuses our key"),
            (f"http://127.0.0.1:{free_port()}", KEY, 502, "The voice server does not answer"),
        ):
            port = free_port()
            jar = aiohttp.CookieJar(unsafe=True)
            async with (
                token_server(which, url, port, key) as tokens,
                aiohttp.ClientSession(f"http://127.0.0.1:{port}", cookie_jar=jar) as http,
            ):
                await tokens.line(f"http://localhost:{port}")
                await (await http.post("/sign-in", data={"name": "Ada"})).read()
                async with http.get("/voice-token") as response:
                    assert (response.status, (await response.json())["error"]) == (status, error)


async def test_an_agent_with_a_wrong_key_leaves(serve: Serve) -> None:
    async with serve() as place, agent(place.url, "pk_of_somebody_else") as backend:
        assert await backend.ended() == 1
        assert backend.lines == ["INVALID_KEY: Invalid API key"]


async def test_an_agent_outlives_its_server(tmp_path: Path) -> None:
    """The server is killed and started again: the agent is back without help."""
    port = free_port()
    live = LiveServer(tmp_path, "--engine", "instant", "--port", str(port), environment={"VOICE_API_KEYS": KEY})
    with live:
        async with agent(f"http://127.0.0.1:{port}") as backend:
            await backend.line("receptionist is online")
            live.kill()
            await backend.line("not connected; again in 1 s")
            with live:
                await backend.line("receptionist is online")


@pytest.mark.browser
async def test_the_page_calls(serve: Serve, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://localhost:{port}"
    async with (
        serve() as place,
        agent(place.url) as backend,
        token_server(("token_server.py", sys.executable), place.url, port) as tokens,
        chromium(tmp_path) as tab,
    ):
        await backend.line("receptionist is online")
        await tokens.line(url)
        await tab.goto(url)
        await tab.prepare("question-sum.flac")
        await tab.click("#call")
        await tab.until("document.querySelector('#status').textContent === 'Please sign in first'", 30, "a refusal")
        await tab.page.fill("input", "Ada")
        await tab.page.click("form button")
        await tab.prepare("question-sum.flac")
        await tab.click("#call")
        await tab.until("document.querySelector('#status').textContent === 'speaking'", 30, "the greeting")
        await backend.line("agent: Hello Ada")
        await tab.assert_untroubled()
