"""A stage for whole dialogues in virtual time, and the rules that every call obeys."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from config.agent import AgentConfig
from pipeline.call import Call
from pipeline.engine import CallEngines, Engines
from pipeline.events import Event
from tests import virtual_time
from tests.pipeline.scripted import (
    Log,
    Person,
    ScriptedEars,
    ScriptedLine,
    ScriptedLlm,
    ScriptedStt,
    ScriptedTts,
    Vocabulary,
    spoken,
)

GREETING = "Hello, how can I help you today?"
METADATA = {"user": "u1"}


class Stage:
    """A call with scripted engines, and the person on its other end."""

    def __init__(self, *answers: Any, metadata: Mapping[str, Any] = METADATA, **agent: Any) -> None:
        self.vocabulary = Vocabulary()
        self.stt = ScriptedStt(self.vocabulary)
        self.llm = ScriptedLlm(*answers)
        self.tts = ScriptedTts()
        self.ears = ScriptedEars()
        apology = spoken(["Sorry,", "that", "failed."])
        self.engines = CallEngines(stt=self.stt, llm=self.llm, tts=self.tts, language="en", voice="", apology=apology)
        config, problems = AgentConfig.parse("demo", {"llm": "local", "greeting": GREETING} | agent)
        assert not problems
        self.config = config
        self.log = Log(asyncio.get_running_loop().time)
        self.person = Person(self.vocabulary)
        self.line = ScriptedLine(self.person)
        self.call = Call(
            id="c1",
            agent=config,
            engines=cast(Engines, self),
            publish=self.publish,
            metadata=metadata,
        )
        self.call.attach(self.line)
        self.load_seconds = 0.0

    def publish(self, event: Event) -> None:
        """What the call does with its events."""
        self.log.publish(event)

    async def ready(self, agent: AgentConfig) -> None:
        """``Engines.ready``."""
        await asyncio.sleep(self.load_seconds)

    def choose(self, agent: AgentConfig) -> CallEngines:
        """``Engines.choose``: any voice but that of ``other``."""
        warnings = ("no such voice",) if agent.voice.provider == "other" else ()
        return dataclasses.replace(
            self.engines, language=agent.language, voice=agent.voice.voice_id or "", warnings=warnings
        )

    async def until(self, condition: Callable[[], bool], seconds: float = 120.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.005)

    async def event(self, name: str, count: int = 1) -> None:
        """Until the event was published that often."""
        await self.until(lambda: len(self.log.all(name)) >= count)

    async def greeted(self) -> None:
        await self.event("bot.finished")

    async def hang_up(self) -> None:
        self.call.hangup("hangup")
        await self.call.wait_ended()

    def history(self) -> list[tuple[str, str]]:
        return [(message["role"], message["content"]) for message in self.log.all("call.ended")[0].messages]


def play(*answers: Any, channel_after: float | None = 0.1, **agent: Any) -> Callable[..., Stage]:
    """Run a dialogue on a stage to the end of its call, and check what holds for every call."""

    def run(dialogue: Callable[[Stage], Awaitable[None]]) -> Stage:
        async def main() -> Stage:
            stage = Stage(*answers, **agent)
            stage.line.start(stage.call, channel_after=channel_after)
            if agent.get("greeting") == "":
                await stage.until(lambda: stage.call._listening)
            await dialogue(stage)
            if not stage.call._over.done():
                stage.call.hangup("hangup")
            await stage.call.wait_ended()
            assert stage.line.closed
            assert stage.ears.open_detectors == 0
            assert (stage.stt.open_streams, stage.llm.open_streams, stage.tts.open_streams) == (0, 0, 0)
            check_rules(stage.log)
            return stage

        return virtual_time.run(main())

    return run


def check_rules(log: Log) -> None:
    """What protocol 3.10, 3.11 and 4.4 demand of every call."""
    names = [event.name for _, event in log.events]
    if names:
        assert names[0] == "call.started"
        assert names.count("call.started") == names.count("call.ended") == 1
        assert names[names.index("call.ended") + 1 :] in ([], ["session.ended", "session.timeout"])
    announced: dict[str, str] = {}
    words: dict[str, int] = {}
    speaking_turn = None
    turns = [0]
    for _, event in log.events:
        match event.name:
            case "bot.speaking":
                assert event.message_id not in announced
                announced[event.message_id] = "open"
                words[event.message_id] = 0
            case "bot.word":
                assert announced[event.message_id] == "open"
                assert event.word_index == words[event.message_id]
                assert event.word == event.word.strip() != ""
                words[event.message_id] += 1
            case "bot.finished":
                assert announced[event.message_id] == "open"
                assert words[event.message_id] > 0
                announced[event.message_id] = "over"
            case "bot.interrupted" if event.message_id not in announced:  # promised, and never heard
                assert (event.played_ms, event.words_spoken, event.reason) == (0, 0, "cancelled")
                announced[event.message_id] = "over"
            case "bot.interrupted":
                assert announced[event.message_id] == "open"
                assert event.words_spoken == words[event.message_id]
                announced[event.message_id] = "over"
            case "message.confirmed":
                assert event.text
            case "speech.started":
                assert speaking_turn is None
                speaking_turn = event.turn_id
                assert event.turn_id >= turns[-1]
                turns.append(event.turn_id)
            case "speech.ended":
                assert speaking_turn == event.turn_id
                speaking_turn = None
    assert set(announced.values()) <= {"over"}
    assert speaking_turn is None
