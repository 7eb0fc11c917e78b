"""Starts the browsers. Neither can reach anything but this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import BrowserContext, Page, async_playwright

from tests.browser.tab import EARS, Tab

START_SECONDS = 60.0
COMMAND_SECONDS = 60.0

CHROMIUM_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
    "--remote-debugging-port=0",
)

NOWHERE = "data:,nowhere"
FIREFOX_PREFERENCES: dict[str, str | int | bool] = {
    "media.autoplay.default": 0,
    "media.peerconnection.ice.loopback": True,  # for machines without any other address
    # Whatever this browser wants from the outside goes to a port where nobody listens.
    "network.proxy.type": 1,
    "network.proxy.http": "127.0.0.1",
    "network.proxy.http_port": 9,
    "network.proxy.ssl": "127.0.0.1",
    "network.proxy.ssl_port": 9,
    "network.proxy.no_proxies_on": "localhost, 127.0.0.1",
    "network.trr.mode": 5,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": NOWHERE,
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "toolkit.telemetry.server": NOWHERE,
    "datareporting.policy.dataSubmissionEnabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.region.update.enabled": False,
    "browser.newtabpage.enabled": False,
    "browser.startup.page": 0,
    "browser.shell.checkDefaultBrowser": False,
    "dom.push.connection.enabled": False,
    "extensions.update.enabled": False,
    "extensions.getAddons.cache.enabled": False,
    "media.gmp-manager.updateEnabled": False,
}


def find(program: str) -> str:
    """The path of a browser; without it the test fails with what to do."""
    path = shutil.which(program)
    if path is None:
        pytest.fail(f"{program} is missing. Install the browsers with: sudo apt-get install -y chromium firefox-esr")
    return path


@contextlib.asynccontextmanager
async def process(command: list[str], pattern: str, home: Path) -> AsyncIterator[tuple[int, str]]:
    """Start a browser in a process group of its own; gives its id and what ``pattern`` finds in its error output."""
    environment = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_CACHE_HOME": str(home)}
    browser = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        env=environment,
    )
    assert browser.stderr is not None
    reading: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(START_SECONDS):
            while (found := re.search(pattern, (line := await browser.stderr.readline()).decode())) is None:
                assert line, f"{command[0]} did not start"
        reading = asyncio.create_task(_drain(browser.stderr))
        yield browser.pid, found[1]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(browser.pid, signal.SIGKILL)
        await browser.wait()
        if reading is not None:
            await reading


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(65536):
        pass


# Chromium ------------------------------------------------------------------------------------------------------------


class ChromiumTab(Tab):
    def __init__(self, page: Page, group: int) -> None:
        super().__init__()
        self.page = page
        self.requests: list[str] = []
        self._group = group
        page.on("request", lambda request: self.requests.append(request.url))

    async def goto(self, url: str) -> None:
        await self.page.goto(url)

    async def run(self, code: str) -> str:
        return str(await self.page.evaluate(f"async () => {{ {code} }}"))

    async def close(self) -> None:
        await self.page.close()

    def kill(self) -> None:
        os.killpg(self._group, signal.SIGKILL)


@contextlib.asynccontextmanager
async def chromium(folder: Path) -> AsyncIterator[ChromiumTab]:
    command = [find("chromium"), *CHROMIUM_FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    async with (
        process(command, r"DevTools listening on (ws://\S+)", folder) as (group, endpoint),
        async_playwright() as play,
    ):
        browser = await play.chromium.connect_over_cdp(endpoint)
        context: BrowserContext = browser.contexts[0]
        await context.add_init_script(EARS)
        yield ChromiumTab(await context.new_page(), group)
        with contextlib.suppress(Exception):  # a test may have killed it
            await browser.close()


# Firefox -------------------------------------------------------------------------------------------------------------


class Bidi:
    """The part of WebDriver BiDi (https://w3c.github.io/webdriver-bidi/) that the tests need."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._sent = 0

    async def __call__(self, method: str, **params: Any) -> Any:
        self._sent += 1
        await self._socket.send_json({"id": self._sent, "method": method, "params": params})
        async with asyncio.timeout(COMMAND_SECONDS):
            while (answer := await self._socket.receive_json()).get("id") != self._sent:
                pass
        assert answer["type"] == "success", answer
        return answer["result"]


class FirefoxTab(Tab):
    def __init__(self, bidi: Bidi, context: str, group: int) -> None:
        super().__init__()
        self._bidi = bidi
        self._context = context
        self._group = group

    async def goto(self, url: str) -> None:
        await self._bidi("browsingContext.navigate", context=self._context, url=url, wait="complete")

    async def run(self, code: str) -> str:
        answer = await self._bidi(
            "script.evaluate",
            expression=f"(async () => {{ {code} }})()",
            target={"context": self._context},
            awaitPromise=True,
            userActivation=True,
        )
        assert answer["type"] == "success", answer
        return str(answer["result"].get("value"))

    async def close(self) -> None:
        await self._bidi("browsingContext.close", context=self._context)

    def kill(self) -> None:
        os.killpg(self._group, signal.SIGKILL)


@contextlib.asynccontextmanager
async def firefox(folder: Path) -> AsyncIterator[FirefoxTab]:
    profile = folder / "profile"
    profile.mkdir()
    lines = [f"user_pref({_js(name)}, {_js(value)});" for name, value in FIREFOX_PREFERENCES.items()]
    (profile / "user.js").write_text("\n".join(lines))
    command = [
        find("firefox-esr"),
        "--headless",
        "--no-remote",
        "--profile",
        str(profile),
        "--remote-debugging-port",
        "0",
    ]
    async with (
        process(command, r"WebDriver BiDi listening on (ws://\S+)", folder) as (group, endpoint),
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{endpoint}/session", max_msg_size=0) as socket,
    ):
        bidi = Bidi(socket)
        await bidi("session.new", capabilities={})
        await bidi("script.addPreloadScript", functionDeclaration=f"() => {{ {EARS} }}")
        tab = await bidi("browsingContext.create", type="tab")
        yield FirefoxTab(bidi, tab["context"], group)


def _js(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)
