"""One call: the user's side, the bot's side and the line between them, from the first packet to the last event."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Protocol

from config.agent import AgentConfig, LlmConfig
from config.identity import base_language
from media.audio import AudioFrame, Pcm
from media.playout import Playout
from pipeline import control
from pipeline.answering import Answering, Question, Voice
from pipeline.conversation import Conversation
from pipeline.engine import CallEngines, Engines
from pipeline.events import (
    CallEnded,
    CallError,
    CallStarted,
    CallUpdated,
    ConfigUpdated,
    Event,
    SessionEnded,
    SessionStarted,
    SessionTimeout,
)
from pipeline.hearing import Hearing, Turn
from pipeline.limits import Limits
from pipeline.llm import GenerateOptions
from pipeline.prompt import PromptTemplate
from pipeline.speakable import spoken
from pipeline.speaking import Speaking
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


class Line(Protocol):
    """The media session of a call."""

    @property
    def playout(self) -> Playout: ...

    async def close(self) -> None:
        """Release the line. Calls ``on_closed`` unless the line was closed already."""


class Call:
    """Implements ``media.audio.LineObserver``. ``publish`` gets every event, each once, in order, on the event loop.

    A call begins with ``attach`` and lasts until the line is closed or ``hangup``; then nothing of it is left.
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
        self._agent = agent
        self._engines = engines
        self._publish = publish
        self._metadata = dict(metadata)
        self._loop = asyncio.get_running_loop()
        self._epoch = time.time() - self._loop.time()
        self._conversation = Conversation()
        self._ui_context: dict[str, str] = {}
        self._connected = asyncio.Event()
        self._channel_open = asyncio.Event()
        self._listening = False
        self._early: list[str] = []
        self._started: float | None = None
        self._over: asyncio.Future[str] = self._loop.create_future()
        self._line_closed = False
        self._task: asyncio.Task[None] | None = None
        self._switching: asyncio.Task[None] | None = None
        self._line: Line
        self._chosen: CallEngines
        self._speaking: Speaking
        self._answering: Answering
        self._hearing: Hearing
        self._limits: Limits

    def attach(self, line: Line) -> None:
        """The line that this call observes, before anything happens on it. Begins the call's own life."""
        self._line = line
        self._chosen = self._engines.choose(self._agent)
        self._speaking = Speaking(line.playout, self._publish, self._conversation.add_assistant)
        self._answering = Answering(self._speaking, self._publish, self._voice())
        self._hearing = Hearing(
            machine=TurnMachine(TurnSettings.of(self._agent), self._chosen.language),
            ears=self._engines.ears,
            engine=self._chosen.stt,
            publish=self._publish,
            interlocutor=self,
            wall_clock=self._wall_clock,
        )
        self._task = asyncio.create_task(self._live(), name=f"call {self.id}")

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
        self._speaking.advance(position)

    def on_message(self, text: str) -> None:
        if not self._listening:
            if len(self._early) < EARLY_MESSAGES and not self._over.done():
                self._early.append(text)
            return
        match action := control.parse(text):
            case control.InjectText():
                self._hearing.type(action.text)
            case control.Mute():
                self._hearing.mute() if action.on else self._hearing.unmute()
            case control.SetContext():
                self._set_context(action.key, action.value)
            case control.Configure():
                self._configure(action.changes)

    def on_closed(self, reason: str) -> None:
        self._line_closed = True
        self.hangup("disconnected" if reason == "closed" else reason)

    # --- what the user's side does to the bot's (pipeline.hearing.Interlocutor)

    def bot_state(self) -> BotState:
        transcribing = self._hearing.transcribing
        return BotState(
            busy=transcribing or self._answering.busy or self._speaking.active,
            audible=self._speaking.audible,
            owed=transcribing,
            left_ms=None if self._answering.busy else self._speaking.left_ms,
            played_ms=0 if transcribing else self._speaking.played_ms,  # else it is that of the reply before
            answering=transcribing or self._answering.answers_turn,
        )

    def on_user_active(self) -> None:
        self._limits.user_spoke()

    def on_interruption(self, *, continued: bool) -> None:
        self._answering.stop()
        self._speaking.interrupt("continuation" if continued else "user_spoke")
        if continued:
            self._conversation.remove(self._answering.message_id)

    def on_yield(self, decision: Duck | PausePlayback | ResumePlayback) -> None:
        match decision:
            case Duck():
                self._speaking.duck()
            case PausePlayback():
                self._speaking.pause()
            case ResumePlayback():
                self._speaking.resume()

    def sounding(self) -> Pcm | None:
        return self._speaking.sounding()

    def saying(self) -> str:
        return self._speaking.saying()

    def on_eager(self, turn: Turn) -> None:
        if self._agent.generates:
            supposed = self._conversation.supposing(turn.text, replaces=turn.continued)
            self._answering.prepare(turn, self._question(supposed))

    def on_eager_withdrawn(self) -> None:
        self._answering.withdraw()

    def on_turn(self, turn: Turn) -> None:
        if turn.continued:
            self._conversation.replace_user(turn.text)
        else:
            self._conversation.add_user(turn.text)
        if self._agent.generates:
            self._answering.answer(turn, self._question(self._conversation))

    def on_unheard(self) -> None:
        self._answering.apologise()

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
        self._started = self._loop.time()
        self._limits = Limits(self._agent.session_limits, self._started)
        language = base_language(self._chosen.language)
        self._publish(CallStarted(language=language, metadata=self._metadata))
        engines = {"stt": self._chosen.stt.name, "llm": self._chosen.llm.name, "tts": self._chosen.tts.name}
        self._publish(SessionStarted(agent=self._agent.id, language=language, engines=engines))
        with suppress(TimeoutError):
            async with asyncio.timeout(CHANNEL_SECONDS):
                await self._channel_open.wait()
        await self._equip()
        self._hearing.recognition.open()
        self._listening = True
        if greeting := self._greeting():
            self._answering.greet(greeting)
            self._conversation.add_assistant(self._answering.message_id, greeting)
        early, self._early = self._early, []
        for text in early:
            self.on_message(text)

    def _watch(self) -> None:
        """Look at the limits."""
        if self._hearing.talking:
            self._limits.user_spoke()
        for event in self._limits.advance(self._loop.time(), busy=self.bot_state().busy):
            if isinstance(event, SessionTimeout):
                self.hangup(event.reason)  # which publishes it, as the last event
            else:
                self._publish(event)

    async def _take_leave(self, reason: str) -> None:
        self._listening = False
        self._answering.stop()
        self._speaking.interrupt("cancelled")
        self._hearing.leave()
        if self._started is not None:
            self._publish_end(self._started, reason)
            if not self._line_closed:
                await asyncio.sleep(FAREWELL_SECONDS)

    async def _release(self) -> None:
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._answering.aclose()
                await self._hearing.aclose()
        except TimeoutError:
            logger.warning("call %s: an engine did not let go in time", self.id)
        if not self._line_closed:
            await self._line.close()

    def _publish_end(self, started: float, reason: str) -> None:
        now = self._loop.time()
        self._publish(
            CallEnded(
                reason=reason,
                duration_seconds=round(now - started, 3),
                started_at=self._wall_clock(started),
                ended_at=self._wall_clock(now),
                messages=self._conversation.messages(),
            )
        )
        if not self._line_closed:
            self._publish(SessionEnded(reason=reason))
            self._publish(SessionTimeout(reason=reason))

    # --- the agent of this call

    def _set_context(self, key: str, value: str | None) -> None:
        if value is None:
            self._ui_context.pop(key, None)
        elif key in self._ui_context or len(self._ui_context) < control.MAX_CONTEXT_KEYS:
            self._ui_context[key] = value

    def _configure(self, changes: Mapping[str, Any]) -> None:
        self._agent, accepted = control.configured(self._agent, changes)
        self._publish(ConfigUpdated(config=accepted))
        if accepted:
            if self._switching:
                self._switching.cancel()
            self._switching = asyncio.create_task(self._equip(), name=f"switch {self.id}")

    async def _equip(self) -> None:
        """Take what the agent asks for, as soon as it is loaded and as far as it can be."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LOADING_SECONDS):
                await self._engines.ready(self._agent)
        before = base_language(self._chosen.language)
        self._chosen = self._engines.choose(self._agent)
        self._answering.voice = self._voice()
        self._hearing.speak(self._chosen.stt, self._chosen.language)
        if (language := base_language(self._chosen.language)) != before:
            self._publish(CallUpdated(language=language))
        self._warn()

    def _warn(self) -> None:
        """Tell what the agent asked for and does not get. Protocol 7.2."""
        for warning in self._chosen.warnings:
            self._publish(CallError(error=warning, code="FALLBACK"))

    def _template(self) -> PromptTemplate:
        return PromptTemplate(
            prompt=self._agent.effective_prompt,
            timezone=self._agent.timezone,
            agent_variables=self._agent.vars,
            ui_context=self._ui_context,
            raw=self._agent.raw_prompt,
        )

    def _greeting(self) -> str:
        language = self._chosen.language
        text = self._template().render(self._agent.greeting_for(language) or "", self._now())
        return spoken(text, language).written

    def _voice(self) -> Voice:
        chosen, speed = self._chosen, self._agent.voice.speed or 1.0
        return Voice(chosen.tts, chosen.voice, chosen.language, speed, chosen.apology)

    def _question(self, conversation: Conversation) -> Question:
        llm = self._agent.llm or LlmConfig()
        options = GenerateOptions(
            model=llm.model,
            temperature=llm.temperature,
            max_tokens=llm.max_tokens,
            language=self._chosen.language,
            timezone=self._agent.timezone,
        )
        messages = conversation.for_model(self._template().system_prompt(self._now()))
        return Question(self._chosen.llm, messages, options)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._wall_clock(self._loop.time()), UTC)

    def _wall_clock(self, at: float) -> float:
        """Epoch seconds of a moment of the loop's clock."""
        return round(self._epoch + at, 3)
