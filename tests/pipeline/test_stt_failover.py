"""Recognisers that have others behind them, in virtual time. Each sample of the audio is the number of a word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from pipeline.engine import EngineError
from pipeline.remote import REST_SECONDS, Breaker, ProviderError, hung_up
from pipeline.stt import Transcript, TurnGuess
from pipeline.stt.failover import FINAL_SECONDS, Candidate, FailoverStream, SttFailover
from tests.virtual_time import run


@dataclass
class Engine:
    """Hears numbers and says them; ``faults`` are raised one after another, each by a stream at its next ``flush``."""

    name: str
    faults: list[EngineError | None] = field(default_factory=list)
    streams: list[EngineStream] = field(default_factory=list)
    refuses: bool = False

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...

    def stream(self, language: str) -> EngineStream:
        if self.refuses:
            raise EngineError(f"{self.name} is not loaded")
        self.streams.append(EngineStream(self))
        return self.streams[-1]


class EngineStream:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.heard: list[int] = []
        self.closed = False
        self.mute = False
        self.results: asyncio.Queue[Transcript | TurnGuess | EngineError | None] = asyncio.Queue()

    def write(self, pcm: Any) -> None:
        self.heard.append(int(pcm[0]))

    def pause(self) -> None: ...

    def flush(self) -> None:
        fault = self.engine.faults.pop(0) if self.engine.faults else None
        text = " ".join(map(str, self.heard))
        self.heard = []
        if not self.mute:
            self.results.put_nowait(fault or Transcript(f"{self.engine.name}: {text}", final=True))

    def discard(self) -> None:
        self.heard = []

    async def __aiter__(self) -> AsyncIterator[Transcript | TurnGuess]:
        while (result := await self.results.get()) is not None:
            if isinstance(result, EngineError):
                raise result
            yield result

    async def aclose(self) -> None:
        self.closed = True


@dataclass
class Scene:
    cloud: Engine = field(default_factory=lambda: Engine("cloud"))
    local: Engine = field(default_factory=lambda: Engine("local"))
    breaker: Breaker = field(default_factory=Breaker)

    def engine(self) -> SttFailover:
        return SttFailover("cloud", (Candidate(self.cloud, self.breaker), Candidate(self.local)))

    async def open(self) -> FailoverStream:
        stream = self.engine().stream("en")
        await asyncio.sleep(0.01)
        return stream


def write(stream: FailoverStream, *words: int) -> None:
    for word in words:
        stream.write(np.full(320, word, np.int16))


def play(scene: Callable[[Scene], Any]) -> None:
    async def main() -> None:
        await scene(Scene())

    run(main())


async def next_of(stream: FailoverStream) -> Transcript | TurnGuess:
    async with asyncio.timeout(60):
        return await anext(aiter(stream))


PASSING = ProviderError("cloud is out of order (503)", passing=True)


@pytest.mark.parametrize(
    ("faults", "text", "streams"),
    [
        ([], "cloud: 1 2", 1),
        ([PASSING], "cloud: 1 2", 2),
        ([hung_up("cloud")], "cloud: 1 2", 2),
        ([PASSING, PASSING], "local: 1 2", 2),
        ([ProviderError("cloud refuses the key (401)", refused=True)], "local: 1 2", 1),
        ([EngineError("broken")], "local: 1 2", 1),
    ],
)
def test_what_was_said_is_heard_again_by_whoever_steps_in(faults: list[EngineError], text: str, streams: int) -> None:
    async def scene(scene: Scene) -> None:
        scene.cloud.faults.extend(faults)
        engine = scene.engine()
        stream = engine.stream("en")
        await asyncio.sleep(0.01)
        write(stream, 1, 2)
        stream.flush()
        write(stream, 3)
        assert await next_of(stream) == Transcript(text, final=True)
        assert len(scene.cloud.streams) == streams
        write(stream, 4)
        stream.flush()
        second = await next_of(stream)
        assert isinstance(second, Transcript)
        assert second.text.endswith(": 3 4")
        await stream.aclose()
        replaced = [f"{faults[-1]}; local takes its place"] if text.startswith("local") else []
        assert engine.replaced == replaced
        assert all(each.closed for each in (*scene.cloud.streams, *scene.local.streams))

    play(scene)


def test_who_owes_a_final_for_too_long_is_left() -> None:
    async def scene(scene: Scene) -> None:
        stream = await scene.open()
        scene.cloud.streams[0].mute = True
        write(stream, 1)
        began = asyncio.get_running_loop().time()
        stream.flush()
        assert await next_of(stream) == Transcript("local: 1", final=True)
        assert asyncio.get_running_loop().time() - began == pytest.approx(FINAL_SECONDS, abs=0.1)
        await stream.aclose()

    play(scene)


def test_silence_between_turns_is_no_failure() -> None:
    async def scene(scene: Scene) -> None:
        stream = await scene.open()
        await asyncio.sleep(FINAL_SECONDS * 5)
        write(stream, 1)
        stream.flush()
        assert await next_of(stream) == Transcript("cloud: 1", final=True)
        await stream.aclose()

    play(scene)


def test_what_was_discarded_stays_so() -> None:
    async def scene(scene: Scene) -> None:
        scene.cloud.faults.append(EngineError("broken"))
        stream = await scene.open()
        write(stream, 1)
        stream.discard()
        write(stream, 2)
        stream.flush()
        assert await next_of(stream) == Transcript("local: 2", final=True)
        await stream.aclose()

    play(scene)


def test_a_connection_that_worked_may_be_opened_again_each_time() -> None:
    async def scene(scene: Scene) -> None:
        stream = await scene.open()
        for i in range(4):
            write(stream, i)
            stream.flush()
            assert await next_of(stream) == Transcript(f"cloud: {i}", final=True)
            scene.cloud.streams[-1].results.put_nowait(hung_up("cloud"))
            await asyncio.sleep(1)
        assert len(scene.cloud.streams) == 5
        await stream.aclose()

    play(scene)


def test_partials_and_guesses_pass() -> None:
    async def scene(scene: Scene) -> None:
        stream = await scene.open()
        for result in (Transcript("one", final=False), TurnGuess(0.9)):
            scene.cloud.streams[0].results.put_nowait(result)
            assert await next_of(stream) == result
        await stream.aclose()

    play(scene)


def test_when_all_fail_the_last_failure_is_told() -> None:
    async def scene(scene: Scene) -> None:
        scene.cloud.faults.append(EngineError("broken"))
        scene.local.refuses = True
        stream = await scene.open()
        write(stream, 1)
        stream.flush()
        with pytest.raises(EngineError, match="local is not loaded"):
            await next_of(stream)
        await stream.aclose()

    play(scene)


def test_a_provider_that_rests_is_not_even_opened() -> None:
    async def scene(scene: Scene) -> None:
        scene.breaker.failed(ProviderError("cloud refuses the key (401)", refused=True))
        stream = await scene.open()
        write(stream, 1)
        stream.flush()
        assert await next_of(stream) == Transcript("local: 1", final=True)
        assert scene.cloud.streams == []
        await stream.aclose()
        await asyncio.sleep(REST_SECONDS)

    play(scene)
