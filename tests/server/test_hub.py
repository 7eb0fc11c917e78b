"""Seats, and how a server is emptied."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from config.agent import AgentConfig, LlmConfig
from config.identity import DEFAULT_ORG
from pipeline.session import Reply
from server.hub import NoSeatError
from server.local_hub import Limits, LocalHub
from server.registry import AgentKey, Registration
from tests.virtual_time import run


class Call:
    """The little that a hub sees of a call."""

    def __init__(self, name: str, *, deaf: bool = False) -> None:
        self.id = name
        self.reason: str | None = None
        self.ended = asyncio.Event()
        self.deaf = deaf

    def hangup(self, reason: str) -> None:
        self.reason = reason
        if not self.deaf:
            self.ended.set()

    async def wait_ended(self) -> None:
        await self.ended.wait()

    def command(self, frame: Mapping[str, Any], reply: Reply) -> None:
        raise AssertionError("nobody asks it anything here")

    def reload(self, agent: AgentConfig) -> None:
        raise AssertionError("nobody configures it here")

    def attend(self, present: bool) -> None:
        raise AssertionError("nobody serves it here")


def key(name: str) -> AgentKey:
    return AgentKey(DEFAULT_ORG, name)


def registered(name: str) -> Registration:
    return Registration(key(name), name, AgentConfig(id=name))


def enter(hub: LocalHub, name: str, *, agent: str = "demo", deaf: bool = False) -> Call:
    with hub.seat(registered(agent), "webrtc") as seat:
        call = Call(name, deaf=deaf)
        seat.take(call)
    return call


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_seat_is_held_until_the_call_has_ended() -> None:
    async with LocalHub([], Limits(max_calls=1)) as hub:
        call = enter(hub, "one")
        assert hub.taken == 1
        assert hub.calls == {"one": call}
        with pytest.raises(NoSeatError) as refusal, hub.seat(registered("demo"), "webrtc"):
            pass
        assert not refusal.value.draining
        call.ended.set()
        await settle()
        assert hub.taken == 0
        assert hub.calls == {}
        enter(hub, "two")


async def test_an_agent_leaves_seats_to_the_others() -> None:
    async with LocalHub([], Limits(max_calls=3, agent_max_calls=1)) as hub:
        call = enter(hub, "one", agent="mara")
        with pytest.raises(NoSeatError, match="Agent 'mara' is at capacity") as refusal:
            hub.check_seat(key("mara"))
        assert (refusal.value.status, refusal.value.code) == (503, "SERVER_AT_CAPACITY")
        enter(hub, "two", agent="demo")
        enter(hub, "three", agent="other")
        with pytest.raises(NoSeatError, match="The server is at capacity"):
            hub.check_seat(key("fourth"))
        call.ended.set()
        await settle()
        enter(hub, "four", agent="mara")


async def test_a_failed_offer_frees_its_seat() -> None:
    async with LocalHub([], Limits(max_calls=1)) as hub:
        for _ in range(10):
            with pytest.raises(ValueError, match="no"), hub.seat(registered("demo"), "webrtc"):
                raise ValueError("no")
        assert hub.taken == 0


async def test_a_call_that_fails_frees_its_seat() -> None:
    class Broken(Call):
        async def wait_ended(self) -> None:
            raise RuntimeError("broken")

    async with LocalHub([], Limits(max_calls=1)) as hub:
        with hub.seat(registered("demo"), "webrtc") as seat:
            seat.take(Broken("one"))
        await settle()
        assert hub.taken == 0


async def test_drain_waits_for_the_calls_and_lets_nobody_in() -> None:
    async with LocalHub([], Limits(max_calls=5)) as hub:
        call = enter(hub, "one")
        drain = asyncio.create_task(hub.drain(60))
        await settle()
        with pytest.raises(NoSeatError) as refusal:
            hub.check_seat(key("demo"))
        assert refusal.value.draining
        assert not drain.done()
        call.ended.set()
        await asyncio.wait_for(drain, 10)
        assert call.reason is None


async def test_drain_hangs_up_what_is_left_when_the_time_is_over() -> None:
    async with LocalHub([], Limits(max_calls=5)) as hub:
        calls = [enter(hub, "one"), enter(hub, "two")]
        await asyncio.wait_for(hub.drain(0.01), 10)
        assert [call.reason for call in calls] == ["server_shutdown", "server_shutdown"]
        assert hub.taken == 0


async def test_an_offer_let_in_before_the_drain_keeps_its_call() -> None:
    async with LocalHub([], Limits(max_calls=5)) as hub:
        with hub.seat(registered("demo"), "webrtc") as seat:
            drain = asyncio.create_task(hub.drain(60))
            await settle()
            call = Call("late")
            seat.take(call)
        await settle()
        assert not drain.done()
        assert call.reason is None
        call.ended.set()
        await asyncio.wait_for(drain, 10)


async def test_an_offer_that_outlives_the_drain_is_hung_up() -> None:
    async with LocalHub([], Limits(max_calls=5)) as hub:
        with hub.seat(registered("demo"), "webrtc") as seat:
            drain = asyncio.create_task(hub.drain(0))
            await settle()
            call = Call("late")
            seat.take(call)
        await asyncio.wait_for(drain, 10)
        assert call.reason == "server_shutdown"


async def test_leaving_hangs_up_and_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.local_hub.GOODBYE_SECONDS", 0.05)
    async with LocalHub([], Limits(max_calls=5)) as hub:
        deaf = enter(hub, "deaf", deaf=True)
    assert deaf.reason == "server_shutdown"
    assert hub.taken == 0
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("seat of")]


async def test_second_signal_while_draining() -> None:
    async with LocalHub([], Limits(max_calls=5)) as hub:
        call = enter(hub, "one")
        drain = asyncio.create_task(hub.drain(600))
        await settle()
        started = time.monotonic()
        await hub.hang_up_all()
        await asyncio.wait_for(drain, 10)
        assert time.monotonic() - started < 60
        assert call.reason == "server_shutdown"


class Nobody:
    """A backend that is always there and never answers."""

    def __init__(self, org: str = DEFAULT_ORG) -> None:
        self.id = "c_1"
        self.org = org
        self.alive = True
        self.frames: list[Mapping[str, Any]] = []

    def send(self, frame: Mapping[str, Any]) -> bool:
        self.frames.append(frame)
        return True

    async def probe(self) -> bool:
        return False


class Served(Call):
    """A call of an agent that a backend serves."""

    def attend(self, present: bool) -> None:
        """Told whether it does now."""

    def reload(self, agent: AgentConfig) -> None:
        """Told what it wants now."""


@pytest.mark.parametrize("kicked", [False, True])
@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.parametrize("back_after", [None, 59.0])
def test_a_lost_backend_has_a_minute_to_come_back(kicked: bool, answers: bool, back_after: float | None) -> None:
    async def lose() -> str | None:
        loop, holder = asyncio.get_running_loop(), Nobody()
        agent = AgentConfig(id="mara", llm=LlmConfig() if answers else None)
        async with LocalHub([], Limits(max_calls=1)) as hub:
            with hub.seat(await hub.register(holder, "mara", agent), "webrtc") as seat:
                call = Served("one")
                seat.take(call)
            await (hub.kick(key("mara")) if kicked else hub.release(holder))
            lost = loop.time()
            if back_after is not None:
                await asyncio.sleep(back_after)
                await hub.register(Nobody(), "mara", agent)
            with suppress(TimeoutError):
                async with asyncio.timeout(3600):
                    await call.wait_ended()
                assert loop.time() - lost == pytest.approx(60)
            return call.reason

    ends = back_after is None and (kicked or not answers)
    assert run(lose()) == ("agent_disconnected" if ends else None)


def test_what_one_organisation_asks_of_another_does_not_exist() -> None:
    async def ask() -> None:
        ours, theirs = Nobody("acme"), Nobody("globex")
        async with LocalHub([], Limits(max_calls=3)) as hub:
            for holder in (ours, theirs):
                await hub.register(holder, "mara", AgentConfig(id="mara", prompt=holder.org))
            assert [(r.key.org, r.agent.prompt) for r in await hub.agents(None)] == [("acme",) * 2, ("globex",) * 2]
            found = await hub.find("mara", "globex")
            assert found is not None
            with hub.seat(found, "webrtc") as seat:
                seat.take(Served("same"))
            assert await hub.session("acme", "same") is None
            assert await hub.sessions(AgentKey("acme", "mara")) == []
            theirs_too = await hub.session("globex", "same")
            assert theirs_too is not None
            assert theirs_too.key == AgentKey("globex", "mara")
            hub.tell(AgentKey("acme", "mara"), {"event": "bot.word"})
            assert ours.frames == [{"event": "bot.word", "agent_id": "mara"}]
            assert theirs.frames == []
            await hub.release(ours)
            assert not hub.tell(AgentKey("acme", "mara"), {"event": "bot.word"})
            assert await hub.find("mara", "acme") is None
            assert await hub.find("globex:mara", "acme") is None
            public = await hub.find("mara", None)
            assert public is not None
            assert public.key.org == "globex"
            ours_again = await hub.register(ours, "mara", AgentConfig(id="mara"))
            assert await hub.find("mara", None) is None, "two could be meant"
            assert await hub.find("acme:Mara", None) == ours_again
            assert await hub.public_id(ours_again) == "acme:mara"
            await hub.register(theirs, "mara", AgentConfig(id="mara", allowed_origins=("https://page.example",)))
            public = await hub.find("mara", None)
            assert public is not None
            assert public.key.org == "globex", "only that one lets pages in"

    run(ask())


class Seats(RuleBasedStateMachine):
    """Whatever offers and calls do, the seats are the calls and offers that are there."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.hub = LocalHub([], Limits(max_calls=3, agent_max_calls=2))
        self.live: list[tuple[str, Call]] = []
        self.count = 0

    def run(self, step: object) -> None:
        async def inside() -> None:
            if callable(step):
                step()
            await settle()

        self.loop.run_until_complete(inside())

    @rule(agent=st.sampled_from(["demo", "mara"]), fails=st.booleans())
    def offer(self, agent: str, fails: bool) -> None:
        def step() -> None:
            self.count += 1
            full = len(self.live) == 3 or [name for name, _ in self.live].count(agent) == 2
            try:
                with self.hub.seat(registered(agent), "webrtc") as seat:
                    assert not full
                    if fails:
                        raise ValueError
                    call = Call(str(self.count))
                    seat.take(call)
                    self.live.append((agent, call))
            except NoSeatError:
                assert full
            except ValueError:
                pass

        self.run(step)

    @rule(which=st.integers(0, 2))
    def end(self, which: int) -> None:
        if which < len(self.live):
            _, call = self.live.pop(which)
            self.run(call.ended.set)

    @invariant()
    def seats_are_calls(self) -> None:
        assert self.hub.taken == len(self.live)
        assert set(self.hub.calls) == {call.id for _, call in self.live}

    def teardown(self) -> None:
        self.loop.run_until_complete(self.hub.__aexit__())
        assert self.hub.taken == 0
        self.loop.close()


TestSeats = Seats.TestCase
TestSeats.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
