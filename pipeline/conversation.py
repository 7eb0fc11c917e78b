"""What was said so far, as a language model reads it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from pipeline.llm import Message

MAX_MESSAGES = 1_000
"""Messages kept for the whole call; beyond that the oldest are forgotten."""

MAX_CHARACTERS = 1 << 20
"""Characters of all of them, likewise. Even with each escaped in JSON they fit what may wait for a backend."""

MODEL_MESSAGES = 100
"""Messages of the history that a model is given."""


@dataclass(slots=True)
class _Entry:
    """What belongs together: one message, or one round of tools. Its place is taken before it is known how it ends."""

    id: str | None = None
    kept: list[Message] = field(default_factory=list)
    """What counts as said."""
    told: list[Message] = field(default_factory=list)
    """What the model reads: also what the bot means to say and is not heard yet, and results for one reply only."""
    is_tools: bool = False
    is_aside: bool = False
    """Said on behalf of the backend: it was heard, and is no part of the model's own history (protocol 3.12)."""


class Conversation:
    """The history of one call or chat in chat-completions form, without the system prompt.

    A message of the bot is added as far as it was heard. It stands under its id, so that it can be taken out again.
    """

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._answered = False
        """The user has said something to what the bot said."""

    def __len__(self) -> int:
        return sum(len(entry.kept) for entry in self._entries if not entry.is_aside)

    def add_user(self, text: str) -> None:
        self._answered = True
        self._add_plain({"role": "user", "content": text})

    def replace_user(self, text: str) -> None:
        """The user went on: ``text`` takes the place of what they said last."""
        message = {"role": "user", "content": text}
        for position, entry in enumerate(reversed(self._entries), 1):
            if entry.kept and entry.kept[0]["role"] == "user":
                self._entries[-position] = _Entry(None, [message], [message])
                return
        self.add_user(text)

    def plan(self, message_id: str, text: str) -> None:
        """The bot is about to say ``text``: it takes its place now. The model counts it as said until that is known."""
        entry = self._find(message_id) or self._add(_Entry(message_id))
        entry.told = [{"role": "assistant", "content": text}] if text else []

    def add_assistant(self, message_id: str, text: str, *, aside: bool = False) -> None:
        """The bot has said ``text``, in the place that was planned for it if there is one. Empty: it said nothing."""
        entry = self._find(message_id)
        if not text:
            if entry:
                self._entries.remove(entry)
            return
        entry = entry or self._insert(_Entry(message_id))
        entry.kept = [{"role": "assistant", "content": text}]
        entry.is_aside = aside
        entry.told = [] if aside else entry.kept
        self._forget_oldest()

    def remove(self, message_id: str) -> None:
        """Take out what the assistant said under this id. Rounds of tools stay: they happened."""
        self._entries = [entry for entry in self._entries if entry.id != message_id or entry.is_tools]

    def open_tools(self, round_id: str) -> None:
        """A round of tools begins; what it comes to will stand here."""
        self._add(_Entry(round_id, is_tools=True))

    def close_tools(
        self, round_id: str, message: Message, results: Iterable[Message], ephemeral: Collection[str] = ()
    ) -> None:
        """One round of tools: the assistant's message with ``tool_calls`` and the ``tool`` messages that answer it.

        The calls whose ids are ``ephemeral`` are read by the model until ``end_reply``, and are no part of the history.
        """
        entry = self._find(round_id, is_tools=True) or self._add(_Entry(round_id, is_tools=True))
        entry.told = [dict(message), *map(dict, results)]
        entry.kept = _without_calls(entry.told, ephemeral) if ephemeral else entry.told
        self._forget_oldest()

    def end_reply(self) -> None:
        """What was for one reply only is forgotten."""
        for entry in self._entries:
            if entry.is_tools and entry.kept is not entry.told and entry.told:
                entry.told = entry.kept

    def restore(self, messages: Iterable[Message]) -> None:
        """``messages`` take the place of all that was said, but for what the bot said and nobody has answered yet."""
        own = [entry for entry in self._entries if entry.id is not None and not entry.is_tools]
        greeting = [] if self._answered else own
        self._entries = []
        self.extend(messages)
        self._entries += greeting

    def extend(self, messages: Iterable[Message]) -> None:
        """Append messages of any role, as far as they form a valid history: no call of a tool without its result."""
        for messages_of_entry in _entries(messages):
            is_tools = "tool_calls" in messages_of_entry[0]
            self._entries.append(_Entry(None, messages_of_entry, messages_of_entry, is_tools=is_tools))
        self._forget_oldest()

    def clear(self) -> None:
        self._entries = []

    def messages(self) -> list[Message]:
        """All that was said, as for ``call.ended``."""
        return [dict(message) for entry in self._entries for message in entry.kept]

    def history(self) -> list[Message]:
        """The same without what the backend had said aside."""
        return [dict(message) for entry in self._entries if not entry.is_aside for message in entry.kept]

    def supposing(self, text: str, *, replaces: bool) -> Conversation:
        """A copy in which the user has said ``text`` too; ``replaces``: in place of what they said last."""
        copy = Conversation()
        copy._entries = list(self._entries)
        if replaces:
            copy.replace_user(text)
        else:
            copy.add_user(text)
        return copy

    def for_model(self, system_prompt: str, limit: int = MODEL_MESSAGES) -> list[Message]:
        """The system prompt (when there is one) and at most ``limit`` last messages that form a valid request."""
        system: list[Message] = [{"role": "system", "content": system_prompt}] if system_prompt else []
        return system + recent([dict(message) for entry in self._entries for message in entry.told], limit)

    def _add_plain(self, message: Message) -> None:
        self._add(_Entry(None, [message], [message]))

    def _add(self, entry: _Entry) -> _Entry:
        self._entries.append(entry)
        self._forget_oldest()
        return entry

    def _insert(self, entry: _Entry) -> _Entry:
        """Before what the bot means to say and has not said yet."""
        planned = (n for n, each in enumerate(self._entries) if each.told and not each.kept and not each.is_tools)
        self._entries.insert(next(planned, len(self._entries)), entry)
        return entry

    def _find(self, entry_id: str, *, is_tools: bool = False) -> _Entry | None:
        entries = reversed(self._entries)
        return next((entry for entry in entries if entry.id == entry_id and entry.is_tools == is_tools), None)

    def _forget_oldest(self) -> None:
        messages = characters = 0
        for entry in self._entries:
            messages += max(1, len(entry.kept))
            characters += _characters(entry.kept)
        while messages > MAX_MESSAGES or (characters > MAX_CHARACTERS and len(self._entries) > 1):
            oldest = self._entries.pop(0).kept
            messages -= max(1, len(oldest))
            characters -= _characters(oldest)


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


