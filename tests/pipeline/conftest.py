"""The real speech engines, loaded once for each file of tests that uses them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio

from pipeline.stt.moonshine import Moonshine
from pipeline.stt.whisper import Whisper
from pipeline.tts.espeak import Espeak
from pipeline.tts.hibari import Hibari
from pipeline.tts.pico import Pico

# Else pytest-asyncio asks for the current loop before there is one, and the one that Python makes is never closed.
asyncio.set_event_loop(None)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hibari() -> AsyncIterator[Hibari]:
    engine = Hibari()
    await engine.start()
    yield engine
    await engine.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def moonshine() -> AsyncIterator[Moonshine]:
    engine = Moonshine()
    await engine.start()
    yield engine
    await engine.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pico() -> AsyncIterator[Pico]:
    engine = Pico()
    await engine.start()
    yield engine
    await engine.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def espeak() -> AsyncIterator[Espeak]:
    engine = Espeak()
    await engine.start()
    yield engine
    await engine.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whisper() -> AsyncIterator[Whisper]:
    engine = Whisper()
    await engine.start()
    yield engine
    await engine.aclose()
