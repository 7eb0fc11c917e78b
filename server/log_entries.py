"""The vocabulary of the call log: what the facts of a session add to it. Source: protocol 6.4.

Pure. The vocabulary is closed: a fact that none of its types can say is not in the log.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline import events
from server.feed import Fact

LATENCIES = ("e2e", "asr", "llm_ttft", "tts_ttfb")
"""What ``call.summary`` has percentiles of."""

STAGES = {"turn": "eou", "stt": "asr", "llm": "llm_ttft", "clause": "clause", "tts": "tts_ttfb", "send": "send"}
"""Stages of ``turn.latency`` and their names here. They are contiguous; their sum is ``e2e``."""

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95}
MAX_ANSWERS = 10_000
"""Answers of one session whose latencies are remembered for the summary; the last ones."""

MAX_BODY = 64 * 1024
"""Characters of an entry; in a larger one long values are cut."""

MAX_VALUE = 16 * 1024
_to_json = json.JSONEncoder(separators=(",", ":")).encode  # ``json.dumps`` would make a new one each time

LIFECYCLE = ("call.started", "call.ended")
"""What the log of an agent holds."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is appended: an envelope without its ``seq``, ``call`` and ``agent``."""

    type: str
    ts: float
    data: dict[str, Any]
    ephemeral: bool = False
    """For those who watch now; never stored."""


@dataclass(slots=True)
class _Message:
    """Something that the bot is saying."""

    announced: str
    words: list[dict[str, Any]] = field(default_factory=list)
    pending: str = ""
    """Of a chat: the beginning of a word whose end is still to come."""


