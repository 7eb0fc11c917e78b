"""What is seen of a chat by who types: a page on its socket, or a backend that tries its agent over its own.

Sinks of ``server.feed``. Source: protocol 5.3 and 5.4 for pages, 3.20 for test sessions.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pipeline.events import ChatDone, ChatEnded, ChatError, ChatFailed, ChatMessage, ChatStarted, LlmToolResult
from server.feed import Fact

Dialect = Literal["event", "type"]
"""The key by which a page tells frames apart: that of today's clients, or that of the earlier documentation."""

SHOWN = {
    "chat.token": "chat.token",
    "llm.tool_call": "chat.tool_call",
    "llm.tool_result": "chat.tool_result",
}
"""Events that a page gets as they are, and what they are called there."""

TRIED = {
    "chat.token": "llm.chat.token",
    "llm.tool_call": "llm.chat.tool_call",
}
"""The same for a test session."""

NORMAL = 1000
GOING_AWAY = 1001
BROKEN = 1011
"""Close codes (RFC 6455, 7.4.1)."""


class Segments:
    """The pieces of an answer that some readers get as one: tools stand between them, or a backend's own words."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def add(self, text: str) -> None:
        if text:
            self._texts.append(text)

    def take(self) -> str:
        """All of them, one below the other; there are none after that."""
        text = "\n".join(self._texts)
        self._texts.clear()
        return text


class PageFrames:
    """The page's side. ``send`` takes frames as text; ``close`` a code and a reason, when the chat is over."""

    def __init__(self, send: Callable[[str], object], close: Callable[[int, str], None]) -> None:
        self.dialect: Dialect | None = None
        """``None`` until the page has shown which one it speaks: then both can read what they are sent."""
        self._send = send
        self._close = close
        self._segments = Segments()
        self._owed = 0  # lines without their end
        self.answered = asyncio.Event()
        """Set at each end of an answer."""

    def greet(self, chat_id: str, agent_id: str, history: Sequence[Mapping[str, str]]) -> None:
        """The first frames of a chat: it is there, and what was said in the thread before."""
        self._write({"event": "chat.connected", "session_id": chat_id, "agent": agent_id})
        if history:
            self._write({"event": "chat.history", "messages": history})

    def expect(self) -> None:
        """The page has written a line and waits for the end of its answer, come what may."""
        self._owed += 1

    def __call__(self, fact: Fact) -> None:
        event = fact.event
        if isinstance(event, ChatDone):
            self._done(event, fact.frame())
        elif isinstance(event, ChatError):
            self._fail(event, fact.frame())
        elif isinstance(event, ChatEnded):
            self._end(event.reason)
        elif isinstance(event, ChatFailed):
            self.refuse(event.error, "INTERNAL_ERROR", BROKEN)
        elif name := SHOWN.get(event.name):
            self._write(fact.frame() | {"event": name})

    def complain(self, error: str, code: str, frame: Mapping[str, Any] | None = None) -> None:
        """Something of the page's cannot be used; the chat goes on, and so does an answer that is being written."""
        typed = {} if self.dialect == "event" else {"type": "error"}
        self._write({**(frame or {}), "event": "chat.error", **typed, "error": error, "code": code})

    def refuse(self, error: str, code: str, close_code: int) -> None:
        """The chat is over, or never was."""
        self._write({"event": "error", "type": "error", "error": error, "code": code})
        self._close(close_code, error)

    def _fail(self, event: ChatError, frame: dict[str, Any]) -> None:
        """A line is not answered. What was said to it already is not lost on who reads whole turns."""
        self._owed = max(0, self._owed - 1)
        if event.breaks_turn and self.dialect == "type" and (text := self._segments.take()):
            self._write({"event": "chat.done", "type": "bot.message", "text": text})
        self.complain(event.error, event.code, frame)

    def _done(self, event: ChatDone, frame: dict[str, Any]) -> None:
        if event.final:
            self._owed = max(0, self._owed - 1)
            self.answered.set()
        if self.dialect == "type":
            self._segments.add(event.text)
            if not event.final:
                return
            frame["text"] = self._segments.take()
        self._write(frame if self.dialect == "event" else frame | {"type": "bot.message"})

    def _end(self, reason: str) -> None:
        if self._owed:
            self.complain("The chat has ended", "CHAT_ENDED")
        self._close(GOING_AWAY if reason == "server_shutdown" else NORMAL, reason)

    def _write(self, frame: Mapping[str, Any]) -> None:
        self._send(json.dumps(frame))


class TrialFrames:
    """The side of a backend that writes lines to an agent. ``send`` takes its frames.

    ``is_holder``: it serves the agent too, and gets to know of the session as such. Some events would mean two things
    to it then, and end the session in its own book: they go by the names that pages know.
    """

    def __init__(self, agent_id: str, send: Callable[[Mapping[str, Any]], object], *, is_holder: bool) -> None:
        self._agent_id = agent_id
        self._send = send
        self._is_holder = is_holder
        self._model = ""
        self._segments = Segments()
        self._in_turn = False
        self._owed = 0  # lines without their end

    def expect(self) -> None:
        """The backend has written a line and waits for the end of its answer, come what may."""
        self._owed += 1

    def __call__(self, fact: Fact) -> None:
        event = fact.event
        if isinstance(event, ChatStarted):
            self._model = event.model
            if not self._is_holder:
                self._write(event.name, fact)
        elif isinstance(event, ChatMessage):
            self._in_turn = True
        elif isinstance(event, ChatDone):
            self._done(event, fact)
        elif isinstance(event, ChatError) and not event.breaks_turn:
            self._refuse(event.error, fact)
        elif isinstance(event, ChatError | ChatFailed):
            self._fail(event.error, fact)
        elif isinstance(event, ChatEnded):
            if self._owed:
                self._fail("The session has ended", fact)
        elif isinstance(event, LlmToolResult):  # the command line prints the result as a text
            result = event.result if isinstance(event.result, str) else json.dumps(event.result, ensure_ascii=False)
            self._write("llm.chat.tool_result", fact, result=result)
        elif name := TRIED.get(event.name):
            self._write(name, fact)

    def _done(self, event: ChatDone, fact: Fact) -> None:
        if not self._in_turn:  # a greeting; who waits for an answer would take it for one
            self._write(event.name, fact)
            return
        self._segments.add(event.text)
        if event.final:
            self._in_turn = False
            self._owed -= 1
            self._write("llm.chat.done", fact, text=self._segments.take(), model=self._model)

    def _fail(self, error: str, fact: Fact) -> None:
        self._in_turn = False
        self._segments.take()
        self._refuse(error, fact)

    def _refuse(self, error: str, fact: Fact) -> None:
        """A line is not answered; another one may be being."""
        self._owed -= 1
        self._write("chat.error" if self._is_holder else "llm.chat.error", fact, error=error)

    def _write(self, name: str, fact: Fact, **more: Any) -> None:
        self._send({**fact.frame(agent_id=self._agent_id), "event": name, **more})
