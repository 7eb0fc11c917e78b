"""What a backend may still set before a turn is answered, and how long that may take. Protocol 3.16."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.backend.scene import Scene, perform


def waits(stage: Scene) -> list[float]:
    """Seconds between the end of a turn and the model's first question to it, turn by turn."""
    asked = iter(stage.llm.asked_at)
    return [round(next(asked) - at, 2) for at, event in stage.log.events if event.name == "turn.end"]


def turns(count: int, *, answers_barrier: bool = True) -> Any:
    """So many turns, each answered."""

    async def scene(stage: Scene) -> None:
        stage.answers_barrier = answers_barrier
        for number in range(count):
            stage.person.say("tell me")
            await stage.event("bot.finished", number + 1)
            await asyncio.sleep(0.5)

    return scene


def test_an_answer_waits_for_what_is_set_before_it() -> None:
    async def scene(stage: Scene) -> None:
        stage.answers_barrier = False
        stage.person.say("give my name")
        before = await stage.frame("llm.before")
        await asyncio.sleep(0.1)
        stage.send("history.set_vars", vars={"name": "Ana"}, request_id="rq_1")
        stage.send("llm.ready", agent_id="demo", turn=before["turn"])
        await stage.frame("bot.finished")

    stage = perform("Ana.", greeting="", prompt="The user is {{name}}.")(scene)
    assert stage.story() == [
        "call.started metadata={}",
        "speech.started turn_id=1",
        "user.speaking turn_id=1 'give my name' A",
        "user.message turn_id=1 A 'give my name'",
        "speech.ended turn_id=1",
        "turn.end turn_id=1 A 'give my name'",
        "llm.before turn=1",
        "history.updated count=1 rq_1",
        "bot.speaking B ''",
        "bot.word B 'Ana.'",
        "message.confirmed B 'Ana.'",
        "bot.finished B 'Ana.'",
        "call.ended reason=hangup",
    ]
    assert "The user is Ana." in stage.prompt()
    assert waits(stage) == [0.1]


@pytest.mark.parametrize(
    ("preparing", "seconds", "told"),
    [
        (None, 0.15, False),
        (True, 1.5, True),
        ({"enabled": True}, 1.5, True),
        ({"timeout_ms": 400}, 0.4, True),
        ({"timeout_ms": 5000}, 5.0, True),
        (False, 0.0, False),
        ({"enabled": False, "timeout_ms": 400}, 0.0, False),
    ],
)
def test_the_budget_of_a_backend_that_never_answers(preparing: Any, seconds: float, told: bool) -> None:
    agent = {} if preparing is None else {"preparing": preparing}
    stage = perform(greeting="", **agent)(turns(1, answers_barrier=False))
    assert waits(stage) == [seconds]
    assert bool(stage.all_frames("llm.before")) == (seconds > 0)
    expired = [(f["turn"], f["budget_ms"], f["waited_ms"]) for f in stage.all_frames("llm.preparing_timeout")]
    assert expired == ([(1, seconds * 1000, seconds * 1000)] if told else [])


def test_the_wait_ends_with_the_answer() -> None:
    for agent in ({}, {"preparing": True}):
        stage = perform(greeting="", **agent)(turns(2))
        assert waits(stage) == [0, 0]
        assert not stage.all_frames("llm.preparing_timeout")
        assert [frame["turn"] for frame in stage.all_frames("llm.before")] == [1, 2]


def test_who_never_answers_is_not_asked_for_ever_unless_they_wished_it() -> None:
    stage = perform(greeting="")(turns(5, answers_barrier=False))
    assert [frame["turn"] for frame in stage.all_frames("llm.before")] == [1, 2, 3]
    assert waits(stage) == [0.15, 0.15, 0.15, 0, 0]
    stage = perform(greeting="", preparing={"timeout_ms": 100})(turns(5, answers_barrier=False))
    assert [frame["turn"] for frame in stage.all_frames("llm.before")] == [1, 2, 3, 4, 5]


def test_one_answer_in_between_makes_a_new_beginning() -> None:
    async def scene(stage: Scene) -> None:
        for number in range(6):
            stage.answers_barrier = number == 2
            stage.person.say("tell me")
            await stage.event("bot.finished", number + 1)

    assert len(perform(greeting="")(scene).all_frames("llm.before")) == 6


@pytest.mark.parametrize("turn", [0, 2, "1", None, True, 1.5, [1], {"turn": 1}])
def test_an_answer_for_another_turn_ends_no_wait(turn: Any) -> None:
    async def scene(stage: Scene) -> None:
        stage.answers_barrier = False
        stage.send("llm.ready", turn=1)  # too early
        stage.person.say("tell me")
        await stage.frame("llm.before")
        stage.send("llm.ready", turn=turn)
        await stage.frame("bot.finished")
        stage.send("llm.ready", turn=1)  # too late

    stage = perform(greeting="")(scene)
    assert waits(stage) == [0.15]
    assert not stage.all_frames("error")


def test_who_goes_on_meanwhile_is_asked_for_anew() -> None:
    async def scene(stage: Scene) -> None:
        stage.answers_barrier = False
        stage.person.say("tell me")
        await stage.frame("llm.before")
        stage.person.say("a story")
        await stage.frame("llm.before", 2)
        stage.answers_barrier = True
        stage.send("llm.ready", turn=1)
        await stage.frame("bot.finished")

    stage = perform(greeting="", preparing=True)(scene)
    assert [frame["turn"] for frame in stage.all_frames("llm.before")] == [1, 1]
    assert not stage.all_frames("llm.preparing_timeout")
    assert stage.asked() == [("user", "tell me a story")]


def test_a_draft_that_was_made_before_something_was_set_is_thrown_away() -> None:
    async def scene(stage: Scene) -> None:
        stage.ears.verdicts.extend([0.9])
        stage.answers_barrier = False
        stage.person.say("do you know me?")
        await stage.frame("llm.before")
        stage.send("history.set_vars", vars={"name": "Ana"}, request_id="r")
        stage.send("llm.ready", turn=1)
        await stage.frame("bot.finished")

    stage = perform("Nobody.", "Ana.", greeting="", prompt="The user is {{name}}.")(scene)
    assert stage.all_frames("eager.turn")
    assert stage.texts()[-1] == ("assistant", "Ana.")
    assert [frame["text"] for frame in stage.all_frames("bot.finished")] == ["Ana."]


def test_a_draft_is_taken_when_nothing_was_set() -> None:
    async def scene(stage: Scene) -> None:
        stage.ears.verdicts.extend([0.9])
        stage.person.say("do you know me?")
        await stage.frame("bot.finished")

    stage = perform("Nobody.", "Ana.", greeting="", prompt="The user is {{name}}.")(scene)
    assert stage.all_frames("eager.turn")
    assert len(stage.llm.asked) == 1


def test_nobody_is_asked_when_no_backend_is_there_or_none_answers_with_the_model() -> None:
    stage = perform(greeting="", preparing=True, attended=False)(turns(1))
    assert not stage.log.all("llm.before")

    async def scene(stage: Scene) -> None:
        stage.person.say("tell me")
        await stage.frame("turn.end")
        await asyncio.sleep(1)

    assert not perform(greeting="", llm=None, preparing=True)(scene).all_frames("llm.before")
