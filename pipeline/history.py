"""What a backend may read and change of what its model is told. Source: protocol 3.13."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from config.agent import AgentConfig
from pipeline.briefing import Briefing
from pipeline.conversation import MAX_MESSAGES
from pipeline.desk import CommandError, Handler, sound, text_of
from pipeline.llm import Message

MAX_TEXT = 64 * 1024
"""Characters of one message, context block or prompt."""

MAX_CALLS = 128
"""Tool calls of one message."""

ROLES = frozenset({"system", "user", "assistant", "tool"})


class History:
    """The ``history.*`` requests of one session; every one is answered."""

    def __init__(self, briefing: Briefing) -> None:
        self._briefing = briefing
        self._conversation = briefing.conversation

    def handlers(self) -> dict[str, Handler]:
        return {
            "history.get": self._get,
            "history.add": self._add,
            "history.set": self._set,
            "history.clear": self._clear,
            "history.set_vars": self._set_vars,
            "history.add_context": self._add_context,
            "history.set_instructions": self._set_instructions,
        }

    def _get(self, frame: Mapping[str, Any]) -> dict[str, Any]:
        return {"event": "history.data", "messages": self._conversation.history()}

    def _add(self, frame: Mapping[str, Any]) -> dict[str, Any]:
        self._conversation.extend(_messages(frame))
        return self._updated()

    def _set(self, frame: Mapping[str, Any]) -> dict[str, Any]:
        self._conversation.restore(_messages(frame))
        return self._updated()

    def _clear(self, frame: Mapping[str, Any]) -> dict[str, Any]:
        self._conversation.clear()
        return self._updated()

    def _set_vars(self, frame: Mapping[str, Any]) -> dict[str, Any]:
        agent, problems = AgentConfig.parse("", {"vars": frame.get("vars")})  # numbers become text there too
        if problems or not isinstance(frame.get("vars"), Mapping):
            raise CommandError("vars: expected an object of texts")
        self._briefing.set_variables(agent.vars)
        return self._updated()

    def _add_context(self, frame: Mapping[str, Any]) -> dict[str, Any]:
        self._briefing.add_context(text_of(frame, "text", MAX_TEXT))
        return self._updated()

    def _set_instructions(self, frame: Mapping[str, Any]) -> dict[str, Any]:
        given = frame.get("prompt", frame.get("instructions"))
        if not isinstance(given, str) or len(given) > MAX_TEXT:
            raise CommandError(f"prompt: expected a text of at most {MAX_TEXT} characters")
        self._briefing.instructions = sound(given)
        return self._updated()

    def _updated(self) -> dict[str, Any]:
        return {"event": "history.updated", "count": len(self._conversation)}


def _messages(frame: Mapping[str, Any]) -> list[Message]:
    rows = frame.get("messages")
    if not isinstance(rows, list) or len(rows) > MAX_MESSAGES:
        raise CommandError(f"messages: expected a list of at most {MAX_MESSAGES} messages")
    return [_message(row, position) for position, row in enumerate(rows)]


def _message(row: object, position: int) -> Message:
    """A message in chat-completions form, without what no model is told."""
    place = f"messages[{position}]"
    if not isinstance(row, Mapping) or row.get("role") not in ROLES:
        raise CommandError(f"{place}: expected an object with a role of {', '.join(sorted(ROLES))}")
    content = row.get("content")
    if content is not None and (not isinstance(content, str) or len(content) > MAX_TEXT):
        raise CommandError(f"{place}.content: expected a text of at most {MAX_TEXT} characters")
    message: Message = {"role": row["role"], "content": sound(content or "")}
    if row["role"] == "assistant" and row.get("tool_calls"):
        message["tool_calls"] = _tool_calls(row["tool_calls"], f"{place}.tool_calls")
    if row["role"] == "tool":
        if not isinstance(row.get("tool_call_id"), str):
            raise CommandError(f"{place}.tool_call_id: expected a text")
        message["tool_call_id"] = sound(row["tool_call_id"])
    return message


def _tool_calls(rows: object, place: str) -> list[dict[str, Any]]:
    calls = []
    for row in rows if isinstance(rows, list) and len(rows) <= MAX_CALLS else [None]:
        function = row.get("function") if isinstance(row, Mapping) else None
        values = (
            (row.get("id"), function.get("name"), function.get("arguments"))
            if isinstance(row, Mapping) and isinstance(function, Mapping)
            else (None,)
        )
        if not all(isinstance(value, str) for value in values):
            raise CommandError(f"{place}: expected a list of {{id, type, function: {{name, arguments}}}}")
        call_id, name, arguments = (sound(str(value)) for value in values)
        calls.append({"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}})
    return calls
