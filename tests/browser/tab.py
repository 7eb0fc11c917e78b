"""A page in a real browser as the tests use it, whichever browser it is."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from media.audio import INPUT_RATE as RATE
from media.audio import Pcm

EARS = (Path(__file__).parent / "ears.js").read_text()
VOICES = Path(__file__).parent.parent / "data"
LOUD_DB = -45.0
QUIET_SECONDS = 0.5
ONSET = 500
"""Amplitude of a sample that begins a voice, of 32768."""


@dataclass(frozen=True)
class Caption:
    role: str
    text: str
    final: bool
    interrupted: str | None


@dataclass(frozen=True)
class Sample:
    """Loudness of the bot, dBFS, at a time of the page's clock in seconds."""

    at: float
    level: float


def resampled(path: Path) -> Pcm:
    """A recorded voice as mono PCM at ``RATE``."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    with av.open(str(path)) as file:
        frames = [out for frame in (*file.decode(audio=0), None) for out in resampler.resample(frame)]
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


class Tab(ABC):
    """One page. ``ears.js`` ran before its scripts."""

    def __init__(self) -> None:
        self._lengths: dict[str, float] = {}
        self._onsets: dict[str, float] = {}

    @abstractmethod
    async def goto(self, url: str) -> None: ...

    @abstractmethod
    async def run(self, code: str) -> str:
        """Run the body of an async function in the page; what it returns, as JSON."""

    @abstractmethod
    async def close(self) -> None:
        """Close the page, as a person closes a tab."""

    @abstractmethod
    def kill(self) -> None:
        """SIGKILL every process of the browser."""

    async def evaluate(self, expression: str) -> Any:
        return json.loads(await self.run(f"return JSON.stringify(({expression}) ?? null)"))

    async def until(self, condition: str, seconds: float, what: str) -> Any:
        """Poll a JavaScript expression until it holds; fails with the state of the page."""
        deadline = time.monotonic() + seconds
        while not (value := await self.evaluate(condition)):
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}\n{await self.describe()}"
            await asyncio.sleep(0.05)
        return value

    async def click(self, selector: str) -> None:
        await self.run(f"document.querySelector({json.dumps(selector)}).click()")

    async def type(self, text: str) -> None:
        """Put a text into the box and send it."""
        await self.run(f"document.getElementById('text').value = {json.dumps(text)}")
        await self.click("#composer button")

    async def state(self) -> str:
        return str(await self.evaluate("document.body.dataset.state"))

    async def until_state(self, state: str, seconds: float = 30.0) -> None:
        await self.until(f"document.body.dataset.state === {json.dumps(state)}", seconds, f"state {state}")

    async def captions(self) -> list[Caption]:
        found = await self.evaluate(
            "[...document.querySelectorAll('#captions li')].map((li) =>"
            " [li.dataset.role, li.textContent, li.dataset.final === 'true', li.dataset.interrupted ?? null])"
        )
        return [Caption(*caption) for caption in found]

    async def frames(self) -> list[dict[str, Any]]:
        """The raw frames in the event panel."""
        found: list[dict[str, Any]] = await self.evaluate(
            "[...document.querySelectorAll('#frames pre')].map((pre) => JSON.parse(pre.textContent))"
        )
        return found

    async def prepare(self, *names: str, **made: Pcm) -> None:
        """Make the microphone out of ``tests/data/<name>`` and of what was made at ``RATE``; once, before the call."""
        voices = {}
        for name, pcm in ({name: resampled(VOICES / name) for name in names} | made).items():
            self._lengths[name] = len(pcm) / RATE
            self._onsets[name] = float(np.argmax(np.abs(pcm) > ONSET)) / RATE
            voices[name] = base64.b64encode(pcm.tobytes()).decode()
        await self.run(f"await voiceTest.prepare({json.dumps(voices)}, {RATE})")

    async def start_saying(self, name: str) -> float:
        """Play a prepared voice into the microphone; returns when its first sound began, on the page's clock in s."""
        now = await self.run(f"voiceTest.play({json.dumps(name)}); return performance.now()")
        return float(now) / 1000 + self._onsets[name]

    async def say(self, name: str) -> None:
        """Play a prepared voice to its end."""
        began = await self.start_saying(name)
        await self.until(f"performance.now() > {1000 * (began + self._lengths[name])}", 60, f"{name} was played")

    async def samples(self) -> list[Sample]:
        return [Sample(at / 1000, db) for at, db in await self.evaluate("voiceTest.samples")]

    async def loud(self, since: float) -> float | None:
        """When the bot was first heard after ``since``."""
        return next(
            (sample.at for sample in await self.samples() if sample.at >= since and sample.level > LOUD_DB), None
        )

    async def quiet_after(self, moment: float) -> float:
        """When the bot fell silent, for half a second at least, after ``moment``."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            samples = [sample for sample in await self.samples() if sample.at >= moment]
            last = moment
            for sample in samples:
                if sample.level > LOUD_DB:
                    last = sample.at
                elif sample.at > last + QUIET_SECONDS:
                    return last
            await asyncio.sleep(0.05)
        raise AssertionError(f"the bot did not fall silent\n{await self.describe()}")

    async def now(self) -> float:
        """The page's clock, s."""
        return float(await self.evaluate("performance.now()")) / 1000

    async def assert_untroubled(self) -> None:
        """No script error and nothing refused by the page's policy."""
        troubles = await self.evaluate("voiceTest.troubles")
        assert troubles == [], troubles

    async def describe(self) -> str:
        facts = {
            "state": await self.state(),
            "notice": await self.evaluate("document.getElementById('notice')?.textContent"),
            "page": await self.evaluate("window.seen?.slice(-20)"),
            "captions": [[caption.role, caption.text] for caption in await self.captions()],
            "frames": (await self.frames())[-12:],
            "troubles": await self.evaluate("voiceTest.troubles"),
        }
        return json.dumps(facts, indent=1)
