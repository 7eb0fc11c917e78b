"""The border between the evaluation and what it judges: a ``Subject`` hears an item frame by frame and decides."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from importlib import import_module
from typing import Protocol

from bench.turns.items import Item
from bench.turns.senses import Senses
from media.audio import AudioFrame, Pcm


class Kind(StrEnum):
    SPEECH_STARTED = "speech_started"
    """The recogniser hears the user, from ``Decision.since`` on. Again for each utterance."""
    PAUSED = "paused"
    RESUMED = "resumed"
    EAGER = "eager"
    END = "end"
    """The user gave the turn back."""
    DUCK = "duck"
    PAUSE_PLAYBACK = "pause_playback"
    """The bot falls silent, and may go on."""
    RESUME_PLAYBACK = "resume_playback"
    INTERRUPT = "interrupt"
    """The bot is silent for good."""


@dataclass(frozen=True, slots=True)
class Decision:
    """``at`` is the time of the runner, s, at which it was made."""

    at: float
    kind: Kind
    since: float | None = None
    """With ``SPEECH_STARTED``: media time of the first sample that the recogniser hears, s."""


@dataclass(frozen=True, slots=True)
class Playout:
    """What the bot is doing now."""

    busy: bool = False
    """It thinks or speaks."""
    audible: bool = False
    played_ms: int = 0
    answering: bool = False
    saying: str = ""
    """The words of the last and the next two seconds."""
    sounding: Pcm | None = field(default=None, compare=False)
    """The 20 ms at ``OUTPUT_RATE`` that were sent in the time of the frame; ``None``: nothing was."""


class Subject(Protocol):
    """Judged on many items, one after the other. It sees nothing of an item but what it is told and asks ``senses``."""

    name: str

    def start(self, item: Item, senses: Senses) -> None:
        """A new call; what belonged to the last one is over. Of ``item`` only the language counts."""

    def frame(self, now: float, frame: AudioFrame, bot: Playout) -> list[Decision]:
        """The next 20 ms, which arrive ``now``."""


SUBJECTS = {
    "machine": "bench.turns.machine:Machine",
    "machine-fast": "bench.turns.machine:fast",
    "machine-patient": "bench.turns.machine:patient",
    "silence-500": "bench.turns.baselines:silence_500",
    "silence-800": "bench.turns.baselines:silence_800",
    "silence-1200": "bench.turns.baselines:silence_1200",
}
"""By name, each a module and something that makes a ``Subject`` when it is called. A new one is a line here."""


def subject(name: str) -> Subject:
    """Raises ``KeyError`` for a name that is not in the table."""
    module, _, maker = SUBJECTS[name].partition(":")
    made: Subject = getattr(import_module(module), maker)()
    return made
