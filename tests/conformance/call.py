"""A call as an application has it: methods, promises, reply streams. Source: protocol 3.11 to 3.18, 10.2."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.conformance.inbox import Frame

if TYPE_CHECKING:
    from tests.conformance.sdk import Agent


@dataclass(frozen=True, slots=True)
class Tool:
    """What a model may have done. ``execute`` gets the arguments and the call; may be a coroutine function."""

    execute: Callable[[Any, Call], Any]
    ephemeral: bool = False
    no_followup: bool = False


class ReplyStream:
    """An answer of the application's own model, written as it comes."""

    def __init__(self, call: Call, in_reply_to: str) -> None:
        self.id = new_id()
        self.aborted = False
        self._call = call
        self._open = True
        call.send("bot.reply.stream", action="start", message_id=self.id, in_reply_to=in_reply_to)

    def write(self, token: str) -> None:
        if self._open:
            self._call.send("bot.reply.stream", action="chunk", message_id=self.id, token=token)

    def end(self) -> None:
        if self._open:
            self._open = False
            self._call.send("bot.reply.stream", action="end", message_id=self.id)

    def abort(self) -> None:
        if self._open:
            self.aborted = True
            self.end()


class Call:
    """One conversation, until ``ended``. ``messages`` as the SDK keeps them."""

    def __init__(self, agent: Agent, event: Frame) -> None:
        self.agent = agent
        self.id: str = event["callId"]
        self.metadata: Frame = event["metadata"]
        self.language: str = event["language"]
        self.transport: str = event["transport"]
        self.messages: list[Frame] = []
        self.last_message_id = ""
        self.is_stub = False
        self.ended: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._said: dict[str, asyncio.Future[Frame | None]] = {}
        self._streams: list[ReplyStream] = []

    @classmethod
    def stub(cls, agent: Agent, call_id: str) -> Call:
        """What tools get of a call that this process does not know. Protocol 3.6."""
        call = cls(agent, {"callId": call_id, "metadata": {}, "language": "", "transport": ""})
        call.is_stub = True
        return call

    def send(self, event: str, **fields: Any) -> None:
        self.agent.sdk.send_now({"event": event, "call_id": self.id, **fields})

    # --- speech

    def say(self, text: str, *, add_to_history: bool = False) -> asyncio.Future[Frame | None]:
        """Settles with the message's terminal event, or with nothing when the call ends; it has no time-out."""
        message_id = new_id()
        said = self._said[message_id] = asyncio.get_running_loop().create_future()
        more = {"add_to_history": True} if add_to_history else {}
        self.send("bot.reply", message_id=message_id, text=text, in_reply_to="", **more)
        return said

    def reply(self, text: str, in_reply_to: str = "") -> str:
        """To the user's last message, unless another is named. Returns the id of the reply."""
        message_id = new_id()
        replied = in_reply_to or self.last_message_id
        self.send("bot.reply", message_id=message_id, text=text, in_reply_to=replied)
        return message_id

    def reply_stream(self, turn: Frame) -> ReplyStream:
        self._streams.append(ReplyStream(self, turn.get("messageId") or self.last_message_id))
        return self._streams[-1]

    def cancel(self, message_id: str | None = None) -> None:
        self.send("bot.cancel", **({"message_id": message_id} if message_id else {}))

    def clear(self) -> None:
        self.send("bot.clear")

    def hangup(self) -> None:
        self.send("call.hangup")

    # --- what the model is told

    def update(self, **raw: Any) -> None:
        """In the developer's own spelling, camelCase and shortcuts as they are. Protocol 3.8."""
        self.agent.sdk.send_now({"event": "session.configure", "session_id": self.id, **raw})

    async def get_history(self) -> list[Frame]:
        history: list[Frame] = (await self._request("history.get"))["messages"]
        return history

    async def set_history(self, messages: Sequence[Frame]) -> int:
        return await self._count("history.set", messages=messages)

    async def add_history(self, messages: Sequence[Frame]) -> int:
        return await self._count("history.add", messages=messages)

    async def clear_history(self) -> int:
        return await self._count("history.clear")

    async def set_prompt(self, prompt: str) -> int:
        return await self._count("history.set_instructions", prompt=prompt)

    async def set_prompt_vars(self, **variables: str) -> int:
        return await self._count("history.set_vars", vars=variables)

    async def add_context(self, text: str) -> int:
        return await self._count("history.add_context", text=text)

    def tool_result(self, round_id: str, results: Sequence[Frame]) -> None:
        self.send("llm.tool_result", msg_id=round_id, results=results)

    async def _request(self, event: str, **fields: Any) -> Frame:
        return await self.agent.sdk.request(event, call_id=self.id, **fields)

    async def _count(self, event: str, **fields: Any) -> int:
        count = (await self._request(event, **fields))["count"]
        assert isinstance(count, int)
        return count

    # --- what comes

    def on_event(self, event: Frame) -> None:
        match event["event"]:
            case "user.message":
                self.last_message_id = event["messageId"]
                self.messages.append({"role": "user", "content": event["text"]})
            case "eager.turn":
                self.last_message_id = event["messageId"]
            case "message.confirmed":
                self.messages.append({"role": "assistant", "content": event["text"]})
            case "turn.continued":
                self._abort_streams()
            case "call.updated":
                self.language = event["language"]
            case "bot.finished" | "bot.interrupted":
                self._settle(event["messageId"], event)

    def on_ended(self, event: Frame) -> None:
        self.messages = event.get("messages") or self.messages
        self._abort_streams()
        for message_id in list(self._said):
            self._settle(message_id, None)
        if not self.ended.done():
            self.ended.set_result(event)

    def _settle(self, message_id: str, event: Frame | None) -> None:
        if (said := self._said.pop(message_id, None)) is not None:
            said.set_result(event)

    def _abort_streams(self) -> None:
        for stream in self._streams:
            stream.abort()
        self._streams.clear()


def new_id() -> str:
    return f"msg_{uuid.uuid4().hex[:12]}"
