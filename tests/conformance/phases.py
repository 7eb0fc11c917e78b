"""What a page shows of a call: the state machine of the public voice session. Source: protocol 4.4."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.conformance.inbox import Frame

PHASES = {
    "user.speaking": "listening",
    "user.message": "thinking",
    "turn.pause": "pause",
    "turn.resumed": "listening",
    "turn.end": "thinking",
    "bot.word": "speaking",
    "bot.finished": "listening",
    "bot.interrupted": "listening",
}
USER_SPEAKS = {"speech.started": True, "user.speaking": True, "speech.ended": False}
AGENT_SPEAKS = {"bot.word": True, "bot.finished": False, "bot.interrupted": False}


@dataclass(slots=True)
class Bubble:
    role: str
    id: str
    text: str = ""
    interim: bool = False
    interrupted: bool = False
    words: list[str] = field(default_factory=list)


@dataclass(slots=True)
class ToolEntry:
    id: str
    name: str
    arguments: Any
    result: Any = None
    done: bool = False


class Phases:
    """Pure: frames in, state out."""

    def __init__(self) -> None:
        self.phase = "listening"
        self.user_speaking = self.agent_speaking = False
        self.idle_warning: float | None = None
        self.bubbles: list[Bubble] = []
        self.tools: list[ToolEntry] = []
        self.over = ""
        """Reason of ``session.timeout``, the one frame at which a page leaves at once."""

    def texts(self, role: str) -> list[str]:
        return [bubble.text for bubble in self.bubbles if bubble.role == role]

    def take(self, frame: Frame) -> None:
        name = frame["event"]
        self.phase = PHASES.get(name, self.phase)
        self.user_speaking = USER_SPEAKS.get(name, self.user_speaking)
        self.agent_speaking = AGENT_SPEAKS.get(name, self.agent_speaking)
        match name:
            case "speech.started":
                self.idle_warning = None
            case "user.speaking" | "user.message":
                self._hear(frame["text"], frame.get("message_id", ""), interim=name == "user.speaking")
            case "bot.word":
                self._speak(frame["message_id"], frame["word"])
            case "bot.finished" | "bot.interrupted":
                self._finish(frame)
            case "session.idle_warning":
                self.idle_warning = frame["remaining_seconds"]
            case "session.timeout":
                self.over = frame["reason"]
            case "llm.tool_call":
                self.tools += [
                    ToolEntry(call["id"], call["name"], json.loads(call["arguments"])) for call in frame["tool_calls"]
                ]
            case "llm.tool_result":
                for entry in self.tools:
                    if entry.id == frame.get("tool_call_id"):
                        entry.result, entry.done = frame["result"], True

    def _hear(self, text: str, message_id: str, *, interim: bool) -> None:
        """The whole text of the turn replaces that of the last bubble, until a bubble of the bot follows."""
        if not self.bubbles or self.bubbles[-1].role != "user":
            self.bubbles.append(Bubble("user", message_id))
        last = self.bubbles[-1]
        last.text, last.id, last.interim = text, message_id or last.id, interim

    def _speak(self, message_id: str, word: str) -> None:
        bubble = self._bubble(message_id)
        if bubble is None:
            bubble = Bubble("bot", message_id)
            self.bubbles.append(bubble)
        bubble.words.append(word)
        bubble.text = " ".join(bubble.words)

    def _finish(self, frame: Frame) -> None:
        if bubble := self._bubble(frame["message_id"]):  # a text alone makes none
            bubble.text = frame.get("text") or bubble.text
            bubble.interrupted = frame["event"] == "bot.interrupted"

    def _bubble(self, message_id: str) -> Bubble | None:
        return next((each for each in self.bubbles if (each.role, each.id) == ("bot", message_id)), None)