class Scribe:
    """Writes one session down. Fed with its facts in order, ``take`` returns what each adds.

    Turns are counted over both sides. That of the user ends when it is decided that they are done, that of the bot with
    its last message; the latency of an answer stands whole in the bot's.
    """

    def __init__(self) -> None:
        self._out: list[Entry] = []
        self._ts = self._began = 0.0
        self._open = False
        self._turn = 0
        self._role = ""  # of the turn that is open
        self._latency: dict[str, float] = {}  # of the bot's turn that is open
        self._answers: deque[dict[str, float]] = deque(maxlen=MAX_ANSWERS)
        self._messages: dict[str, _Message] = {}
        self._tools: dict[str, float] = {}  # running calls, and when they began
        self._wants_followup = False
        self._lag_ms = 0
        self._asked: float | None = None  # when the line was written that waits for an answer
        self._writers: dict[type[events.Event], Callable[[Any], None]] = {
            events.SpeechStarted: self._speech_started,
            events.SpeechEnded: self._speech_ended,
            events.UserSpeaking: self._user_speaking,
            events.UserMessage: self._user_message,
            events.TurnEnd: self._turn_end,
            events.TurnLatency: self._turn_latency,
            events.BotSpeaking: self._bot_speaking,
            events.BotWord: self._bot_word,
            events.BotFinished: self._bot_finished,
            events.BotInterrupted: self._bot_interrupted,
            events.LlmResponse: self._llm_response,
            events.LlmToolCall: self._tool_call,
            events.LlmToolResult: self._tool_result,
            events.SkillLoaded: self._skill,
            events.SkillUnloaded: self._skill,
            events.ChatMessage: self._chat_message,
            events.ChatToken: self._chat_token,
            events.ChatDone: self._chat_done,
            events.ChatError: self._chat_error,
            events.CallEnded: self._ended,
            events.ChatEnded: self._ended,
            events.ChatFailed: self._failed,
        }

    def take(self, fact: Fact) -> list[Entry]:
        """Nothing before the session has begun, nothing after its ``call.summary``."""
        self._out, self._ts = [], fact.ts
        if isinstance(fact.event, (events.CallStarted, events.ChatStarted)):
            self._begin(fact.event)
        elif self._open and (write := self._writers.get(type(fact.event))):
            write(fact.event)
        return self._out

    def _write(self, kind: str, **data: Any) -> None:
        self._out.append(Entry(kind, self._ts, data))

    def _tell(self, kind: str, **data: Any) -> None:
        """To those who watch now."""
        self._out.append(Entry(kind, self._ts, data, ephemeral=True))

    # --- the beginning and the end

    def _begin(self, event: events.CallStarted | events.ChatStarted) -> None:
        self._open, self._began = True, self._ts
        channel, direction = "chat", "inbound"
        if isinstance(event, events.CallStarted):
            channel, direction = event.transport, event.direction
        ends = {"direction": direction, "from": channel, "to": channel}
        self._write("call.started", **ends, channel=channel, metadata=event.metadata)

    def _ended(self, event: events.CallEnded | events.ChatEnded) -> None:
        self._end(event.reason, event.duration_seconds, event.usage or [])

    def _failed(self, _: events.ChatFailed) -> None:
        self._end("failed", round(self._ts - self._began, 3), [])

    def _end(self, reason: str, duration: float, usage: list[dict[str, Any]]) -> None:
        self._end_turn()
        self._write("call.ended", reason=reason, duration=duration)
        used = {"usage": usage} if usage else {}  # ours, additive
        self._write("call.summary", metrics=metrics(self._answers), reason=reason, **used)
        self._open = False

    # --- turns

    def _begin_turn(self, role: str) -> None:
        if self._role == role:
            return
        self._end_turn()
        self._turn += 1
        self._role, self._latency = role, {}
        self._write("turn.start", turn=self._turn, role=role)

    def _end_turn(self, **latency: float) -> None:
        if self._role:
            self._write("turn.end", turn=self._turn, latency=latency or self._latency)
            self._role, self._latency = "", {}

    def _end_bot_turn(self) -> None:
        """Unless it goes on: something else is being said, or tools run, or their results are to be talked of."""
        if self._role == "bot" and not (self._messages or self._tools or self._wants_followup):
            self._end_turn()

    def _turn_end(self, event: events.TurnEnd) -> None:
        if self._role == "user":
            self._end_turn(eou=_s(event.latency_ms), asr=_s(self._lag_ms - event.latency_ms))

    def _turn_latency(self, event: events.TurnLatency) -> None:
        stages = {STAGES[name]: _s(ms) for name, ms in event.stages.items() if name in STAGES}
        self._answered({**stages, "e2e": _s(event.total_ms)})

    def _answered(self, latency: dict[str, float]) -> None:
        self._answers.append(latency)
        if self._role == "bot":
            self._latency = latency

    # --- the user

    def _speech_started(self, _: events.SpeechStarted) -> None:
        self._tell("user.speaking", active=True)

    def _speech_ended(self, _: events.SpeechEnded) -> None:
        self._tell("user.speaking", active=False)

    def _user_speaking(self, event: events.UserSpeaking) -> None:
        self._begin_turn("user")
        message_id = event.message_id or f"turn-{event.turn_id}"
        self._tell("user.message", id=message_id, text=event.text, final=False)

    def _user_message(self, event: events.UserMessage) -> None:
        self._begin_turn("user")
        self._lag_ms = event.lag_ms
        language = {"language": event.language} if event.language else {}
        self._write("user.message", id=event.message_id, text=event.text, final=True, **language)

    def _chat_message(self, event: events.ChatMessage) -> None:
        self._asked = self._ts
        self._begin_turn("user")
        self._write("user.message", id=event.message_id, text=event.text, final=True)
        self._end_turn()

    # --- the bot

    def _bot_speaking(self, event: events.BotSpeaking) -> None:
        self._announce(event.message_id, event.text)
        if not self._tools:
            self._wants_followup = False

    def _announce(self, message_id: str, text: str) -> _Message:
        self._begin_turn("bot")
        message = self._messages[message_id] = _Message(text)
        self._write("bot.speaking", id=message_id, text=text)
        return message

    def _bot_word(self, event: events.BotWord) -> None:
        if (message := self._messages.get(event.message_id)) is None:
            return
        if event.start_time is not None and event.end_time is not None:
            message.words.append({"w": event.word, "t0": event.start_time, "t1": event.end_time})
        self._tell("bot.word", id=event.message_id, w=event.word)

    def _bot_finished(self, event: events.BotFinished) -> None:
        message = self._messages.pop(event.message_id, None)
        if message is None:  # of a chat: its ``chat.done`` ended it
            return
        self._complete(event.message_id, event.text, message)
        self._write("bot.finished", id=event.message_id)
        self._end_bot_turn()

    def _bot_interrupted(self, event: events.BotInterrupted) -> None:
        message = self._messages.pop(event.message_id, None)
        if message is None:  # it was dropped before anything of it was heard: nothing happened on the call
            return
        self._complete(event.message_id, " ".join(word["w"] for word in message.words), message)
        self._write("bot.interrupted", id=event.message_id, at_word=event.words_spoken)
        self._end_bot_turn()

    def _complete(self, message_id: str, text: str, message: _Message) -> None:
        """Now it is known what was heard of it: what is stored says so, and when each word was."""
        if message.words:
            self._write("bot.speaking", id=message_id, text=text, words=message.words)
        elif text and text != message.announced:
            self._write("bot.speaking", id=message_id, text=text)

    def _chat_token(self, event: events.ChatToken) -> None:
        message = self._messages.get(event.message_id)
        if message is None:
            message = self._announce(event.message_id, "")
            self._first_text()
        *words, message.pending = _split(message.pending + event.token)
        for word in words:
            self._tell("bot.word", id=event.message_id, w=word)

    def _chat_done(self, event: events.ChatDone) -> None:
        message = self._messages.pop(event.message_id, None)
        if event.text:
            self._begin_turn("bot")
            self._first_text()
            self._write("bot.speaking", id=event.message_id, text=event.text)
        if event.text or message is not None:
            self._write("bot.finished", id=event.message_id)
        self._wants_followup = not event.final
        self._end_bot_turn()

    def _chat_error(self, event: events.ChatError) -> None:
        if not event.breaks_turn:
            return
        self._wants_followup, self._asked = False, None
        for message_id in list(self._messages):
            del self._messages[message_id]
            self._write("bot.interrupted", id=message_id)
        self._end_bot_turn()

    def _first_text(self) -> None:
        """Of the answer to a line; later ones change nothing."""
        if self._asked is not None:
            seconds = round(max(0.0, self._ts - self._asked), 3)
            self._asked = None
            self._answered({"llm_ttft": seconds, "e2e": seconds})

    # --- tools and skills

    def _llm_response(self, _: events.LlmResponse) -> None:
        if not self._tools:
            self._wants_followup = False

    def _tool_call(self, event: events.LlmToolCall) -> None:
        self._begin_turn("bot")
        self._wants_followup = True
        for call in event.tool_calls:
            self._tools[call["id"]] = self._ts
            self._write("tool.call", id=call["id"], name=call["name"], args=_arguments(call["arguments"]))

    def _tool_result(self, event: events.LlmToolResult) -> None:
        began = self._tools.pop(event.tool_call_id, self._ts)
        failed = event.result.get("error") if isinstance(event.result, Mapping) else None
        error = {"error": failed if isinstance(failed, str) else json.dumps(failed)} if failed else {}
        ms = max(0, round((self._ts - began) * 1000))
        self._write("tool.result", id=event.tool_call_id, name=event.tool, result=event.result, ms=ms, **error)

    def _skill(self, event: events.SkillLoaded | events.SkillUnloaded) -> None:
        self._write(event.name, skill=event.skill, by=event.by)


