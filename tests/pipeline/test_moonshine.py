"""Moonshine on recorded speech: what it hears, when it tells it, and that one stream never disturbs another."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio

from media.audio import INPUT_RATE, Pcm
from pipeline.engine import EngineError
from pipeline.stt import Transcript
from pipeline.stt.moonshine import Moonshine
from pipeline.stt.redecoding import LONGEST, MAX_HELD, RedecodingStream
from tests.voices import ENGLISH, recording, said, silence
from tests.words import word_error_rate

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE = 60.0
"""Seconds that an answer may take on a busy machine."""


@pytest_asyncio.fixture(loop_scope="module")
async def stream(moonshine: Moonshine) -> AsyncIterator[RedecodingStream]:
    stream = moonshine.stream("en-US")
    yield stream
    await stream.aclose()


def write(stream: RedecodingStream, pcm: Pcm, frame: int = 320) -> None:
    for start in range(0, len(pcm), frame):
        stream.write(pcm[start : start + frame])


async def result(stream: RedecodingStream) -> Transcript:
    async with asyncio.timeout(PATIENCE):
        async for transcript in stream:
            return transcript
    raise AssertionError("the stream ended")


async def final(stream: RedecodingStream) -> str:
    while not (transcript := await result(stream)).final:
        pass
    return transcript.text


async def hear(moonshine: Moonshine, name: str) -> str:
    stream = moonshine.stream("en")
    try:
        write(stream, recording(name))
        stream.flush()
        return await final(stream)
    finally:
        await stream.aclose()


@pytest.mark.models
async def test_recorded_speech_is_understood(moonshine: Moonshine) -> None:
    heard = [(said(name), await hear(moonshine, name)) for name in ENGLISH]
    assert word_error_rate(*heard) < 0.06, heard


@pytest.mark.models
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("en-short-00.flac", "Yes."),
        ("en-short-04.flac", "Stop."),
        ("question-sum.flac", "What is seven plus five?"),
        ("question-date.flac", "What is the date today?"),
        ("question-time.flac", "What time is it?"),
    ],
)
async def test_short_utterances_and_questions(moonshine: Moonshine, name: str, text: str) -> None:
    assert await hear(moonshine, name) == text


@pytest.mark.models
async def test_it_is_surer_of_what_it_hears_well(stream: RedecodingStream) -> None:
    rng = np.random.default_rng(0)

    async def confidence(pcm: Pcm) -> float:
        write(stream, pcm)
        stream.flush()
        while not (transcript := await result(stream)).final:
            pass
        assert transcript.text
        return transcript.confidence

    for name in ("en-00.flac", "en-06.flac", "question-sum.flac"):
        pcm = recording(name)
        noisy = (pcm + rng.normal(0, 0.4 * np.std(pcm), len(pcm))).clip(-32768, 32767).astype(np.int16)
        assert 0 < await confidence(noisy) < await confidence(pcm) - 0.03 < 0.97, name


@pytest.mark.models
async def test_partials_come_while_one_speaks(stream: RedecodingStream) -> None:
    pcm = recording("en-10.flac")
    half = len(pcm) // 2
    write(stream, pcm[:half])
    partial = await result(stream)
    assert not partial.final
    assert partial.text.startswith("I would like")
    write(stream, pcm[half:])
    stream.flush()
    assert word_error_rate((said("en-10.flac"), await final(stream))) == 0


@pytest.mark.models
async def test_after_a_pause_the_final_needs_no_decoding(moonshine: Moonshine, stream: RedecodingStream) -> None:
    write(stream, np.concatenate([recording("en-12.flac"), silence(0.2)]))
    stream.pause()
    while word_error_rate((said("en-12.flac"), (await result(stream)).text)):
        pass
    write(stream, silence(0.4))
    pid = moonshine._worker.pid
    assert pid
    os.kill(pid, signal.SIGSTOP)
    try:
        stream.flush()
        answer = await result(stream)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert answer.final
    assert word_error_rate((said("en-12.flac"), answer.text)) == 0


@pytest.mark.models
async def test_speech_after_a_pause_is_heard(stream: RedecodingStream) -> None:
    write(stream, np.concatenate([recording("en-12.flac"), silence(0.2)]))
    stream.pause()
    await result(stream)
    write(stream, np.concatenate([silence(0.2), recording("en-18.flac")]))
    stream.flush()
    both = f"{said('en-12.flac')} {said('en-18.flac')}"
    assert word_error_rate((both, await final(stream))) < 0.1


@pytest.mark.models
@pytest.mark.parametrize("kind", ["nothing", "silence", "noise", "tone", "click"])
async def test_what_is_no_speech_gives_an_empty_final(stream: RedecodingStream, kind: str) -> None:
    time = np.arange(3 * INPUT_RATE) / INPUT_RATE
    click = silence(3)
    click[INPUT_RATE : INPUT_RATE + 800] = 12_000
    sounds: dict[str, Pcm] = {
        "nothing": silence(0),
        "silence": silence(3),
        "noise": np.random.default_rng(0).normal(0, 600, len(time)).astype(np.int16),
        "tone": (8000 * np.sin(2 * np.pi * 440 * time)).astype(np.int16),
        "click": click,
    }
    write(stream, sounds[kind])
    stream.pause()
    stream.flush()
    assert await result(stream) == Transcript("", final=True, language="en")


@pytest.mark.models
async def test_one_final_for_each_flush(stream: RedecodingStream) -> None:
    write(stream, recording("en-18.flac"))
    stream.flush()
    stream.flush()
    write(stream, recording("question-time.flac"))
    stream.flush()
    finals = [await final(stream) for _ in range(3)]
    assert finals == ["Do you offer a discount for students?", "", "What time is it?"]


@pytest.mark.models
async def test_what_is_discarded_is_forgotten(stream: RedecodingStream) -> None:
    write(stream, recording("en-00.flac"))
    await asyncio.sleep(0)
    stream.discard()
    write(stream, recording("question-time.flac"))
    stream.flush()
    transcript = await result(stream)
    assert transcript == Transcript("What time is it?", True, transcript.confidence, "en")


@pytest.mark.models
async def test_a_partial_never_speaks_of_an_earlier_turn(stream: RedecodingStream) -> None:
    write(stream, recording("en-00.flac"))
    await result(stream)
    stream.flush()
    write(stream, recording("question-date.flac"))
    assert word_error_rate((said("en-00.flac"), await final(stream))) == 0
    stream.flush()
    while not (later := await result(stream)).final:
        assert later.text.startswith("What")
    assert later.text == "What is the date today?"


@pytest.mark.models
async def test_many_streams_share_one_model(moonshine: Moonshine) -> None:
    async def talk(name: str) -> str:
        stream = moonshine.stream("en")
        try:
            for part in np.array_split(recording(name), 6):
                write(stream, part)
                await asyncio.sleep(0.02)
            stream.pause()
            stream.flush()
            return await final(stream)
        finally:
            await stream.aclose()

    heard = await asyncio.gather(*(talk(name) for name in ENGLISH[:10]))
    for name, text in zip(ENGLISH, heard, strict=False):
        assert word_error_rate((said(name), text)) < 0.15, (name, text)


@pytest.mark.models
async def test_a_crash_of_the_model_costs_no_final(moonshine: Moonshine, stream: RedecodingStream) -> None:
    write(stream, recording("en-08.flac"))
    stream.flush()
    while not moonshine._worker._running:
        await asyncio.sleep(0)
    assert moonshine._worker.pid
    os.kill(moonshine._worker.pid, signal.SIGKILL)
    assert word_error_rate((said("en-08.flac"), await final(stream))) == 0


@pytest.mark.models
async def test_long_speech_is_cut_at_its_pauses(stream: RedecodingStream) -> None:
    names = [name for name in ENGLISH if "short" not in name][:9]
    text = " ".join(said(name) for name in names)
    for name in names:
        write(stream, np.concatenate([recording(name), silence(0.3)]))
        while len(stream._utterances[-1]) > 1.5 * LONGEST:
            await asyncio.sleep(0.01)
    stream.flush()
    async with asyncio.timeout(100):
        assert word_error_rate((text, await final(stream))) < 0.12


@pytest.mark.models
async def test_what_waits_is_bounded(moonshine: Moonshine, stream: RedecodingStream) -> None:
    pid = moonshine._worker.pid
    assert pid
    os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(12):
            write(stream, recording("human-00.flac"), 16_000)
            stream.flush()
            await asyncio.sleep(0)
        assert sum(len(utterance) for utterance in stream._utterances) <= MAX_HELD + 16_000
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.models
async def test_silence_is_not_kept(stream: RedecodingStream) -> None:
    for _ in range(100):
        write(stream, silence(0.6))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert len(stream._utterances[-1]) <= 2 * INPUT_RATE


@pytest.mark.models
async def test_closing_ends_the_iteration_and_leaves_nothing(moonshine: Moonshine) -> None:
    tasks = asyncio.all_tasks()
    stream = moonshine.stream("en")
    write(stream, recording("en-00.flac"))
    stream.flush()
    await asyncio.sleep(0)
    await stream.aclose()
    async with asyncio.timeout(PATIENCE):
        assert [t async for t in stream] == []
        assert [t async for t in stream] == []
        while moonshine._worker._running:
            await asyncio.sleep(0.01)
    assert asyncio.all_tasks() == tasks


async def test_other_languages_are_refused() -> None:
    with pytest.raises(EngineError, match="English only, not 'es'"):
        Moonshine().stream("es")


async def test_a_stream_of_an_engine_that_was_not_started_says_so() -> None:
    stream = Moonshine().stream("en")
    write(stream, recording("en-00.flac"))
    stream.flush()
    with pytest.raises(EngineError, match="moonshine: is not running"):
        await result(stream)
    await stream.aclose()
