from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server import rate
from server.rate import RateLimit


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_an_even_refill() -> None:
    clock = Clock()
    limit = RateLimit(60, clock)
    assert [limit.allow("a") for _ in range(61)] == [True] * 60 + [False]
    assert limit.allow("b")
    clock.now += 1
    assert [limit.allow("a"), limit.allow("a")] == [True, False]
    clock.now += 3600
    assert [limit.allow("a") for _ in range(61)] == [True] * 60 + [False]


@given(st.lists(st.floats(0, 30), max_size=200))
def test_never_more_than_the_limit_in_any_minute(gaps: list[float]) -> None:
    clock = Clock()
    limit = RateLimit(5, clock)
    allowed: list[float] = []
    for gap in gaps:
        clock.now += gap
        if limit.allow("a"):
            allowed.append(clock.now)
    for start in allowed:
        # A full bucket at once, then what is refilled in the minute.
        assert sum(start <= at < start + 60 for at in allowed) <= 10


def test_the_memory_is_bounded() -> None:
    limit = RateLimit(1)
    for number in range(rate.MAX_ADDRESSES + 100):
        limit.allow(str(number))
    assert len(limit._buckets) == rate.MAX_ADDRESSES
