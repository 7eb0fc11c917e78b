"""When the user takes the turn and gives it back: a state machine without I/O and without a clock.

It is told what was heard and what the bot is doing, and returns what follows from it. Protocol 7.5, 8.5, 8.6.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from config.turns import InterruptionConfig
from media.audio import FRAME_MS

FRAME = FRAME_MS / 1000
ONSET_WINDOW_MS = 160
ACKNOWLEDGEMENTS = frozenset(
    {"ah", "aha", "alright", "good", "great", "hm", "hmm", "mhm", "mm", "mmhmm", "ok", "okay", "right", "sure", "uh"}
    | {"uhhuh", "yeah", "yep", "yes"}
    | {"ajá", "bien", "bueno", "claro", "eso", "si", "sí", "vale", "ya"}
)
"""Words that say "go on" rather than "stop"."""


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """Durations in ms. The defaults are our own preset, ``balanced``."""

    onset_ms: int = 80
    """Voice within ``ONSET_WINDOW_MS`` that begins a turn."""
    pause_ms: int = 200
    """Silence after which a recogniser should decode ahead."""
    end_ms: int = 560
    """Silence that ends a turn."""
    max_turn_ms: int = 60_000
    """A turn is ended after this long, however much is still being said."""
    interruptible: bool = True
    min_duration_ms: int = 300
    """Loud voice, within one and a half times as long, that interrupts the bot."""
    min_level: float = -45.0
    """Voice below this does not count for an interruption, dBFS."""
    min_words: int = 2
    """Recognised words that interrupt the bot."""
    filter_acknowledgements: bool = True
    continuation_ms: int = 2000
    """An answer that was heard for less than this is withdrawn: the user had not finished."""

    @classmethod
    def of(cls, interruption: InterruptionConfig | None) -> TurnSettings:
        """What an agent wants. Its volume, 0 to 1, spans the 60 dB below full scale; 0 lets any voice pass."""
        if interruption is None:
            return cls()
        volume = interruption.min_volume
        return cls(
            interruptible=interruption.enabled,
            min_duration_ms=interruption.min_duration_ms,
            min_level=60 * volume - 60 if volume else -math.inf,
            min_words=interruption.min_words,
            filter_acknowledgements=interruption.backchannel_filter,
        )


@dataclass(frozen=True, slots=True)
class Voice:
    """One frame of 20 ms: the verdict of the VAD, and the level in dBFS."""

    is_speech: bool
    level: float


@dataclass(frozen=True, slots=True)
class Words:
    """What the recogniser makes of the present utterance so far."""

    text: str


Observation = Voice | Words


@dataclass(frozen=True, slots=True)
class BotState:
    """What the bot is doing while something is observed."""

    busy: bool = False
    """It thinks or speaks: a user who says something now interrupts."""
    audible: bool = False
    """It has been heard already."""
    played_ms: int = 0
    """How much of the present reply was heard."""
    answering: bool = False
    """The reply answers a turn of the user, which can be continued; a greeting answers none."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Someone may be speaking: let the recogniser hear it, from a moment before."""


@dataclass(frozen=True, slots=True)
class Dismiss:
    """What ``Listen`` began was nothing: forget it."""


@dataclass(frozen=True, slots=True)
class Start:
    """The user has the turn. ``continued``: it is the last turn, which goes on. ``interrupts``: the bot must stop.

    ``began`` is the media time of the first voice, s; ``confidence`` the share of voice in the last frames.
    """

    turn_id: int
    began: float
    confidence: float
    continued: bool
    interrupts: bool


@dataclass(frozen=True, slots=True)
class Pause:
    """A short silence: perhaps the end."""


@dataclass(frozen=True, slots=True)
class Resume:
    """The user goes on after a ``Pause``."""


@dataclass(frozen=True, slots=True)
class End:
    """The user gave the turn back. ``ceased`` is the media time at which the last voice ended, s."""

    turn_id: int
    ceased: float


Decision = Listen | Dismiss | Start | Pause | Resume | End


class State(enum.Enum):
    QUIET = enum.auto()
    NOTICED = enum.auto()
    """Someone may be speaking while the bot is busy; not enough yet to interrupt it."""
    SPEAKING = enum.auto()
    PAUSED = enum.auto()


