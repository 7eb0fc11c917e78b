"""What the page is like for eyes, ears, fingers and keyboards: sizes, contrast, motion, names, order."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.browsers import ChromiumTab, chromium
from tests.live import LiveServer

pytestmark = [pytest.mark.browser, pytest.mark.models, pytest.mark.timeout(180)]

SUM = "question-sum.flac"
WINDOWS = [(360, 640), (390, 844), (740, 360), (844, 390), (860, 600), (1280, 800), (1920, 1080)]
READABLE = 4.5
"""Contrast of text and its ground, WCAG 2.2, 1.4.3."""

# Every text that is seen, with the colours that the browser computed, each over what lies below it.
CONTRASTS = """
const draw = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const over = (colour, [r, g, b], share = 1) => {
  draw.globalAlpha = 1; draw.fillStyle = `rgb(${r} ${g} ${b})`; draw.fillRect(0, 0, 1, 1);
  draw.globalAlpha = share; draw.fillStyle = colour; draw.fillRect(0, 0, 1, 1);
  return [...draw.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const ground = (element) => {
  const below = element.parentElement ? ground(element.parentElement) : [255, 255, 255];
  return over(getComputedStyle(element).backgroundColor, below);
};
const faint = (element) => (element ? getComputedStyle(element).opacity * faint(element.parentElement) : 1);
const light = (colour) => colour.map((part) => part / 255)
  .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
  .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
const contrast = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
const found = [];
const note = (element, text, pseudo) => {
  const style = getComputedStyle(element, pseudo);
  const back = ground(element);
  found.push([text.trim().slice(0, 30), contrast(over(style.color, back, faint(element)), back)]);
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  const text = walker.currentNode.textContent;
  if (text.trim() && element.checkVisibility({ visibilityProperty: true })) note(element, text, null);
}
for (const element of document.querySelectorAll("[placeholder]")) note(element, element.placeholder, "::placeholder");
return JSON.stringify(found);
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("server")
    with LiveServer(folder, environment={"VOICE_MINT_RATE": "0"}) as live:
        yield live


@pytest.fixture
async def tab(server: LiveServer, tmp_path: Path) -> AsyncIterator[ChromiumTab]:
    async with chromium(tmp_path) as tab:
        await tab.goto(server.url)
        await tab.until("document.getElementById('engines-state').dataset.state === 'ready'", 60, "the engines")
        await tab.prepare(SUM)
        yield tab
        await tab.assert_untroubled()
        await tab.close()
    server.empty_after(4.0)


async def box(tab: ChromiumTab, selector: str) -> dict[str, float]:
    found: dict[str, float] = await tab.evaluate(
        f"document.querySelector({json.dumps(selector)}).getBoundingClientRect().toJSON()"
    )
    return found


async def assert_fits(tab: ChromiumTab, width: int, height: int) -> None:
    """Nothing is wider than the window, and what a call needs can be reached without scrolling."""
    await tab.page.set_viewport_size({"width": width, "height": height})
    assert await tab.evaluate("document.documentElement.scrollWidth") <= width
    await tab.until(
        "document.getAnimations().every((one) => one.constructor.name !== 'CSSTransition')", 10, "it settles"
    )
    for selector in ("#orb", "#status", "#composer", "#agent", "#language"):
        place = await box(tab, selector)
        assert place["left"] >= 0, (selector, width, height)
        assert place["right"] <= width, (selector, width, height)
        assert 0 <= place["top"] < place["bottom"] <= height, (selector, width, height, place)
    assert min((await box(tab, "#orb"))["width"], (await box(tab, "#composer"))["height"]) >= 44, "a finger's size"


async def assert_readable(tab: ChromiumTab) -> None:
    for scheme in ("light", "dark"):
        await tab.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        contrasts = json.loads(await tab.run(CONTRASTS))
        assert len(contrasts) > 10
        faint = [(text, round(ratio, 2)) for text, ratio in contrasts if ratio < READABLE]
        assert not faint, (scheme, faint)


async def test_it_fits_every_window_and_can_be_read_in_light_and_dark(tab: ChromiumTab) -> None:
    """Idle, in a call that has said a lot, and after an error."""
    for window in WINDOWS:
        await assert_fits(tab, *window)
    await assert_readable(tab)

    await tab.click("#orb")
    await tab.until_state("speaking")
    await tab.until_state("listening")
    for said in range(6):
        await tab.type("What is seven plus five?")
        await tab.until(
            f"document.querySelectorAll('#captions [data-role=bot]').length === {said + 2}", 40, "an answer"
        )
    await tab.until_state("listening")
    for window in WINDOWS:
        await assert_fits(tab, *window)
        end = await box(tab, "#end")
        assert end["bottom"] <= (await box(tab, "#composer"))["bottom"], "the call can be ended"
        last = await box(tab, "#captions li:last-child")
        assert last["height"] > 0
    await assert_readable(tab)
    await tab.run("document.getElementById('mute').click()")
    await assert_readable(tab)
    await tab.click("#end")
    await tab.until_state("idle")

    await tab.run("voiceTest.microphone = 'NotAllowedError'")
    await tab.click("#orb")
    await tab.until_state("error")
    for window in WINDOWS:
        await assert_fits(tab, *window)
    await assert_readable(tab)


async def test_it_keeps_still_where_that_is_wished(tab: ChromiumTab) -> None:
    moving = "document.getAnimations({ subtree: true }).length"
    assert await tab.evaluate(moving) > 0
    await tab.page.emulate_media(reduced_motion="reduce")
    assert await tab.evaluate(moving) == 0
    before = await tab.evaluate("getComputedStyle(document.querySelector('.ring')).transform")
    await tab.run("document.body.style.setProperty('--level', 1)")
    assert await tab.evaluate("getComputedStyle(document.querySelector('.ring')).transform") == before
    await tab.run("document.body.style.removeProperty('--level')")


async def test_everything_has_a_name_and_comes_in_the_order_of_reading(tab: ChromiumTab) -> None:
    names = await tab.page.locator("body").aria_snapshot()
    for named in (
        'combobox "Agent"',
        'combobox "Language"',
        'button "Talk"',
        'textbox "Type instead of talking"',
        'button "Send"',
        'list "Engines that answer"',
        'list "Latency of each turn"',
        'heading "Events"',
        'button "Clear"',
        'list "Frames from the server"',
        'region "Call"',
        'complementary "Inside the call"',
    ):
        assert named in names, f"{named} in\n{names}"
    order = []
    for _ in range(8):
        await tab.page.keyboard.press("Tab")
        order.append(await tab.evaluate("document.activeElement.id || document.activeElement.type"))
    assert order == ["agent", "language", "orb", "text", "submit", "clear", "frames", order[-1]]

    await tab.page.locator("#orb").focus()
    await tab.page.keyboard.press("Space")
    await tab.until_state("speaking", 60)
    names = await tab.page.locator("body").aria_snapshot()
    assert 'button "End the call"' in names
    assert 'list "Captions"' in names
    order = []
    for _ in range(4):
        await tab.page.keyboard.press("Tab")
        order.append(await tab.evaluate("document.activeElement.id"))
    assert order == ["mute", "end", "captions", "text"]
    await tab.page.locator("#mute").focus()
    await tab.page.keyboard.press("Space")
    assert 'button "Unmute" [pressed]' in await tab.page.locator("body").aria_snapshot()
    await tab.page.locator("#end").focus()
    await tab.page.keyboard.press("Enter")
    await tab.until_state("idle")


async def test_screen_readers_are_told_messages_and_not_words(tab: ChromiumTab) -> None:
    await tab.run(
        "window.told = []; const heard = document.getElementById('heard');"
        "new MutationObserver(() => told.push(heard.textContent)).observe(heard, { childList: true })"
    )
    await tab.click("#orb")
    await tab.until_state("speaking")
    await tab.until_state("listening")
    await tab.say(SUM)
    await tab.until("told.length > 3", 40, "an answer")
    told: list[str] = await tab.evaluate("told")
    words = [frame for frame in await tab.frames() if frame["event"] == "bot.word"]
    assert len(words) > 10
    assert told[0] == "The call has begun"
    assert told[1].startswith("Agent: H")
    assert told[2] == f"You: {(await tab.captions())[1].text}"
    assert told[3].startswith("Agent: ")
    assert "twelve" in told[3].lower()
    live = await tab.evaluate(
        "[...document.querySelectorAll('[aria-live], [role=log], [role=status], [role=alert]')].map(({ id }) => id)"
    )
    assert sorted(live) == ["heard", "notice"]
    await tab.click("#end")


async def test_the_meter_follows_the_voice_and_the_panels_show_the_call(tab: ChromiumTab) -> None:
    await tab.run(
        "window.levels = []; setInterval(() => levels.push([performance.now() / 1000,"
        " Number(document.body.style.getPropertyValue('--user-level') || -1)]), 25)"
    )
    await tab.click("#orb")
    await tab.until_state("speaking")
    await tab.until_state("listening")
    began = await tab.now()
    await tab.say(SUM)
    ended = await tab.now()
    levels: list[Any] = await tab.evaluate("levels")
    assert max(level for at, level in levels if began < at < ended) > 0.4, "a voice is seen"
    assert max(level for at, level in levels if at < began) < 0.2, "silence is seen, also while the agent speaks"
    bars = await tab.evaluate("document.querySelectorAll('.bars path').length")
    assert bars == 4

    await tab.until("!!document.querySelector('#turns .part')", 30, "the latency of a turn")
    stages = await tab.evaluate("[...document.querySelectorAll('#turns .part')].map(({ dataset }) => dataset.stage)")
    assert stages == ["turn", "stt", "llm", "clause", "tts", "send"]
    await tab.until("document.querySelector('#turns .heard').textContent.includes('ms')", 30, "what was heard here")
    assert "offer → answer" in await tab.evaluate("document.getElementById('start-times').textContent")

    await tab.run("window.list = document.getElementById('frames')")
    at_end = "list.scrollHeight - list.scrollTop - list.clientHeight < 40"
    await tab.until_state("listening")
    assert await tab.evaluate(at_end), "the newest frame stays in sight, also when the latencies take its room"

    first = tab.page.locator("#frames summary").first
    raw = tab.page.locator("#frames pre").first
    assert not await raw.is_visible()
    await first.click()
    assert await raw.is_visible()
    assert '"event"' in await raw.inner_text()
    await tab.until_state("listening")
    await tab.type("Count to five.")
    await tab.until("[...document.querySelectorAll('#frames [data-event=\"bot.finished\"]')].length === 3", 40, "five")
    assert not await tab.evaluate(at_end), "who looks back is left alone"
    await tab.run("list.scrollTop = list.scrollHeight")
    await tab.type("Count to five.")
    await tab.until("[...document.querySelectorAll('#frames [data-event=\"bot.finished\"]')].length === 4", 40, "five")
    await tab.run("window.list = document.getElementById('frames')")
    assert await tab.evaluate("list.scrollHeight - list.scrollTop - list.clientHeight < 40"), (
        "the newest frame stays in sight"
    )
    await tab.click("#clear")
    assert await tab.evaluate("document.getElementById('frames').childElementCount") == 0
    await tab.click("#orb")
    await tab.until_state("idle")
    assert await tab.evaluate("document.body.style.getPropertyValue('--user-level')") == ""
