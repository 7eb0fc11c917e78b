"""The turn model: what it says of recorded voices, and that it never keeps anybody waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from media.audio import INPUT_RATE, Pcm
from pipeline import end_of_turn
from pipeline.engine import EngineError
from pipeline.turn_model import LENGTH, QUEUE, RECENT, Classifier, TurnModel, voice_end
from tests.voices import recording, silence

ENGLISH = ["human-00.flac", "human-01.flac", "en-00.flac", "en-04.flac", "en-08.flac", "en-12.flac", "en-18.flac"]
SPANISH = ["es-00.flac", "es-02.flac", "es-04.flac", "es-06.flac", "es-08.flac", "es-10.flac"]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


def spoken(name: str, share: float = 1.0) -> Pcm:
    """The first part of what is said in a recording, and a little room."""
    pcm = recording(name)
    said = pcm[: np.flatnonzero(np.abs(pcm.astype(int)) > 300)[-1] + INPUT_RATE // 20]
    return np.concatenate([said[: int(len(said) * share)], silence(0.1)])


@pytest.mark.parametrize("names", [ENGLISH, SPANISH], ids=["en", "es"])
def test_ends_sound_complete_and_places_where_a_voice_breaks_off_do_not(
    classifier: Classifier, names: list[str]
) -> None:
    ends = [classifier.judge(spoken(name).tobytes()) for name in names]
    cuts = [classifier.judge(spoken(name, share).tobytes()) for name in names for share in (0.4, 0.5, 0.6, 0.75)]
    assert np.median(ends) > 0.5
    assert np.median(cuts) < 0.3
    assert np.mean([end > cut for end in ends for cut in cuts]) > 0.9


@pytest.mark.parametrize("noise", [0, 100], ids=["clean", "noisy"])
def test_a_telephone_and_noise_do_not_change_that(classifier: Classifier, noise: float) -> None:
    """Only 300 to 3,400 Hz are left."""
    hiss = np.random.default_rng(0)

    def heard(pcm: Pcm) -> bytes:
        spectrum = np.fft.rfft(pcm)
        hz = np.fft.rfftfreq(len(pcm), 1 / INPUT_RATE)
        narrow = np.fft.irfft(spectrum * ((hz > 300) & (hz < 3400)), len(pcm)) + hiss.normal(0, noise + 1, len(pcm))
        return narrow.astype(np.int16).tobytes()

    names = [*ENGLISH, *SPANISH]
    ends = [classifier.judge(heard(spoken(name))) for name in names]
    cuts = [classifier.judge(heard(spoken(name, 0.5))) for name in names]
    assert np.mean([end > cut for end in ends for cut in cuts]) > 0.8


def test_what_is_no_voice_gives_a_probability_too(classifier: Classifier) -> None:
    rng = np.random.default_rng(0)
    for pcm in (silence(0), silence(3), np.ones(1, np.int16), np.full(LENGTH, -32768, np.int16)):
        assert 0 < classifier.judge(pcm.tobytes()) < 1
    assert 0 < classifier.judge(rng.integers(-32768, 32767, LENGTH, np.int16).tobytes()) < 1


def test_weights_that_are_missing_or_damaged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(end_of_turn, "WEIGHTS", tmp_path / "end-of-turn.npz")
    with pytest.raises(EngineError, match="missing or damaged"):
        Classifier()
    for content in (b"", b"PK\3\4 nonsense", b"nonsense"):
        (tmp_path / "end-of-turn.npz").write_bytes(content)
        with pytest.raises(EngineError, match="missing or damaged"):
            Classifier()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def turn_model() -> AsyncIterator[TurnModel]:
    engine = TurnModel()
    await engine.start()
    yield engine
    await engine.aclose()


@pytest.mark.asyncio(loop_scope="module")
async def test_only_the_end_is_judged(turn_model: TurnModel) -> None:
    pcm = np.concatenate([recording("human-00.flac"), recording("human-01.flac")])
    assert len(pcm) > RECENT
    assert await turn_model.ask(pcm, 60) == await turn_model.ask(pcm[-RECENT:], 60)
    assert await turn_model.ask(silence(0), 60) is not None


@pytest.mark.asyncio(loop_scope="module")
async def test_too_many_and_too_late(turn_model: TurnModel) -> None:
    """One runs, ``QUEUE`` wait, the others are answered before any model has run."""
    await turn_model.ask(silence(1), 60)  # nothing of another test runs any more
    requests = [asyncio.create_task(turn_model.ask(silence(1), 60)) for _ in range(QUEUE + 4)]
    for _ in range(3):
        await asyncio.sleep(0)
    assert [request.done() for request in requests] == [False] * (QUEUE + 1) + [True] * 3
    answers = await asyncio.gather(*requests)
    assert all(answers[: QUEUE + 1])
    assert answers[QUEUE + 1 :] == [None] * 3
    assert await turn_model.ask(silence(1), deadline=0) is None


@pytest.mark.asyncio(loop_scope="module")
async def test_a_request_that_is_taken_back_leaves_its_place(turn_model: TurnModel) -> None:
    await turn_model.ask(silence(1), 60)  # nothing of another test runs any more
    requests = [asyncio.create_task(turn_model.ask(silence(1), 60)) for _ in range(QUEUE + 1)]
    await asyncio.sleep(0)
    for request in requests[1:]:
        request.cancel()
    await asyncio.gather(*requests[1:], return_exceptions=True)
    more = await asyncio.gather(*(turn_model.ask(silence(1), 60) for _ in range(QUEUE)))
    assert None not in more
    assert await requests[0] is not None


async def test_who_waits_at_the_end_gets_no_answer() -> None:
    engine = TurnModel()
    await engine.start()
    request = asyncio.create_task(engine.ask(silence(1), 60))
    await asyncio.sleep(0)
    await engine.aclose()
    assert await request is None
    assert await engine.ask(silence(1)) is None


@pytest.mark.parametrize("behind", [0.1, 0.2, 0.35])
@pytest.mark.parametrize("room", [3, 100])
def test_the_end_of_the_voice_is_found_by_its_loudness(behind: float, room: int) -> None:
    noise = np.random.default_rng(1)
    voice = np.sin(np.arange(INPUT_RATE) * 0.1) * 4000
    sound = np.concatenate([voice, np.zeros(round(behind * INPUT_RATE))]) + noise.normal(0, room, 1)
    sound = sound + noise.normal(0, room, len(sound))
    assert voice_end(sound.astype(np.int16)) == pytest.approx(INPUT_RATE, abs=INPUT_RATE * 0.02)


def test_where_no_end_is_found_all_is_judged() -> None:
    steady = (np.random.default_rng(1).normal(0, 500, INPUT_RATE)).astype(np.int16)
    assert voice_end(steady) > 0.9 * len(steady)
    assert voice_end(steady[:100]) == 100
    assert voice_end(silence(0.0)) == 0


def test_how_long_the_silence_behind_a_voice_is_does_not_matter(classifier: Classifier) -> None:
    for name in ENGLISH[:2] + SPANISH[:2]:
        early, late = (
            classifier.judge(np.concatenate([spoken(name), silence(more)]).tobytes()) for more in (0.05, 0.2)
        )
        assert early == pytest.approx(late, abs=0.15)
