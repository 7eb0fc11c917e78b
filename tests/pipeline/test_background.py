"""Engines beside those of the calls: shared while they are used, gone when nobody needs them, behind the calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from config.settings import Settings
from pipeline.background import Background
from pipeline.engine import EngineError, Engines
from pipeline.worker import BACKGROUND_NICENESS, NICENESS, Worker
from tests.pipeline.test_worker import ECHO, alive, until
from tests.virtual_time import run


class Part:
    """Loads when it is told to."""

    def __init__(self, trouble: str = "") -> None:
        self.trouble = trouble
        self.loaded = asyncio.Event()
        self.closed = False

    async def start(self) -> None:
        await self.loaded.wait()
        if self.trouble:
            raise EngineError(self.trouble)

    async def aclose(self) -> None:
        self.closed = True


class Maker:
    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.trouble = ""

    def __call__(self) -> Part:
        self.parts.append(Part(self.trouble))
        return self.parts[-1]


KEY = ("tts", "part")


@pytest.fixture
async def background() -> AsyncIterator[Background]:
    background = Background(Engines(Settings()), idle=30.0)
    yield background
    await background.aclose()


async def use(background: Background, maker: Maker, until: asyncio.Event) -> Part:
    async with background.borrow(KEY, maker) as lent:
        await until.wait()
        part: Part = lent.engine
        return part


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_all_use_one_until_nobody_has_for_a_while() -> None:
    async def scene() -> None:
        background, maker, done = Background(Engines(Settings()), idle=30.0), Maker(), asyncio.Event()
        users = [asyncio.create_task(use(background, maker, done)) for _ in range(3)]
        await settle()
        assert (len(maker.parts), background.loaded) == (1, ["part"])
        maker.parts[0].loaded.set()
        done.set()
        assert set(await asyncio.gather(*users)) == {maker.parts[0]}
        await asyncio.sleep(29)
        assert await use(background, maker, done) is maker.parts[0]
        await asyncio.sleep(29)
        assert not maker.parts[0].closed
        await asyncio.sleep(2)
        assert maker.parts[0].closed
        assert background.loaded == []
        await background.aclose()

    run(scene())


async def test_who_leaves_while_it_loads_does_not_stop_it_for_others(background: Background) -> None:
    maker, done = Maker(), asyncio.Event()
    first, second = (asyncio.create_task(use(background, maker, done)) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    maker.parts[0].loaded.set()
    done.set()
    assert await second is maker.parts[0]
    assert first.cancelled()


async def test_what_cannot_be_loaded_is_tried_anew_by_the_next(background: Background) -> None:
    maker, done = Maker(), asyncio.Event()
    maker.trouble = "no file"
    users = [asyncio.create_task(use(background, maker, done)) for _ in range(2)]
    await settle()
    maker.parts[0].loaded.set()
    assert [str(each) for each in await asyncio.gather(*users, return_exceptions=True)] == ["no file"] * 2
    maker.trouble = ""
    user = asyncio.create_task(use(background, maker, done))
    await settle()
    maker.parts[1].loaded.set()
    done.set()
    assert await user is maker.parts[1]
    assert maker.parts[0].closed


async def test_nothing_is_left_at_the_end() -> None:
    background, maker, done = Background(Engines(Settings())), Maker(), asyncio.Event()
    waiting = asyncio.create_task(use(background, maker, done))
    await settle()
    await background.aclose()
    with pytest.raises(EngineError, match="shutting down"):
        await waiting
    assert maker.parts[0].closed
    with pytest.raises(EngineError, match="shutting down"):
        await use(background, maker, done)


async def test_its_processes_give_way_to_those_of_the_calls(background: Background) -> None:
    def niceness(worker: Worker) -> int:
        return int(Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[16])

    here = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[16])
    call = Worker(ECHO, name="echo")
    await call.start()
    async with background.borrow(("tts", "echo"), lambda: Worker(ECHO, name="echo")) as lent:
        assert await lent.engine.call("echo", 1) == 1
        assert niceness(call) == min(here + NICENESS, 19)
        assert niceness(lent.engine) == min(here + BACKGROUND_NICENESS, 19)
        pid = lent.engine.pid
    await call.aclose()
    await background.aclose()
    await until(lambda: not alive(pid))
