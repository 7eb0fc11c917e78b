"""The playground in real browsers against a real server with its real models. Each test leaves the server empty."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from media.session import GONE_TALKING
from tests.browser.browsers import ChromiumTab, chromium, firefox
from tests.browser.tab import Tab
from tests.live import LiveServer
from tests.words import normalised

logger = logging.getLogger(__name__)

pytestmark = [pytest.mark.browser, pytest.mark.models, pytest.mark.timeout(240)]

BROWSERS = {"chromium": chromium, "firefox": firefox}
SUM = "question-sum.flac"
OTHER = "en-06.flac"
"""I think there is a problem with my last invoice."""

LEAVE_SECONDS = 3.0
"""A closed page says good-bye."""

VANISH_SECONDS = GONE_TALKING + 4.0
"""A killed browser does not; with slack for a loaded machine."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with LiveServer(tmp_path_factory.mktemp("server")) as live:
        yield live


@pytest.fixture(params=BROWSERS)
async def tab(request: pytest.FixtureRequest, server: LiveServer, tmp_path: Path) -> AsyncIterator[Tab]:
    async with BROWSERS[request.param](tmp_path) as tab:
        await tab.goto(server.url)
        yield tab
        with contextlib.suppress(Exception):  # the test may have closed or killed it
            await tab.close()
    server.empty_after(VANISH_SECONDS)


async def call(tab: Tab, *voices: str) -> None:
    """Click the button and hear the greeting to its end."""
    await tab.prepare(*voices)
    await tab.click("#orb")
    await tab.until_state("speaking")
    await tab.until_state("listening")


async def answer_after(tab: Tab, said: int) -> str:
    """The text of the first bot bubble behind ``said`` earlier bubbles, when it was spoken to its end."""
    mine = f"[...document.querySelectorAll('#captions li')].slice({said}).find((li) => li.dataset.role === 'bot')"
    return str(await tab.until(f"(({mine})?.dataset.final === 'true') && ({mine}).textContent", 40, "an answer"))


async def test_a_conversation(tab: Tab, server: LiveServer) -> None:
    """Greeting, a spoken question, a typed one, mute: one call."""
    assert await tab.state() == "idle"
    await call(tab, SUM, OTHER)
    assert server.calls() == 1
    (greeting,) = await tab.captions()
    assert (greeting.role, greeting.final, greeting.interrupted) == ("bot", True, None)
    assert len(greeting.text.split()) > 5
    assert await tab.loud(0.0) is not None, "the greeting was heard"

    asked = await tab.now()
    await tab.say(SUM)
    answer = await answer_after(tab, 1)
    _, question, _ = await tab.captions()
    assert question.role == "user"
    assert question.final
    assert {"seven", "plus", "five"} <= set(normalised(question.text))
    assert "twelve" in answer.lower()
    assert await tab.loud(asked) is not None, "the answer was heard"
    assert await tab.evaluate("document.querySelector('#turns .total').textContent")

    await tab.type("What is nine minus five?")
    assert "four" in (await answer_after(tab, 3)).lower()
    assert (await tab.captions())[3].text == "What is nine minus five?"
    engines = await tab.evaluate("document.getElementById('engines').textContent")
    assert "moonshine" in engines
    assert "rules" in engines
    assert "hibari" in engines

    await tab.click("#mute")
    assert await tab.evaluate("document.getElementById('mute').getAttribute('aria-pressed')") == "true"
    await tab.say(SUM)
    await tab.click("#mute")
    await tab.say(OTHER)
    await answer_after(tab, 5)
    said = [caption.text.lower() for caption in await tab.captions() if caption.role == "user"]
    assert len(said) == 3, "what was said while muted was not heard"
    assert "invoice" in said[2]
    assert "seven" not in said[2]

    await tab.click("#end")
    await tab.until_state("idle")
    logger.info("hang-up to call ended: %.2f s", server.empty_after(LEAVE_SECONDS))
    await tab.assert_untroubled()
    if isinstance(tab, ChromiumTab):
        assert {urlsplit(url).netloc for url in tab.requests} == {urlsplit(server.url).netloc}


