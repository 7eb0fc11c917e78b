"""Whisper on recorded speech; what it shares with Moonshine is tested there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio

from media.audio import INPUT_RATE, Pcm
from pipeline.engine import EngineError
from pipeline.stt import Transcript
from pipeline.stt.redecoding import RedecodingStream
from pipeline.stt.whisper import Whisper
from tests.voices import ENGLISH, SPANISH, recording, said, silence
from tests.words import word_error_rate

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE = 60.0
"""Seconds that an answer may take on a busy machine."""


@pytest_asyncio.fixture(loop_scope="module")
async def stream(whisper: Whisper) -> AsyncIterator[RedecodingStream]:
    stream = whisper.stream("es-MX")
    yield stream
    await stream.aclose()


async def result(stream: RedecodingStream) -> Transcript:
    async with asyncio.timeout(PATIENCE):
        async for transcript in stream:
            return transcript
    raise AssertionError("the stream ended")


async def hear(whisper: Whisper, language: str, pcm: Pcm) -> Transcript:
    stream = whisper.stream(language)
    try:
        stream.write(pcm)
        stream.flush()
        while not (transcript := await result(stream)).final:
            pass
        return transcript
    finally:
        await stream.aclose()


@pytest.mark.models
async def test_spanish_is_understood(whisper: Whisper) -> None:
    sentences = [name for name in SPANISH if name.startswith("es-") and "short" not in name]
    heard = [(said(name), (await hear(whisper, "es", recording(name))).text) for name in sentences]
    assert word_error_rate(*heard) < 0.1, heard


@pytest.mark.models
async def test_a_short_spanish_phrase_is_understood(whisper: Whisper) -> None:
    # Single words ("Sí.", "Vale.", "Para.") are misheard more often than not: the model is too small for them.
    assert (await hear(whisper, "es", recording("es-short-06.flac"))).text == "Claro que sí."


@pytest.mark.models
async def test_it_is_surer_of_what_it_hears_well(whisper: Whisper) -> None:
    pcm = recording("es-10.flac")
    noise = np.random.default_rng(0).normal(0, 0.4 * np.std(pcm), len(pcm))
    clear = await hear(whisper, "es", pcm)
    masked = await hear(whisper, "es", (pcm + noise).clip(-32768, 32767).astype(np.int16))
    assert 0 < masked.confidence < clear.confidence <= 1
    assert clear.confidence > 0.6


@pytest.mark.models
async def test_english_is_understood(whisper: Whisper) -> None:
    heard = [(said(name), (await hear(whisper, "en-GB", recording(name))).text) for name in ENGLISH]
    assert word_error_rate(*heard) < 0.06, heard


@pytest.mark.models
async def test_partials_come_while_one_speaks(stream: RedecodingStream) -> None:
    pcm = recording("es-10.flac")
    stream.write(pcm[: 2 * len(pcm) // 3])
    partial = await result(stream)
    assert not partial.final
    assert partial.text.startswith("Me gustaría")
    assert partial.language == "es"
    stream.write(pcm[2 * len(pcm) // 3 :])
    stream.flush()
    while not (transcript := await result(stream)).final:
        pass
    assert word_error_rate((said("es-10.flac"), transcript.text)) < 0.2


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
    stream.write(sounds[kind])
    stream.pause()
    stream.flush()
    assert await result(stream) == Transcript("", final=True, language="es")


@pytest.mark.models
async def test_a_voiced_noise_is_no_text(stream: RedecodingStream) -> None:
    """Bursts that the loudness takes for speech: the model itself must say that it is none."""
    bursts = np.random.default_rng(1).normal(0, 3000, 3 * INPUT_RATE)
    bursts *= np.repeat([1, 0.001, 1, 0.001, 1, 0.001], INPUT_RATE // 2)
    stream.write(bursts.astype(np.int16))
    stream.flush()
    assert await result(stream) == Transcript("", final=True, language="es")


@pytest.mark.models
async def test_a_language_that_it_does_not_know(whisper: Whisper) -> None:
    with pytest.raises(EngineError, match="does not know the language 'tlh'"):
        await hear(whisper, "tlh", recording("es-00.flac"))
