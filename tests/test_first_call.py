"""The first call from end to end: the installed command, a real server, the real models, and what was really said."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.hearing import messages, read_wav, spoken_date, transcribe, word_errors, words
from tests.live import LiveServer

logger = logging.getLogger(__name__)

pytestmark = [pytest.mark.models, pytest.mark.timeout(240)]

DATA = Path(__file__).parent / "data"
TALK_SECONDS = 120


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with LiveServer(tmp_path_factory.mktemp("server")) as live:
        yield live


@dataclass
class Talk:
    code: int
    frames: list[dict[str, Any]]
    errors: str
    audio: Path

    def texts(self, event: str) -> list[str]:
        return [frame["text"] for frame in self.frames if frame["event"] == event]


def talk(server: LiveServer, tmp_path: Path, *arguments: str) -> Talk:
    """Run ``voice-server talk``."""
    audio = tmp_path / "bot.wav"
    command = [sys.executable, "-m", "server", "talk", "--url", server.url, "--json", "--save", str(audio), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TALK_SECONDS, check=False)
    frames = [json.loads(line) for line in done.stdout.splitlines()]
    logger.info("%s: exit %d, %s", arguments[0], done.returncode, frames[-1] if frames else done.stderr)
    return Talk(done.returncode, frames, done.stderr, audio)


async def spoken(call: Talk) -> list[str]:
    """What was said in each message of the call, by ear."""
    return await transcribe(*messages(read_wav(call.audio)))


async def test_a_sum_is_asked_heard_and_answered_aloud(server: LiveServer, tmp_path: Path) -> None:
    call = talk(server, tmp_path, str(DATA / "question-sum.flac"))
    assert call.code == 0, call.errors
    assert [words(text) for text in call.texts("user.message")] == [["what", "is", "seven", "plus", "five"]]
    greeting, answer = await spoken(call)
    assert "twelve" in words(answer)
    assert "demo" in words(greeting)
    server.empty_after(3.0)


async def test_the_date_is_asked_heard_and_answered_aloud(server: LiveServer, tmp_path: Path) -> None:
    """The demo agent lives in the time zone of its machine."""
    before = datetime.now(UTC).astimezone().date()
    call = talk(server, tmp_path, str(DATA / "question-date.flac"))
    after = datetime.now(UTC).astimezone().date()
    assert call.code == 0, call.errors
    assert [words(text) for text in call.texts("user.message")] == [["what", "is", "the", "date", "today"]]
    answer = set(words((await spoken(call))[-1]))
    assert spoken_date(before) <= answer or spoken_date(after) <= answer, answer


async def test_what_is_heard_is_what_was_written(server: LiveServer, tmp_path: Path) -> None:
    """Greeting and answers, transcribed from the audio of two calls: under 15 % word errors."""
    errors = total = 0
    for arguments in ((str(DATA / "question-time.flac"),), ("--say", "What can you do?")):
        call = talk(server, tmp_path, *arguments)
        assert call.code == 0, call.errors
        wrong, count = word_errors(" ".join(call.texts("bot.finished")), " ".join(await spoken(call)))
        errors, total = errors + wrong, total + count
    logger.info("word error rate of the bot's voice: %d of %d", errors, total)
    assert total > 30
    assert errors / total < 0.15


async def test_the_order_of_frames(server: LiveServer, tmp_path: Path) -> None:
    """Protocol 3.10, 3.11, 4.4 and 8.2, as one client sees them."""
    call = talk(server, tmp_path, str(DATA / "question-sum.flac"))
    names = [frame["event"] for frame in call.frames]
    assert names[0] == "session.started"
    milestones = ["session.started", "bot.speaking", "bot.word", "bot.finished", "speech.started", "user.speaking"]
    milestones += ["user.message", "speech.ended", "turn.end"]
    assert [name for name in dict.fromkeys(names) if name in milestones] == milestones
    turn = names.index("turn.end")
    assert names.index("bot.speaking", turn) < names.index("bot.word", turn) < names.index("bot.finished", turn)
    assert [frame["at"] for frame in call.frames] == sorted(frame["at"] for frame in call.frames)
    assert len({frame["session_id"] for frame in call.frames[:-1]}) == 1
    for message in {frame["message_id"] for frame in call.frames if frame["event"] == "bot.speaking"}:
        mine = [frame for frame in call.frames if frame.get("message_id") == message]
        heard = [frame for frame in mine if frame["event"] == "bot.word"]
        assert [frame["word_index"] for frame in heard] == list(range(len(heard)))
        ends = [frame for frame in mine if frame["event"] in ("bot.finished", "bot.interrupted")]
        assert [frame["event"] for frame in ends] == ["bot.finished"]
        assert " ".join(frame["word"] for frame in heard) == ends[0]["text"]
    (stages,) = [frame for frame in call.frames if frame["event"] == "turn.latency"]
    assert sum(stages["stages"].values()) == pytest.approx(stages["total_ms"], abs=3)


async def test_a_call_that_cannot_be_made_says_why(server: LiveServer, tmp_path: Path) -> None:
    call = talk(server, tmp_path, str(DATA / "question-sum.flac"), "--agent", "nobody")
    assert call.code == 3
    assert "'nobody' is not online" in call.errors
    assert call.frames == []
    assert not call.audio.exists()
    assert server.calls() == 0


async def test_a_wrong_key_is_refused(server: LiveServer, tmp_path: Path) -> None:
    call = talk(server, tmp_path, str(DATA / "question-sum.flac"), "--api-key", "pk_of_somebody_else")
    assert call.code == 3
    assert "Invalid API key" in call.errors


async def test_an_interrupted_caller_leaves_nothing(server: LiveServer, tmp_path: Path) -> None:
    """Ctrl-C in the middle of a call: exit 130, and the server is empty at once."""
    command = [sys.executable, "-m", "server", "talk", "--url", server.url, "--json", str(DATA / "en-16.flac")]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, preexec_fn=_heed_interrupts
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        await process.stdout.readline()
        assert server.calls() == 1
        process.send_signal(signal.SIGINT)
        await process.stdout.read()
        assert await process.wait() == 130
    server.empty_after(3.0)


def _heed_interrupts() -> None:
    """Shells let what they start in the background ignore Ctrl-C: the tests that run there, and their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
