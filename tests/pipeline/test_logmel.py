"""What Whisper hears and writes, without the model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.audio import INPUT_RATE, Pcm
from pipeline.logmel import BANDS, HOP, RANGE, log_mel
from pipeline.stt.whisper import text_of
from tests.voices import recording


def tone(hz: float, seconds: float = 1.0) -> Pcm:
    return (8000 * np.sin(2 * np.pi * hz * np.arange(round(seconds * INPUT_RATE)) / INPUT_RATE)).astype(np.int16)


def test_silence_is_flat() -> None:
    assert np.array_equal(log_mel(np.zeros(0, np.int16), INPUT_RATE), np.full((BANDS, 100), -1.5, np.float32))


@pytest.mark.parametrize(("hz", "band"), [(200, 4), (1000, 26), (2000, 44), (4000, 62), (7800, 79)])
def test_a_tone_sounds_in_its_band(hz: float, band: int) -> None:
    """1 kHz is mel 15, each octave above has 10.08 mel, a band 0.5586: (15 + 10.08) / 0.5586 - 1 is band 44."""
    loudest = log_mel(tone(hz), INPUT_RATE)[:, 50].argmax()
    assert abs(int(loudest) - band) <= 1


def test_ten_times_the_power_is_a_quarter_more() -> None:
    quiet, loud = tone(1000) // 10, tone(1000)
    step = log_mel(loud, INPUT_RATE).max() - log_mel(quiet, INPUT_RATE).max()
    assert step == pytest.approx(2 / 4, abs=0.01)


@given(st.integers(0, 20_000), st.integers(0, 100))
def test_silence_behind_speech_changes_nothing(length: int, more: int) -> None:
    """The frames that are not calculated are what calculating them would give."""
    pcm = recording("es-00.flac")[:length]
    hops = -(-length // HOP) + 2
    short, long = log_mel(pcm, hops * HOP), log_mel(pcm, (hops + more) * HOP)
    assert short.shape == (BANDS, hops)
    assert np.array_equal(long[:, :hops], short)
    padded = np.concatenate([pcm, np.zeros((hops + more) * HOP - length, np.int16)])
    assert np.allclose(log_mel(padded, (hops + more) * HOP), long, atol=1e-5)
    assert long.max() - long.min() <= RANGE / 4 + 1e-6


def test_text_of_tokens() -> None:
    assert text_of(["ĠSÃŃ", ",", "Ġse", "Ã±", "or"]) == "Sí, señor"
    assert text_of(["Ã"]) == ""  # half a letter
    assert text_of([]) == ""
