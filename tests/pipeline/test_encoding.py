"""Streams of MP3 in one process: many at a time, none mixed up, none left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from config.settings import Settings
from media.audio import OUTPUT_RATE, Pcm
from media.encoding import Format
from pipeline.background import Background
from pipeline.encoding import KEY, Encoders, encoding
from pipeline.engine import Engines
from tests.media.test_encoding import TONE, decoded, encoded, pitch


@pytest.fixture
async def background() -> AsyncIterator[Background]:
    background = Background(Engines(Settings()))
    yield background
    await background.aclose()


async def stream(background: Background, form: Format, pcm: Pcm, size: int = 3000) -> bytes:
    async with encoding(background, form, OUTPUT_RATE) as codec:
        parts = [await codec.encode(pcm[start : start + size]) for start in range(0, len(pcm), size)]
        return b"".join([*parts, await codec.finish()])


@pytest.mark.parametrize("form", ["pcm", "wav", "mp3"])
async def test_it_is_what_an_encoder_makes(background: Background, form: Format) -> None:
    assert await stream(background, form, TONE) == encoded(form, OUTPUT_RATE, [TONE])


async def test_streams_at_the_same_time_are_not_mixed_up(background: Background) -> None:
    time = np.arange(OUTPUT_RATE) / OUTPUT_RATE
    tones = {hertz: (8000 * np.sin(2 * np.pi * hertz * time)).astype(np.int16) for hertz in (200, 400, 600, 800)}
    made = await asyncio.gather(*(stream(background, "mp3", tone, 1000 + hertz) for hertz, tone in tones.items()))
    for hertz, data in zip(tones, made, strict=True):
        assert pitch(*decoded(data)) == pytest.approx(hertz, abs=5)


async def test_a_stream_that_is_left_is_forgotten(background: Background) -> None:
    async with encoding(background, "mp3", OUTPUT_RATE) as codec:
        await codec.encode(TONE)
    async with background.borrow(KEY, lambda: None) as lent:
        assert await lent.engine._worker.call("finish", 0) == b""


def test_what_the_process_keeps_is_what_is_open() -> None:
    encoders = Encoders()
    for number in range(3):
        encoders.encode(number, OUTPUT_RATE, TONE.tobytes())
    assert encoders.finish(1)
    assert set(encoders._open) == {0, 2}
    assert encoders.finish(7) == b""
