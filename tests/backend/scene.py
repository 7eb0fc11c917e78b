"""Whole calls in virtual time as the backend of the agent lives them: its commands, and the frames that it gets.

The frames are those of ``server.frames`` from the feed of the call, with the answers to commands in between, as they go
over one socket. ``story`` writes them down so that a person can compare them with protocol 8.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pipeline.events import Event
from pipeline.llm import Message, ToolCall
from server.feed import Fact, Feed
from server.frames import BackendFrames
from server.registry import AgentKey
from tests import virtual_time
from tests.pipeline.stage import Stage, check_rules

Frame = dict[str, Any]

LONG = "This is a long sentence of more than two seconds, so that one can interrupt it."

TERMINAL = frozenset({"bot.finished", "bot.interrupted", "reply.rejected"})

UNTOLD = frozenset(
    {"event", "agent_id", "call_id", "seq", "ts", "timestamp", "language", "confidence", "latency_ms", "lag_ms"}
    | {"probability", "start_time", "end_time", "word_index", "duration_ms", "played_ms", "started_at", "ended_at"}
    | {"duration_seconds", "direction", "transport", "from", "to", "session_id", "usage"}
)
"""Fields without which a story reads better; tests look at them one by one."""

_MADE_HERE = re.compile(r"(?:msg_|tr_|call_)?[0-9a-f]{32}")


def tool(name: str) -> Frame:
    return {"type": "function", "function": {"name": name, "description": "", "parameters": {}}}


def call(name: str, call_id: str, **arguments: Any) -> ToolCall:
    """The model asks for a tool."""
    return ToolCall(call_id, name, json.dumps(arguments))


class Scene(Stage):
    """A call whose agent is served by a backend. ``metadata``: sealed or sent with the offer."""

    def __init__(
        self, *answers: Any, metadata: Mapping[str, Any] | None = None, attended: bool = True, **agent: Any
    ) -> None:
        self.frames: list[Frame] = []
        self.present = attended
        self.answers_barrier = True
        """Like the current SDK; the old one never does."""
        self._loop = asyncio.get_running_loop()
        self._feed = Feed("c1", self._log, BackendFrames(self._tell, AgentKey("acme", "demo")))
        super().__init__(*answers, metadata=metadata or {}, **agent)
        self.call.attend(attended)

    def publish(self, event: Event) -> None:
        self._feed.publish(event)

    def _log(self, fact: Fact) -> None:
        self.log.publish(fact.event)

    def _tell(self, key: AgentKey, frame: Mapping[str, Any]) -> bool:
        if self.present:
            self._take(frame)
            if frame["event"] == "llm.before" and self.answers_barrier:
                self._loop.call_soon(lambda: self.send("llm.ready", turn=frame["turn"]))
        return self.present

    def _take(self, frame: Mapping[str, Any]) -> None:
        self.frames.append(json.loads(json.dumps({"event": frame["event"], "agent_id": "demo", **frame})))

    # --- what the backend does

    def send(self, event: str, **fields: Any) -> None:
        """A frame of the backend's socket."""
        self.call.command(json.loads(json.dumps({"event": event, "call_id": "c1", **fields})), self._take)

    def ask(self, event: str, **fields: Any) -> Frame:
        """A request and its answer, which comes at once."""
        before = len(self.frames)
        self.send(event, **fields)
        [answer] = self.frames[before:]
        return answer

    def say(self, message_id: str, text: str, **fields: Any) -> None:
        self.send("bot.reply", message_id=message_id, text=text, **{"in_reply_to": "", **fields})

    def reply(self, message_id: str, *tokens: str, to: str, end: bool = True) -> None:
        """A reply stream with all of its frames at once."""
        self.send("bot.reply.stream", action="start", message_id=message_id, in_reply_to=to)
        self.write(message_id, *tokens, end=end)

    def write(self, message_id: str, *tokens: str, end: bool = True) -> None:
        for token in tokens:
            self.send("bot.reply.stream", action="chunk", message_id=message_id, token=token)
        if end:
            self.send("bot.reply.stream", action="end", message_id=message_id)

    def result(self, round_of_tools: Frame, **results: Any) -> None:
        """``llm.tool_result`` for calls by their ids."""
        rows = [{"tool_call_id": call_id, "result": value} for call_id, value in results.items()]
        self.send("llm.tool_result", msg_id=round_of_tools["msg_id"], results=rows)

    def come(self) -> None:
        self.present = True
        self.call.attend(True)

    def go(self) -> None:
        self.present = False
        self.call.attend(False)

    # --- what it gets

    def all_frames(self, name: str) -> list[Frame]:
        return [frame for frame in self.frames if frame["event"] == name]

    async def frame(self, name: str, count: int = 1) -> Frame:
        """The ``count``-th frame of this name, as soon as it is there."""
        await self.until(lambda: len(self.all_frames(name)) >= count)
        return self.all_frames(name)[count - 1]

    async def words(self, count: int) -> None:
        """Until the bot has said so many words in all."""
        await self.until(lambda: len(self.all_frames("bot.word")) >= count)

    def story(self, *unremarkable: str, eager: bool = False) -> list[str]:
        """One line for each frame: its event, ids as letters, texts in quotes, other fields by name.

        Words of one message, and partial texts of one turn, stand in one line. Whether a turn was guessed to be over
        depends on its words and sound, and changes no other frame: only ``eager`` stories have ``eager.turn``.
        """
        letters: dict[str, str] = {}

        def letter(made: re.Match[str]) -> str:
            return letters.setdefault(made[0], _letter(len(letters)))

        lines: list[str] = []
        before: Frame = {}
        for frame in self.frames:
            if frame["event"] in unremarkable or (frame["event"] == "eager.turn" and not eager):
                continue
            if frame["event"] == before.get("event") == "bot.word" and frame["message_id"] == before["message_id"]:
                lines[-1] = f"{lines[-1][:-1]} {frame['word']}'"
            else:
                if frame["event"] == before.get("event") == "user.speaking" and frame["turn_id"] == before["turn_id"]:
                    lines.pop()
                lines.append(
                    _MADE_HERE.sub(lambda id_: letters.setdefault(id_[0], _letter(len(letters))), _line(frame))
                )
            before = frame
        return lines

    def messages(self) -> list[Message]:
        """What the call says at its end was said."""
        messages: list[Message] = self.all_frames("call.ended")[0]["messages"]
        return messages

    def texts(self) -> list[tuple[str, str]]:
        return [(message["role"], message["content"]) for message in self.messages()]

    def asked(self, position: int = -1) -> list[tuple[str, str]]:
        """What the model was asked, without the system prompt."""
        return [(row["role"], row["content"]) for row in self.llm.asked[position] if row["role"] != "system"]

    def prompt(self, position: int = -1) -> str:
        return str(self.llm.asked[position][0]["content"])


