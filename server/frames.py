"""What a browser hears of its call: events as frames for the DataChannel. Source: protocol 1.3, 4.3, 4.4."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable

from pipeline.events import CallEnded, Event, LlmResponse

logger = logging.getLogger(__name__)

HIDDEN_EVENTS = frozenset({"call.started"})
"""For backends and the call log only: it carries the sealed metadata."""

HIDDEN_FIELDS = {"call.ended": frozenset({"messages"})}


class BrowserFrames:
    """Numbers and stamps the events of one call and sends those that are meant for the browser."""

    def __init__(self, call_id: str, agent_id: str) -> None:
        self._envelope = {"call_id": call_id, "session_id": call_id, "agent_id": agent_id}
        self._send: Callable[[str], object] | None = None
        self._seq = 0

    def open(self, send: Callable[[str], object]) -> None:
        """From now on frames go out through ``send``, which keeps them in order until the channel is open."""
        self._send = send

    def publish(self, event: Event) -> None:
        """The subscriber of a call. ``seq`` counts every event of the call, those that stay here included."""
        self._seq += 1
        call_id = self._envelope["call_id"]
        if isinstance(event, LlmResponse):
            logger.info("call %s: answered by %s", call_id, event.engine or "nobody")
        elif isinstance(event, CallEnded):
            logger.info("call %s ended after %.1f s: %s", call_id, event.duration_seconds, event.reason)
        if self._send is None or event.name in HIDDEN_EVENTS:
            return
        frame = event.frame(**self._envelope, seq=self._seq, ts=round(time.time(), 3))
        for hidden in HIDDEN_FIELDS.get(event.name, ()):
            frame.pop(hidden, None)
        self._send(json.dumps(frame))
