"""The bot's side of one call: what it thinks, what its backend has it say, and what is heard of both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from config.agent import text_for
from media.audio import Pcm
from media.playout import Playout
from pipeline.answering import Answering
from pipeline.briefing import Question
from pipeline.conversation import Conversation
from pipeline.desk import Handler, optional_text_of, text_of
from pipeline.engine import CallEngines
from pipeline.events import Event
from pipeline.hearing import Turn
from pipeline.messages import MAX_ID, MAX_TEXT, Messages
from pipeline.mind import Mind
from pipeline.speakable import spoken
from pipeline.speaking import Memory, Speaking, Utterance
from pipeline.turn_signals import BotState, Duck, PausePlayback, ResumePlayback
from pipeline.voicing import Voice, Voicing


class Bot:
    """Speaks through ``playout``. Replies of the model and messages of the backend wait for one another."""

    def __init__(
        self,
        mind: Mind,
        *,
        playout: Playout,
        engines: CallEngines,
        publish: Callable[[Event], None],
        answerable: Callable[[], tuple[str, bool]],
    ) -> None:
        """``answerable``: see ``Messages``."""
        self._mind = mind
        self._engines = engines
        self._speaking = Speaking(playout, publish, self._remember)
        self._voicing = Voicing(self._speaking, publish, self._voice(), mind.briefing.meter)
        self._answering = Answering(
            voicing=self._voicing,
            speaking=self._speaking,
            conversation=mind.conversation,
            tools=mind.tools,
            prepare=mind.prepare,
            filler=lambda: self._in_words(mind.agent.tool_filler),
            publish=publish,
        )
        self._messages = Messages(
            voicing=self._voicing, speaking=self._speaking, publish=publish, answerable=answerable
        )
        self._on_hold = False
        self._open_connections()

    def equip(self, engines: CallEngines) -> None:
        """Answer and speak with these from now on."""
        self._engines = engines
        self._voicing.voice = self._voice()

    def greet(self) -> None:
        """Say the agent's greeting, if it has one."""
        greeting = self._in_words(self._mind.agent.greeting)
        if greeting and not self._on_hold:
            self._answering.greet(greeting)

    def state(self, *, transcribing: bool) -> BotState:
        """``transcribing``: the text of the user's last turn is still to come, and the bot waits for it."""
        replying = self._answering.busy or self._messages.busy
        return BotState(
            busy=transcribing or replying or self._speaking.active,
            audible=self._speaking.audible,
            owed=transcribing,
            left_ms=None if replying else self._speaking.left_ms,
            played_ms=0 if transcribing else self._speaking.played_ms,  # else it is that of the reply before
            answering=transcribing or self._speaking.answers_turn,
        )

    # --- what the media clock brings and takes

    def advance(self, position: int) -> None:
        """The playout has come to this position."""
        self._speaking.advance(position)

    def sounding(self) -> Pcm | None:
        return self._speaking.sounding()

    def saying(self) -> str:
        return self._speaking.saying()

    # --- what the user does to it

    def give_way(self, decision: Duck | PausePlayback | ResumePlayback) -> None:
        match decision:
            case Duck():
                self._speaking.duck()
            case PausePlayback():
                self._speaking.pause()
            case ResumePlayback():
                self._speaking.resume()

    def interrupt(self, *, continued: bool) -> None:
        """The user speaks. ``continued``: they go on with their last turn, and the answer to it never was."""
        self.silence("continuation" if continued else "user_spoke")
        if continued:
            for message_id in (*self._answering.message_ids, *self._messages.reply_ids):
                self._mind.conversation.remove(message_id)

    def prepare(self, turn: Turn) -> None:
        """Begin to answer in secret what may be all of a turn."""
        if self._answers and not self._mind.tools.pending:
            supposed = self._mind.conversation.supposing(turn.text, replaces=turn.continued)
            self._answering.prepare(turn, self._ask(supposed))

    def withdraw(self) -> None:
        """It was not all."""
        self._answering.withdraw()
        self._messages.withdraw()

    def answer(self, turn: Turn) -> None:
        """The user has said something; whoever answers this agent's calls is to do it."""
        if turn.continued:
            self._mind.conversation.replace_user(turn.text)
        else:
            self._mind.conversation.add_user(turn.text)
        if self._answers:
            self._messages.confirm(turn.message_id)
            self._answering.answer(turn, self._ask)
        else:
            awaited = self._mind.is_attended and not self._mind.agent.generates
            self._messages.expect(turn.message_id, awaited=awaited)

    def apologise(self) -> None:
        """Something was lost that the user said."""
        self._answering.apologise()

    # --- what others do to it

    def silence(self, reason: str) -> None:
        """Stop thinking and speaking; what was promised to be said is taken back. Reasons: protocol 3.11."""
        self._answering.stop()
        self._speaking.interrupt(reason)
        self._messages.drop()

    def make_way(self) -> None:
        """A person speaks for the agent now: what the model has not begun to say it does not say."""
        current = self._speaking.current
        if current is None or not current.announced or current.id not in self._answering.message_ids:
            self._answering.stop()

    def hold(self) -> None:
        """Say nothing until ``unhold``, and answer nothing that is said before it."""
        self._on_hold = self._messages.on_hold = True
        self.silence("cancelled")

    def unhold(self) -> None:
        self._on_hold = self._messages.on_hold = False

    def handlers(self) -> dict[str, Handler]:
        return {
            **self._messages.handlers(),
            "bot.cancel": self._cancel,
            "bot.clear": self._clear,
            "session.send": self._send,
        }

    async def aclose(self) -> None:
        await asyncio.gather(self._answering.aclose(), self._messages.aclose())

    def _cancel(self, frame: Mapping[str, Any]) -> None:
        message_id = optional_text_of(frame, "message_id", MAX_ID)
        if message_id is None or message_id in self._answering.message_ids[-1:]:
            self._answering.stop()
        self._messages.cancel(message_id)

    def _clear(self, frame: Mapping[str, Any]) -> None:
        self.silence("cancelled")

    def _send(self, frame: Mapping[str, Any]) -> dict[str, Any]:
        """A person says this in place of the agent."""
        self._messages.say(text_of(frame, "text", MAX_TEXT))
        return {"event": "session.sent", "session_id": frame.get("session_id")}

    # --- inside

    @property
    def _answers(self) -> bool:
        return self._mind.answers and not self._on_hold

    def _ask(self, conversation: Conversation | None = None) -> Question:
        return self._mind.ask(self._engines.llm, self._engines.language, conversation)

    def _remember(self, utterance: Utterance, heard: str) -> None:
        if utterance.memory is not Memory.NONE:
            aside = utterance.memory is Memory.ASIDE
            self._mind.conversation.add_assistant(utterance.id, heard, aside=aside)

    def _voice(self) -> Voice:
        engines, speed = self._engines, self._mind.agent.voice.speed or 1.0
        return Voice(engines.tts, engines.voice, engines.language, speed, engines.apology)

    def _open_connections(self) -> None:
        """Engines that are asked over the network get to connect before the first word waits for it."""
        voice = self._voicing.voice
        if (prepare := getattr(voice.engine, "prepare", None)) is not None:
            prepare(voice=voice.name, language=voice.language, speed=voice.speed)
        if (prepare := getattr(self._engines.llm, "prepare", None)) is not None:
            prepare()

    def _in_words(self, texts: Mapping[str, str]) -> str:
        """The text of the call's language as it is written when it is said."""
        language = self._engines.language
        return spoken(self._mind.briefing.render(text_for(texts, language) or ""), language).written
