"""Typed events of a call or a chat: one class per fact. Source: protocol sections 3.9 to 3.19, 4.4 and 5.3."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A fact about a call. Fields have the wire's snake_case names; one that is ``None`` is left out of the frame."""

    name: ClassVar[str]

    def frame(self, **envelope: Any) -> dict[str, Any]:
        """The wire form: ``event``, the envelope (``call_id``, ``session_id``, …), then the fields."""
        frame: dict[str, Any] = {"event": self.name, **envelope}
        for f in fields(self):
            value = getattr(self, f.name)
            if value is not None:
                frame[f.name] = value
        return frame


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStarted(Event):
    name: ClassVar[str] = "session.started"
    agent: str
    language: str
    engines: dict[str, str]
    """Which engines answer: ``{"stt": …, "llm": …, "tts": …}`` (ours, additive)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechStarted(Event):
    name: ClassVar[str] = "speech.started"
    turn_id: int
    confidence: float
    timestamp: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UserSpeaking(Event):
    name: ClassVar[str] = "user.speaking"
    turn_id: int
    text: str
    """Cumulative text of the turn."""
    confidence: float
    message_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechEnded(Event):
    name: ClassVar[str] = "speech.ended"
    turn_id: int
    duration_ms: int
    timestamp: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UserMessage(Event):
    name: ClassVar[str] = "user.message"
    turn_id: int
    message_id: str
    text: str
    confidence: float
    language: str | None = None
    lag_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnPause(Event):
    """The user fell silent and does not seem to be done."""

    name: ClassVar[str] = "turn.pause"
    turn_id: int
    probability: float
    latency_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnResumed(Event):
    """The user goes on after ``turn.pause``."""

    name: ClassVar[str] = "turn.resumed"
    turn_id: int
    timestamp: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EagerTurn(Event):
    """An early guess: the user is probably done."""

    name: ClassVar[str] = "eager.turn"
    turn_id: int
    message_id: str
    text: str
    probability: float
    latency_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnContinued(Event):
    """The user went on after ``eager.turn`` or ``turn.end``."""

    name: ClassVar[str] = "turn.continued"
    turn_id: int
    timestamp: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEnd(Event):
    name: ClassVar[str] = "turn.end"
    turn_id: int
    message_id: str
    text: str
    probability: float
    latency_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnLatency(Event):
    """Where the time of one answer went: contiguous stages whose sum is ``total_ms`` (ours, additive)."""

    name: ClassVar[str] = "turn.latency"
    turn_id: int
    message_id: str
    stages: dict[str, int]
    """ms: ``turn`` (end of speech to turn decided), ``stt``, ``llm``, ``clause``, ``tts``, ``send``."""
    total_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmThinking(Event):
    name: ClassVar[str] = "llm.thinking"
    turn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmResponse(Event):
    name: ClassVar[str] = "llm.response"
    text: str
    finish_reason: str
    engine: str
    """Which engine wrote it (ours, additive)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmError(Event):
    name: ClassVar[str] = "llm.error"
    error: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallError(Event):
    """A part of the call failed; the call goes on if it can. Sent as ``error``."""

    name: ClassVar[str] = "error"
    error: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownError(CallError):
    """At the beginning of a call: what its agent asks for and does not get, as its backend was told at registration."""

    code: str = "FALLBACK"


