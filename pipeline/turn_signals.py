"""What the turn machine is told and what it decides: observations and decisions, one class each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Voice:
    """One frame of 20 ms: how probably someone speaks, the level in dBFS, and how like it is to what the bot says.

    ``perhaps``: the cheap detector's opinion, which is wrong more often and comes 50 ms earlier.
    """

    probability: float
    level: float
    echo: float = 0.0
    perhaps: bool = False


@dataclass(frozen=True, slots=True)
class Words:
    """What the recogniser makes of the present utterance so far. ``settled``: of all that was said before the pause."""

    text: str
    settled: bool = False
    saying: str = ""
    """The bot's words of about the same time."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the turn model answers to ``Ask``: how probably the turn is complete."""

    question: int
    probability: float


@dataclass(frozen=True, slots=True)
class NativeEnd:
    """The recogniser says itself that the turn is over, or (``eager``) may be."""

    probability: float
    eager: bool = False


Observation = Voice | Words | Verdict | NativeEnd


@dataclass(frozen=True, slots=True)
class BotState:
    """What the bot is doing while something is observed."""

    busy: bool = False
    """It thinks or speaks: a user who says something now interrupts."""
    audible: bool = False
    """It has been heard already."""
    played_ms: int = 0
    """How much of the present reply was heard."""
    owed: bool = False
    """It waits for the text of a turn that is over."""
    left_ms: int | None = None
    """How much of it is left; ``None``: nobody knows yet."""
    answering: bool = False
    """The reply answers a turn of the user, which can be continued; a greeting answers none."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Someone may be speaking: let the recogniser hear it, from a moment before."""


@dataclass(frozen=True, slots=True)
class Dismiss:
    """What ``Listen`` began was nothing: forget it."""


@dataclass(frozen=True, slots=True)
class Duck:
    """Someone may be speaking: the bot lowers its voice."""


@dataclass(frozen=True, slots=True)
class PausePlayback:
    """Someone is speaking; perhaps it is but a cough or a "mm-hm": the bot falls silent and forgets nothing."""


@dataclass(frozen=True, slots=True)
class ResumePlayback:
    """It was nothing: the bot goes on where it was, in full voice. Ends ``Duck`` and ``PausePlayback``."""


@dataclass(frozen=True, slots=True)
class Start:
    """The user has the turn. ``continued``: it is the last turn, which goes on. ``interrupts``: the bot must stop.

    ``began`` is the media time of the first voice, s; ``confidence`` the mean probability of the voice so far.
    """

    turn_id: int
    began: float
    confidence: float
    continued: bool
    interrupts: bool


@dataclass(frozen=True, slots=True)
class Pause:
    """A short silence: a recogniser should decode what it has."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the turn model whether the user is done; ``Verdict`` names the ``question``. ``ceased``: see ``End``."""

    question: int
    ceased: float


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The user fell silent in the middle of something. Once in a silence. ``ceased``: see ``End``."""

    turn_id: int
    probability: float
    ceased: float


@dataclass(frozen=True, slots=True)
class Eager:
    """The turn is probably over: an answer may be prepared in secret. ``Resume`` withdraws, ``End`` confirms."""

    turn_id: int
    probability: float
    ceased: float


@dataclass(frozen=True, slots=True)
class Resume:
    """The user goes on after a ``Pause``. ``began`` is the media time of the first voice, s."""

    began: float
    confidence: float


@dataclass(frozen=True, slots=True)
class End:
    """The user gave the turn back. ``ceased`` is the media time at which the last voice ended, s.

    ``probability`` that it is complete, as far as anyone knows: 1.0 when nobody was asked.
    """

    turn_id: int
    ceased: float
    probability: float


Decision = (
    Listen | Dismiss | Duck | PausePlayback | ResumePlayback | Start | Pause | Ask | Unfinished | Eager | Resume | End
)
