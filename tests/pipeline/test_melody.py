"""How far a voice falls at its end, measured on tones whose melody is known."""

from __future__ import annotations

import numpy as np
import pytest

from media.audio import INPUT_RATE, Pcm
from pipeline.melody import LONGEST, fall
from pipeline.smart_turn import LEAST_FALL, MOST_FALL, USUAL_FALL, weigh


def voice(*notes: tuple[float, float], noise: float = 0.0, loudness: float = 3000) -> Pcm:
    """Buzzing like a voice: from each pitch (Hz) straight to the next one in so many seconds."""
    times = np.cumsum([0.0, *(seconds for _, seconds in notes[1:])])
    at = np.arange(round(times[-1] * INPUT_RATE)) / INPUT_RATE
    phase = 2 * np.pi * np.cumsum(np.interp(at, times, [pitch for pitch, _ in notes])) / INPUT_RATE
    sound = np.sum([np.sin(n * phase) / n for n in range(1, 9)], axis=0)
    return (loudness * (sound + noise * np.random.default_rng(0).normal(size=len(at)))).astype(np.int16)


@pytest.mark.parametrize("pitch", [90.0, 130.0, 220.0, 330.0])
def test_a_voice_that_falls_by_an_octave(pitch: float) -> None:
    assert fall(voice((pitch, 0), (pitch, 1.5), (pitch * 0.5 + 40, 0.3))) == pytest.approx(
        12 * np.log2(pitch / (pitch * 0.5 + 40)), abs=2.0
    )


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_statements_fall_and_who_goes_on_stays_up_or_rises(noise: float) -> None:
    done = fall(voice((180, 0), (200, 0.8), (180, 0.5), (120, 0.4), noise=noise))
    level = fall(voice((180, 0), (200, 0.8), (180, 0.9), noise=noise))
    rising = fall(voice((180, 0), (160, 1.2), (230, 0.4), noise=noise))
    assert done is not None
    assert level is not None
    assert rising is not None
    assert rising < level < done - 3
    assert done > 6
    assert rising < 1


def test_it_does_not_depend_on_loudness_or_on_what_was_long_ago() -> None:
    notes = ((200.0, 0.0), (200.0, 1.0), (140.0, 0.4))
    expected = fall(voice(*notes))
    assert fall(voice(*notes, loudness=100)) == pytest.approx(expected, abs=0.5)
    before = voice((300, 0), (300, 3.0))
    assert len(before) + len(voice(*notes)) > LONGEST
    assert fall(np.concatenate([before, np.zeros(2 * INPUT_RATE, np.int16), voice(*notes)])) == pytest.approx(expected)


@pytest.mark.parametrize("samples", [0, 10, INPUT_RATE // 50, INPUT_RATE])
def test_where_there_is_no_voice_nothing_is_known(samples: int) -> None:
    assert fall(np.zeros(samples, np.int16)) is None
    assert fall(np.random.default_rng(0).normal(0, 1000, samples).astype(np.int16)) is None


def test_the_more_it_falls_the_more_probably_somebody_is_done() -> None:
    probabilities = [weigh(0.5, semitones) for semitones in np.linspace(LEAST_FALL, MOST_FALL, 20)]
    assert probabilities == sorted(set(probabilities))
    assert weigh(0.5, LEAST_FALL - 5) == weigh(0.5, LEAST_FALL)
    assert weigh(0.5, MOST_FALL + 5) == weigh(0.5, MOST_FALL)
    assert weigh(0.5, None) == weigh(0.5, USUAL_FALL)
    assert weigh(0.0, 5.0) < weigh(0.5, 5.0) < weigh(1.0, 5.0)
    assert 0 < weigh(0.0, -100.0) < weigh(1.0, 100.0) < 1
