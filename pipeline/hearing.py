"""What the user says: frames through the turn machine and the recogniser to turns and their events.

Order of a turn's events, protocol 3.10: ``speech.started``, ``user.speaking``…, ``user.message``, ``speech.ended``,
``turn.end``; a pause in mid-sentence ends the speech and begins it again (8.3). Noise ends with ``speech.ended`` alone.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from media.audio import AudioFrame, Pcm
from pipeline.ear import Ear, Ears
from pipeline.engine import EngineError
from pipeline.events import (
    CallError,
    EagerTurn,
    Event,
    SpeechEnded,
    SpeechStarted,
    TurnContinued,
    TurnEnd,
    TurnPause,
    TurnResumed,
    UserMessage,
    UserSpeaking,
)
from pipeline.meter import Meter
from pipeline.recognition import PRE_ROLL_MS, Recognition
from pipeline.stt import SpeechToText, Transcript, TurnGuess
from pipeline.turn import FRAME, State, TurnMachine
from pipeline.turn_settings import TurnSettings
from pipeline.turn_signals import (
    Ask,
    BotState,
    Decision,
    Dismiss,
    Duck,
    Eager,
    End,
    Listen,
    NativeEnd,
    Observation,
    Pause,
    PausePlayback,
    Resume,
    ResumePlayback,
    Start,
    Unfinished,
    Words,
)


@dataclass(slots=True, eq=False)
class Turn:
    """A turn of the user. One that is continued keeps its id and its texts and gets a new message id.

    Times are those of the loop's clock, s.
    """

    id: int
    message_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    continued: bool = False
    """Its earlier text was given to the bot already and is replaced by the joined one."""
    texts: list[str] = field(default_factory=list)
    typed: list[str] = field(default_factory=list)
    """Texts that were typed while it was spoken; they stand behind."""
    partial: str = ""
    confidence: float = 1.0
    """Of the least sure of its texts."""
    language: str | None = None
    open: bool = True
    """Its message was not published yet."""
    began: float | None = None
    """When the speech that ``speech.started`` told of began; ``None`` outside of speech."""
    silent_since: float = 0.0
    decided: float = 0.0
    final: float = 0.0
    failed: bool = False
    probability: float = 1.0
    """That it is complete."""
    paused: bool = False
    """``turn.pause`` was published, and ``turn.resumed`` was not."""
    guess: str | None = None
    """The text of the ``eager.turn`` that was published for this message."""
    aside: bool = False
    """It was spoken to a bot that ignores it: nothing of it is told, its text is kept."""

    @property
    def text(self) -> str:
        return " ".join(filter(None, (*self.texts, self.partial, *self.typed)))

    def reopen(self) -> None:
        """The user goes on after all."""
        self.open = self.continued = True
        self.rename()

    def rename(self) -> None:
        """The message has become another one, which answers to the shorter one do not fit."""
        self.message_id = uuid.uuid4().hex
        self.guess = None


class Interlocutor(Protocol):
    """The bot's side of the call, as hearing sees it."""

    def bot_state(self) -> BotState: ...

    def on_user_active(self) -> None:
        """The user says something, or typed."""

    def on_interruption(self, *, continued: bool) -> None:
        """The bot must be silent at once; ``continued``: and its answer never was."""

    def on_yield(self, decision: Duck | PausePlayback | ResumePlayback) -> None:
        """The user may be speaking: lower the voice, or fall silent; or go on, for it was nothing."""

    def sounding(self) -> Pcm | None:
        """20 ms at ``OUTPUT_RATE`` that were sent since the last time; ``None``: nothing was."""

    def saying(self) -> str:
        """The words that are being said about now."""

    def on_eager(self, turn: Turn) -> None:
        """The user is probably done: prepare the answer in secret."""

    def on_eager_withdrawn(self) -> None:
        """The user was not done."""

    def on_turn(self, turn: Turn) -> None:
        """The user said something and waits for an answer."""

    def on_unheard(self) -> None:
        """The user said something that the recogniser lost."""


