"""Where the time of one answer went: contiguous stages, so that their sum is the whole."""

from __future__ import annotations

STAGES = ("turn", "stt", "llm", "clause", "tts", "send")
"""Silence -> turn decided -> final transcript -> first token -> first clause -> first audio -> first packet out."""


class Latency:
    """A stopwatch that starts when the user fell silent; times are the loop's clock in s.

    Stages may be over before it is known when the first began: an answer is prepared while the user may go on.
    """

    def __init__(self, silent_since: float = 0.0) -> None:
        self._start = silent_since
        self._ends: dict[str, float] = {}

    def begin(self, silent_since: float) -> None:
        self._start = silent_since

    def reach(self, stage: str, now: float) -> None:
        """The stage is over. Only the first report of each counts."""
        self._ends.setdefault(stage, now)

    def stages(self) -> dict[str, int] | None:
        """Whole ms per stage, none negative, adding up to the whole; ``None`` until every stage is over."""
        if any(stage not in self._ends for stage in STAGES):
            return None
        result = {}
        before = 0
        for stage in STAGES:
            after = max(before, round((self._ends[stage] - self._start) * 1000))
            result[stage] = after - before
            before = after
        return result
