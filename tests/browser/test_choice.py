"""Whom the page calls and in which language: chosen before the call and in it, told by a link, and who would answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.browsers import ChromiumTab, chromium
from tests.live import LiveServer

pytestmark = [pytest.mark.browser, pytest.mark.models, pytest.mark.timeout(180)]

AGENTS = """
[agents.front-desk]
greeting = "Front desk."
allowed_origins = ["http://localhost:*"]

[agents.secret-agent]
prompt = "For backends alone."

[agents.hotline]
llm = "rules"
greeting = "Hotline."
allowed_origins = ["http://127.0.0.1:*"]

[agents.demo]
llm = "rules"
greeting = { en = "Hello.", es = "Hola." }
allowed_origins = ["http://localhost:*"]
"""

LONELY = """
[agents.demo]
allowed_origins = []

[agents.mara]
language = "es"
greeting = "Hola."
llm = "rules"
allowed_origins = ["http://localhost:*"]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "voice.toml").write_text(AGENTS)
    with LiveServer(folder, "--config", str(folder / "voice.toml"), environment={"VOICE_MINT_RATE": "0"}) as live:
        yield live


@pytest.fixture
async def tab(tmp_path: Path) -> AsyncIterator[ChromiumTab]:
    async with chromium(tmp_path) as tab:
        yield tab
        await tab.assert_untroubled()


async def listed(tab: ChromiumTab, name: str) -> list[str]:
    """The texts of a select's options, once it is filled."""
    await tab.until(f"document.getElementById('{name}').length > 0", 20, f"a list of {name}s")
    options: list[str] = await tab.evaluate(f"[...document.getElementById('{name}').options].map((one) => one.text)")
    return options


async def shown(tab: ChromiumTab, name: str) -> str:
    """The text of an element as it is seen; empty when it is hidden."""
    return str(await tab.evaluate(f"document.getElementById('{name}').innerText"))


async def until_shown(tab: ChromiumTab, name: str, text: str, seconds: float = 30) -> None:
    condition = f"document.getElementById('{name}').innerText.includes('{text}')"
    await tab.until(condition, seconds, f"{name}: {text}")


async def value(tab: ChromiumTab, name: str) -> Any:
    return await tab.evaluate(f"document.getElementById('{name}').value")


async def frame(tab: ChromiumTab, event: str) -> dict[str, Any]:
    """The newest frame of a name in the event panel, once it is there."""
    await tab.until(f"!!document.querySelector('#frames [data-event=\"{event}\"]')", 40, event)
    return next(frame for frame in reversed(await tab.frames()) if frame["event"] == event)


async def test_agent_and_language_are_chosen_by_keyboard_before_and_in_the_call(
    tab: ChromiumTab, server: LiveServer
) -> None:
    await tab.goto(server.url)
    assert await listed(tab, "agent") == ["Demo", "Mara", "Front desk"], "those that let this page in"
    assert await listed(tab, "language") == ["English (default)", "English", "Español"]
    assert await value(tab, "agent") == "demo"
    await until_shown(tab, "engines-state", "ready", 60)
    assert not await shown(tab, "waiting")
    assert "moonshine" in await shown(tab, "engines")
    assert "fixed rules" in await shown(tab, "answers"), "this agent has no model"

    await tab.prepare("question-sum.flac")
    await tab.page.keyboard.press("Tab")
    await tab.page.keyboard.press("f")
    assert await value(tab, "agent") == "front-desk"
    assert "tiny local model" in (await shown(tab, "answers")).lower()
    await tab.page.keyboard.press("Home")
    await tab.page.keyboard.press("Tab")
    await tab.page.keyboard.press("e")
    await tab.page.keyboard.press("s")
    assert await value(tab, "language") == "es"
    assert await tab.evaluate("location.search") == "?agent=demo&language=es"
    assert "whisper" in await shown(tab, "engines")
    assert "pico" in await shown(tab, "engines")
    await until_shown(tab, "engines-state", "demand")
    assert "when a call begins" in await shown(tab, "waiting")

    await tab.page.keyboard.press("Tab")
    await tab.page.keyboard.press("Enter")
    assert (await frame(tab, "session.started"))["language"] == "es"
    assert (await frame(tab, "bot.finished"))["text"] == "Hola."
    assert await tab.evaluate("document.getElementById('captions').lang") == "es"
    await until_shown(tab, "engines-state", "ready")
    assert not await shown(tab, "waiting")
    assert await tab.evaluate("document.getElementById('agent').disabled"), "a call is with one agent"

    await tab.page.locator("#language").focus()
    await tab.page.keyboard.press("Home")  # what the agent wants
    assert (await frame(tab, "config.updated"))["config"] == {"language": "en"}
    assert await tab.evaluate("location.search") == "?agent=demo"
    assert "moonshine" in await shown(tab, "engines")
    await tab.page.locator("#text").fill("What is seven plus five?")
    await tab.page.keyboard.press("Enter")
    await until_shown(tab, "captions", "twelve")

    await tab.page.locator("#orb").focus()
    await tab.page.keyboard.press("Enter")
    await tab.until_state("idle")
    assert not await tab.evaluate("document.getElementById('agent').disabled")
    server.empty_after(4.0)


