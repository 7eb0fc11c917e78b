"""What was said so far, as a language model reads it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.llm import Message

MAX_MESSAGES = 1_000
"""Messages kept for the whole call; beyond that the oldest are forgotten."""

MODEL_MESSAGES = 100
"""Messages of the history that a model is given."""


@dataclass(slots=True)
class _Entry:
    message: Message
    message_id: str | None


class Conversation:
    """The history of one call in chat-completions form, without the system prompt.

    A message of the bot is added as far as it was heard. It stands under its id, so that it can be taken out again.
    """

    def __init__(self) -> None:
        self._entries: list[_Entry] = []

    def __len__(self) -> int:
        return len(self._entries)

    def add_user(self, text: str) -> None:
        self._add({"role": "user", "content": text}, None)

    def add_assistant(self, message_id: str, text: str) -> None:
        self._add({"role": "assistant", "content": text}, message_id)

    def add_tools(self, message_id: str, message: Message, results: Iterable[Message]) -> None:
        """One round of tools: the assistant's message with ``tool_calls`` and the ``tool`` messages that answer it."""
        for each in (message, *results):
            self._add(each, message_id)

    def replace_user(self, text: str) -> None:
        """The user went on: ``text`` takes the place of what they said last."""
        for entry in reversed(self._entries):
            if entry.message["role"] == "user":
                entry.message = {"role": "user", "content": text}
                return
        self.add_user(text)

    def remove(self, message_id: str) -> None:
        """Take out what the assistant said under this id. Rounds of tools stay: they happened."""
        self._entries = [
            entry for entry in self._entries if entry.message_id != message_id or not _is_speech(entry.message)
        ]

    def messages(self) -> list[Message]:
        """All of it, as for ``call.ended``."""
        return [dict(entry.message) for entry in self._entries]

    def supposing(self, text: str, *, replaces: bool) -> Conversation:
        """A copy in which the user has said ``text`` too; ``replaces``: in place of what they said last."""
        copy = Conversation()
        copy._entries = [_Entry(entry.message, entry.message_id) for entry in self._entries]
        if replaces:
            copy.replace_user(text)
        else:
            copy.add_user(text)
        return copy

    def for_model(self, system_prompt: str, limit: int = MODEL_MESSAGES) -> list[Message]:
        """The system prompt (when there is one) and at most ``limit`` last messages that form a valid request."""
        system: list[Message] = [{"role": "system", "content": system_prompt}] if system_prompt else []
        return system + recent(self.messages(), limit)

    def _add(self, message: Message, message_id: str | None) -> None:
        self._entries.append(_Entry(dict(message), message_id))
        if len(self._entries) > MAX_MESSAGES:
            kept = recent([entry.message for entry in self._entries], MAX_MESSAGES)
            del self._entries[: len(self._entries) - len(kept)]


def recent(messages: Sequence[Message], limit: int) -> list[Message]:
    """The last messages, ``limit`` at most, without a result whose call was left out.

    What is left out grows in steps of half the limit, not message by message: a model that keeps the beginning of a
    conversation in its cache finds the same beginning for many turns.
    """
    step = max(1, limit // 2)
    excess = max(0, len(messages) - limit)
    start = -(-excess // step) * step
    while start < len(messages) and messages[start]["role"] == "tool":
        start += 1
    return list(messages[start:])


def _is_speech(message: Message) -> bool:
    return message["role"] == "assistant" and not message.get("tool_calls")
