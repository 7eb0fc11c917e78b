"""Utterances on a real playout, moved by hand and by any sequence of steps."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.audio import OUTPUT_FRAME, OUTPUT_RATE
from media.playout import Playout
from pipeline.speaking import AHEAD, Memory, Speaking, Utterance
from pipeline.tts import SpeechChunk, WordTime
from tests import virtual_time
from tests.pipeline.scripted import spoken


class Mouth:
    def __init__(self) -> None:
        self.playout = Playout()
        self.events: list[Any] = []
        self.remembered: list[tuple[str, str]] = []
        self.speaking = Speaking(self.playout, self.events.append, self._remember)

    def _remember(self, utterance: Utterance, heard: str) -> None:
        if heard and utterance.memory is Memory.HISTORY:
            self.remembered.append((utterance.id, heard))

    def begin(self, name: str = "m", text: str = "", *, remember: bool = True, owed: bool = False) -> Utterance:
        utterance = Utterance(name, text, Memory.HISTORY if remember else Memory.NONE, owed=owed)
        self.speaking.begin(utterance)
        return utterance

    def tick(self, frames: int = 1) -> None:
        for _ in range(frames):
            if self.playout.take(OUTPUT_FRAME) is not None:
                self.speaking.advance(self.playout.played)

    def names(self) -> list[str]:
        return [event.name for event in self.events]


def test_nothing_is_told_before_it_is_heard() -> None:
    mouth = Mouth()
    utterance = mouth.begin(text="one two")
    mouth.speaking.write(utterance, spoken(["one", "two"]))
    assert mouth.events == []
    mouth.tick()
    assert mouth.names() == ["bot.speaking", "bot.word"]
    mouth.tick(12)
    assert mouth.names() == ["bot.speaking", "bot.word", "bot.word"]
    mouth.tick(20)
    assert mouth.names() == ["bot.speaking", "bot.word", "bot.word"]  # perhaps more will come
    mouth.speaking.complete(utterance)
    assert mouth.names()[3:] == ["message.confirmed", "bot.finished"]
    assert mouth.events[-1].duration_ms == 500
    assert mouth.remembered == [("m", "one two")]
    assert not mouth.speaking.active


def test_two_utterances_follow_each_other_on_one_clock() -> None:
    mouth = Mouth()
    for name in ("a", "b"):
        utterance = mouth.begin(name)
        mouth.speaking.write(utterance, spoken(["word"]))
        mouth.speaking.complete(utterance)
    mouth.tick(13)
    assert mouth.names() == [
        "bot.speaking",
        "bot.word",
        "message.confirmed",
        "bot.finished",
        "bot.speaking",
        "bot.word",
    ]
    assert mouth.speaking.played_ms == 260
    mouth.tick(13)
    assert [event.message_id for event in mouth.events if event.name == "bot.finished"] == ["a", "b"]


def test_an_interruption_counts_what_was_heard() -> None:
    mouth = Mouth()
    utterance = mouth.begin()
    mouth.speaking.write(utterance, spoken(["one", "two", "three"]))
    mouth.tick(15)
    mouth.speaking.interrupt("user_spoke")
    interrupted, confirmed = mouth.events[-2:]
    assert (interrupted.played_ms, interrupted.words_spoken, interrupted.last_word) == (300, 2, "two")
    assert confirmed.text == "one two"
    assert mouth.remembered == [("m", "one two")]
    before = list(mouth.events)
    mouth.speaking.write(utterance, spoken(["late"]))
    mouth.speaking.complete(utterance)
    mouth.tick(20)
    assert mouth.events == before
    assert mouth.playout.written == mouth.playout.played == 15 * OUTPUT_FRAME


def test_what_was_not_heard_is_dropped_in_silence() -> None:
    mouth = Mouth()
    mouth.speaking.write(mouth.begin(), spoken(["one"]))
    mouth.speaking.interrupt("cancelled")
    assert mouth.events == []
    empty = mouth.begin()
    mouth.speaking.complete(empty)
    assert not mouth.speaking.active
    assert mouth.events == []


@pytest.mark.parametrize(("reason", "remembered"), [("continuation", []), ("cancelled", [("m", "one")])])
def test_reasons(reason: str, remembered: list[tuple[str, str]]) -> None:
    mouth = Mouth()
    mouth.speaking.write(mouth.begin(), spoken(["one", "two"]))
    mouth.tick()
    mouth.speaking.interrupt(reason)
    assert mouth.remembered == remembered
    assert ("message.confirmed" in mouth.names()) == bool(remembered)


def test_words_outside_of_their_audio_are_still_told() -> None:
    mouth = Mouth()
    utterance = mouth.begin()
    times = [WordTime("one", 0.0, 0.1), WordTime("two", 5.0, 6.0)]
    mouth.speaking.write(utterance, SpeechChunk(np.zeros(OUTPUT_FRAME, np.int16), times))
    mouth.speaking.write(utterance, SpeechChunk(np.zeros(0, np.int16), [WordTime("three", 0.0, 0.0)]))
    mouth.speaking.complete(utterance)
    mouth.tick(3)
    assert [event.word for event in mouth.events if event.name == "bot.word"] == ["one", "two", "three"]


def test_the_writer_waits_when_it_is_far_ahead() -> None:
    async def main() -> None:
        mouth = Mouth()
        utterance = mouth.begin()
        mouth.speaking.write(utterance, SpeechChunk(np.zeros(AHEAD + OUTPUT_RATE, np.int16)))
        waiting = asyncio.create_task(mouth.speaking.room())
        await asyncio.sleep(0)
        mouth.tick(49)
        await asyncio.sleep(0)
        assert not waiting.done()
        mouth.tick(1)
        await waiting
        mouth.speaking.write(utterance, SpeechChunk(np.zeros(AHEAD, np.int16)))
        waiting = asyncio.create_task(mouth.speaking.room())
        await asyncio.sleep(0)
        mouth.speaking.interrupt("cancelled")
        await waiting

    virtual_time.run(main())


STEPS = st.one_of(
    st.tuples(st.just("begin"), st.sampled_from(["history", "none", "owed"])),
    st.tuples(st.just("write"), st.integers(0, 4)),
    st.tuples(st.just("complete"), st.none()),
    st.tuples(st.just("tick"), st.integers(1, 40)),
    st.tuples(st.just("interrupt"), st.sampled_from(["user_spoke", "continuation", "cancelled"])),
)


@given(st.lists(STEPS, max_size=40))
def test_any_steps(steps: list[tuple[str, Any]]) -> None:
    mouth = Mouth()
    current: Utterance | None = None
    count = 0
    owed: list[str] = []
    for step, value in [*steps, ("interrupt", "cancelled")]:
        match step:
            case "begin":
                if current:
                    mouth.speaking.complete(current)
                name = f"m{(count := count + 1)}"
                current = mouth.begin(name, remember=value == "history", owed=value == "owed")
                owed += [name] * (value == "owed")
            case "write" if current:
                mouth.speaking.write(current, spoken([f"w{n}" for n in range(value)]))
            case "complete" if current:
                mouth.speaking.complete(current)
                current = None
            case "tick":
                mouth.tick(value)
            case "interrupt":
                mouth.speaking.interrupt(value)
                current = None
    assert not mouth.speaking.active
    check(mouth.events, owed)


def check(events: list[Any], owed: Sequence[str] = ()) -> None:
    """Each message is announced, has its words in order, is confirmed where something was said, and ends once."""
    messages: dict[str, list[Any]] = {}
    for event in events:
        if event.name == "barge_in":
            assert messages[event.cancelled_message_id]
        else:
            messages.setdefault(event.message_id, []).append(event)
    assert set(owed) <= messages.keys()
    for frames in messages.values():
        names = [event.name for event in frames]
        if names == ["bot.interrupted"]:  # promised, and never heard
            [event] = frames
            assert event.message_id in owed
            assert (event.played_ms, event.words_spoken, event.reason) == (0, 0, "cancelled")
            continue
        words = [event for event in frames if event.name == "bot.word"]
        assert names[0] == "bot.speaking"
        assert [word.word_index for word in words] == list(range(len(words)))
        said = " ".join(word.word for word in words)
        match names[1 + len(words) :]:
            case ["message.confirmed", "bot.finished"]:
                assert frames[-2].text == frames[-1].text == said != ""
            case ["bot.interrupted", "message.confirmed"]:
                assert frames[-1].text == said != ""
                assert frames[-2].words_spoken == len(words)
            case ["bot.interrupted", "message.aborted"]:
                assert frames[-2].reason == frames[-1].reason == "continuation"
            case other:
                pytest.fail(f"{other} after {len(words)} words")
