from __future__ import annotations

from typing import Any

import pytest

from config.agent import SessionLimits
from pipeline.events import IdleWarning, SessionTimeout
from pipeline.limits import Limits


class Watch:
    def __init__(self, **limits: float) -> None:
        self.limits = Limits(SessionLimits(**limits), 0.0)
        self.now = 0.0
        self.events: list[tuple[float, Any]] = []

    def wait(self, seconds: float, *, busy: bool = False) -> Watch:
        for _ in range(round(seconds * 4)):
            self.now += 0.25
            self.events += [(self.now, event) for event in self.limits.advance(self.now, busy=busy)]
        return self


def warning(remaining: float, timeout: float = 60) -> IdleWarning:
    return IdleWarning(remaining_seconds=remaining, idle_timeout_seconds=timeout)


def test_the_defaults() -> None:
    assert Watch().wait(70).events == [
        (45, warning(15)),
        (60, warning(10)),
        (70, SessionTimeout(reason="idle_timeout")),
    ]


def test_the_bot_stretches_the_clock_and_the_user_resets_it() -> None:
    watch = Watch().wait(40).wait(20, busy=True).wait(4.75)
    assert watch.events == []
    assert watch.wait(0.25).events == [(65, warning(15))]
    watch.limits.user_spoke()
    assert watch.wait(44.75).events == [(65, warning(15))]
    assert watch.wait(0.25).events[1:] == [(110, warning(15))]


def test_the_longest_call() -> None:
    watch = Watch(max_duration_seconds=20).wait(20, busy=True)
    assert watch.events == [(20, SessionTimeout(reason="max_duration"))]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"idle_warning_seconds": 0}, [(60, warning(10)), (70, SessionTimeout(reason="idle_timeout"))]),
        ({"idle_grace_seconds": 0}, [(45, warning(15)), (60, SessionTimeout(reason="idle_timeout"))]),
        ({"idle_timeout_seconds": 0}, []),
        (
            {"idle_timeout_seconds": 5},  # shorter than its warning
            [(0.25, warning(5, 5)), (5, warning(10, 5)), (15, SessionTimeout(reason="idle_timeout"))],
        ),
    ],
)
def test_zeros_and_short_times(limits: dict[str, float], expected: list[Any]) -> None:
    assert Watch(max_duration_seconds=0, **limits).wait(200).events[: len(expected) or 1] == expected