def _characters(messages: Sequence[Message]) -> int:
    """Of their texts, and of what tools are called with."""
    count = 0
    for message in messages:
        count += len(message.get("content") or "")
        if calls := message.get("tool_calls"):
            count += sum(len(call["function"]["arguments"]) for call in calls)
    return count


def _entries(messages: Iterable[Message]) -> list[list[Message]]:
    """Messages in groups that stay together. A call without a result and a result without a call are left out."""
    groups: list[list[Message]] = []
    rows = [dict(message) for message in messages]
    for position, message in enumerate(rows):
        if message["role"] == "tool":
            continue
        group = [message]
        if message.get("tool_calls"):
            results: dict[str, Message] = {}
            for answer in takewhile(lambda row: row["role"] == "tool", rows[position + 1 :]):
                results.setdefault(answer["tool_call_id"], answer)
            unanswered = [call["id"] for call in message["tool_calls"] if call["id"] not in results]
            group = _without_calls([message, *results.values()], unanswered)
        if group:
            groups.append(group)
    return groups


def _without_calls(round_of_tools: Sequence[Message], unwanted: Collection[str]) -> list[Message]:
    """A round without some of its calls and without results of none of them; what the assistant said with it stays."""
    message, *results = round_of_tools
    calls = [call for call in message["tool_calls"] if call["id"] not in unwanted]
    if not calls:
        spoken = {key: value for key, value in message.items() if key != "tool_calls"}
        return [spoken] if spoken.get("content") else []
    wanted = {call["id"] for call in calls}
    return [{**message, "tool_calls": calls}, *(each for each in results if each["tool_call_id"] in wanted)]
