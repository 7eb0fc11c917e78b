"""Language models that have others behind them, in virtual time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from pipeline.engine import EngineError
from pipeline.llm import Delta, GenerateOptions, Message, TextDelta
from pipeline.llm.failover import FIRST_SECONDS, Candidate, LlmFailover
from pipeline.remote import FAILURES, REFUSED_SECONDS, REST_SECONDS, Breaker, ProviderError, hung_up, too_slow
from tests.virtual_time import run

Act = str | EngineError | float
"""A word, a failure, or seconds of silence."""


@dataclass
class Model:
    """Does what is written down for each question, else says its own name."""

    name: str
    acts: deque[Sequence[Act]] = field(default_factory=deque)
    asked: list[str] = field(default_factory=list)
    """For which models."""

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...

    async def generate(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], options: GenerateOptions
    ) -> AsyncIterator[Delta]:
        self.asked.append(options.model)
        for act in self.acts.popleft() if self.acts else [self.name]:
            if isinstance(act, EngineError):
                raise act
            if isinstance(act, float):
                await asyncio.sleep(act)
            else:
                yield TextDelta(act, self.name)


@dataclass
class Scene:
    """Two providers and an engine of this machine."""

    cloud: Model = field(default_factory=lambda: Model("cloud"))
    spare: Model = field(default_factory=lambda: Model("spare"))
    local: Model = field(default_factory=lambda: Model("local"))
    breakers: tuple[Breaker, Breaker] = field(default_factory=lambda: (Breaker(), Breaker()))
    log: list[str] = field(default_factory=list)

    def chain(self, *, spare: bool = True) -> LlmFailover:
        candidates = [Candidate(self.cloud, "big", self.breakers[0])]
        if spare:
            candidates.append(Candidate(self.spare, "small", self.breakers[1]))
        return LlmFailover("cloud", (*candidates, Candidate(self.local)), "Sorry.")

    async def ask(self, *, spare: bool = True) -> str:
        deltas = self.chain(spare=spare).generate([], [], GenerateOptions(model="asked"))
        return "".join([delta.text async for delta in deltas if isinstance(delta, TextDelta)])


def passing(wait: float = 0.0) -> ProviderError:
    return ProviderError("cloud is out of order (503)", passing=True, wait=wait)


def play(play_it: Callable[[Scene], Any]) -> None:
    async def main() -> None:
        await play_it(Scene())

    run(main())


@pytest.mark.parametrize(
    ("first", "answer", "times"),
    [
        (passing(), "cloud", 2),
        (passing(0.5), "cloud", 2),
        (passing(20.0), "spare", 1),
        (hung_up("cloud"), "cloud", 2),
        (too_slow("cloud"), "spare", 1),
        (ProviderError("cloud refuses the key (401)", refused=True), "spare", 1),
        (ProviderError("cloud does not accept the request (400)"), "spare", 1),
        (EngineError("broken"), "spare", 1),
    ],
)
def test_what_is_tried_again_and_what_never(first: EngineError, answer: str, times: int) -> None:
    async def scene(scene: Scene) -> None:
        scene.cloud.acts.append([first])
        chain = scene.chain()
        deltas = chain.generate([], [], GenerateOptions())
        assert "".join([delta.text async for delta in deltas if isinstance(delta, TextDelta)]) == answer
        assert chain.replaced == ([f"{first}; spare takes its place"] if answer == "spare" else [])
        assert scene.cloud.asked == ["big"] * times
        assert scene.spare.asked == (["small"] if answer == "spare" else [])

    play(scene)


def test_who_does_not_begin_in_time_is_passed_over() -> None:
    async def scene(scene: Scene) -> None:
        scene.cloud.acts.append([60.0, "late"])
        began = asyncio.get_running_loop().time()
        assert await scene.ask() == "spare"
        assert asyncio.get_running_loop().time() - began == pytest.approx(FIRST_SECONDS)

    play(scene)


def test_an_answer_may_take_its_time_once_it_has_begun() -> None:
    async def scene(scene: Scene) -> None:
        scene.cloud.acts.append(["well ", FIRST_SECONDS * 2, "yes"])
        assert await scene.ask() == "well yes"

    play(scene)


def test_an_answer_that_has_begun_is_never_begun_anew() -> None:
    async def scene(scene: Scene) -> None:
        scene.cloud.acts.append(["I was ", hung_up("cloud")])
        with pytest.raises(EngineError, match="hung up"):
            await scene.ask()
        assert (scene.cloud.asked, scene.spare.asked) == (["big"], [])

    play(scene)


def test_the_engine_of_this_machine_apologises_first() -> None:
    async def scene(scene: Scene) -> None:
        for model in (scene.cloud, scene.spare):
            model.acts.extend([[passing()], [passing()]])
        assert await scene.ask() == "Sorry. local"
        assert scene.local.asked == [""]

    play(scene)


def test_when_all_fail_the_last_failure_is_told() -> None:
    async def scene(scene: Scene) -> None:
        scene.cloud.acts.append([ProviderError("cloud refuses the key (401)", refused=True)])
        scene.local.acts.append([EngineError("the model file is missing")])
        with pytest.raises(EngineError, match="model file"):
            await scene.ask(spare=False)

    play(scene)


def test_a_provider_rests_after_failures_in_a_row_and_one_attempt_decides() -> None:
    async def scene(scene: Scene) -> None:
        for _ in range(FAILURES):
            scene.cloud.acts.append([too_slow("cloud")])
            assert await scene.ask() == "spare"
        asked = len(scene.cloud.asked)
        assert await scene.ask() == "spare"
        assert len(scene.cloud.asked) == asked  # it was not even asked
        await asyncio.sleep(REST_SECONDS + 1)
        scene.cloud.acts.append([too_slow("cloud")])
        assert await scene.ask() == "spare"
        assert scene.breakers[0].open  # a single failure is enough now
        await asyncio.sleep(REST_SECONDS + 1)
        assert await scene.ask() == "cloud"
        assert (scene.breakers[0].open, scene.breakers[0].trouble) == (False, "")

    play(scene)


def test_a_refused_key_is_not_tried_for_long() -> None:
    async def scene(scene: Scene) -> None:
        scene.cloud.acts.append([ProviderError("cloud refuses the key (401)", refused=True)])
        await scene.ask()
        await asyncio.sleep(REFUSED_SECONDS - 10)
        assert scene.breakers[0].open
        await asyncio.sleep(20)
        assert not scene.breakers[0].open

    play(scene)


def test_a_provider_is_asked_though_it_rests_when_nobody_else_is_there() -> None:
    async def scene(scene: Scene) -> None:
        scene.breakers[0].failed(passing(30.0))
        chain = LlmFailover("cloud", (Candidate(scene.cloud, "big", scene.breakers[0]),))
        assert [delta async for delta in chain.generate([], [], GenerateOptions())] == [TextDelta("cloud", "cloud")]

    play(scene)


def test_who_stops_listening_stops_the_provider() -> None:
    async def scene(scene: Scene) -> None:
        closed = asyncio.Event()

        class Slow(Model):
            async def generate(self, *_: Any) -> AsyncIterator[Delta]:
                try:
                    yield TextDelta("one ", self.name)
                    await asyncio.sleep(100)
                finally:
                    closed.set()

        chain = LlmFailover("slow", (Candidate(Slow("slow"), "", Breaker()), Candidate(scene.local)))
        answer = chain.generate([], [], GenerateOptions())
        assert await anext(answer) == TextDelta("one ", "slow")
        await answer.aclose()
        assert closed.is_set()
        assert scene.local.asked == []

    play(scene)
