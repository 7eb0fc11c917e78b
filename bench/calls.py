"""Whole calls, everything but models: `python -m bench.calls`, one JSON object a line.

A server with scripted engines (`voice-server serve --engine instant`), and callers who ask, listen to the answer, and
ask again: HTTP, tokens, media, voice activity by the neural network behind its gate, turn taking, captions.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.engines import show
from server.crowd import Target
from server.loadtest import Load, Questions, run
from server.recording import RATE
from server.speech import encode, trim
from server.talk import read_audio

SESSIONS = 30
INTERVAL = 0.1
"""Seconds between two offers."""

SECONDS = 16.0
QUESTION = Path(__file__).parents[1] / "tests" / "data" / "question-sum.flac"
API_KEY = "pk_of_the_benchmark"
START_SECONDS = 60.0


@contextlib.asynccontextmanager
async def server() -> AsyncIterator[str]:
    """The address of a server of our own that limits nobody."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "VOICE_DATA_DIR": folder,
            "VOICE_API_KEYS": API_KEY,
            "VOICE_OFFER_RATE": "0",
            "VOICE_MINT_RATE": "0",
            "VOICE_AGENT_MINT_RATE": "0",
            "VOICE_MAX_CALLS": "10000",
            "VOICE_UDP_ADDRESSES": "127.0.0.1",
            "VOICE_LOG_LEVEL": "warning",
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "server", "serve", "--engine", "instant", "--port", "0", "--udp-port", "0"),
            "--json",
            stdout=asyncio.subprocess.PIPE,
            env={**{name: value for name, value in os.environ.items() if not name.startswith("VOICE_")}, **settings},
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_SECONDS):
                ready = json.loads(await process.stdout.readline())
            yield str(ready["url"]).rstrip("/")
        finally:
            process.terminate()
            await process.wait()


def figures(total: dict[str, Any]) -> dict[str, Any]:
    """What of a load test's summary is a figure of this benchmark."""
    taken = total.get("server", {})
    own = taken.get("ms_per_s_and_call")
    return {
        "sessions": total["sessions"],
        "connected": total["connected"],
        "questions": total["questions"],
        "answers": total["answers"],
        "offer_to_answer_p95_ms": (total["answer_ms"] or {}).get("p95"),
        "connect_p95_ms": (total["connect_ms"] or {}).get("p95"),
        "first_audio_p95_ms": (total["first_audio_ms"] or {}).get("p95"),
        "response_p50_ms": (total["response_ms"] or {}).get("p50"),
        "late_pct": total["late_pct"],
        "lost_pct": total["lost_pct"],
        "ms_per_s": own,
        "calls_per_core": round(1000 / own) if own else None,
        "workers_cpu_pct": taken.get("workers_cpu_pct"),
        "memory_mb": taken.get("memory_mb"),
        "callers_late_pct": total["generator"]["late_pct"],
        "errors": total["errors"],
    }


async def main() -> None:
    said = trim(read_audio(QUESTION))
    questions = Questions(encode(said), encode(np.zeros(RATE // 5, np.int16))[-1])
    async with server() as url:
        target = Target(url, "demo", API_KEY)
        await run(target, questions, Load(1, 0.0, 2.0))  # what is loaded by the first call
        outcome = await run(target, questions, Load(SESSIONS, SESSIONS * INTERVAL, SECONDS))
    show("calls", **figures(outcome.summary()))


if __name__ == "__main__":
    asyncio.run(main())
