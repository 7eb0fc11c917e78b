"""`voice-server loadtest` as a command: against real media, against limits, against nobody."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner

from media.audio import OUTPUT_FRAME, AudioFrame
from media.call_report import CallReport
from media.engine import MediaEngine
from media.sdp import parse_offer
from media.session import Session
from server.loadtest import loadtest as command
from server.speech import PATIENCE, Questioner
from server.usage import find_server, read_usage
from tests.live import LiveServer
from tests.voices import DATA, recording

TALK = recording("human-00.flac")[: 50 * OUTPUT_FRAME]


class Answering:
    """Greets for a second; after a voice and half a second of silence it speaks for another one, with its events."""

    session: Session

    def __init__(self) -> None:
        self._voice_frames = self._hush = self._messages = 0
        self._end: int | None = None

    def on_connected(self) -> None:
        self._speak()

    def on_audio(self, frame: AudioFrame) -> None:
        self._voice_frames += frame.is_speech
        self._hush = 0 if frame.is_speech else self._hush + 1
        if self._voice_frames > 10 and self._hush > 25 and self._end is None:
            self._voice_frames = 0
            self._speak()

    def on_played(self, position: int) -> None:
        if self._end is not None and position >= self._end:
            self._tell("bot.finished")
            self._end = None

    def on_channel_open(self) -> None:
        pass

    def on_message(self, text: str) -> None:
        pass

    def on_closed(self, reason: str) -> None:
        pass

    def _speak(self) -> None:
        self._messages += 1
        self._tell("bot.speaking")
        self._end = self.session.playout.write(TALK)

    def _tell(self, event: str) -> None:
        self.session.send(json.dumps({"event": event, "message_id": str(self._messages)}))


@asynccontextmanager
async def answering_server(seats: int = 100) -> AsyncIterator[str]:
    """The address of a server with real media whose agent is ``Answering``."""
    engine = MediaEngine(addresses=["127.0.0.1"])

    async def token(_: web.Request) -> web.Response:
        return web.json_response({"token": "any"})

    async def offer(request: web.Request) -> web.Response:
        if engine.sessions >= seats:
            return web.json_response({"detail": "The server is at capacity"}, status=503)
        observer = Answering()
        observer.session = await engine.accept(parse_offer((await request.json())["sdp"]), observer)
        return web.json_response({"sdp": observer.session.answer, "type": "answer"})

    app = web.Application()
    app.add_routes([web.get("/webrtc/token", token), web.post("/webrtc/offer", offer)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await engine.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await engine.close()
        await runner.cleanup()


async def loadtest(*arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of the command."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", "loadtest", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_every_call_is_served_and_reported() -> None:
    async with answering_server() as url:
        code, out, err = await loadtest(
            *("--url", url, "--sessions", "3", "--ramp", "0.3", "--seconds", "12"),
            *("--audio", str(DATA / "question-sum.flac"), "--json"),
        )
    assert (code, err) == (0, "")
    *calls, last = [json.loads(line) for line in out.splitlines()]
    total: dict[str, Any] = last["total"]
    assert [call["call"] for call in calls] == [0, 1, 2]
    assert total["sessions"] == total["connected"] == 3
    assert total["errors"] == {}
    assert total["answers"] == sum(call["answers"] for call in calls) >= 3
    assert total["lost_pct"] == 0
    assert total["received"] > 3 * 100
    for after in ("connect_ms", "first_audio_ms"):  # the channel may open before or after the first sound
        assert 0 < total["answer_ms"]["p50"] <= total[after]["p50"]
    assert total["response_ms"]["p50"] > 0
    if sys.platform == "linux":
        assert total["server"]["cpu_pct"] > 0
        assert total["server"]["memory_mb"] > 10


async def test_a_table_for_people_names_what_failed() -> None:
    async with answering_server(seats=1) as url:
        code, out, _ = await loadtest("--url", url, "--sessions", "2", "--ramp", "1", "--seconds", "1")
    assert code == 1
    assert "1 of 2 calls connected" in out
    assert "1 × Refused: The server is at capacity" in out


async def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        code, out, err = await loadtest("--url", url, "--sessions", "2", "--ramp", "0", "--seconds", "1")
    assert code == 3
    assert f"2 × {url} does not answer" in out
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--url", "ftp://example.org"], "no http or https address"),
        (["--sessions", "0"], "not in the range"),
        (["--audio", "nowhere.wav"], "does not exist"),
    ],
)
def test_wrong_arguments_are_told_at_once(arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert says in result.output


def test_a_file_without_sound_is_told(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("no sound")
    result = CliRunner().invoke(command, ["--audio", str(tmp_path / "words.txt")])
    assert result.exit_code == 2
    assert "no audio that can be read" in result.output


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_server_is_found_by_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert find_server(f"http://127.0.0.1:{listener.getsockname()[1]}") == os.getpid()
    usage = read_usage(os.getpid())
    assert usage is not None
    assert usage.process_seconds > 0
    assert usage.memory_mb > 1
    assert find_server("http://192.0.2.1:80") is None


def test_a_question_is_asked_again_when_nobody_answers() -> None:
    report = CallReport()
    voice = Questioner([b"a", b"b"], b"-", report)
    said = [voice.next_payload(tick * 0.02) for tick in range(int((PATIENCE + 10) / 0.02))]
    assert said.count(b"a") == said.count(b"b") == report.questions == 2
    assert report.answers == 0


def test_a_question_waits_for_the_greeting_and_the_answer() -> None:
    report = CallReport()
    voice = Questioner([b"a"], b"-", report)
    voice.next_payload(0.0)
    voice.on_event({"event": "bot.speaking", "message_id": "1"}, 0.1)
    assert {voice.next_payload(now) for now in (1.0, 5.0, 9.0)} == {b"-"}
    voice.on_event({"event": "bot.finished", "message_id": "1"}, 10.0)
    assert [voice.next_payload(10.0), voice.next_payload(11.1)] == [b"-", b"a"]
    voice.on_bot_voice(11.5)
    voice.on_event({"event": "bot.speaking", "message_id": "2"}, 11.5)
    assert report.response_seconds == [pytest.approx(0.4)]
    assert (report.questions, report.answers) == (1, 1)


async def test_a_whole_server_is_measured_with_engines_that_cost_nothing(tmp_path: Path) -> None:
    """Two callers ask the demo agent, whose engines are scripted: every question is answered, aloud."""
    with LiveServer(tmp_path, "--engine", "instant", environment={"VOICE_API_KEYS": "pk_measuring"}) as server:
        code, out, err = await loadtest(
            *("--url", server.url, "--api-key", "pk_measuring", "--sessions", "2", "--ramp", "0.2", "--seconds", "20"),
            *("--audio", str(DATA / "question-sum.flac"), "--json"),
        )
    assert (code, err) == (0, "")
    total: dict[str, Any] = json.loads(out.splitlines()[-1])["total"]
    assert total["connected"] == 2
    assert total["answers"] >= 2
    assert total["response_ms"]["p50"] > 0
    if sys.platform == "linux":
        assert total["server"]["ms_per_s_and_call"] > 0
