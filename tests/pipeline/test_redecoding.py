"""What a pause makes of a growing utterance: a partial that a final would not improve. The model is slow on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import numpy as np
import pytest

from media.audio import INPUT_RATE
from pipeline.engine import EngineError
from pipeline.stt import Transcript
from pipeline.stt.redecoding import LONGEST, Heard, RedecodingStream
from tests import virtual_time
from tests.voices import recording, silence

SENTENCE = recording("en-12.flac")[: 2 * INPUT_RATE]
DECODE_SECONDS = 0.3


class Desk:
    """A stream whose model answers with how many seconds it heard, and what came of it when."""

    def __init__(self) -> None:
        self.decodings = 0
        self.drafts: list[Sequence[int]] = []
        self.broken = False
        self.results: list[tuple[float, Transcript]] = []
        self.stream = RedecodingStream(self._transcribe, "en")

    async def _transcribe(self, pcm: bytes, _: int, draft: Sequence[int]) -> Heard:
        self.decodings += 1
        self.drafts.append(draft)
        await asyncio.sleep(DECODE_SECONDS)
        if self.broken:
            raise EngineError("broken")
        seconds = len(pcm) / 2 / INPUT_RATE
        return Heard(f"{seconds:.2f} s", 1 - seconds / 100, [self.decodings])

    async def collect(self) -> None:
        iterator: AsyncIterator[Transcript] = self.stream.__aiter__()
        async for result in iterator:
            self.results.append((asyncio.get_running_loop().time(), result))

    def say(self, seconds: float = 2.0) -> None:
        self.stream.write(np.resize(SENTENCE, round(seconds * INPUT_RATE)))

    def fall_silent(self, seconds: float) -> None:
        """The turn machine tells of it after so much silence."""
        self.stream.write(silence(seconds))
        self.stream.pause()

    def settled(self) -> list[str]:
        return [result.text for _, result in self.results if result.settled]

    def finals(self) -> list[str]:
        return [result.text for _, result in self.results if result.final]


def at_desk(scene: Callable[[Desk], Awaitable[None]]) -> Desk:
    async def main() -> Desk:
        desk = Desk()
        collecting = asyncio.create_task(desk.collect())
        await scene(desk)
        await desk.stream.aclose()
        await collecting
        return desk

    return virtual_time.run(main())


def test_a_pause_settles_what_was_said() -> None:
    async def scene(desk: Desk) -> None:
        desk.say(2)
        await asyncio.sleep(1)
        desk.fall_silent(0.2)
        await asyncio.sleep(1)
        desk.stream.flush()
        await asyncio.sleep(0.1)

    desk = at_desk(scene)
    assert desk.settled() == ["2.20 s"] == desk.finals()  # and the flush needed no decoding
    assert not any(result.settled and result.final for _, result in desk.results)


def test_silence_that_goes_on_while_the_model_is_at_work_changes_nothing() -> None:
    async def scene(desk: Desk) -> None:
        desk.say(2)
        desk.fall_silent(0.1)  # as much as the turn machine waits for
        await asyncio.sleep(DECODE_SECONDS / 2)
        desk.stream.write(silence(0.3))
        await asyncio.sleep(DECODE_SECONDS)
        assert desk.settled() == ["2.10 s"]
        desk.stream.flush()
        await asyncio.sleep(0.1)

    desk = at_desk(scene)
    assert desk.finals() == ["2.10 s"]
    assert desk.decodings == 1


def test_each_decoding_is_told_what_the_last_one_found() -> None:
    async def scene(desk: Desk) -> None:
        for _ in range(2):
            desk.say(2)
            await asyncio.sleep(1)
        desk.stream.flush()
        desk.say(2)
        await asyncio.sleep(1)

    assert at_desk(scene).drafts == [(), [1], ()]


def test_the_models_confidence_is_told() -> None:
    async def scene(desk: Desk) -> None:
        desk.say(2)
        await asyncio.sleep(1)
        desk.fall_silent(0.2)
        await asyncio.sleep(1)
        desk.stream.flush()
        desk.stream.flush()
        await asyncio.sleep(0.1)

    told = [(result.final, result.text, result.confidence) for _, result in at_desk(scene).results]
    assert told == [(False, "2.00 s", 0.98), (False, "2.20 s", 0.978), (True, "2.20 s", 0.978), (True, "", 1.0)]


def test_a_pause_without_words_is_told_at_once() -> None:
    async def scene(desk: Desk) -> None:
        desk.stream.write(silence(0.5))
        desk.stream.pause()
        await asyncio.sleep(0.01)
        assert desk.settled() == [""]

    assert at_desk(scene).decodings == 0


def test_what_was_decoded_before_the_user_went_on_is_not_settled() -> None:
    async def scene(desk: Desk) -> None:
        desk.say(2)
        await asyncio.sleep(1)
        desk.fall_silent(0.2)
        await asyncio.sleep(DECODE_SECONDS / 2)  # the model is at work
        desk.say(0.5)
        await asyncio.sleep(DECODE_SECONDS)
        assert desk.settled() == []
        desk.fall_silent(0.2)
        await asyncio.sleep(1)

    assert at_desk(scene).settled() == ["2.90 s"]


def test_two_pauses_while_the_model_is_at_work_settle_the_last() -> None:
    async def scene(desk: Desk) -> None:
        desk.say(2)
        desk.fall_silent(0.2)
        await asyncio.sleep(DECODE_SECONDS / 2)
        desk.say(0.5)
        desk.fall_silent(0.2)
        await asyncio.sleep(2)

    desk = at_desk(scene)
    assert desk.settled() == ["2.90 s"]
    assert desk.decodings == 2


def test_a_pause_in_long_speech_settles_all_of_it() -> None:
    async def scene(desk: Desk) -> None:
        desk.say(LONGEST / INPUT_RATE + 1)
        desk.fall_silent(0.2)
        await asyncio.sleep(2)
        desk.stream.flush()
        await asyncio.sleep(2)

    desk = at_desk(scene)
    assert desk.settled()[-1:] == desk.finals()
    parts = desk.finals()[0].split(" s")
    assert sum(float(part) for part in parts if part) == pytest.approx(LONGEST / INPUT_RATE + 1.2, abs=0.1)


def test_a_partial_of_a_turn_that_is_over_or_forgotten_is_never_told() -> None:
    async def flushed(desk: Desk) -> None:
        desk.say(2)
        desk.fall_silent(0.2)
        await asyncio.sleep(DECODE_SECONDS / 2)
        desk.stream.flush()
        await asyncio.sleep(2)

    async def discarded(desk: Desk) -> None:
        desk.say(2)
        desk.stream.pause()
        await asyncio.sleep(DECODE_SECONDS / 2)
        desk.stream.discard()
        await asyncio.sleep(2)

    desk = at_desk(flushed)
    assert desk.settled() == []
    assert desk.finals() == ["2.20 s"]
    assert at_desk(discarded).results == []


def test_a_model_that_breaks_settles_nothing() -> None:
    async def scene(desk: Desk) -> None:
        desk.broken = True
        desk.say(2)
        desk.fall_silent(0.2)
        await asyncio.sleep(1)
        desk.broken = False
        desk.stream.flush()
        await asyncio.sleep(1)

    desk = at_desk(scene)
    assert desk.settled() == []
    assert desk.finals() == ["2.20 s"]
