"""Frames in the order in which they came, and waiting for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

Frame = dict[str, Any]

SECONDS = 30.0
"""How long anything may take on a machine under load."""


class Inbox:
    """What one client has received. Event loop only."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self._news = asyncio.Event()

    def put(self, frame: Frame) -> None:
        self.frames.append(frame)
        self.wake()

    def wake(self) -> None:
        """Something changed that ``until`` may wait for."""
        self._news.set()
        self._news = asyncio.Event()

    @property
    def mark(self) -> int:
        """A place before all that comes from now on."""
        return len(self.frames)

    def all(self, *events: str, since: int = 0, **fields: Any) -> list[Frame]:
        """Frames of these names (of any, when none is given) in which ``fields`` have these values."""
        return [frame for frame in self.frames[since:] if _fits(frame, events, fields)]

    def names(self, *events: str, since: int = 0) -> list[str]:
        """The names of frames, in order; of ``events`` alone, when any are given."""
        return [frame["event"] for frame in self.all(*events, since=since)]

    async def next(self, *events: str, since: int = 0, **fields: Any) -> Frame:
        """The first such frame from ``since`` on, be it there already or still to come."""

        def found() -> Iterator[Frame]:
            return (frame for frame in self.frames[since:] if _fits(frame, events, fields))

        await self.until(lambda: any(True for _ in found()), f"{events} with {fields}")
        return next(found())

    async def until(self, condition: Callable[[], object], wanted: str = "what was waited for") -> None:
        """Wait until it is true after some frame; fails after ``SECONDS``."""
        try:
            async with asyncio.timeout(SECONDS):
                while not condition():
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{wanted} did not come; there were {self.frames[-40:]}") from None


def _fits(frame: Frame, events: tuple[str, ...], fields: dict[str, Any]) -> bool:
    named = not events or frame["event"] in events
    return named and all(key in frame and frame[key] == value for key, value in fields.items())
