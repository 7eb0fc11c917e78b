"""One call: the user's side, the bot's side and the line between them, from the first packet to the last event."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Protocol

from config.agent import AgentConfig
from config.identity import base_language
from config.patch import Patch
from media.audio import AudioFrame, Pcm
from media.playout import Playout
from pipeline import control
from pipeline.bot import Bot
from pipeline.desk import Desk, Handler
from pipeline.engine import CallEngines, Engines
from pipeline.events import (
    CallEnded,
    CallError,
    CallStarted,
    CallUpdated,
    ConfigUpdated,
    Event,
    KnownError,
    SessionEnded,
    SessionOver,
    SessionStarted,
    SessionTimeout,
)
from pipeline.hearing import Hearing, Turn
from pipeline.limits import Limits
from pipeline.mind import Mind
from pipeline.session import Reply
from pipeline.turn import TurnMachine
from pipeline.turn_settings import TurnSettings
from pipeline.turn_signals import BotState, Duck, PausePlayback, ResumePlayback

logger = logging.getLogger(__name__)

CHANNEL_SECONDS = 1.0
"""How long the greeting waits for the DataChannel, so that its words are seen as they are heard. Protocol 4.7."""

FAREWELL_SECONDS = 0.2
"""Between the last event and the end of the line: time for its delivery. Protocol 4.6."""

LOADING_SECONDS = 10.0
"""How long a call waits for engines that are not loaded yet. After that it goes on as it can."""

RELEASE_SECONDS = 5.0
"""How long engines may take to let go of a call that is over."""

EARLY_MESSAGES = 32
"""Messages of a browser that are kept until the call has begun."""

LIMITS_SECONDS = 0.25
"""How often the session limits are looked at."""

CONFIGURE_SECONDS = 0.6
"""How long a call with metadata waits for its backend to configure it before the greeting. Protocol 3.8."""

EQUIPMENT = frozenset({"voice", "language", "stt", "llm", "flash"})
"""What of the agent decides which engines a call has."""

TURN_TAKING = frozenset({"interruption", "vad", "turn_detection"})

BEFORE_THE_START = frozenset({"session.pause", "session.resume"})
"""What is asked of all calls of an agent, also of those that no backend was told of yet."""

LIMITS = frozenset({"idle_timeout", "max_duration"})
"""Reasons of which the backend is told before the end. Protocol 3.18."""


class Line(Protocol):
    """The media session of a call."""

    @property
    def playout(self) -> Playout: ...

    async def close(self) -> None:
        """Release the line. Calls ``on_closed`` unless the line was closed already."""


class Call:
    """A ``pipeline.session.Session`` that is spoken, and the ``media.audio.LineObserver`` of its line.

    ``publish`` gets every event, each once, in order, on the event loop. A call begins with ``attach`` and lasts until
    the line is closed or ``hangup``; then nothing of it is left.
    """

    def __init__(
        self,
        *,
        id: str,  # noqa: A002
        agent: AgentConfig,
        engines: Engines,
        publish: Callable[[Event], None],
        metadata: Mapping[str, Any],
    ) -> None:
        self.id = id
        self._engines = engines
        self._publish = publish
        self._metadata = dict(metadata)
        self._loop = asyncio.get_running_loop()
        self._epoch = time.time() - self._loop.time()
        self._mind = Mind(
            agent,
            channel="voice",
            publish=publish,
            clock=self._now,
            on_configured=self._on_configured,
            on_paused=self._on_paused,
        )
        self._connected = asyncio.Event()
        self._channel_open = asyncio.Event()
        self._configured = asyncio.Event()
        self._listening = False
        self._muted_by_browser = self._on_hold = False
        self._early: list[str] = []
        self._started: float | None = None
        self._over: asyncio.Future[str] = self._loop.create_future()
        self._line_closed = False
        self._task: asyncio.Task[None] | None = None
        self._switching: asyncio.Task[None] | None = None
        self._line: Line
        self._chosen: CallEngines
        self._bot: Bot
        self._hearing: Hearing
        self._desk: Desk
        self._limits: Limits

    def attach(self, line: Line) -> None:
        """The line that this call observes, before anything happens on it. Begins the call's own life."""
        agent = self._mind.agent
        self._line = line
        self._chosen = self._engines.choose(agent)
        self._bot = Bot(
            self._mind,
            playout=line.playout,
            engines=self._chosen,
            publish=self._publish,
            answerable=lambda: self._hearing.answerable,
        )
        self._hearing = Hearing(
            machine=TurnMachine(self._turn_settings(), self._chosen.language),
            ears=self._engines.ears,
            engine=self._chosen.stt,
            publish=self._publish,
            interlocutor=self,
            wall_clock=self._wall_clock,
            meter=self._mind.briefing.meter,
        )
        self._desk = Desk(self.id, self._mind.handlers(), self._bot.handlers(), self._handlers())
        self._task = asyncio.create_task(self._live(), name=f"call {self.id}")

    # --- what the server does with it (pipeline.session.Session)

    def command(self, frame: Mapping[str, Any], reply: Reply) -> None:
        unknown = self._started is None and frame.get("event") not in BEFORE_THE_START
        if unknown or self._over.done():
            self._desk.decline(frame, reply)
        else:
            self._desk.take(frame, reply)

    def reload(self, agent: AgentConfig) -> None:
        self._mind.reload(agent)

    def attend(self, present: bool) -> None:
        self._mind.attend(present)

    def hangup(self, reason: str) -> None:
        """End the call: what is being said is cut, the browser is told ``reason``. Protocol 3.9 lists the reasons."""
        if not self._over.done():
            self._over.set_result(reason)

    async def wait_ended(self) -> None:
        """Until the last event was published and everything is released."""
        if self._task:
            await asyncio.shield(self._task)

    # --- what happens on the line (media.audio.LineObserver)

    def on_connected(self) -> None:
        self._connected.set()

    def on_channel_open(self) -> None:
        self._channel_open.set()

    def on_audio(self, frame: AudioFrame) -> None:
        if self._listening:
            self._hearing.hear(frame)

    def on_played(self, position: int) -> None:
        self._bot.advance(position)

    def on_message(self, text: str) -> None:
        if not self._listening:
            if len(self._early) < EARLY_MESSAGES and not self._over.done():
                self._early.append(text)
            return
        match action := control.parse(text):
            case control.InjectText():
                self._hearing.type(action.text)
            case control.Mute():
                self._muted_by_browser = action.on
                self._mute()
            case control.SetContext():
                self._mind.set_context(action.key, action.value)
            case control.Configure():
                patch, accepted = control.configured(action.changes)
                self._mind.lay_browser(patch)
                self._publish(ConfigUpdated(config=accepted))
                if accepted:
                    self._switch()

    def on_closed(self, reason: str) -> None:
        self._line_closed = True
        self.hangup("disconnected" if reason == "closed" else reason)

    # --- what the user's side does to the bot's (pipeline.hearing.Interlocutor)

    def bot_state(self) -> BotState:
        return self._bot.state(transcribing=self._hearing.transcribing)

    def on_user_active(self) -> None:
        self._limits.user_spoke()

    def on_interruption(self, *, continued: bool) -> None:
        self._bot.interrupt(continued=continued)

    def on_yield(self, decision: Duck | PausePlayback | ResumePlayback) -> None:
        self._bot.give_way(decision)

    def sounding(self) -> Pcm | None:
        return self._bot.sounding()

    def saying(self) -> str:
        return self._bot.saying()

    def on_eager(self, turn: Turn) -> None:
        self._bot.prepare(turn)

    def on_eager_withdrawn(self) -> None:
        self._bot.withdraw()

    def on_turn(self, turn: Turn) -> None:
        self._bot.answer(turn)

    def on_unheard(self) -> None:
        self._bot.apologise()

    # --- the life of the call

    async def _live(self) -> None:
        """Owns every other task of the call."""
        talk = asyncio.create_task(self._talk(), name=f"talk {self.id}")
        reason = await self._over
        tasks = [talk, *([self._switching] if self._switching else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await self._take_leave(reason)
        finally:  # whatever a subscriber does with the last events
            await self._release()

    async def _talk(self) -> None:
        await self._connected.wait()
        try:
            await self._begin()
            while True:
                await asyncio.sleep(LIMITS_SECONDS)
                self._watch()
        except Exception:
            logger.exception("call %s broke", self.id)
            self.hangup("failed")

    async def _begin(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CHANNEL_SECONDS):
                await self._channel_open.wait()
        self._started = self._loop.time()
        self._limits = Limits(self._mind.agent.session_limits, self._started)
        language = base_language(self._chosen.language)
        self._publish(CallStarted(language=language, metadata=self._metadata))
        engines = {"stt": self._chosen.stt.name, "llm": self._chosen.llm.name, "tts": self._chosen.tts.name}
        self._publish(SessionStarted(agent=self._mind.agent.id, language=language, engines=engines))
        for warning in self._chosen.warnings:
            self._publish(KnownError(error=warning))
        await self._equip()
        await self._await_configuration()
        self._hearing.recognition.open()
        self._listening = True
        self._bot.greet()
        early, self._early = self._early, []
        for text in early:
            self.on_message(text)

    async def _await_configuration(self) -> None:
        """Let the backend choose voice and language by the metadata before anything is said."""
        if self._metadata and self._mind.is_attended and self._started is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._started + CONFIGURE_SECONDS):
                    await self._configured.wait()
        if self._switching:
            await asyncio.gather(self._switching, return_exceptions=True)

    def _watch(self) -> None:
        """Look at the limits, and whether a provider had to be replaced."""
        self._tell_replaced()
        if self._hearing.talking:
            self._limits.user_spoke()
        for event in self._limits.advance(self._loop.time(), busy=self.bot_state().busy or self._on_hold):
            if isinstance(event, SessionTimeout):
                self.hangup(event.reason)  # which publishes it
            else:
                self._publish(event)

    async def _take_leave(self, reason: str) -> None:
        self._listening = False
        self._bot.silence("cancelled")
        self._hearing.leave()
        if self._started is not None:
            self._publish_end(self._started, reason)
            if not self._line_closed:
                await asyncio.sleep(FAREWELL_SECONDS)

    async def _release(self) -> None:
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._bot.aclose()
                await self._mind.aclose()
                await self._hearing.aclose()
        except TimeoutError:
            logger.warning("call %s: an engine did not let go in time", self.id)
        if not self._line_closed:
            await self._line.close()

    def _publish_end(self, started: float, reason: str) -> None:
        now = self._loop.time()
        if reason in LIMITS:
            self._publish(SessionTimeout(reason=reason))
        self._publish(
            CallEnded(
                reason=reason,
                duration_seconds=round(now - started, 3),
                started_at=self._wall_clock(started),
                ended_at=self._wall_clock(now),
                messages=self._mind.conversation.messages(),
                usage=self._mind.briefing.meter.rows() or None,
            )
        )
        if not self._line_closed:
            self._publish(SessionEnded(reason=reason))
            self._publish(SessionOver(reason=reason))

    # --- the agent of this call

    def _tell_replaced(self) -> None:
        for engine in (self._chosen.stt, self._chosen.llm, self._chosen.tts):
            replaced: list[str] = getattr(engine, "replaced", [])
            for text in dict.fromkeys(replaced):
                self._publish(CallError(error=text, code="FALLBACK"))
            replaced.clear()

    def _mute(self) -> None:
        if self._muted_by_browser or self._on_hold:
            self._hearing.mute()
        else:
            self._hearing.unmute()

    def _switch(self) -> None:
        """Take up what the agent asks for now."""
        if self._switching:
            self._switching.cancel()
        self._switching = asyncio.create_task(self._equip(), name=f"switch {self.id}")

    async def _equip(self) -> None:
        """Take what the agent asks for, as soon as it is loaded and as far as it can be."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LOADING_SECONDS):
                await self._engines.ready(self._mind.agent)
        before = self._chosen
        self._tell_replaced()
        self._chosen = chosen = self._engines.choose(self._mind.agent)
        self._bot.equip(chosen)
        self._hearing.speak(chosen.stt, chosen.language)
        self._hearing.take_turns(self._turn_settings())
        if (language := base_language(chosen.language)) != base_language(before.language):
            self._publish(CallUpdated(language=language))
        for warning in chosen.warnings:  # what was asked for and is not there; protocol 7.2
            if warning not in before.warnings:
                self._publish(CallError(error=warning, code="FALLBACK"))

    # --- commands of the backend

    def _handlers(self) -> dict[str, Handler]:
        return {
            "call.hangup": self._hang_up,
            "call.hold": self._hold,
            "call.unhold": self._unhold,
            "call.mute": self._ignore_user,
            "call.unmute": self._heed_user,
        }

    def _on_configured(self, patch: Patch) -> None:
        if patch.keys() & EQUIPMENT:
            self._switch()
        if patch.keys() & TURN_TAKING:
            self._hearing.take_turns(self._turn_settings())
        if "session_limits" in patch and self._started is not None:
            self._limits.change(self._mind.agent.session_limits)
        self._configured.set()

    def _on_paused(self) -> None:
        self._bot.make_way()

    def _hang_up(self, frame: Mapping[str, Any]) -> None:
        self.hangup("hangup")

    def _hold(self, frame: Mapping[str, Any]) -> dict[str, Any]:
        self._on_hold = True
        self._bot.hold()
        self._mute()
        return {"event": "call.held"}

    def _unhold(self, frame: Mapping[str, Any]) -> dict[str, Any]:
        self._on_hold = False
        self._bot.unhold()
        self._mute()
        return {"event": "call.unheld"}

    def _ignore_user(self, frame: Mapping[str, Any]) -> dict[str, Any]:
        self._hearing.ignore()
        return {"event": "call.muted"}

    def _heed_user(self, frame: Mapping[str, Any]) -> dict[str, Any]:
        return {"event": "call.unmuted", "muted_transcript": self._hearing.heed()}

    def _turn_settings(self) -> TurnSettings:
        native = bool(getattr(self._chosen.stt, "native_turns", False))
        return TurnSettings.of(self._mind.agent, native=native)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._wall_clock(self._loop.time()), UTC)

    def _wall_clock(self, at: float) -> float:
        """Epoch seconds of a moment of the loop's clock."""
        return round(self._epoch + at, 3)
