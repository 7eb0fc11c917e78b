"""Which events are for whom, and as what frames: the browser's DataChannel and the backend's socket.

Both tables are lists of what is let through, so that a new event stays here until somebody decides. Source: protocol
3.9 to 3.19 for backends, 4.3 and 4.4 for browsers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.events import Event, KnownError, SessionOver, SessionTimeout
from server.feed import Fact
from server.registry import AgentKey

CONVERSATION = frozenset(
    {"speech.started", "speech.ended", "user.speaking", "user.message"}
    | {"eager.turn", "turn.pause", "turn.resumed", "turn.end", "turn.continued"}
    | {"bot.speaking", "bot.word", "bot.finished", "bot.interrupted", "message.confirmed"}
    | {"llm.tool_call", "skill.loaded", "skill.unloaded", "audio.metrics", "error"}
    | {"session.idle_warning", "session.timeout", "call.updated", "call.ended"}
)
"""What both hear."""

BROWSER_EVENTS = CONVERSATION | {
    "session.started",
    "session.ended",
    "config.updated",
    "turn.latency",
    "llm.thinking",
    "llm.response",
    "llm.error",
    "llm.tool_result",
}
BACKEND_EVENTS = CONVERSATION | {
    "call.started",  # with the sealed metadata
    "barge_in",
    "message.aborted",
    "reply.rejected",
    "llm.before",
    "llm.preparing_timeout",
    "llm.chat.started",
    "llm.chat.chunk",
    "llm.chat.ended",
    "llm.chat.error",
    "chat.message",
    "chat.response",
}

NOT_FOR_BROWSERS: tuple[type[Event], ...] = (SessionTimeout,)
NOT_FOR_BACKENDS: tuple[type[Event], ...] = (SessionOver, KnownError)
"""Two events share the name ``session.timeout``: for a browser it ends every session, and after everything else (4.6);
for a backend it tells of a limit, and comes before ``call.ended``. What an agent asks for and does not get a backend
was told at the registration.
"""

HIDDEN_FIELDS = {"call.ended": frozenset({"messages", "usage"})}
"""Of browsers."""

BEGINNINGS = frozenset({"call.started", "llm.chat.started"})
ENDINGS = frozenset({"call.ended", "llm.chat.ended", "llm.chat.error", "session.timeout"})


class BrowserFrames:
    """The sink of a browser: frames as text, through ``open``'s function."""

    def __init__(self, agent_id: str) -> None:
        self._agent_id = agent_id
        self._send: Callable[[str], object] | None = None

    def open(self, send: Callable[[str], object]) -> None:
        """From now on frames go out through ``send``, which keeps them in order until the channel is open."""
        self._send = send

    def __call__(self, fact: Fact) -> None:
        event = fact.event
        if self._send is None or event.name not in BROWSER_EVENTS or isinstance(event, NOT_FOR_BROWSERS):
            return
        frame = fact.frame(agent_id=self._agent_id)
        for hidden in HIDDEN_FIELDS.get(event.name, ()):
            frame.pop(hidden, None)
        self._send(json.dumps(frame))


class BackendFrames:
    """The sink of the backend that holds the agent, whichever that is at the time. ``tell``: see ``Hub.tell``.

    A session whose beginning no backend got to know does not end for one either (protocol 3.9); what is said in it is
    told all the same, so that tools run.
    """

    def __init__(self, tell: Callable[[AgentKey, Mapping[str, Any]], bool], key: AgentKey) -> None:
        self._tell = tell
        self._key = key
        self._known = False

    def __call__(self, fact: Fact) -> None:
        event = fact.event
        if event.name not in BACKEND_EVENTS or isinstance(event, NOT_FOR_BACKENDS):
            return
        if event.name in ENDINGS and not self._known:
            return
        frame = fact.frame()
        if event.name == "call.started":
            frame |= {"from": frame["transport"], "to": frame["transport"]}
        delivered = self._tell(self._key, frame)
        if event.name in BEGINNINGS:
            self._known = delivered
