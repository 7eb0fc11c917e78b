"""Tools that the backend runs for the model, in rounds. Source: protocol 3.14."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.conversation import Conversation
from pipeline.events import Event, LlmToolCall, LlmToolResult
from pipeline.llm import ToolCall
from pipeline.skills import Skills

ROUND_SECONDS = 30.0
"""How long the results of a round may take, all together."""

ATTEND_SECONDS = 5.0
"""How long a round waits for a backend that is just away: a frame that finds nobody is never sent again."""

MAX_RESULT = 64 * 1024
"""Characters of a result that a model reads; what is longer is cut."""


@dataclass(frozen=True, slots=True)
class _Result:
    value: Any
    ephemeral: bool = False
    """For this reply only."""
    no_followup: bool = False


@dataclass(slots=True, eq=False)
class Round:
    """All calls of one turn of the model. It goes on whatever becomes of the reply that wanted it."""

    id: str
    calls: Sequence[ToolCall]
    results: dict[str, _Result] = field(default_factory=dict)
    complete: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    @property
    def wants_followup(self) -> bool:
        """Whether the model is to go on: unless every result says no."""
        return not all(result.no_followup for result in self.results.values())


class Tools:
    """The rounds of one session. Their outcome goes into the history in one piece, so that it is valid at any time."""

    def __init__(self, publish: Callable[[Event], None], conversation: Conversation, skills: Skills) -> None:
        self._publish = publish
        self._conversation = conversation
        self._skills = skills
        self._rounds: dict[str, Round] = {}
        self._present = asyncio.Event()
        self.were_attended = False
        """A backend has been here, which could run them."""

    def attend(self, present: bool) -> None:
        """A backend is here, or is not."""
        if present:
            self.were_attended = True
            self._present.set()
        else:
            self._present.clear()

    @property
    def pending(self) -> bool:
        return bool(self._rounds)

    def start(self, calls: Sequence[ToolCall]) -> Round:
        """Have them run. They take their place in the history now."""
        calls = _distinct(calls)
        current = Round(f"tr_{uuid.uuid4().hex}", calls)
        self._rounds[current.id] = current
        self._conversation.open_tools(current.id)
        current.task = asyncio.create_task(self._run(current), name="round of tools")
        return current

    async def finish(self, current: Round) -> None:
        """Until the round is in the history. Being cancelled here does not cancel it."""
        if current.task:
            await asyncio.shield(current.task)

    async def settled(self) -> None:
        """Until no round is open."""
        while self._rounds:
            await self.finish(next(iter(self._rounds.values())))

    def on_results(self, round_id: object, results: Iterable[Any]) -> None:
        """``llm.tool_result``: all results of a round or some. What is late, unknown or malformed is ignored."""
        current = self._rounds.get(str(round_id))
        if current is None:
            return
        for row in results:
            if isinstance(row, Mapping):
                result = _Result(row.get("result"), row.get("ephemeral") is True, row.get("no_followup") is True)
                self._take(current, str(row.get("tool_call_id")), result)

    async def aclose(self) -> None:
        """The session is over: nobody waits for results any more."""
        tasks = [current.task for current in self._rounds.values() if current.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, current: Round) -> None:
        try:
            for call in current.calls:
                if self._skills.runs(call.name):
                    value = self._skills.choose(call.name, _parsed(call.arguments))
                    self._take(current, call.id, _Result(value), is_told=False)
            if not current.complete.is_set():
                await self._ask(current)
            self._record(current)
        finally:
            del self._rounds[current.id]

    async def _ask(self, current: Round) -> None:
        """Send the calls that are the backend's, and wait; what does not come is made up for."""
        missing = "no backend is connected"
        try:
            async with asyncio.timeout(ATTEND_SECONDS):
                await self._present.wait()
            wanted = [
                {"id": call.id, "name": call.name, "arguments": call.arguments}
                for call in current.calls
                if call.id not in current.results
            ]
            self._publish(LlmToolCall(msg_id=current.id, tool_calls=wanted))
            missing = "tool timed out"
            async with asyncio.timeout(ROUND_SECONDS):
                await current.complete.wait()
        except TimeoutError:
            for call in current.calls:
                self._take(current, call.id, _Result({"error": missing}))

    def _take(self, current: Round, call_id: str, result: _Result, *, is_told: bool = True) -> None:
        call = next((call for call in current.calls if call.id == call_id), None)
        if call is None or call_id in current.results:
            return
        current.results[call_id] = result
        if is_told:
            self._publish(LlmToolResult(msg_id=current.id, tool_call_id=call_id, tool=call.name, result=result.value))
        if len(current.results) == len(current.calls):
            current.complete.set()

    def _record(self, current: Round) -> None:
        message = {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in current.calls
            ],
        }
        answers = [
            {"role": "tool", "tool_call_id": call.id, "content": _content(current.results[call.id].value)}
            for call in current.calls
        ]
        ephemeral = {call_id for call_id, result in current.results.items() if result.ephemeral}
        self._conversation.close_tools(current.id, message, answers, ephemeral)


def _distinct(calls: Sequence[ToolCall]) -> list[ToolCall]:
    """Each call with an id that no other has, and with arguments that a backend can parse."""
    seen: set[str] = set()
    distinct = []
    for call in calls:
        call_id = call.id if call.id and call.id not in seen else f"call_{uuid.uuid4().hex}"
        seen.add(call_id)
        distinct.append(ToolCall(call_id, call.name, call.arguments.strip() or "{}"))
    return distinct


def _parsed(arguments: str) -> object:
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return None


def _content(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()[:MAX_RESULT]
