"""The neural ears: cost, latency, and how late the media clock ticks beside them.

`python -m bench.ears [models folder]` prints one JSON object a line. CPU times are the least of several rounds.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from bench.audio import best
from bench.engines import percentiles, show
from config.settings import Settings
from media.audio import INPUT_FRAME, INPUT_RATE, AudioFrame
from media.clock import Clock
from pipeline.models import SILERO
from pipeline.silero import CONTEXT, WINDOW, Activity, Network, Silero
from pipeline.turn_model import Classifier, TurnModel
from tests.voices import recording, silence

SECONDS = 5.0

VOICE = recording("human-00.flac")


def cost(function: Callable[..., object], *args: object) -> float:
    """CPU time of a call, us."""

    def run() -> None:
        for _ in range(10):
            function(*args)

    return best(run) / 10


def network(path: Path) -> None:
    net = Network(path)
    window = VOICE[: CONTEXT + WINDOW]
    for batch in (1, 10, 50):
        microseconds = cost(net.run, [window] * batch, [None] * batch)
        show("silero", batch=batch, us_per_window=microseconds / batch)


def judging() -> None:
    model = Classifier()
    show("turn model", ms=cost(model.judge, VOICE[: 4 * INPUT_RATE].tobytes()) / 1e3)


async def answers(turn_model: TurnModel) -> None:
    for seconds in (1, 2, 4):
        pcm, times = np.concatenate([VOICE[: seconds * INPUT_RATE], silence(0.1)]), []
        for _ in range(30):
            began = time.perf_counter()
            await turn_model.ask(pcm, deadline=60)
            times.append(time.perf_counter() - began)
        show("turn model answer", speech_s=seconds, **percentiles(times))


class Calls:
    """Calls whose users never stop talking, on the real clock; measures how long their ears take."""

    def __init__(self, silero: Silero, count: int) -> None:
        self.delays: list[float] = []
        self.clock = Clock()
        self._ears = []
        for n in range(count):
            heard: list[float] = []  # when each frame came
            ear = silero.listen(self._measure(heard))
            self._ears.append(ear)
            self.clock.add(self._ticks(ear.hear, heard, n * 1000))

    @property
    def skipped(self) -> int:
        return sum(ear.skipped for ear in self._ears)

    def _measure(self, heard: list[float]) -> Callable[[Activity], None]:
        def told(activity: Activity) -> None:
            came = heard[int(np.ceil(round(activity.time / 0.02, 3))) - 1]
            self.delays.append(time.perf_counter() - came)

        return told

    def _ticks(self, hear: Callable[[AudioFrame], bool], heard: list[float], start: int) -> Callable[[float], None]:
        frames = np.resize(np.roll(VOICE, start), len(VOICE) // INPUT_FRAME * INPUT_FRAME).reshape(-1, INPUT_FRAME)
        numbers = itertools.count()

        def tick(_: float) -> None:
            number = next(numbers)
            heard.append(time.perf_counter())
            hear(AudioFrame(frames[number % len(frames)], number * 0.02, is_speech=True, level=-20, concealed=False))

        return tick


async def lateness(silero: Silero, calls: int, turn_model: TurnModel | None = None) -> None:
    """The tick of the clock beside so many calls and, perhaps, a turn model that is asked without end."""

    async def forever(engine: TurnModel) -> None:
        while True:
            await engine.ask(VOICE[: 4 * INPUT_RATE], deadline=60)

    load = Calls(silero, calls)
    asking = asyncio.create_task(forever(turn_model)) if turn_model else None
    cpu, wall = time.process_time(), time.perf_counter()
    load.clock.start()
    await asyncio.sleep(SECONDS)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    late = load.clock.lateness
    figures = {"tick_p50_ms": late.p50, "tick_p99_ms": late.p99, "tick_max_ms": late.max}
    name = "silero and turn model at work" if turn_model else "silero at work" if silero.ready else "nothing at work"
    show(f"tick lateness, {name}", calls=calls, **figures, cpu_ms_per_s=cpu / wall * 1e3, skipped=load.skipped)
    if silero.ready:
        show("silero answer, from the last frame of a window", calls=calls, **percentiles(load.delays))
    await load.clock.close()
    if asking:
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking


async def main(models: Path) -> None:
    network(models / SILERO.name)
    judging()
    silero, turn_model = Silero(models / SILERO.name), TurnModel()
    await lateness(silero, 50)
    await silero.start()
    await turn_model.start()
    await answers(turn_model)
    for calls in (1, 50):
        await lateness(silero, calls)
    await lateness(silero, 50, turn_model)
    await silero.aclose()
    await turn_model.aclose()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Settings.load().models_dir))
