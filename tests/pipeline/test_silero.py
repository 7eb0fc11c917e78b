"""Silero: batches equal single calls, calls never mix, the gate loses nothing, and nobody waits for the thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from config.settings import Settings
from media import level
from media.audio import INPUT_FRAME, INPUT_RATE, AudioFrame, Pcm
from media.vad import WebRtcVad
from pipeline.engine import EngineError
from pipeline.models import SILERO
from pipeline.silero import CONTEXT, HANGOVER, LEAD, MAX_WAITING, WINDOW, Activity, Network, Silero, State
from tests.media.signals import pink_noise
from tests.voices import recording, silence

PATH = Settings.load().models_dir / SILERO.name

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(PATH)


@pytest_asyncio.fixture
async def silero() -> AsyncIterator[Silero]:
    engine = Silero(PATH)
    await engine.start()
    yield engine
    await engine.aclose()


def frames(pcm: Pcm, sizes: Iterable[int] = (), is_speech: bool | None = True) -> list[AudioFrame]:
    """``pcm`` in frames of 20 ms, or of these sizes as long as they last; ``None`` asks the detector."""
    vad, cut, start, rest = WebRtcVad(), [], 0, list(sizes)
    while start < len(pcm):
        part = pcm[start : start + (rest.pop(0) if rest else INPUT_FRAME)]
        verdict = (len(part) == INPUT_FRAME and vad.is_speech(part)) if is_speech is None else is_speech
        cut.append(AudioFrame(part, start / INPUT_RATE, verdict, level.dbfs(part), concealed=False))
        start += len(part)
    return cut


def alone(network: Network, pcm: Pcm) -> list[Activity]:
    """What the network says to one stream of which it hears everything."""
    padded = np.concatenate([np.zeros(CONTEXT, np.int16), pcm])
    state: State | None = None
    heard = []
    for end in range(CONTEXT + WINDOW, len(padded) + 1, WINDOW):
        [probability], [state] = network.run([padded[end - CONTEXT - WINDOW : end]], [state])
        heard.append(Activity(probability, (end - CONTEXT) / INPUT_RATE))
    return heard


def same(one: list[Activity], other: list[Activity]) -> bool:
    return np.allclose(one, other, atol=1e-4) if len(one) == len(other) else False


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0)


async def idle(silero: Silero) -> None:
    await until(lambda: not silero.busy)


async def listen(silero: Silero, *calls: list[AudioFrame]) -> list[list[Activity]]:
    """Several calls at once, tick by tick."""
    told: list[list[Activity]] = [[] for _ in calls]
    ears = [silero.listen(each.append) for each in told]
    for tick in range(max(map(len, calls), default=0)):
        for ear, call in zip(ears, calls, strict=True):
            if tick < len(call):
                ear.hear(call[tick])
        await idle(silero)
    for ear in ears:
        assert ear.skipped == 0
        ear.close()
    return told


def test_a_batch_is_what_its_parts_are(network: Network) -> None:
    rng = np.random.default_rng(5)
    voice = recording("en-00.flac")
    starts = rng.integers(0, len(voice) - CONTEXT - WINDOW, 12)
    windows = [voice[start : start + CONTEXT + WINDOW] for start in starts]
    states: list[State | None] = [
        None if n % 3 == 0 else rng.standard_normal((2, 1, 128)).astype(np.float32) for n in range(12)
    ]
    probabilities, after = network.run(windows, states)
    assert max(probabilities) - min(probabilities) > 0.1
    for n in range(12):
        [probability], [state] = network.run([windows[n]], [states[n]])
        assert probability == pytest.approx(probabilities[n], abs=1e-4)
        assert np.allclose(state, after[n], atol=1e-4)


def test_voices_are_voices(network: Network) -> None:
    for name in ("human-00.flac", "es-02.flac"):
        told = alone(network, np.concatenate([silence(0.5), recording(name), silence(1.0)]))
        assert max(probability for probability, at in told if at < 0.4) < 0.2
        assert np.mean([probability > 0.5 for probability, at in told if 0.5 < at < len(told) * 0.032 - 1]) > 0.8
        assert max(probability for probability, _ in told[-15:]) < 0.2
    assert max(probability for probability, _ in alone(network, pink_noise(INPUT_RATE, dbfs=-30))) < 0.5


async def test_calls_do_not_mix(silero: Silero, network: Network) -> None:
    voices = [recording(name)[: 2 * INPUT_RATE] for name in ("en-00.flac", "es-04.flac", "human-01.flac")]
    voices.append(silence(1.0))
    told = await listen(silero, *map(frames, voices))
    for heard, voice in zip(told, voices, strict=True):
        assert same(heard, alone(network, voice))


@settings(max_examples=15)
@given(sizes=st.lists(st.integers(1, 1500), max_size=30), length=st.integers(0, 12_000), offset=st.integers(0, 9_000))
def test_any_chunks_give_the_same_windows(network: Network, sizes: list[int], length: int, offset: int) -> None:
    pcm = recording("es-00.flac")[offset : offset + length]

    async def run() -> list[Activity]:
        engine = Silero(PATH)
        await engine.start()
        try:
            [told] = await listen(engine, frames(pcm, sizes))
        finally:
            await engine.aclose()
        return told

    assert same(asyncio.run(run()), alone(network, pcm))


# --- the gate


async def test_silence_is_never_asked_about(silero: Silero) -> None:
    told: list[Activity] = []
    ear = silero.listen(told.append)
    assert not any(ear.hear(frame) for frame in frames(silence(3.0), is_speech=False))
    await idle(silero)
    assert told == []


async def test_the_gate_opens_before_the_voice_and_closes_behind_it(silero: Silero) -> None:
    """Frames: 100 silent, 1 that may be speech, 100 silent. All of them are noise, so that the network says no."""
    noise = pink_noise(201 * INPUT_FRAME, dbfs=-55)
    heard = frames(noise, is_speech=False)
    heard[100] = AudioFrame(heard[100].pcm, heard[100].time, is_speech=True, level=-55, concealed=False)
    told: list[Activity] = []
    ear = silero.listen(told.append)
    open_frames = []
    for frame in heard:
        if ear.hear(frame):
            open_frames.append(frame)
        await idle(silero)
    assert [frame.time for frame in open_frames] == [frame.time for frame in heard[100 : 101 + HANGOVER]]
    first, last = told[0].time, told[-1].time
    assert first == pytest.approx((100 - LEAD) * 0.02 + 0.032)
    assert last == pytest.approx((101 + HANGOVER) * 0.02, abs=0.032)
    assert np.allclose(np.diff([activity.time for activity in told]), 0.032)


async def test_a_gap_shorter_than_the_lead_is_none(silero: Silero, network: Network) -> None:
    voice = recording("en-04.flac")[: (HANGOVER + 30) * INPUT_FRAME]
    heard = frames(voice, is_speech=False)
    for at in (0, HANGOVER + LEAD):
        heard[at] = AudioFrame(heard[at].pcm, heard[at].time, is_speech=True, level=-20, concealed=False)
    told: list[Activity] = []
    ear = silero.listen(told.append)
    for frame in heard:  # no answer in between, which would keep the gate open
        ear.hear(frame)
    await idle(silero)
    assert ear.skipped == len(alone(network, voice)) - MAX_WAITING
    assert [activity.time for activity in told] == pytest.approx(
        [activity.time for activity in alone(network, voice)[-MAX_WAITING:]]
    )


@pytest.mark.parametrize(("snr", "most"), [(60, 0.95), (15, 0.95), (5, 1.0)])
async def test_the_gate_loses_nothing(silero: Silero, network: Network, snr: int, most: float) -> None:
    """Against asking always: as good as every voiced window, and the beginning as early."""
    names = ("human-01.flac", "en-08.flac", "es-short-02.flac", "es-06.flac", "en-short-04.flac")
    pcm = np.concatenate([part for name in names for part in (silence(1.5), recording(name))] + [silence(1.5)])
    voice = np.concatenate([recording(name) for name in names]).astype(np.float64)
    dbfs = 10 * np.log10(np.mean((voice / 32768) ** 2)) - snr
    noisy = np.clip(pcm.astype(np.int32) + pink_noise(len(pcm), dbfs=dbfs), -32768, 32767).astype(np.int16)
    [told] = await listen(silero, frames(noisy, is_speech=None))
    always = alone(network, noisy)
    voiced = np.array([time for probability, time in always if probability > 0.5])
    found = np.array([time for probability, time in told if probability > 0.5])
    lost = [time for time in voiced if np.abs(found - time).min() > 0.033]
    assert len(lost) <= 0.02 * len(voiced)
    assert len(told) <= most * len(always)
    assert all(one.time < other.time for one, other in pairwise(told))


# --- when it is too much, and at the end


async def test_what_is_too_old_is_skipped(silero: Silero) -> None:
    told: list[Activity] = []
    ear = silero.listen(told.append)
    for frame in frames(recording("en-00.flac")[: 100 * INPUT_FRAME]):
        ear.hear(frame)  # the loop has no time for the thread
    await idle(silero)
    assert ear.skipped == 62 - MAX_WAITING
    assert [activity.time for activity in told] == pytest.approx([0.032 * n for n in range(63 - MAX_WAITING, 63)])


async def test_after_a_reset_nothing_old_is_told(silero: Silero, network: Network) -> None:
    told: list[Activity] = []
    ear = silero.listen(told.append)
    old, new = recording("en-00.flac")[:INPUT_RATE], recording("es-00.flac")[: 20 * INPUT_FRAME]
    for frame in frames(old)[:20]:
        ear.hear(frame)
    await asyncio.sleep(0)  # the first window is with the thread
    ear.reset()
    for frame in frames(new):
        ear.hear(frame)
    await idle(silero)
    assert same(told, alone(network, new))
    for frame in frames(new):
        ear.hear(frame)
    ear.close()
    count = len(told)
    await idle(silero)
    assert len(told) == count


async def test_a_call_that_fails_costs_no_other(
    silero: Silero, network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Activity) -> None:
        raise ValueError

    pcm = recording("en-00.flac")[: 10 * INPUT_FRAME]
    told: list[Activity] = []
    ears = [silero.listen(fail), silero.listen(told.append)]
    for frame in frames(pcm):
        for ear in ears:
            ear.hear(frame)
    await idle(silero)
    assert same(told, alone(network, pcm))
    assert "could not take" in caplog.text


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == Silero.name]


async def test_nothing_is_left(network: Network) -> None:
    engine = Silero(PATH)
    await engine.start()
    await engine.start()
    assert len(threads()) == 1
    told: list[Activity] = []
    ear = engine.listen(told.append)
    for frame in frames(recording("en-00.flac")):
        ear.hear(frame)
    await asyncio.sleep(0)
    await engine.aclose()
    await engine.aclose()
    assert threads() == []
    await asyncio.sleep(0.01)
    assert told == []


async def test_closed_while_it_loads() -> None:
    engine = Silero(PATH)
    starting = asyncio.create_task(engine.start())
    await asyncio.sleep(0)
    await engine.aclose()
    await starting
    assert not engine.ready
    assert threads() == []


async def cheap(engine: Silero) -> None:
    """It tells each frame, as the cheap detector judges it."""
    told: list[Activity] = []
    ear = engine.listen(told.append)
    heard = frames(recording("human-00.flac")[:INPUT_RATE], is_speech=None)
    assert all(ear.hear(frame) for frame in heard)
    assert same(told, [Activity(float(frame.is_speech), frame.time + 0.02) for frame in heard])


async def test_without_the_file_the_cheap_detector_answers(tmp_path: Path) -> None:
    engine = Silero(tmp_path / SILERO.name)
    with pytest.raises(EngineError, match=r"silero_vad_16k_op15.onnx is missing: run `voice-server setup`"):
        await engine.start()
    assert threads() == []
    await cheap(engine)
    (tmp_path / SILERO.name).write_bytes(b"nonsense")
    with pytest.raises(EngineError, match="is damaged"):
        await engine.start()
    await engine.aclose()


async def test_a_network_that_fails_is_replaced_by_the_cheap_detector(
    silero: Silero, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Network, "run", lambda *_: 1 / 0)
    ear = silero.listen(lambda _: None)
    for frame in frames(recording("en-00.flac")[: 5 * INPUT_FRAME]):
        ear.hear(frame)
    await until(lambda: not silero.ready)
    assert "the cheap detector takes its place" in caplog.text
    await cheap(silero)
