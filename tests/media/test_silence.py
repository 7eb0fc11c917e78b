"""A real Chromium takes our silence for silence: its jitter buffer conceals nothing, so no next word is smeared."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright

from tests.media.peers import Recorder, running_engine, until
from tests.media.test_chromium import ARGUMENTS, CHROMIUM, PAGE, call

pytestmark = pytest.mark.browser

RECEIVED = """pc.getStats().then(stats => {
  const audio = [...stats.values()].find(entry => entry.type === "inbound-rtp" && entry.kind === "audio");
  return {samples: audio.totalSamplesReceived, concealed: audio.concealedSamples, packets: audio.packetsReceived};
})"""


async def received(page: Page, samples: int) -> dict[str, int]:
    """The statistics once so many samples, silence included, were played."""
    async with asyncio.timeout(60):
        while (statistics := await page.evaluate(RECEIVED))["samples"] < samples:
            await asyncio.sleep(0.1)
    return dict(statistics)


async def test_chromium_conceals_nothing_while_the_bot_is_silent(tmp_path: Path) -> None:
    async with async_playwright() as playwright, running_engine() as engine:
        context = await playwright.chromium.launch_persistent_context(
            tmp_path, executable_path=CHROMIUM, args=ARGUMENTS, headless=True
        )
        page = context.pages[0]
        await page.set_content(PAGE)
        await call(page, engine, recorder := Recorder())
        await until(lambda: "audio" in recorder.events)
        before = await received(page, 24_000)  # until then the buffer, which began empty, finds its length
        after = await received(page, before["samples"] + 3 * 48_000)
        await context.close()
    assert after["concealed"] == before["concealed"]
    seconds = (after["samples"] - before["samples"]) / 48_000
    assert after["packets"] - before["packets"] == pytest.approx(seconds / 0.4, abs=2)