class Hearing:
    """The user's side of one call. Synchronous: nothing here waits."""

    def __init__(
        self,
        *,
        machine: TurnMachine,
        ears: Ears,
        engine: SpeechToText,
        publish: Callable[[Event], None],
        interlocutor: Interlocutor,
        wall_clock: Callable[[float], float],
        meter: Meter | None = None,
    ) -> None:
        """``wall_clock`` gives the epoch seconds of a moment of the loop's clock."""
        self.recognition = Recognition(engine, machine.language, self, meter)
        self._machine = machine
        self._ear = Ear(ears, self._observe)
        self._publish = publish
        self._bot = interlocutor
        self._wall_clock = wall_clock
        self._loop = asyncio.get_running_loop()
        self._turn: Turn | None = None
        self._finishing: Turn | None = None  # the one before, while its text is still to come
        self._last_text = ""
        self._last_message_id = ""
        self._media_time = 0.0
        self._muted = False
        self._aside: list[str] | None = None

    @property
    def answerable(self) -> tuple[str, bool]:
        """Id of the message of the user that a reply may be to, and whether that turn is over. Protocol 3.12."""
        turn = self._turn
        if turn is not None and not turn.aside and (turn.text or turn.continued):
            return turn.message_id, not turn.open
        return self._last_message_id, True

    @property
    def speaking(self) -> bool:
        """The user has the turn."""
        return self._machine.state in (State.SPEAKING, State.PAUSED)

    @property
    def talking(self) -> bool:
        """The same, and not of noise alone."""
        return self.speaking and self._turn is not None and bool(self._turn.text)

    @property
    def transcribing(self) -> bool:
        """A turn is over and its text still to come."""
        return self.recognition.owed > 0

    def hear(self, frame: AudioFrame) -> None:
        """20 ms of the microphone."""
        if self._muted:
            return
        self._media_time = frame.time
        self.recognition.write(frame.pcm)  # first: the frame that decides an onset belongs to what is then heard
        self._observe(self._ear.hear(frame, self._bot.sounding()))

    def speak(self, engine: SpeechToText, language: str) -> None:
        """The call goes on with another recogniser or in another language."""
        self._machine.language = language
        self.recognition.use(engine, language)

    def take_turns(self, settings: TurnSettings) -> None:
        """By other rules from now on."""
        self._machine.adopt(settings)

    def mute(self) -> None:
        """Hear nothing until ``unmute``; a turn in progress is finished, not lost."""
        self._muted = True
        self._apply(self._machine.release())
        self.recognition.forget()

    def unmute(self) -> None:
        self._muted = False

    def ignore(self) -> None:
        """Tell nothing of what is heard until ``heed``, but keep its text; a turn in progress is finished before."""
        if self._aside is None:
            self._apply(self._machine.release())
            self._aside = []

    def heed(self) -> str | None:
        """Take the user for full again. Returns what they said meanwhile, ``None`` when that was nothing."""
        texts, self._aside = self._aside or [], None
        if self._turn and self._turn.aside and self._turn.open:
            texts.append(self._turn.text)
            self._turn.open = False
            self._machine.release()
            self.recognition.dismiss()
        return " ".join(filter(None, texts)) or None

    def type(self, text: str) -> None:
        """The user typed: a turn of its own, or the end of the one that is in progress or not answered yet."""
        self._bot.on_user_active()
        if self._turn and not self._turn.aside and (self.speaking or self.transcribing):
            self._turn.typed.append(text)
            self._apply(self._machine.release())
            return
        self._apply(self._machine.release())
        bot = self._bot.bot_state()
        if bot.busy and bot.answering and not bot.audible and not bot.played_ms and self._turn:
            # Nothing of the answer was seen, so clients show this text in place of the one that waits for it.
            self._bot.on_interruption(continued=True)
            self._turn.reopen()
        else:
            if bot.busy:
                self._bot.on_interruption(continued=False)
            self._turn = Turn(self._machine.next_turn())
        self._turn.silent_since = self._turn.decided = self._loop.time()
        self._turn.typed.append(text)
        self._commit(self._turn)

    def leave(self) -> None:
        """The call is over: end the speech in progress, hear nothing more."""
        self._muted = True
        if self._turn and self._machine.release():
            self._turn.silent_since = self._loop.time()
        for turn in filter(None, (self._finishing, self._turn)):
            turn.open = False
            self._end_speech(turn)
        self.recognition.leave()
        self._ear.close()

    async def aclose(self) -> None:
        """Release the recogniser."""
        await self._ear.aclose()
        await self.recognition.aclose()

    # --- what the recogniser found

    def on_transcript(self, transcript: Transcript) -> None:
        self._machine.deaf = False
        if transcript.final:
            self._on_final(transcript)
            return
        # Perhaps enough to interrupt the bot; what is not is shown nowhere.
        self._observe(Words(transcript.text, transcript.settled, self._bot.saying()))
        if self.speaking or self.transcribing:
            self._on_partial(transcript)

    def on_turn_guess(self, guess: TurnGuess) -> None:
        self._observe(NativeEnd(guess.probability, eager=guess.eager))

    def on_recognition_failed(self, error: EngineError) -> None:
        self._machine.deaf = True
        self._publish(CallError(error=str(error), code="STT_FAILED"))
        before, self._finishing = self._finishing, None
        for turn in filter(None, (before, self._turn)):
            turn.failed = turn.failed or turn.open
            if turn.open and (turn is before or not self.speaking):
                self._commit(turn)

    def _on_partial(self, transcript: Transcript) -> None:
        turn = self._turn
        if turn is None or not turn.open or transcript.text == turn.partial:
            return
        turn.partial = transcript.text
        if turn.text != self._last_text:
            self._last_text = turn.text
            if not turn.aside:
                self._bot.on_user_active()
            confidence = min(turn.confidence, transcript.confidence)
            event = UserSpeaking(turn_id=turn.id, message_id=turn.message_id, text=turn.text, confidence=confidence)
            self._tell(turn, event)

    def _on_final(self, transcript: Transcript) -> None:
        turn, self._finishing = self._finishing or self._turn, None
        if turn is None or not turn.open:
            return
        turn.texts.append(transcript.text.strip())
        turn.partial = ""
        turn.confidence, turn.language = min(turn.confidence, transcript.confidence), transcript.language
        if turn is not self._turn or (not self.speaking and not self.transcribing):
            self._commit(turn)

    # --- what the machine decided

    def _observe(self, observation: Observation) -> None:
        bot = self._bot.bot_state() if self._aside is None else BotState()
        self._apply(self._machine.observe(self._media_time, observation, bot))

    def _apply(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            match decision:
                case Listen():
                    self.recognition.listen()
                case Dismiss():
                    self.recognition.dismiss()
                case Duck() | PausePlayback() | ResumePlayback():
                    self._bot.on_yield(decision)
                case Start():
                    self._start(decision)
                case Pause():
                    self.recognition.pause()
                case Ask():
                    silence = self._media_time + FRAME - decision.ceased
                    self._ear.ask(decision.question, round(silence * 1000))
                case Unfinished():
                    self._unfinished(decision)
                case Eager():
                    self._eager(decision)
                case Resume():
                    self._resume(decision.began, decision.confidence)
                case End():
                    self._end(decision)

    def _start(self, start: Start) -> None:
        turn = self._turn
        if turn is not None and start.continued and turn.open:
            # Its text is still to come: nobody knows yet that it seemed over, and there is nothing to interrupt.
            self._bot.on_yield(ResumePlayback())
            self._resume(start.began, start.confidence)
            return
        if turn is None or not start.continued:
            if turn is not None and turn.open and not turn.aside:
                self._finishing = turn
            turn = self._turn = Turn(start.turn_id, aside=self._aside is not None)
            self._last_text = ""
            self._ear.begin_turn(round((self._media_time - start.began) * 1000) + PRE_ROLL_MS)
        else:
            turn.reopen()
        self._begin_speech(turn, start.began, start.confidence)
        if start.continued:
            self._tell(turn, TurnContinued(turn_id=turn.id, timestamp=self._wall_clock(self._loop.time())))
        if start.interrupts and not turn.aside:
            self._bot.on_interruption(continued=start.continued)

    def _unfinished(self, pause: Unfinished) -> None:
        if (turn := self._turn) is None or turn.paused:
            return
        turn.paused = True
        turn.silent_since = self._when(pause.ceased)
        self._end_speech(turn)
        latency = _ms(self._loop.time() - turn.silent_since)
        self._tell(turn, TurnPause(turn_id=turn.id, probability=round(pause.probability, 3), latency_ms=latency))

    def _eager(self, eager: Eager) -> None:
        if (turn := self._turn) is None or not turn.text or turn.aside:
            return
        turn.guess = turn.text
        self._last_message_id = turn.message_id
        turn.silent_since = self._when(eager.ceased)
        self._publish(
            EagerTurn(
                turn_id=turn.id,
                message_id=turn.message_id,
                text=turn.guess,
                probability=round(eager.probability, 3),
                latency_ms=_ms(self._loop.time() - turn.silent_since),
            )
        )
        self._bot.on_eager(turn)

    def _resume(self, began: float, confidence: float) -> None:
        """The recogniser goes on hearing all the while."""
        if (turn := self._turn) is None:
            return
        if turn.paused:
            turn.paused = False
            self._begin_speech(turn, began, confidence)
            self._tell(turn, TurnResumed(turn_id=turn.id, timestamp=self._wall_clock(self._loop.time())))
        self._withdraw_guess(turn)

    def _withdraw_guess(self, turn: Turn) -> None:
        if turn.guess is not None:
            turn.rename()
            self._publish(TurnContinued(turn_id=turn.id, timestamp=self._wall_clock(self._loop.time())))
            self._bot.on_eager_withdrawn()

    def _end(self, end: End) -> None:
        turn = self._turn
        if turn is None:  # never: an end follows a start
            return
        turn.decided = self._loop.time()
        turn.silent_since = self._when(end.ceased)
        turn.probability = end.probability
        if turn.failed or not self.recognition.flush():
            turn.failed = True
            self._commit(turn)

    def _commit(self, turn: Turn) -> None:
        """The turn is over and its text known: tell it, and have it answered."""
        unheard = turn.failed and not turn.typed
        turn.open = turn.failed = turn.paused = False
        turn.texts, turn.typed, turn.partial = [turn.text], [], ""
        turn.final = self._loop.time()
        if turn.aside:
            if self._aside is not None:
                self._aside.append(turn.text)
            return
        if unheard or not turn.text:
            self._end_speech(turn)
            self._withdraw_guess(turn)
            if unheard:
                self._bot.on_unheard()
            return
        if turn.guess not in (None, turn.text):
            turn.rename()
        self._last_message_id = turn.message_id
        self._bot.on_user_active()
        self._publish(
            UserMessage(
                turn_id=turn.id,
                message_id=turn.message_id,
                text=turn.text,
                confidence=turn.confidence,
                language=turn.language,
                lag_ms=_ms(turn.final - turn.silent_since),
            )
        )
        self._end_speech(turn)
        self._publish(
            TurnEnd(
                turn_id=turn.id,
                message_id=turn.message_id,
                text=turn.text,
                probability=turn.probability,
                latency_ms=_ms(turn.decided - turn.silent_since),
            )
        )
        self._bot.on_turn(turn)

    def _begin_speech(self, turn: Turn, began: float, confidence: float) -> None:
        turn.began = self._when(began)
        timestamp = self._wall_clock(turn.began)
        self._tell(turn, SpeechStarted(turn_id=turn.id, confidence=confidence, timestamp=timestamp))

    def _end_speech(self, turn: Turn) -> None:
        if turn.began is None:
            return
        ended = max(turn.began, turn.silent_since)
        duration, turn.began = ended - turn.began, None
        self._tell(turn, SpeechEnded(turn_id=turn.id, duration_ms=_ms(duration), timestamp=self._wall_clock(ended)))

    def _tell(self, turn: Turn, event: Event) -> None:
        if not turn.aside:
            self._publish(event)

    def _when(self, media_time: float) -> float:
        """The loop's time at which a moment of the media time was heard."""
        return self._loop.time() - (self._media_time + FRAME - media_time)


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
