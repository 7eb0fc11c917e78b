"""The ear of a call: which detector is believed, what is echo, and what the turn model is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from media.audio import FRAME_MS, INPUT_FRAME, INPUT_RATE, OUTPUT_FRAME, OUTPUT_RATE, AudioFrame, Pcm
from pipeline.ear import ASKED_MS, LATE_MS, Ear
from pipeline.loudness import ECHO
from pipeline.silero import Activity
from pipeline.turn_model import BEHIND_MS
from pipeline.turn_signals import Observation, Verdict, Voice
from tests import virtual_time
from tests.voices import recording

FRAME = FRAME_MS / 1000


class Ears:
    """A detector that tells what the test says, when it says so, and a turn model that takes its time."""

    def __init__(self) -> None:
        self.listening = True
        self.open = 0
        self.verdict: float | None = 0.8
        self.asked: list[Pcm] = []
        self.tell: Callable[[Activity], None]

    def listen(self, on_activity: Callable[[Activity], None]) -> Ears:
        self.tell = on_activity
        self.open += 1
        return self

    def hear(self, frame: AudioFrame) -> bool:
        return self.listening

    def close(self) -> None:
        self.open -= 1

    async def is_complete(self, pcm: Pcm) -> float | None:
        self.asked.append(pcm)
        await asyncio.sleep(0.1)
        return self.verdict


class Head:
    """One ear and its frames, numbered from 0."""

    def __init__(self) -> None:
        self.ears = Ears()
        self.observed: list[Observation] = []
        self.ear = Ear(self.ears, self.observed.append)
        self.frames = 0

    @property
    def now(self) -> float:
        return self.frames * FRAME

    def hear(self, *, cheap: bool = False, pcm: Pcm | None = None, played: Pcm | None = None) -> Voice:
        """The next frame; its samples are its number."""
        pcm = np.full(INPUT_FRAME, self.frames, np.int16) if pcm is None else pcm
        frame = AudioFrame(pcm, self.now, cheap, -20.0, False)
        self.frames += 1
        return self.ear.hear(frame, played)


def with_head(scene: Callable[[Head], Awaitable[None]]) -> Head:
    async def main() -> Head:
        head = Head()
        await scene(head)
        await head.ear.aclose()
        return head

    return virtual_time.run(main())


def test_the_neural_detector_is_believed_while_it_keeps_up() -> None:
    async def scene(head: Head) -> None:
        for number in range(100):
            head.ears.tell(Activity(number / 100, head.now - 0.05))
            voice = head.hear(cheap=number % 2 == 0)
            assert voice.probability == number / 100
            assert voice.perhaps == (number % 2 == 0)
            assert voice.level == -20

    with_head(scene)


def test_the_cheap_detector_speaks_for_one_that_is_late() -> None:
    async def scene(head: Head) -> None:
        waiting = [head.hear(cheap=True).probability for _ in range(50)]
        at = waiting.index(1.0)
        assert at * FRAME_MS == pytest.approx(LATE_MS, abs=FRAME_MS)
        assert waiting == [0.0] * at + [1.0] * (50 - at)
        assert head.hear(cheap=False).probability == 0.0
        head.ears.tell(Activity(0.3, head.now))
        after = [head.hear(cheap=True).probability for _ in range(20)]
        at = after.index(1.0)
        assert set(after[:at]) == {0.3}
        assert at * FRAME_MS == pytest.approx(LATE_MS, abs=FRAME_MS)

    with_head(scene)


def test_what_is_certainly_silence_is_no_voice_and_ends_what_was_known() -> None:
    async def scene(head: Head) -> None:
        head.ears.tell(Activity(0.9, 0.0))
        assert head.hear().probability == 0.9
        head.ears.listening = False
        assert [head.hear(cheap=False).probability for _ in range(50)] == [0.0] * 50
        head.ears.listening = True
        assert head.hear(cheap=True).probability == 0.0  # not what was told of the voice before

    with_head(scene)


def ask_after(frames: int, *, begin_ms: int | None = None, silence_ms: int = 0) -> list[int]:
    """The numbers of the frames about which the turn model is asked."""

    async def scene(head: Head) -> None:
        for _ in range(frames):
            head.hear()
        if begin_ms is not None:
            head.ear.begin_turn(begin_ms)
        head.ear.ask(1, silence_ms)
        await asyncio.sleep(1)

    head = with_head(scene)
    assert head.observed == [Verdict(1, 0.8)]
    [pcm] = head.ears.asked
    return [int(number) for number in pcm[::INPUT_FRAME]]


def test_the_turn_model_is_asked_about_the_turn_and_the_beginning_of_the_silence_behind_it() -> None:
    assert ask_after(10) == list(range(10))
    assert ask_after(100, begin_ms=400) == list(range(80, 100))
    assert ask_after(100, begin_ms=400, silence_ms=BEHIND_MS) == list(range(80, 100))
    assert ask_after(100, begin_ms=400, silence_ms=200 + BEHIND_MS) == list(range(80, 90))
    assert ask_after(100, begin_ms=100, silence_ms=5000) == [95]
    assert ask_after(1000) == list(range(1000 - ASKED_MS // FRAME_MS, 1000))


def test_a_new_question_takes_the_place_of_the_old_one() -> None:
    async def scene(head: Head) -> None:
        head.hear()
        head.ear.ask(1, 0)
        await asyncio.sleep(0.05)
        head.ear.ask(2, 0)
        await asyncio.sleep(1)

    assert with_head(scene).observed == [Verdict(2, 0.8)]


def test_a_turn_model_that_does_not_know_says_nothing() -> None:
    async def scene(head: Head) -> None:
        head.ears.verdict = None
        head.hear()
        head.ear.ask(1, 0)
        await asyncio.sleep(1)

    assert with_head(scene).observed == []


def test_a_closed_ear_observes_nothing_more() -> None:
    async def scene(head: Head) -> None:
        head.hear()
        head.ear.ask(1, 0)
        await asyncio.sleep(0.05)
        head.ear.close()
        await asyncio.sleep(1)

    head = with_head(scene)
    assert head.observed == []


# --- echo


def as_played(pcm: Pcm) -> Pcm:
    """At ``OUTPUT_RATE``."""
    length = len(pcm) * OUTPUT_RATE // INPUT_RATE
    return np.interp(np.arange(length) * INPUT_RATE / OUTPUT_RATE, np.arange(len(pcm)), pcm).astype(np.int16)


def echoes(bot: Pcm, heard: Pcm, *, cheap: bool = True) -> list[float]:
    """How like an echo each frame of ``heard`` is, while ``bot`` is played; both at ``INPUT_RATE``."""
    found: list[float] = []
    played = as_played(bot)

    async def scene(head: Head) -> None:
        for n in range(min(len(heard), len(bot)) // INPUT_FRAME):
            now = played[n * OUTPUT_FRAME : (n + 1) * OUTPUT_FRAME]
            pcm = heard[n * INPUT_FRAME : (n + 1) * INPUT_FRAME]
            found.append(head.hear(pcm=pcm, played=now if len(now) == OUTPUT_FRAME else None, cheap=cheap).echo)

    with_head(scene)
    return found


BOT, USER = recording("en-00.flac"), recording("human-00.flac")


@pytest.mark.parametrize("delay_ms", [60, 200, 450])
def test_the_bot_s_own_voice_is_echo_at_any_delay_and_softness(delay_ms: int) -> None:
    late = np.zeros(delay_ms * INPUT_RATE // 1000, np.int16)
    heard = np.concatenate([late, (BOT * 0.1).astype(np.int16)])
    noise = np.random.default_rng(0).normal(0, 10, len(heard)).astype(np.int16)
    found = echoes(BOT, heard + noise)[75:200]
    assert np.mean(np.array(found) >= ECHO) > 0.8


def test_another_voice_is_none() -> None:
    found = echoes(np.resize(BOT, len(USER)), USER)[75:]
    assert np.mean(np.array(found) >= ECHO) < 0.1


def test_silence_of_either_side_is_no_echo() -> None:
    assert set(echoes(np.zeros_like(BOT), np.zeros_like(BOT), cheap=False)) == {0.0}

    async def scene(head: Head) -> None:
        for n in range(len(USER) // INPUT_FRAME):
            pcm = USER[n * INPUT_FRAME : (n + 1) * INPUT_FRAME]
            assert head.hear(pcm=pcm, cheap=True).echo == 0.0  # the bot says nothing

    with_head(scene)
