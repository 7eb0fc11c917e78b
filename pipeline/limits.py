"""How long a call may last and how long nobody may speak. Protocol 7.7."""

from __future__ import annotations

from config.agent import SessionLimits
from pipeline.events import IdleWarning, SessionTimeout


class Limits:
    """Counts the seconds in which neither side speaks. It has no clock of its own: ``advance`` brings the time."""

    def __init__(self, limits: SessionLimits, now: float) -> None:
        self._limits = limits
        self._began = self._last = now
        self._idle = 0.0
        self._due = self._schedule()

    def user_spoke(self) -> None:
        """Speech or typed text: the idle time begins again."""
        self._idle = 0.0
        self._due = self._schedule()

    def change(self, limits: SessionLimits) -> None:
        """Other limits from now on; what has passed counts, but nobody is warned of what is past."""
        self._limits = limits
        self._due = [
            (at, event) for at, event in self._schedule() if at > self._idle or isinstance(event, SessionTimeout)
        ]

    def advance(self, now: float, *, busy: bool) -> list[IdleWarning | SessionTimeout]:
        """``busy``: the bot thinks or speaks, which stops the idle clock. A ``SessionTimeout`` ends the call."""
        elapsed, self._last = now - self._last, now
        duration = self._limits.max_duration_seconds
        if duration and now - self._began >= duration:
            return [SessionTimeout(reason="max_duration")]
        if not busy:
            self._idle += elapsed
        events = []
        while self._due and self._idle >= self._due[0][0]:
            events.append(self._due.pop(0)[1])
        return events

    def _schedule(self) -> list[tuple[float, IdleWarning | SessionTimeout]]:
        """What happens at which idle second."""
        timeout, warning = self._limits.idle_timeout_seconds, self._limits.idle_warning_seconds
        grace = self._limits.idle_grace_seconds
        if not timeout:
            return []
        due: list[tuple[float, IdleWarning | SessionTimeout]] = []
        if warning:
            due.append((max(0.0, timeout - warning), _warning(min(warning, timeout), timeout)))
        if grace:
            due.append((timeout, _warning(grace, timeout)))
        due.append((timeout + grace, SessionTimeout(reason="idle_timeout")))
        return due


def _warning(remaining: float, timeout: float) -> IdleWarning:
    return IdleWarning(remaining_seconds=remaining, idle_timeout_seconds=timeout)
