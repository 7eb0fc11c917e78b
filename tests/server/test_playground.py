"""The page as a browser gets it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from server import http, playground
from tests.server.sockets import listening, visiting


class Document(HTMLParser):
    """What a page refers to, and whether it carries code of its own."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.inline: list[str] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open = tag
        for name, value in attrs:
            if name in ("src", "href") and value:
                self.links.append(value)
            if name.startswith("on") or name == "style":
                self.inline.append(f"{tag} {name}")

    def handle_data(self, data: str) -> None:
        if self._open in ("script", "style") and data.strip():
            self.inline.append(data)


def page(public_url: str | None = None) -> web.Application:
    app = http.application()
    app.router.add_routes(playground.routes(public_url))
    return app


async def test_the_page_and_all_it_refers_to_is_served_without_inline_code() -> None:
    async with visiting(page()) as session:
        async with session.get("/") as response:
            assert response.status == 200
            assert response.content_type == "text/html"
            policy = response.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'self';")
            assert "unsafe" not in policy
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert "Access-Control-Allow-Origin" not in response.headers
            document = Document(await response.text())
        assert not document.inline
        assert document.links
        for link in document.links:
            async with session.get(f"/{link}") as response:
                assert response.status == 200, link
                text = await response.text()
                assert not re.search(r"https?://(?!www\.w3\.org/)", text), f"{link} refers to elsewhere"
                if link.endswith(".js"):
                    assert response.content_type in ("text/javascript", "application/javascript")


async def test_an_unchanged_file_is_not_sent_again() -> None:
    async with visiting(page()) as session:
        async with session.get("/") as response:
            tag = response.headers["ETag"]
        async with session.get("/", headers={"If-None-Match": tag}) as response:
            assert response.status == 304


@pytest.mark.parametrize(
    "path", ["/page/", "/page", "/page/../app.py", "/page/%2e%2e/app.py", "/page/..%2fapp.py", "/app.py"]
)
async def test_nothing_else_is_served(path: str) -> None:
    async with listening(page()) as listener, aiohttp.ClientSession() as session:
        url = URL(f"http://127.0.0.1:{listener.port}{path}", encoded=True)
        async with session.get(url) as response:
            assert response.status == 404
            assert (await response.json())["code"] == "NOT_FOUND"


async def test_the_page_may_talk_to_the_public_address() -> None:
    async with visiting(page("https://voice.example")) as session, session.get("/") as response:
        assert (
            "connect-src 'self' https://voice.example wss://voice.example;"
            in response.headers["Content-Security-Policy"]
        )
