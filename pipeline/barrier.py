"""Before an answer is generated its backend may still set something. Source: protocol 3.16."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from config.agent import PreparingConfig
from pipeline.events import Event, LlmBefore, LlmPreparingTimeout

UNASKED_MS = 150
"""The budget where the agent says nothing of it: the current SDK answers at once, the old one never."""

UNANSWERED = 3
"""Turns without an answer after which such an agent is not asked any more."""


class Barrier:
    """The wait for ``llm.ready``, at most one at a time."""

    def __init__(self, publish: Callable[[Event], None]) -> None:
        self._publish = publish
        self._loop = asyncio.get_running_loop()
        self._turn: int | None = None
        self._ready = asyncio.Event()
        self._unanswered = 0

    async def wait(self, turn: int, preparing: PreparingConfig | None, *, opted_in_only: bool = False) -> None:
        """Ask, and wait for the answer, for the agent's budget at most. ``opted_in_only``: chat asks no others."""
        budget = self._budget(preparing, opted_in_only=opted_in_only)
        if not budget:
            return
        began = self._loop.time()
        self._turn = turn
        self._ready.clear()
        self._publish(LlmBefore(turn=turn))
        try:
            async with asyncio.timeout(budget / 1000):
                await self._ready.wait()
        except TimeoutError:
            self._unanswered += 1
            if preparing:
                waited = round((self._loop.time() - began) * 1000)
                self._publish(LlmPreparingTimeout(turn=turn, waited_ms=waited, budget_ms=budget))
        else:
            self._unanswered = 0
        finally:
            self._turn = None

    def ready(self, turn: object) -> None:
        """``llm.ready``. One for another turn than that which waits comes too late."""
        if self._turn is not None and turn == self._turn and turn is not True:
            self._ready.set()

    def _budget(self, preparing: PreparingConfig | None, *, opted_in_only: bool) -> int:
        """ms; 0: nobody is asked."""
        if preparing is not None:
            return preparing.timeout_ms if preparing.enabled else 0
        return 0 if opted_in_only or self._unanswered >= UNANSWERED else UNASKED_MS
