"""Plays a script on a stage in virtual time and records what happened."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from media.audio import FRAME_MS, Pcm
from media.playout import DUCKED
from pipeline.events import Event
from pipeline.llm import Message
from tests import virtual_time
from tests.backend.scene import Scene
from tests.dialogues.script import Deed, Script, setting
from tests.pipeline.scripted import SILENCE, WORD_FRAMES, Frame, spoken
from tests.pipeline.stage import check_rules

FRAME = FRAME_MS / 1000

EDGE = 0.005
"""Seconds behind a tick, so that what is said then begins with the next."""

PATIENCE = 120.0
"""Seconds for which a moment of the script is waited for."""

QUIET = 1.5
"""Seconds in which nobody does anything, after which the dialogue is over."""

COMMANDS = {
    "cancels": "bot.cancel",
    "clears": "bot.clear",
    "hangs up": "call.hangup",
    "holds": "call.hold",
    "mutes": "call.mute",
    "pauses": "session.pause",
    "resumes": "session.resume",
    "unholds": "call.unhold",
    "unmutes": "call.unmute",
}

LOW = round(DUCKED * int(spoken(["a"]).pcm.max()))
"""The loudest sample of a lowered voice."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened. ``sound.full``, ``sound.low`` and ``sound.off`` are what the user hears of the bot."""

    time: float
    """Seconds since the call began to listen."""
    name: str
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Record:
    """What happened in a dialogue, up to the curtain."""

    moments: list[Moment] = field(default_factory=list)
    voices: list[tuple[float, float]] = field(default_factory=list)
    """When the user's sounds began and ended."""
    history: list[tuple[str, str]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """What the user had said last, each time that the language model was asked."""
    problems: list[str] = field(default_factory=list)


class MissedError(Exception):
    """A moment that the script waits for."""


def play(script: Script) -> Record:
    """Run the dialogue to its end. Raises ``AssertionError`` where it breaks a rule that holds for every call."""

    async def main() -> Record:
        return await Player(script).perform()

    return virtual_time.run(main())


class Player:
    def __init__(self, script: Script) -> None:
        self._script = script
        self._record = Record()
        self._stage = stage = Scene(*script.answers, attended=script.has_backend, **({"greeting": ""} | script.agent))
        self._loop = asyncio.get_running_loop()
        self._begin = 0.0
        self._told = 0  # events of the log that are in the record
        self._over = False
        self._leaving: asyncio.Task[None] | None = None
        self._sound = "sound.off"
        self._low = 0  # ticks
        self._sent = 0  # ticks with sound
        self._messages = 0  # of the backend
        stage.ears.verdicts.extend(script.verdicts)
        stage.tts.failing = script.unsayable
        for knob, value in script.knobs.items():
            self._turn(knob, value)

    async def perform(self) -> Record:
        stage = self._stage
        stage.line.on_tick = self._on_tick
        stage.line.start(stage.call)
        await stage.until(lambda: stage.call._listening)
        self._begin = self._loop.time()
        for deed in self._script.deeds:
            try:
                await self._await(deed)
            except (MissedError, TimeoutError):
                self._record.problems.append(f"line {deed.line}: its moment never came")
                break
            if deed.kind == "curtain":
                break
            self._do(deed)
        else:
            await self._settle()
        self._tell(stage.log.events)
        self._over = True
        if self._leaving:
            await self._leaving
        if not stage.line.closed:
            stage.call.hangup("hangup")
        await stage.call.wait_ended()
        self._check()
        said = [(role.replace("assistant", "bot"), text) for role, text in stage.history()]
        self._record.history = [(role, text) for role, text in said if role in ("user", "bot") and text]
        self._record.asked = [_last_words(messages) for messages in stage.llm.asked]
        return self._record

    # --- moments

    async def _await(self, deed: Deed) -> None:
        when, log = deed.when, self._stage.log
        since = len(log.events)
        if when.at is not None:
            await asyncio.sleep(max(0.0, self._begin + when.at - self._loop.time()))
        elif when.pause is not None:
            await self._until(lambda: not self._stage.person.frames)
            silence = self._record.voices[-1][1] if self._record.voices else 0.0
            await asyncio.sleep(max(0.0, self._begin + silence + when.pause + EDGE - self._loop.time()))
        elif when.words is not None:
            await self._until(lambda: self._spoken() >= (when.words or 0))
        else:
            await self._until(lambda: any(event.name == when.event for _, event in log.events[since:]))
        if when.event or when.words:
            await asyncio.sleep(when.later)

    def _spoken(self) -> int:
        """Words of the present message."""
        words = 0
        for _, event in self._stage.log.events:
            match event.name:
                case "bot.word":
                    words += 1
                case "bot.finished" | "bot.interrupted":
                    words = 0
        return words

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                if self._stage.line.closed:
                    raise MissedError
                await asyncio.sleep(0.005)

    async def _settle(self) -> None:
        """Until nobody has anything more to say."""
        quiet = 0.0
        async with asyncio.timeout(PATIENCE):
            while quiet < QUIET and not self._stage.line.closed:
                await asyncio.sleep(FRAME)
                quiet = 0.0 if self._lively() else quiet + FRAME

    def _lively(self) -> bool:
        stage = self._stage
        return bool(stage.person.frames) or stage.call._hearing.speaking or stage.call.bot_state().busy

    # --- deeds

    def _do(self, deed: Deed) -> None:
        stage = self._stage
        if deed.who == "backend":
            self._command(deed.kind, deed.text)
            return
        match deed.kind:
            case "says":
                stage.person.say(deed.text, level=deed.level, frames=WORD_FRAMES * (2 if deed.slowly else 1))
            case "sounds":
                stage.person.noise(round(deed.number * 1000), level=deed.level)
            case "types":
                self._send({"action": "inject_text", "text": deed.text})
            case "sets":
                self._send({"action": "configure"} | setting(deed.text))
            case "mutes" | "unmutes":
                self._send({"action": deed.kind.removesuffix("s")})
            case "leaves":
                self._leaving = asyncio.create_task(stage.line.drop("disconnected"))
            case "guesses":
                stage.stt.guess(deed.number, eager=deed.eager)
            case "breaks" if deed.who == "stt":
                stage.stt.broken = deed.text
            case "breaks":
                stage.tts.failing = "*"
            case "recovers":
                stage.stt.broken = stage.tts.failing = ""

    def _send(self, message: dict[str, Any]) -> None:
        self._stage.call.on_message(json.dumps(message))

    def _command(self, kind: str, text: str) -> None:
        """A command of the backend."""
        stage = self._stage
        match kind:
            case "says":
                stage.say(self._name(), text)
            case "replies":
                [*_, ended] = stage.all_frames("turn.end")
                stage.reply(self._name(), *re.findall(r"\S+\s*", text), to=ended["message_id"])
            case "returns":
                [*_, asked] = stage.all_frames("llm.tool_call")
                stage.result(asked, **{each["id"]: text for each in asked["tool_calls"]})
            case "speaks":
                stage.send("session.send", session_id="c1", text=text)
            case _:
                stage.send(COMMANDS[kind], session_id="c1")

    def _name(self) -> str:
        self._messages += 1
        return f"m{self._messages}"

    def _turn(self, knob: str, value: float) -> None:
        stage = self._stage
        match knob:
            case "stt final":
                stage.stt.final_seconds = value
            case "llm first":
                stage.llm.first_token = value
            case "llm word":
                stage.llm.token_seconds = value
            case "tts word":
                stage.tts.pace = value
            case "model thinks":
                stage.ears.think_seconds = value

    # --- what happens

    def _now(self) -> float:
        return self._loop.time() - self._begin

    def _on_tick(self, said: Frame, sent: Pcm | None) -> None:
        """Once in 20 ms: what the user said in it, and what was sent to them."""
        now, voices = self._now(), self._record.voices
        if said is not SILENCE:
            if voices and now - FRAME - voices[-1][1] < FRAME / 2:
                voices[-1] = (voices[-1][0], now)
            else:
                voices.append((now - FRAME, now))
        peak = 0 if sent is None else int(np.abs(sent).max())
        self._sent += sent is not None
        if self._over:
            return
        self._low = self._low + 1 if 0 < peak <= LOW else 0
        if sent is None:
            self._hear("sound.off")
        elif peak > LOW:
            self._hear("sound.full")
        elif self._low > 1:  # one frame alone is the edge of silence
            self._hear("sound.low")

    def _hear(self, sound: str) -> None:
        self._tell(self._stage.log.events)
        if sound != self._sound:
            self._sound = sound
            self._record.moments.append(Moment(self._now(), sound))

    def _tell(self, events: list[tuple[float, Event]]) -> None:
        """Copy what is new, so that sounds and events stand in their order."""
        self._record.moments.extend(_moments(events[self._told :], self._begin))
        self._told = len(events)

    def _check(self) -> None:
        """What holds for every call: its rules, nothing left open, and nothing of the sound lost or repeated."""
        stage = self._stage
        check_rules(stage.log)
        assert stage.line.closed
        assert (stage.stt.open_streams, stage.llm.open_streams, stage.tts.open_streams) == (0, 0, 0)
        assert stage.ears.open_detectors == 0
        finished, cut = stage.log.all("bot.finished"), stage.log.all("bot.interrupted")
        told = sum(event.duration_ms for event in finished) + sum(event.played_ms for event in cut)
        frames = len(finished) + len(cut)
        assert told - FRAME_MS <= self._sent * FRAME_MS <= told + frames * 2 * FRAME_MS, "sound was lost or repeated"


def _last_words(messages: Sequence[Message]) -> str:
    return next(message["content"] for message in reversed(messages) if message["role"] == "user")


def _moments(events: Iterable[tuple[float, Event]], begin: float) -> Iterable[Moment]:
    for time, event in events:
        fields = {f.name: value for f in dataclasses.fields(event) if (value := getattr(event, f.name)) is not None}
        yield Moment(time - begin, event.name, fields)