async def test_barge_in_stops_the_bot(tab: Tab) -> None:
    await call(tab, OTHER)
    await tab.type("Count to thirty.")
    await tab.until_state("speaking")
    began = await tab.now()
    while (await tab.now()) < began + 3:
        await asyncio.sleep(0.1)
    spoke = await tab.start_saying(OTHER)
    await tab.until("document.querySelector('#captions [data-interrupted]') !== null", 20, "the bot was interrupted")
    (interrupted,) = [caption for caption in await tab.captions() if caption.interrupted]
    assert interrupted.interrupted == "user_spoke"
    assert "thirty" not in interrupted.text
    quiet = await tab.quiet_after(spoke)
    logger.info("start of speech to silence of the bot: %.0f ms", 1000 * (quiet - spoke))
    assert quiet - spoke < 1.6, "600 ms is the aim; the machine may be loaded"
    await tab.until(
        "document.querySelector('#captions li:last-child').textContent.includes('invoice')", 30, "a caption"
    )
    frames = [frame["event"] for frame in await tab.frames()]
    assert frames.count("bot.interrupted") == 1


async def test_closing_the_page_ends_the_call(tab: Tab, server: LiveServer) -> None:
    await call(tab, SUM)
    assert server.calls() == 1
    await tab.close()
    logger.info("closed page to call ended: %.2f s", server.empty_after(LEAVE_SECONDS))


async def test_killing_the_browser_ends_the_call(tab: Tab, server: LiveServer) -> None:
    await call(tab, SUM)
    assert server.calls() == 1
    tab.kill()
    logger.info("killed browser to call ended: %.2f s", server.empty_after(VANISH_SECONDS))


async def test_what_is_typed_outside_of_a_call_is_answered_in_writing(tab: Tab, server: LiveServer) -> None:
    """Without a microphone; one chat for all lines, which ends with a call, another agent, or the page."""
    await tab.run("voiceTest.microphone = 'NotAllowedError'")
    await tab.prepare(SUM)
    await tab.click("#orb")
    await tab.until_state("error")
    assert "microphone was refused" in await tab.evaluate("document.getElementById('notice').textContent")
    assert server.calls() == 0
    await tab.type("What is seven plus five?")
    await tab.until("document.getElementById('captions').textContent.includes('twelve.')", 40, "an answer")
    await tab.until("document.body.dataset.chat === 'ready'", 40, "the end of the answer")
    await tab.type("What is nine minus five?")
    await tab.until("document.getElementById('captions').textContent.includes('four.')", 40, "an answer")
    assert [(caption.role, caption.final) for caption in await tab.captions()] == [("user", True), ("bot", True)] * 2
    frames = await tab.frames()
    assert [frame["event"] for frame in frames].count("chat.connected") == 1
    assert (frames[-1]["event"], frames[-1]["final"]) == ("chat.done", True)
    assert server.calls() == 1
    assert await tab.loud(0.0) is None, "nothing is spoken"
    await tab.evaluate("document.getElementById('agent').value = 'mara'")
    await tab.run("document.getElementById('agent').dispatchEvent(new Event('change'))")
    server.empty_after(LEAVE_SECONDS)
    await tab.type("¿Cuánto es siete más cinco?")
    await tab.until("document.getElementById('captions').textContent.includes('doce.')", 40, "an answer")
    assert len(await tab.captions()) == 2, "another chat"
    assert await tab.evaluate("document.getElementById('captions').lang") == "es"


async def test_a_chat_that_was_given_up_does_not_end_the_next_one(tab: Tab, server: LiveServer) -> None:
    outcome = await tab.run("""
      const { PinecallChat } = await import("/chat.js");
      const chat = new PinecallChat({ agentId: "demo" });
      let give;
      const given = new Promise((resolve) => (give = resolve));
      const one = chat.connect({ tokenProvider: () => given }).catch((error) => error.code);
      chat.disconnect();
      await chat.connect();
      give((await (await fetch("/chat/token?agent_id=demo")).json()).token);
      const outcome = [await one, chat.state, chat.send("Hello")];
      chat.disconnect();
      return JSON.stringify(outcome);
    """)
    assert json.loads(outcome) == ["DISCONNECTED", "ready", True]
    server.empty_after(LEAVE_SECONDS)


async def test_what_cannot_work_is_explained(tab: Tab, server: LiveServer) -> None:
    await tab.goto(f"{server.url}/?agent=nobody")
    await tab.prepare(SUM)
    await tab.click("#orb")
    await tab.until_state("error")
    assert "'nobody' is not online" in await tab.evaluate("document.getElementById('notice').textContent")
    await tab.goto(server.url)
    await tab.run("Object.defineProperty(window, 'isSecureContext', { value: false })")
    await tab.click("#orb")
    await tab.until_state("error")
    assert "http://localhost:" in await tab.evaluate("document.getElementById('notice').textContent")
    assert server.calls() == 0
