"""A caller in the laboratory: ``voice-server talk`` at another machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from server.recording import RATE
from server.talk import read_audio, write_wav
from tests.network.lab import HOST, Lab

KEY = "pk_of_the_laboratory"
URL = f"http://{HOST}:8080"
QUESTION = Path(__file__).parent.parent / "data" / "question-sum.flac"
"""What is seven plus five?"""

CALL_SECONDS = 60.0


@dataclass
class Call:
    """A call that is made. ``code`` is that of the command once it is over."""

    process: asyncio.subprocess.Process
    frames: list[dict[str, Any]] = field(default_factory=list)
    errors: str = ""

    async def until(self, event: str) -> None:
        """Read on to the next frame of this name. Fails when the call is over before."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        while line := await self.process.stdout.readline():
            self.frames.append(json.loads(line))
            if self.frames[-1]["event"] == event:
                return
        self.errors = (await self.process.stderr.read()).decode()
        raise AssertionError(f"no {event}: {self.errors or self.frames}")

    async def answer(self) -> str:
        """What the bot said last, when the call ended well and its voice was heard."""
        await self.until("talk.latency")
        code = await self.process.wait()
        assert code == 0, self.frames
        assert self.frames[-1]["end_of_speech_to_first_audio_ms"] > 0
        return str([frame for frame in self.frames if frame["event"] == "bot.finished"][-1]["text"])


@contextlib.asynccontextmanager
async def calling(lab: Lab, question: Path = QUESTION) -> AsyncIterator[Call]:
    command = [*lab.caller.enter, sys.executable, "-m", "server", "talk", "--url", URL, "--api-key", KEY, "--json"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VOICE_")}
    process = await asyncio.create_subprocess_exec(
        *command, str(question), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=clean
    )
    try:
        async with asyncio.timeout(CALL_SECONDS):
            yield Call(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def after_silence(path: Path, seconds: float, question: Path = QUESTION) -> Path:
    """A recording that begins with nothing."""
    write_wav(path, np.concatenate([np.zeros(int(seconds * RATE), np.int16), read_audio(question)]))
    return path
