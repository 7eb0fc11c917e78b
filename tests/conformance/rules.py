"""What must hold for every frame of every connection of this suite, whatever is tested: most traps of protocol 11.

Each client shows its frames to rules of its own; a breach fails the test that it happened in.
"""

from __future__ import annotations

import json
import re
from typing import Any

Frame = dict[str, Any]

NEVER = frozenset({"call.error", "call.dialing", "call.ringing", "call.rejected", "call.forwarded", "memory.ops"})
LIFECYCLE = re.compile(r"(call|speech|user|turn|eager|bot|message|reply|llm|session|history|skill|barge_in|chat)\b")
CAMEL = re.compile(r"[A-Z]")
TERMINAL = frozenset({"bot.finished", "bot.interrupted"})
GHOSTLY = ("wrt_", "wa-", "CA")


class Rules:
    """Of what both sides of a call are told."""

    def __init__(self) -> None:
        self.breaches: list[str] = []
        self._seq: dict[str, int] = {}
        self._words: dict[str, int] = {}
        self._over: set[str] = set()
        self._users: set[tuple[str, str]] = set()
        self._confirmed: set[str] = set()

    def check(self, frame: Frame) -> None:
        """The next frame of this connection."""
        name = frame["event"]
        self._expect(name not in NEVER, f"{name} is never sent", frame)
        self._expect(not CAMEL.search("".join(frame)), "wire names are snake_case", frame)
        self._expect(not CAMEL.search(name), "names of events are in lower case: trap 12", frame)
        if isinstance(seq := frame.get("seq"), int):
            call_id = str(frame.get("call_id"))
            self._expect(seq > self._seq.get(call_id, 0), "seq grows", frame)
            self._expect(isinstance(frame.get("ts"), float), "ts is a float", frame)
            self._expect(frame.get("session_id") == call_id, "a session's id is its call's", frame)
            self._seq[call_id] = seq
        self._message(name, frame)

    def assert_kept(self) -> None:
        assert not self.breaches, "\n".join(self.breaches)

    def _expect(self, holds: object, rule: str, frame: Frame) -> None:
        if not holds:
            self.breaches.append(f"{rule}: {json.dumps(frame)[:400]}")

    def _message(self, name: str, frame: Frame) -> None:
        """Protocol 3.11, 4.4 rules 1 and 2; traps 11, 30, 31."""
        message = str(frame.get("message_id", ""))
        match name:
            case "user.message":
                key = str(frame.get("call_id")), message
                self._expect(message and key not in self._users, "one user.message for a message: trap 30", frame)
                self._users.add(key)
            case "bot.word":
                word = frame["word"]
                self._expect(word and word == word.strip(), "a word has no spaces around it: trap 11", frame)
                self._expect(message not in self._over, "no word after the end of its message: trap 11", frame)
                expected = self._words.get(message, 0)
                self._expect(frame["word_index"] == expected, f"words are numbered, here {expected}", frame)
                self._words[message] = expected + 1
            case "message.confirmed":
                self._expect(frame.get("text"), "nothing is never confirmed", frame)
                self._expect(message not in self._confirmed, "confirmed once: trap 30", frame)
                self._confirmed.add(message)
            case "bot.finished" | "bot.interrupted":
                self._expect(message not in self._over, "one terminal event for a message", frame)
                self._over.add(message)
                if name == "bot.finished":
                    self._expect(self._words.get(message), "a message has words: trap 10", frame)
                    self._expect(frame.get("text"), "its text stands at its end", frame)


class BackendRules(Rules):
    """For what the control socket of one backend brings, over all of its connections."""

    def __init__(self) -> None:
        super().__init__()
        self._started: set[str] = set()
        self._ended: set[str] = set()
        self._rounds: set[str] = set()

    def check(self, frame: Frame) -> None:
        super().check(frame)
        name, call_id = frame["event"], frame.get("call_id")
        if LIFECYCLE.match(name) and not name.startswith("session.") and frame.get("direction") != "outbound":
            self._expect(frame.get("agent_id"), "events of calls carry agent_id: trap 20", frame)
        if call_id is not None and "seq" in frame:
            self._expect(not call_id.startswith(GHOSTLY), "no id that makes a ghost: trap 17", frame)
            self._expect(call_id not in self._ended, "call.ended is the last event", frame)
        match name:
            case "call.started":
                self._expect(call_id not in self._started, "call.started comes once: trap 26", frame)
                self._expect(call_id in self._seq and self._seq[str(call_id)] == 1, "and first of all", frame)
                self._expect(frame["transport"] == "webrtc" and isinstance(frame["metadata"], dict), "complete", frame)
                self._expect("-" not in frame["language"], "the base language", frame)
                self._started.add(str(call_id))
            case "call.ended" if frame.get("direction") != "outbound":
                self._expect(frame.get("direction") == "inbound", "call.ended has a direction: trap 33b", frame)
                self._expect({"reason", "duration_seconds", "started_at", "ended_at"} <= set(frame), "complete", frame)
                self._ended.add(str(call_id))
            case "llm.tool_call":
                self._expect(frame["msg_id"] not in self._rounds, "a round has an id of its own: trap 27", frame)
                self._rounds.add(frame["msg_id"])
                for call in frame["tool_calls"]:
                    self._expect(_is_object(call["arguments"]), "arguments are JSON as text: trap 28", frame)
            case "llm.tool_result" | "session.started" | "session.ended" | "config.updated":
                self._expect(not name, "that is for browsers alone", frame)


class BrowserRules(Rules):
    """For what the DataChannel of one call brings."""

    def __init__(self) -> None:
        super().__init__()
        self._first = True
        self._left = False
        self._ended = 0
        """The turn that ended last."""
        self._answers: dict[str, int] = {}
        """Message -> the turn after which it was announced."""
        self._answered = 0
        """The turn of whose answer a word was shown."""

    def check(self, frame: Frame) -> None:
        super().check(frame)
        name = frame["event"]
        self._expect(not self._left, "session.timeout is the last frame: protocol 4.6", frame)
        self._expect(frame.get("call_id") and frame.get("session_id"), "frames say of which call", frame)
        if self._first:
            self._expect(name == "session.started", "session.started is the first frame", frame)
        self._first = False
        self._expect("results" not in frame, "results come one by one: trap 13", frame)
        self._expect("metadata" not in frame and "messages" not in frame, "that is the backend's alone", frame)
        self._order(name, frame)
        self._left = name == "session.timeout"

    def _order(self, name: str, frame: Frame) -> None:
        """Protocol 4.4, rule 3: what comes later would open a second bubble of the user below the answer."""
        match name:
            case "user.speaking" | "user.message":
                self._expect(frame["turn_id"] > self._answered, "words of the user come before their answer", frame)
            case "turn.end":
                self._ended = frame["turn_id"]
            case "turn.continued":
                self._answered = frame["turn_id"] - 1
            case "bot.speaking":
                self._answers[frame["message_id"]] = self._ended
            case "bot.word":
                self._answered = max(self._answered, self._answers[frame["message_id"]])


def _is_object(arguments: object) -> bool:
    try:
        return isinstance(arguments, str) and isinstance(json.loads(arguments), dict)
    except ValueError:
        return False
