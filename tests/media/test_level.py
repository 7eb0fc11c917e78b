from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from media import level
from media.audio import Pcm
from tests.media.signals import tone


def test_known_levels() -> None:
    assert level.dbfs(np.zeros(320, np.int16)) == level.SILENCE
    assert level.dbfs(np.zeros(0, np.int16)) == level.SILENCE
    assert level.dbfs(np.full(320, -32768, np.int16)) == pytest.approx(0, abs=1e-4)
    assert level.dbfs(tone(320, 16_000, 500, 32767)) == pytest.approx(-3.01, abs=0.01)
    assert level.dbfs(tone(320, 16_000, 500, 3276.7)) == pytest.approx(-23.01, abs=0.02)


@given(arrays.arrays(np.int16, st.integers(1, 400)))
def test_it_is_the_rms_level(pcm: Pcm) -> None:
    mean = float(np.mean(pcm.astype(np.float64) ** 2)) / 32768**2
    expected = 10 * np.log10(mean) if mean else level.SILENCE
    assert level.dbfs(pcm) == pytest.approx(max(level.SILENCE, expected), abs=1e-3)
    assert level.SILENCE <= level.dbfs(pcm) <= 1e-3
