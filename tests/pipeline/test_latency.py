from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.latency import STAGES, Latency


@given(st.floats(0, 1e6), st.lists(st.floats(0, 20), min_size=6, max_size=6))
def test_the_stages_add_up_to_the_whole(start: float, durations: list[float]) -> None:
    latency = Latency(start)
    now = start
    for stage, duration in zip(STAGES, durations, strict=True):
        assert latency.stages() is None
        now += duration
        latency.reach(stage, now)
        latency.reach(stage, now + 99)  # only the first report counts
    stages = latency.stages()
    assert stages is not None
    assert list(stages) == list(STAGES)
    assert min(stages.values()) >= 0
    assert sum(stages.values()) == pytest.approx((now - start) * 1000, abs=1)
    for stage, duration in zip(STAGES, durations, strict=True):
        assert stages[stage] == pytest.approx(duration * 1000, abs=1.01)


def test_what_happens_out_of_order_costs_nothing() -> None:
    latency = Latency(10.0)
    for stage, now in zip(STAGES, [10.5, 10.4, 10.6, 10.6, 10.7, 10.8], strict=True):
        latency.reach(stage, now)
    assert latency.stages() == {"turn": 500, "stt": 0, "llm": 100, "clause": 0, "tts": 100, "send": 100}
