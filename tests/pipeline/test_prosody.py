"""What the turn model sees: measured on tones whose melody is known, and on recorded voices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.audio import INPUT_RATE, Pcm
from pipeline.prosody import BANDS, CHANNELS, FRAMES, LENGTH, LOUD, SEMITONES, SILENT, prosody
from tests.voices import recording

PITCH, VOICED, SURE, LOUDNESS = range(BANDS, CHANNELS)


def voice(*notes: tuple[float, float], noise: float = 0.0) -> Pcm:
    """Buzzing like a voice: from each pitch (Hz) straight to the next one in so many seconds."""
    times = np.cumsum([0.0, *(seconds for _, seconds in notes[1:])])
    at = np.arange(round(times[-1] * INPUT_RATE)) / INPUT_RATE
    phase = 2 * np.pi * np.cumsum(np.interp(at, times, [pitch for pitch, _ in notes])) / INPUT_RATE
    sound = np.sum([np.sin(n * phase) / n for n in range(1, 9)], axis=0)
    return (3000 * (sound + noise * np.random.default_rng(0).normal(size=len(at)))).astype(np.int16)


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("pitch", [90.0, 130.0, 220.0, 330.0])
def test_pitch_is_told_against_the_middle(pitch: float, noise: float) -> None:
    seen = prosody(voice((pitch, 0), (pitch, 1.5), (pitch * 0.75, 0.01), (pitch * 0.75, 0.5), noise=noise))
    assert seen[-120:, VOICED].mean() > 0.95
    assert np.median(seen[-150:-70, PITCH]) == pytest.approx(0, abs=0.1)
    assert np.median(seen[-20:, PITCH]) == pytest.approx(12 * np.log2(0.75) / SEMITONES, abs=0.1)


def test_noise_has_no_pitch() -> None:
    seen = prosody(np.random.default_rng(0).normal(0, 1000, INPUT_RATE).astype(np.int16))
    assert seen[:, VOICED].mean() < 0.05


@settings(max_examples=30)
@given(st.integers(0, 60_000))
def test_any_length_has_one_shape_and_stands_at_the_end(length: int) -> None:
    seen = prosody(recording("human-00.flac")[:length])
    assert seen.shape == (FRAMES, CHANNELS)
    assert np.isfinite(seen).all()
    loudness = seen[:, [*range(BANDS), LOUDNESS]]
    assert loudness.min() >= SILENT
    assert loudness.max() <= LOUD
    before = max(0, FRAMES - length // 160)
    assert (loudness[:before] == SILENT).all()
    assert not seen[:before, PITCH : SURE + 1].any()


def test_loudness_and_what_was_long_ago_do_not_matter() -> None:
    pcm = recording("human-00.flac")
    last = pcm[-LENGTH:]
    assert len(pcm) > LENGTH
    assert (prosody(pcm) == prosody(last)).all()
    assert np.abs(prosody(last // 4) - prosody(last))[:, :BANDS].mean() < 0.1