def lifecycle(entry: Entry, call_id: str) -> Entry | None:
    """The same in the log of the agent, which holds beginnings and ends of calls alone."""
    if entry.type not in LIFECYCLE:
        return None
    return Entry(entry.type, entry.ts, {"call": call_id, **entry.data})


def cut_short(stored: Iterable[Mapping[str, Any]]) -> list[Entry]:
    """The end of a log whose session nobody is left to end: its server crashed. ``stored``: all envelopes of it."""
    began: float | None = None
    last, answers, reason = 0.0, list[dict[str, float]](), ""
    for envelope in stored:
        last, data = envelope["ts"], envelope["data"]
        reason = data["reason"] if envelope["type"] == "call.ended" else ""
        if envelope["type"] == "call.started":
            began, answers = last, []
        elif envelope["type"] == "turn.end" and "e2e" in data["latency"]:
            answers.append(data["latency"])
    duration = round(last - (last if began is None else began), 3)
    summary = Entry("call.summary", last, {"metrics": metrics(answers), "reason": reason or "failed"})
    return [summary] if reason else [Entry("call.ended", last, {"reason": "failed", "duration": duration}), summary]


def gap(ts: float, resume_from: int, since: int) -> Entry:
    """Entries ``since`` to ``resume_from - 1`` are not to be had."""
    return Entry("log.gap", ts, {"from": since, "resume_from": resume_from})


def metrics(answers: Iterable[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """``{p50, p90, p95, max, n}`` in seconds of each of ``LATENCIES``; all 0 when ``n`` is."""
    kept = list(answers)
    return {name: _distribution(sorted(each[name] for each in kept if name in each)) for name in LATENCIES}


def encode(entry: Entry, *, call: str | None, agent: str) -> str:
    """The envelope as JSON, without its opening brace and ``seq``: see ``with_seq``."""
    body = _dump(entry, call, agent, entry.data)
    if len(body) > MAX_BODY:
        body = _dump(entry, call, agent, {key: _cut(value) for key, value in entry.data.items() if key != "words"})
    return body


def with_seq(seq: int, body: str) -> str:
    """The whole envelope."""
    return f'{{"seq":{seq},{body}'


def without_seq(body: str) -> str:
    """As it goes to readers who would mistake the numbers of several logs for those of one. Protocol 6.3."""
    return "{" + body


def _dump(entry: Entry, call: str | None, agent: str, data: dict[str, Any]) -> str:
    envelope = {"ts": entry.ts, "call": call, "agent": agent, "type": entry.type, "ephemeral": entry.ephemeral}
    return _to_json({**envelope, "data": data})[1:]


def _cut(value: Any) -> Any:
    text = value if isinstance(value, str) else json.dumps(value)
    return value if len(text) <= MAX_VALUE else text[:MAX_VALUE]


def _arguments(text: str) -> Any:
    """The object that the model wrote, or its text when it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text


def _split(text: str) -> list[str]:
    """The words of a text; the last one is not known to be whole, and empty if the text ends with a space."""
    words = text.split()
    return words if words and not text[-1].isspace() else [*words, ""]


def _distribution(values: Sequence[float]) -> dict[str, float]:
    quantiles = {name: _quantile(values, share) for name, share in PERCENTILES.items()}
    return {**quantiles, "max": values[-1] if values else 0.0, "n": len(values)}


def _quantile(values: Sequence[float], share: float) -> float:
    """Linear between the two nearest of sorted values."""
    if not values:
        return 0.0
    below, rest = divmod(share * (len(values) - 1), 1)
    low, high = values[int(below)], values[min(int(below) + 1, len(values) - 1)]
    return round(low + (high - low) * rest, 3)


def _s(ms: int) -> float:
    return max(0, ms) / 1000