async def test_a_link_tells_agent_and_language(tab: ChromiumTab, server: LiveServer) -> None:
    await tab.goto(f"{server.url}/?agent=mara&language=en")
    await listed(tab, "language")
    assert [await value(tab, "agent"), await value(tab, "language")] == ["mara", "en"]
    await tab.prepare("question-sum.flac")
    await tab.click("#orb")
    started = await frame(tab, "session.started")
    assert (started["agent"], started["language"]) == ("mara", "en")
    await tab.click("#orb")
    await tab.until_state("idle")
    server.empty_after(4.0)


async def test_a_link_that_cannot_be_followed_is_told(tab: ChromiumTab, server: LiveServer) -> None:
    await tab.goto(f"{server.url}/?agent=secret-agent&language=zz")
    assert (await listed(tab, "agent"))[-1] == "Secret agent (does not let this page in)"
    assert await listed(tab, "language") == ["Default"]
    assert await tab.evaluate("document.getElementById('language').value") == ""
    assert not await tab.page.locator("#language").is_visible()
    await tab.prepare("question-sum.flac")
    await tab.click("#orb")
    await tab.until_state("error")
    assert await shown(tab, "notice")
    await tab.page.locator("#agent").select_option("front-desk")
    assert await tab.evaluate("location.search") == "?agent=front-desk"
    assert (await listed(tab, "language"))[0] == "English (default)"


async def test_other_origins_see_other_agents(tab: ChromiumTab, server: LiveServer) -> None:
    await tab.goto(server.url.replace("localhost", "127.0.0.1"))
    assert await listed(tab, "agent") == ["Mara", "Hotline"]
    assert await value(tab, "agent") == "mara", "the first one, where there is no demo"


async def test_nothing_to_choose_is_not_shown_and_nobody_to_call_is_told(tab: ChromiumTab, tmp_path: Path) -> None:
    config = tmp_path / "voice.toml"
    config.write_text(LONELY)
    with LiveServer(tmp_path, "--config", str(config), environment={"VOICE_LLM": "rules"}) as server:
        await tab.goto(server.url)
        assert await listed(tab, "agent") == ["Mara"]
        assert not await tab.page.locator("#agent").is_visible()
        assert await tab.page.locator("#language").is_visible()
        await until_shown(tab, "engines-state", "ready", 60)  # nobody reloads the page
        await tab.prepare("question-sum.flac")
        await tab.click("#orb")
        assert (await frame(tab, "session.started"))["agent"] == "mara"
        await tab.click("#orb")
        await tab.until_state("idle")

        await tab.goto(server.url.replace("localhost", "127.0.0.1"))
        await until_shown(tab, "notice", "No agent lets this page in")
        assert f"127.0.0.1:{server.url.rpartition(':')[2]}" in await shown(tab, "notice")
        assert not await tab.page.locator("#agent").is_visible()