class TurnDetector:
    """Every ``Start`` is followed by exactly one ``End``, every ``Listen`` by exactly one ``Start`` or ``Dismiss``.

    Turn ids never fall; only a continued turn repeats one.
    """

    def __init__(self, settings: TurnSettings | None = None) -> None:
        self.settings = settings or TurnSettings()
        self.state = State.QUIET
        self._last_id = 0
        self._began = 0.0
        self._ceased = 0.0
        self._recent: deque[bool] = deque(maxlen=ONSET_WINDOW_MS // FRAME_MS)
        self._loud: deque[bool] = deque(maxlen=max(1, self.settings.min_duration_ms * 3 // 2 // FRAME_MS))

    def observe(self, time: float, observation: Observation, bot: BotState) -> list[Decision]:
        """``time`` is the media time in s: for a ``Voice`` that of its first sample."""
        if isinstance(observation, Words):
            return list(self._read(observation.text, bot))
        voiced = self._hear(time, observation)
        match self.state:
            case State.QUIET:
                return list(self._quiet(time, bot))
            case State.NOTICED:
                return list(self._noticed(time, voiced, bot))
            case _:
                return list(self._speaking(time, voiced))

    def release(self) -> list[Decision]:
        """The turn ends from outside: the user typed, muted the microphone or left."""
        match self.state:
            case State.QUIET:
                return []
            case State.NOTICED:
                return [self._dismiss()]
            case _:
                return [self._end()]

    def next_turn(self) -> int:
        """The id for a turn that was typed."""
        self._last_id += 1
        return self._last_id

    def _hear(self, time: float, voice: Voice) -> bool:
        """Whether the frame belongs to someone's voice; a lone hit of the VAD between silent frames does not."""
        self._recent.append(voice.is_speech)
        self._loud.append(voice.is_speech and voice.level >= self.settings.min_level)
        voiced = voice.is_speech and sum(self._recent) * FRAME_MS >= min(60, self.settings.onset_ms)
        if voiced and self.state is not State.QUIET:
            self._ceased = time + FRAME
        return voiced

    def _quiet(self, time: float, bot: BotState) -> Iterator[Decision]:
        if not self._recent[-1] or sum(self._recent) * FRAME_MS < self.settings.onset_ms:
            return
        first = list(self._recent).index(True)
        self._began = time - (len(self._recent) - 1 - first) * FRAME
        self._ceased = time + FRAME
        yield Listen()
        if bot.busy:
            self.state = State.NOTICED
        else:
            yield self._start(bot)

    def _noticed(self, time: float, voiced: bool, bot: BotState) -> Iterator[Decision]:
        loud_enough = sum(self._loud) * FRAME_MS >= self.settings.min_duration_ms
        if voiced and (not bot.busy or (loud_enough and self._may_interrupt(bot))):
            yield self._start(bot)
        elif self._silence(time) >= self.settings.end_ms or self._too_long(time):
            yield self._dismiss()

    def _read(self, text: str, bot: BotState) -> Iterator[Decision]:
        if self.state is not State.NOTICED or not bot.busy or not self._may_interrupt(bot):
            return
        words = ["".join(filter(str.isalnum, word)).lower() for word in text.split()]
        if self.settings.filter_acknowledgements and all(word in ACKNOWLEDGEMENTS for word in words):
            return
        if len(words) >= max(1, self.settings.min_words):
            yield self._start(bot)

    def _speaking(self, time: float, voiced: bool) -> Iterator[Decision]:
        silence = self._silence(time)
        if silence >= self.settings.end_ms or self._too_long(time):
            yield self._end()
        elif voiced and self.state is State.PAUSED:
            self.state = State.SPEAKING
            yield Resume()
        elif silence >= self.settings.pause_ms and self.state is State.SPEAKING:
            self.state = State.PAUSED
            yield Pause()

    def _may_interrupt(self, bot: BotState) -> bool:
        """A bot that cannot be interrupted can still be stopped before it was heard: nothing is cut off then."""
        return self.settings.interruptible or not bot.audible

    def _start(self, bot: BotState) -> Start:
        self.state = State.SPEAKING
        continued = bot.busy and bot.answering and bot.played_ms < self.settings.continuation_ms and self._last_id > 0
        turn_id = self._last_id if continued else self.next_turn()
        confidence = round(sum(self._recent) / len(self._recent), 2)
        return Start(turn_id, self._began, confidence, continued=continued, interrupts=bot.busy)

    def _end(self) -> End:
        self._reset()
        return End(self._last_id, self._ceased)

    def _dismiss(self) -> Dismiss:
        self._reset()
        return Dismiss()

    def _reset(self) -> None:
        self.state = State.QUIET
        self._recent.clear()
        self._loud.clear()

    def _silence(self, time: float) -> int:
        return round((time + FRAME - self._ceased) * 1000)

    def _too_long(self, time: float) -> bool:
        return (time - self._began) * 1000 >= self.settings.max_turn_ms
