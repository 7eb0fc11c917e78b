"""The one stream of events of a session, from which every receiver is fed. Source: protocol 1.3."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.events import CallEnded, Event, LlmResponse
from server.registry import AgentKey

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fact:
    """An event with its place in the session: ``seq`` counts all of them from 1, whoever gets to see them."""

    event: Event
    session_id: str
    seq: int
    ts: float
    """Epoch seconds."""

    def frame(self, **more: Any) -> dict[str, Any]:
        """The wire form: the event's name, where it belongs, its fields. A call and its session have one id."""
        where = {"call_id": self.session_id, "session_id": self.session_id, "seq": self.seq, "ts": self.ts}
        return self.event.frame(**more, **where)


Sink = Callable[[Fact], None]
"""Takes every fact, each once, in order, on the event loop. Must not wait."""

WriteDown = Callable[[AgentKey, str], Sink]
"""Gives the sink that writes a session down, by its agent and its id. See ``server.call_log``."""


class Feed:
    """``publish`` is the subscriber that a session gets; ``sinks`` are told in their order."""

    def __init__(self, session_id: str, *sinks: Sink) -> None:
        self._session_id = session_id
        self._sinks = sinks
        self._seq = 0

    def publish(self, event: Event) -> None:
        """Never raises: a receiver that fails costs neither the others nor the call."""
        self._seq += 1
        fact = Fact(event, self._session_id, self._seq, round(time.time(), 3))
        for sink in self._sinks:
            try:
                sink(fact)
            except Exception:
                logger.exception("session %s: a receiver of %s failed", self._session_id, event.name)


def log_fact(fact: Fact) -> None:
    """The sink of the process log: no word of what was said."""
    if isinstance(fact.event, LlmResponse):
        logger.info("call %s: answered by %s", fact.session_id, fact.event.engine or "nobody")
    elif isinstance(fact.event, CallEnded):
        logger.info("call %s ended after %.1f s: %s", fact.session_id, fact.event.duration_seconds, fact.event.reason)
