"""A call in Spanish from end to end: the shipped agent ``mara``, a recorded question, and what was really said."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.peer import Peer
from server.talk import read_audio
from tests.hearing import messages, read_wav, transcribe
from tests.live import LiveServer
from tests.test_first_call import DATA, talk
from tests.words import normalised, word_error_rate

pytestmark = [pytest.mark.models, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with LiveServer(tmp_path_factory.mktemp("server")) as live:
        yield live


async def test_a_sum_is_asked_heard_and_answered_in_spanish(server: LiveServer, tmp_path: Path) -> None:
    call = talk(server, tmp_path, str(DATA / "question-es-sum.flac"), "--agent", "mara")
    assert call.code == 0, call.errors
    [started] = [frame for frame in call.frames if frame["event"] == "session.started"]
    assert started["language"] == "es"
    assert (started["engines"]["stt"], started["engines"]["tts"]) == ("whisper", "pico")
    warnings = [frame for frame in call.frames if frame["event"] == "error"]
    assert [(frame["code"], frame["error"]) for frame in warnings] == [
        ("FALLBACK", "elevenlabs is not set up: ELEVENLABS_API_KEY is not set; pico takes its place")
    ]
    [asked] = call.texts("user.message")
    assert word_error_rate(("Cuánto es 7 más 5", asked)) <= 0.2, asked
    assert call.texts("bot.finished")[-1] == "Siete más cinco son doce."
    greeting, answer = await transcribe(*messages(read_wav(call.audio)), language="es")
    assert {"hola", "mara"} <= set(normalised(greeting)), greeting
    assert {"doce", "12", "twelve"} & set(normalised(answer)), answer
    server.empty_after(3.0)


async def heard(peer: Peer, event: str) -> dict[str, Any]:
    """The next frame of this name."""
    async with asyncio.timeout(60):
        while True:
            found = await peer.next_event(60)
            if found is not None and found.event == event:
                return found.frame


async def test_a_page_switches_an_english_call_to_spanish(server: LiveServer) -> None:
    """Protocol 8.10."""
    async with Peer(server.url, "demo") as peer:
        await peer.connect()
        assert "demo agent" in (await heard(peer, "bot.finished"))["text"]
        peer.act("configure", language="es-MX")
        assert (await heard(peer, "config.updated"))["config"] == {"language": "es-MX"}
        answer = ""
        while not answer.startswith("¡Adiós!"):  # until the engines are loaded English goes on
            peer.act("inject_text", text="Adiós.")
            answer = (await heard(peer, "bot.finished"))["text"]
        await peer.say(read_audio(DATA / "question-es-date.flac"))
        assert word_error_rate(("Cuál es la fecha de hoy", (await heard(peer, "user.message"))["text"])) <= 0.2
        answer = (await heard(peer, "bot.finished"))["text"]
        assert answer.startswith("Hoy es "), answer


async def test_english_goes_on_beside_it(server: LiveServer, tmp_path: Path) -> None:
    call = talk(server, tmp_path, str(DATA / "question-sum.flac"))
    assert call.code == 0, call.errors
    [started] = [frame for frame in call.frames if frame["event"] == "session.started"]
    assert (started["language"], started["engines"]["stt"]) == ("en", "moonshine")
    assert call.texts("bot.finished")[-1] == "Seven plus five is twelve."
