"""Calls through address translation: a server whose ports are published, a caller behind a router."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import LiveServer
from tests.network.caller import KEY, after_silence, calling
from tests.network.lab import HOST, Lab, laboratory

pytestmark = [pytest.mark.network, pytest.mark.models]

CHECK_SECONDS = 6.0
"""The longest time between two consent checks (RFC 7675 section 5.1), after which the server knows the new way."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The server announces the address of its host, as ``docker compose`` tells it to."""
    settings = {"VOICE_API_KEYS": KEY, "VOICE_PUBLIC_IP": HOST}
    ports = ("--host", "0.0.0.0", "--port", "8080", "--udp-port", "40000")
    with laboratory() as lab:
        folder = tmp_path_factory.mktemp("server")
        with LiveServer(folder, *ports, environment=settings, enter=lab.voice.enter):
            yield lab


async def test_a_call_through_a_published_port(lab: Lab) -> None:
    lab.map_caller(50001)
    async with calling(lab) as call:
        answer = await call.answer()
    assert "twelve" in answer
    assert lab.media_flows() == ["50001"]


async def test_a_call_survives_a_new_port_of_its_router(lab: Lab, tmp_path: Path) -> None:
    """As after a restart of the router: from one packet to the next the caller's media comes from elsewhere."""
    lab.map_caller(50001)
    async with calling(lab, after_silence(tmp_path / "question.wav", CHECK_SECONDS + 2)) as call:
        await call.until("bot.finished")
        before = lab.media_flows()
        lab.map_caller(50002)
        answer = await call.answer()
    assert "twelve" in answer
    assert (before, lab.media_flows()) == (["50001"], ["50002"])
