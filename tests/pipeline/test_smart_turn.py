"""Smart-turn: what it sees, what it says of recorded voices, and that it never keeps anybody waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from config.settings import Settings
from media.audio import INPUT_RATE
from pipeline.engine import EngineError
from pipeline.models import SMART_TURN
from pipeline.smart_turn import LONGEST, QUEUE, SmartTurn, features
from tests.voices import recording, silence

PATH = Settings.load().models_dir / SMART_TURN.name


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def smart_turn() -> AsyncIterator[SmartTurn]:
    engine = SmartTurn(PATH)
    await engine.start()
    yield engine
    await engine.aclose()


@settings(max_examples=30)
@given(st.integers(0, 40_000), st.floats(0.05, 1))
def test_the_features_do_not_depend_on_loudness_and_are_at_the_end(length: int, gain: float) -> None:
    pcm = recording("human-00.flac")[:length]
    loud = features(pcm)
    assert loud.shape == (80, 800)
    assert np.isfinite(loud).all()
    assert loud.max() - loud.min() <= 2.0 + 1e-6
    silent = max(0, (LONGEST - length) // 160 - 2)  # windows in front of the speech
    assert np.ptp(loud[:, 2:silent], axis=1).max(initial=0) < 1e-3
    if length > INPUT_RATE and np.abs(pcm).max() > 2000:
        quiet = features((pcm * gain).astype(np.int16))
        assert np.abs(quiet - loud)[:, silent + 3 :].mean() < 0.1


pytestmark = pytest.mark.models


async def judge(engine: SmartTurn, name: str, share: float = 1.0) -> float:
    """What it says after ``share`` of a recording and a pause."""
    pcm = recording(name)
    probability = await engine.ask(np.concatenate([pcm[: int(len(pcm) * share)], silence(0.1)]), deadline=60)
    assert probability is not None
    return probability


@pytest.mark.asyncio(loop_scope="module")
async def test_whole_sentences_seem_more_complete_than_halves(smart_turn: SmartTurn) -> None:
    names = [f"{name}.flac" for name in ("en-00", "en-04", "en-08", "en-12", "es-00", "es-04", "es-08", "es-10")]
    whole = [await judge(smart_turn, name) for name in names]
    halves = [await judge(smart_turn, name, 0.5) for name in names]
    assert np.median(whole) > 0.6
    assert np.mean(halves) < np.mean(whole) - 0.1


@pytest.mark.asyncio(loop_scope="module")
async def test_only_the_end_is_judged(smart_turn: SmartTurn) -> None:
    pcm = np.concatenate([recording("human-00.flac"), recording("human-01.flac"), recording("en-00.flac")])
    assert len(pcm) > LONGEST
    assert await smart_turn.ask(pcm, 60) == await smart_turn.ask(pcm[-LONGEST:], 60)
    assert await smart_turn.ask(silence(0), 60) is not None


@pytest.mark.asyncio(loop_scope="module")
async def test_too_many_and_too_late(smart_turn: SmartTurn) -> None:
    """One runs, ``QUEUE`` wait, the others are answered before any model has run."""
    await smart_turn.ask(silence(1), 60)  # nothing of another test runs any more
    requests = [asyncio.create_task(smart_turn.ask(silence(1), 60)) for _ in range(QUEUE + 4)]
    for _ in range(3):
        await asyncio.sleep(0)
    assert [request.done() for request in requests] == [False] * (QUEUE + 1) + [True] * 3
    answers = await asyncio.gather(*requests)
    assert all(answers[: QUEUE + 1])
    assert answers[QUEUE + 1 :] == [None] * 3
    assert await smart_turn.ask(silence(1), deadline=0) is None


@pytest.mark.asyncio(loop_scope="module")
async def test_a_request_that_is_taken_back_leaves_its_place(smart_turn: SmartTurn) -> None:
    await smart_turn.ask(silence(1), 60)  # nothing of another test runs any more
    requests = [asyncio.create_task(smart_turn.ask(silence(1), 60)) for _ in range(QUEUE + 1)]
    await asyncio.sleep(0)
    for request in requests[1:]:
        request.cancel()
    await asyncio.gather(*requests[1:], return_exceptions=True)
    more = await asyncio.gather(*(smart_turn.ask(silence(1), 60) for _ in range(QUEUE)))
    assert None not in more
    assert await requests[0] is not None


async def test_without_the_file_there_is_no_answer(tmp_path: Path) -> None:
    engine = SmartTurn(tmp_path / SMART_TURN.name)
    with pytest.raises(EngineError, match=r"smart-turn-v3.2-cpu.onnx is missing: run `voice-server setup`"):
        await engine.start()
    assert await engine.ask(silence(1)) is None
    await engine.aclose()


async def test_who_waits_at_the_end_gets_no_answer() -> None:
    engine = SmartTurn(PATH)
    await engine.start()
    request = asyncio.create_task(engine.ask(silence(1), 60))
    await asyncio.sleep(0)
    await engine.aclose()
    assert await request is None