def ends(stage: Scene) -> list[tuple[str, str]]:
    """Messages of the bot and their terminal events, in order."""
    return [(frame["message_id"], frame["event"]) for frame in stage.frames if frame["event"] in TERMINAL]


def perform(*answers: Any, **agent: Any) -> Callable[[Callable[[Scene], Awaitable[None]]], Scene]:
    """Run a scene to the end of its call, and check what holds for every call."""

    def run(scene: Callable[[Scene], Awaitable[None]]) -> Scene:
        async def main() -> Scene:
            stage = Scene(*answers, **agent)
            stage.line.start(stage.call)
            if agent.get("greeting") == "":
                await stage.until(lambda: stage.call._listening)
            await scene(stage)
            if not stage.call._over.done():
                stage.call.hangup("hangup")
            await stage.call.wait_ended()
            return stage

        with nothing_logged():
            stage = virtual_time.run(main())
        check(stage)
        return stage

    return run


@contextmanager
def nothing_logged() -> Iterator[None]:
    """Fails when an error is logged: a fault that something caught."""
    records: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: records.append(handler.format(record))  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
    assert not records, "\n".join(records)


def check(stage: Scene) -> None:
    """What protocol 3.9, 3.11 and 3.14 demand of every call."""
    assert stage.line.closed
    assert stage.ears.open_detectors == 0
    assert (stage.stt.open_streams, stage.llm.open_streams, stage.tts.open_streams) == (0, 0, 0)
    check_rules(stage.log)
    events = [frame for frame in stage.frames if "seq" in frame]
    assert [frame["seq"] for frame in events] == sorted({frame["seq"] for frame in events})
    if stage.all_frames("call.started"):
        assert events[0]["event"] == "call.started"
        assert [frame["event"] for frame in events].count("call.started") == 1
    if ended := stage.all_frames("call.ended"):
        assert events[-1] is ended[0]
        check_history(stage.messages())
    for messages in stage.llm.asked:
        check_history(messages)
    over: set[str] = set()
    for frame in events:
        assert frame["agent_id"] == "demo"
        if frame["event"] in ("bot.speaking", "bot.word"):
            assert frame["message_id"] not in over
        elif frame["event"] in TERMINAL:
            assert frame["message_id"] not in over
            over.add(frame["message_id"])


def check_history(messages: Sequence[Message]) -> None:
    """As providers demand: each message that calls tools is followed by one result for each call, and no other is."""
    wanted: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            wanted.remove(message["tool_call_id"])  # a KeyError: nobody asked
            continue
        assert not wanted, f"no result of {wanted}"
        calls = message.get("tool_calls", [])
        assert message["content"] or calls
        wanted = {called["id"] for called in calls}
        assert len(wanted) == len(calls)
    assert not wanted, f"no result of {wanted}"


def _line(frame: Frame) -> str:
    words = [frame["event"]]
    for key, value in frame.items():
        match key:
            case "message_id" | "msg_id" | "request_id":
                words.append(str(value))
            case "text" | "word":
                words.append(f"'{value}'")
            case "messages" if frame["event"] == "call.ended":
                continue
            case "tool_calls":
                words += [f"{each['name']}({each['id']})" for each in value]
            case _ if key not in UNTOLD:
                words.append(f"{key}={value if isinstance(value, str) else json.dumps(value)}")
    return " ".join(words)


def _letter(position: int) -> str:
    return chr(ord("A") + position % 26) + "'" * (position // 26)
