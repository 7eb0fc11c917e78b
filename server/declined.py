"""What a backend may ask for and this server does not do, and the answer that keeps the asker from waiting for ever.

Source: protocol 3.21. Pure functions from a frame to the frame that answers it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

Frame = Mapping[str, Any]

MAX_ECHO = 200
"""Characters of an id or a number that is sent back."""

ECHOED = ("agent_id", "call_id", "session_id", "request_id")


def error(code: str, text: str, frame: Frame | None = None, **more: Any) -> dict[str, Any]:
    """The generic error of protocol 3.21, with the ids of the frame that it answers."""
    ids = {key: value for key in ECHOED if (value := echo(frame or {}, key))}
    return {"event": "error", "code": code, "error": text, **ids, **more}


def echo(frame: Frame, key: str) -> str:
    """A text of the frame that is fit to be sent back, else an empty one."""
    value = frame.get(key)
    return value if isinstance(value, str) and len(value) <= MAX_ECHO else ""


def _line_error(frame: Frame) -> dict[str, Any]:
    text = "phone lines are not available on this server"
    return {"event": "line.error", "number": echo(frame, "number"), "code": "LINE_CONFIG_ERROR", "error": text}


def _line_destroyed(frame: Frame) -> dict[str, Any]:
    return {"event": "line.destroyed", "number": echo(frame, "number")}


def _never_dialled(frame: Frame) -> dict[str, Any]:
    """An outbound call that has ended at once: the one frame at which the waiting promise rejects."""
    return {
        "event": "call.ended",
        "agent_id": echo(frame, "agent_id"),
        "call_id": str(uuid.uuid4()),
        "direction": "outbound",
        "reason": "unsupported",
        "from": echo(frame, "from"),
        "to": echo(frame, "to") or echo(frame, "target"),
    }


def _not_routed(frame: Frame) -> dict[str, Any]:
    agent = echo(frame, "agent") or echo(frame, "target")
    ids = {"agent_id": echo(frame, "agent_id"), "call_id": echo(frame, "call_id")}
    return {"event": "call.route_failed", **ids, "agent": agent, "reason": "unknown"}


def _unsupported(frame: Frame) -> dict[str, Any]:
    return error("UNSUPPORTED", f"{frame['event']} needs a phone line, and there is none on this server", frame)


def _unknown(frame: Frame) -> dict[str, Any]:
    return error("UNKNOWN_COMMAND", f"{echo(frame, 'event')[:80]!r} is no command of this server", frame)


_DECLINED: Mapping[str, Callable[[Frame], dict[str, Any]]] = {
    "line.create": _line_error,
    "line.destroy": _line_destroyed,
    "call.dial": _never_dialled,
    "call.bridge": _never_dialled,
    "call.route": _not_routed,
    **dict.fromkeys(("call.forward", "call.dtmf", "call.accept", "call.reject"), _unsupported),
}


def declined(frame: Frame) -> dict[str, Any]:
    """The answer to a frame that is no command here; ``frame["event"]`` is text."""
    return _DECLINED.get(frame["event"], _unknown)(frame)
