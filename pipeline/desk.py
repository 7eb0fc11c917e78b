"""Where a backend's commands to a session come in: each to whoever can do it, and an answer to those that want one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.session import Reply

logger = logging.getLogger(__name__)

Handler = Callable[[Mapping[str, Any]], Mapping[str, Any] | list[dict[str, Any]] | None]
"""Does what a frame says; returns the answers, if there are any. Raises ``CommandError``."""

ANSWERS = {
    "history.get": "history.data",
    "history.add": "history.updated",
    "history.set": "history.updated",
    "history.clear": "history.updated",
    "history.set_vars": "history.updated",
    "history.add_context": "history.updated",
    "history.set_instructions": "history.updated",
}
"""Requests that somebody waits for, and the answer's name, be it good or bad. Protocol 3.13."""


class CommandError(Exception):
    """A command cannot be used. The text is for a person and holds no secret."""


class Desk:
    """The handlers of one session by the ``event`` of their command."""

    def __init__(self, call_id: str, *handlers: Mapping[str, Handler]) -> None:
        self._call_id = call_id
        self._handlers: dict[str, Handler] = {}
        for each in handlers:
            self._handlers |= each

    def take(self, frame: Mapping[str, Any], reply: Reply) -> None:
        """Never raises. A fault of ours costs this command."""
        event = str(frame.get("event"))
        try:
            handler = self._handlers.get(event)
            if handler is None:
                raise CommandError(f"{event[:64]} means nothing to this session")
            answers = handler(frame)
            for answer in [answers] if isinstance(answers, Mapping) else answers or ():
                reply(self._addressed(answer, frame))
        except CommandError as error:
            reply(self._refusal(event, str(error), frame))
        except Exception:
            logger.exception("A command broke: %.64r", event)
            reply(self._refusal(event, "The command broke", frame))

    def decline(self, frame: Mapping[str, Any], reply: Reply) -> None:
        """There is no such session any more, or not yet: only who waits for an answer is told."""
        event = str(frame.get("event"))
        if event in ANSWERS:
            reply(self._refusal(event, "call not found", frame))

    def _refusal(self, event: str, text: str, frame: Mapping[str, Any]) -> dict[str, Any]:
        if event in ANSWERS:
            return self._addressed({"event": ANSWERS[event], "error": text}, frame)
        return self._addressed(complaint(text), frame)

    def _addressed(self, answer: Mapping[str, Any], frame: Mapping[str, Any]) -> dict[str, Any]:
        request = {"request_id": frame["request_id"]} if frame.get("request_id") is not None else {}
        return {**answer, "call_id": self._call_id, **request}


def complaint(text: str) -> dict[str, Any]:
    """The frame that tells a backend what is wrong with its own."""
    return {"event": "error", "code": "BAD_COMMAND", "error": text}


def text_of(frame: Mapping[str, Any], key: str, longest: int) -> str:
    """A text that is not empty. Raises ``CommandError``."""
    if text := optional_text_of(frame, key, longest):
        return text
    raise CommandError(f"{key}: expected a text of at most {longest} characters")


def optional_text_of(frame: Mapping[str, Any], key: str, longest: int) -> str | None:
    """A text, ``None`` when there is none.

    Raises ``CommandError`` for what is too long or no text.
    """
    value = frame.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > longest:
        raise CommandError(f"{key}: expected a text of at most {longest} characters")
    return sound(value)


def sound(text: str) -> str:
    """JSON can spell half a surrogate pair, which no UTF-8 can."""
    return text.encode("utf-8", "replace").decode()


def flag_of(frame: Mapping[str, Any], key: str) -> bool:
    return frame.get(key) is True
