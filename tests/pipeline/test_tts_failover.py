"""Voices that have others behind them, in virtual time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from pipeline.engine import EngineError
from pipeline.remote import Breaker, ProviderError, hung_up
from pipeline.tts import SpeechChunk
from pipeline.tts.failover import FIRST_SECONDS, Candidate, TtsFailover
from tests.pipeline.scripted import spoken
from tests.virtual_time import run

Fault = tuple[int, EngineError | float]
"""After so many words a failure, or so many seconds of silence."""


@dataclass
class Voice:
    """Says word after word, at 10 ms each, and fails as it is written down, once for each ``speak``."""

    name: str
    faults: deque[Fault] = field(default_factory=deque)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Voice and text."""

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...

    async def speak(
        self, pieces: AsyncIterator[str], *, voice: str, language: str, speed: float = 1.0
    ) -> AsyncIterator[SpeechChunk]:
        after, fault = self.faults.popleft() if self.faults else (10**6, 0.0)
        given: list[str] = []
        place = len(self.asked)
        self.asked.append((voice, ""))
        said = 0
        async for piece in pieces:
            given.append(piece)
            self.asked[place] = (voice, " ".join(given))
            for word in piece.split():
                if said == after:
                    if isinstance(fault, EngineError):
                        raise fault
                    await asyncio.sleep(fault)
                await asyncio.sleep(0.01)
                said += 1
                yield spoken([word])


@dataclass
class Scene:
    cloud: Voice = field(default_factory=lambda: Voice("cloud"))
    spare: Voice = field(default_factory=lambda: Voice("spare"))
    local: Voice = field(default_factory=lambda: Voice("local"))
    breakers: tuple[Breaker, Breaker] = field(default_factory=lambda: (Breaker(), Breaker()))

    async def say(self, *pieces: str, wait: float = 0.0) -> str:
        chain = TtsFailover(
            "cloud",
            (
                Candidate(self.cloud, "", self.breakers[0]),
                Candidate(self.spare, "anna", self.breakers[1]),
                Candidate(self.local),
            ),
        )

        async def text() -> AsyncIterator[str]:
            for piece in pieces:
                yield piece
                await asyncio.sleep(wait)

        chunks = chain.speak(text(), voice="sarah", language="en")
        return " ".join([word.word async for chunk in chunks for word in chunk.words])


def play(scene: Callable[[Scene], Any]) -> None:
    async def main() -> None:
        await scene(Scene())

    run(main())


PASSING = ProviderError("cloud is out of order (503)", passing=True)


@pytest.mark.parametrize(
    ("faults", "cloud", "spare"),
    [
        ([], ["One two. Three four."], []),
        ([(0, PASSING)], ["One two.", "One two. Three four."], []),
        ([(0, PASSING), (0, PASSING)], ["One two.", "One two."], ["One two. Three four."]),
        ([(0, ProviderError("no", refused=True))], ["One two."], ["One two. Three four."]),
        ([(0, EngineError("broken"))], ["One two."], ["One two. Three four."]),
        ([(1, hung_up("cloud"))], ["One two."], ["two. Three four."]),
        ([(2, hung_up("cloud"))], ["One two. Three four."], ["Three four."]),
        ([(3, hung_up("cloud"))], ["One two. Three four."], ["four."]),
        ([(0, 60.0)], ["One two."], ["One two. Three four."]),
    ],
)
def test_no_word_is_said_twice_and_none_is_lost(faults: Sequence[Fault], cloud: list[str], spare: list[str]) -> None:
    async def scene(scene: Scene) -> None:
        scene.cloud.faults.extend(faults)
        assert await scene.say("One two.", "Three four.") == "One two. Three four."
        assert scene.cloud.asked == [("sarah", text) for text in cloud]
        assert scene.spare.asked == [("anna", text) for text in spare]

    play(scene)


def test_the_patience_runs_only_when_there_is_text() -> None:
    async def scene(scene: Scene) -> None:
        assert await scene.say("One.", "Two.", wait=FIRST_SECONDS * 3) == "One. Two."
        assert len(scene.cloud.asked) == 1

    play(scene)


def test_the_voice_of_this_machine_is_the_last() -> None:
    async def scene(scene: Scene) -> None:
        scene.cloud.faults.append((1, hung_up("cloud")))
        scene.spare.faults.append((1, hung_up("spare")))
        assert await scene.say("One two three.") == "One two three."
        assert scene.local.asked == [("", "three.")]

    play(scene)


def test_when_all_fail_the_last_failure_is_told() -> None:
    async def scene(scene: Scene) -> None:
        for voice in (scene.cloud, scene.spare, scene.local):
            voice.faults.append((0, EngineError(f"{voice.name} is broken")))
        with pytest.raises(EngineError, match="local is broken"):
            await scene.say("One.")

    play(scene)


def test_a_provider_that_rests_is_passed_over() -> None:
    async def scene(scene: Scene) -> None:
        scene.breakers[0].failed(ProviderError("cloud refuses the key (401)", refused=True))
        assert await scene.say("One.") == "One."
        assert (scene.cloud.asked, scene.spare.asked) == ([], [("anna", "One.")])

    play(scene)


def test_nothing_to_say() -> None:
    async def scene(scene: Scene) -> None:
        assert await scene.say() == ""

    play(scene)
