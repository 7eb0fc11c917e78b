"""Pictures of the page for the documents: ``python -m tests.browser.screenshots [FOLDER]``.

A real server with its real models, Chromium, a recorded voice as its microphone. Those in the repository were taken
with Debian's ``fonts-inter``, which looks more like what visitors have than the fonts of a bare machine do.
"""

from __future__ import annotations

import asyncio
import base64
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.browser.browsers import ChromiumTab, chromium
from tests.live import LiveServer

FOLDER = Path(__file__).parent.parent.parent / "docs" / "screenshots"
LARGEST = 150_000
"""Bytes of a picture that is worth its place in the repository."""

QUESTION = "question-sum.flac"


@dataclass(frozen=True)
class View:
    name: str
    width: int
    height: int
    scale: float = 1
    """Pixels of the picture for one of the page."""
    scheme: Literal["light", "dark"] = "light"

    @property
    def phone(self) -> bool:
        return min(self.width, self.height) < 500


DESKTOP = View("desktop", 1280, 800)
PHONE = View("phone", 390, 844, 1.5)
VIEWS = (
    DESKTOP,
    PHONE,
    View("desktop-dark", 1280, 800, scheme="dark"),
    View("phone-dark", 390, 844, 1.5, "dark"),
)


async def look(tab: ChromiumTab, view: View) -> None:
    """Make the window what the view says."""
    session = await tab.page.context.new_cdp_session(tab.page)
    metrics = {"width": view.width, "height": view.height, "deviceScaleFactor": view.scale, "mobile": view.phone}
    await session.send("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": view.scheme}]
    await session.send("Emulation.setEmulatedMedia", {"features": features})


async def take(tab: ChromiumTab, folder: Path, state: str, view: View) -> None:
    path = folder / f"{state}-{view.name}.png"
    await look(tab, view)
    await tab.run("scrollTo(0, 0)")
    await asyncio.sleep(0.6)  # for the eye alone: colours and sizes change slowly
    session = await tab.page.context.new_cdp_session(tab.page)
    picture = await session.send("Page.captureScreenshot", {"format": "png", "optimizeForSpeed": False})
    path.write_bytes(base64.b64decode(picture["data"]))
    size = path.stat().st_size
    sys.stdout.write(f"{path.name}: {size // 1000} kB\n")
    assert size < LARGEST, f"{path.name} is too large"


async def pictures(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, LiveServer(Path(temporary)) as server:
        async with chromium(Path(temporary)) as tab:
            await look(tab, DESKTOP)
            await tab.goto(server.url)
            await tab.until("document.getElementById('engines-state').dataset.state === 'ready'", 60, "the engines")
            await tab.prepare(QUESTION)
            for view in VIEWS:
                await take(tab, folder, "idle", view)
            await converse(tab, folder)
            await tab.run("voiceTest.microphone = 'NotAllowedError'")
            await tab.click("#orb")
            await tab.until_state("error")
            for view in (DESKTOP, PHONE):
                await take(tab, folder, "error", view)


async def converse(tab: ChromiumTab, folder: Path) -> None:
    """A question that is spoken, one that is typed, and the pictures while the second answer is heard."""
    await tab.click("#orb")
    await tab.until_state("speaking")
    await tab.until_state("listening")
    await tab.say(QUESTION)
    await tab.until("document.querySelectorAll('#captions [data-role=bot]').length > 1", 40, "an answer")
    await tab.until_state("listening")
    await tab.type("Count to thirty.")
    await tab.until("document.querySelector('#captions li:last-child').textContent.includes('three')", 40, "three")
    for view in (DESKTOP, PHONE):
        await take(tab, folder, "call", view)
    assert await tab.state() == "speaking"
    await tab.click("#end")
    await tab.until_state("idle")


if __name__ == "__main__":
    asyncio.run(pictures(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER))