@dataclass(frozen=True, slots=True, kw_only=True)
class BotSpeaking(Event):
    name: ClassVar[str] = "bot.speaking"
    message_id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BotWord(Event):
    name: ClassVar[str] = "bot.word"
    message_id: str
    word: str
    word_index: int
    start_time: float | None = None
    end_time: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BotFinished(Event):
    name: ClassVar[str] = "bot.finished"
    message_id: str
    duration_ms: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BotInterrupted(Event):
    name: ClassVar[str] = "bot.interrupted"
    message_id: str
    played_ms: int
    words_spoken: int
    last_word: str | None = None
    reason: str
    """``user_spoke``, ``continuation`` or ``cancelled``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageConfirmed(Event):
    name: ClassVar[str] = "message.confirmed"
    message_id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BargeIn(Event):
    """The user interrupts; ``bot.interrupted`` follows."""

    name: ClassVar[str] = "barge_in"
    cancelled_message_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageAborted(Event):
    """What was heard of a reply counts as never said."""

    name: ClassVar[str] = "message.aborted"
    message_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyRejected(Event):
    """The backend answers what the user has gone on from. Protocol 3.12."""

    name: ClassVar[str] = "reply.rejected"
    message_id: str
    in_reply_to: str
    expected_reply_to: str
    reason: str = "message_obsolete"


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmBefore(Event):
    """An answer is about to be generated: the backend may still set something. Protocol 3.16."""

    name: ClassVar[str] = "llm.before"
    turn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmPreparingTimeout(Event):
    name: ClassVar[str] = "llm.preparing_timeout"
    turn: int
    waited_ms: int
    budget_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmToolCall(Event):
    """The model wants tools to be run. Protocol 3.14."""

    name: ClassVar[str] = "llm.tool_call"
    msg_id: str
    """Of the round."""
    tool_calls: list[dict[str, str]]
    """``{id, name, arguments}``, the last a JSON object as text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmToolResult(Event):
    """One result, for browsers and the log."""

    name: ClassVar[str] = "llm.tool_result"
    msg_id: str
    tool_call_id: str
    tool: str
    result: Any

    def frame(self, **envelope: Any) -> dict[str, Any]:
        frame = {"event": self.name, **envelope, "msg_id": self.msg_id, "tool_call_id": self.tool_call_id}
        return frame | {"name": self.tool, "result": self.result}


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillLoaded(Event):
    name: ClassVar[str] = "skill.loaded"
    skill: str
    by: str
    """``manual`` or ``model``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillUnloaded(Event):
    name: ClassVar[str] = "skill.unloaded"
    skill: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigUpdated(Event):
    name: ClassVar[str] = "config.updated"
    config: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallUpdated(Event):
    """The browser switched the language; base tag."""

    name: ClassVar[str] = "call.updated"
    language: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionTimeout(Event):
    """A limit of the session ends it; ``call.ended`` follows."""

    name: ClassVar[str] = "session.timeout"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOver(Event):
    """For browsers, last of all and whatever the reason: the one frame at which they leave at once. Protocol 4.6."""

    name: ClassVar[str] = "session.timeout"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleWarning(Event):
    name: ClassVar[str] = "session.idle_warning"
    remaining_seconds: float
    idle_timeout_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStarted(Event):
    """For the backend and the log, not for the browser."""

    name: ClassVar[str] = "call.started"
    direction: str = "inbound"
    transport: str = "webrtc"
    language: str
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnded(Event):
    name: ClassVar[str] = "call.ended"
    reason: str
    direction: str = "inbound"
    duration_seconds: float
    started_at: float
    ended_at: float
    messages: list[dict[str, Any]] | None = None
    usage: list[dict[str, Any]] | None = None
    """See ``pipeline.meter`` (ours, additive)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnded(Event):
    name: ClassVar[str] = "session.ended"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatStarted(Event):
    """A typed conversation begins; for the backend. Protocol 3.19."""

    name: ClassVar[str] = "llm.chat.started"
    language: str
    model: str
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage(Event):
    """The user's line."""

    name: ClassVar[str] = "chat.message"
    message_id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatResponse(Event):
    """The agent's line, whole; for the backend."""

    name: ClassVar[str] = "chat.response"
    message_id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatToken(Event):
    """A piece of the agent's line, for who reads it. Protocol 5.3."""

    name: ClassVar[str] = "chat.token"
    message_id: str
    token: str
    text: str
    """All of the line so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatDone(Event):
    """The agent's line, for who reads it: ends the stream of its tokens."""

    name: ClassVar[str] = "chat.done"
    message_id: str
    text: str
    final: bool = True
    """Nothing more follows in this turn (ours, additive)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatError(Event):
    """A line is not answered; the chat goes on."""

    name: ClassVar[str] = "chat.error"
    error: str
    code: str

    @property
    def breaks_turn(self) -> bool:
        """It was being answered. Any other line was refused, and what is being answered goes on."""
        return self.code in {"LLM_FAILED", "INTERNAL"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatEnded(Event):
    """For the backend."""

    name: ClassVar[str] = "llm.chat.ended"
    duration_seconds: float
    started_at: float
    ended_at: float
    messages: list[dict[str, Any]]
    reason: str
    """``closed``, ``hangup``, ``idle_timeout``, ``server_shutdown``, … (ours, additive)."""
    usage: list[dict[str, Any]] | None = None
    """See ``pipeline.meter`` (ours, additive)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFailed(Event):
    """The chat cannot go on; for the backend, in place of ``llm.chat.ended``."""

    name: ClassVar[str] = "llm.chat.error"
    error: str
