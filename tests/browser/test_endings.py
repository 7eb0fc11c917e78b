"""How the server's side of an ending looks on the page."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.browser.browsers import chromium
from tests.live import LiveServer

pytestmark = [pytest.mark.browser, pytest.mark.models, pytest.mark.timeout(120)]

BRIEF = """
[agents.brief]
greeting = "Hello."
prompt = "Be brief."
allowed_origins = ["http://localhost:*"]
session_limits = { idle_timeout_seconds = 3, idle_warning_seconds = 2, idle_grace_seconds = 1 }
"""


async def test_the_page_tells_how_a_call_ended(tmp_path: Path) -> None:
    """Nobody speaks: a warning, then the end. The server is killed: the page notices and says so."""
    config = tmp_path / "brief.toml"
    config.write_text(BRIEF)
    with LiveServer(tmp_path, "--config", str(config)) as server:
        async with chromium(tmp_path) as tab:
            await tab.goto(f"{server.url}/?agent=brief")
            await tab.prepare("question-sum.flac")
            await tab.click("#orb")
            await tab.until("document.querySelector('#captions [data-role=system]') !== null", 30, "an idle warning")
            await tab.until_state("idle")
            notice = await tab.evaluate("document.getElementById('notice').textContent")
            assert notice == "The call ended because nobody spoke."
            server.empty_after(3.0)

            await tab.click("#orb")
            await tab.until_state("speaking")
            server.kill()
            await tab.until_state("error", 20)
            assert "connection" in await tab.evaluate("document.getElementById('notice').textContent")
            await tab.click("#orb")
            await tab.until("document.getElementById('notice').textContent.includes('does not answer')", 20, "a notice")
            assert await tab.state() == "error"
            with contextlib.suppress(Exception):
                await tab.close()
