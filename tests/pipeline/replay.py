"""A turn machine that is fed frame after frame, and what it decided when."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypeVar

from media.audio import FRAME_MS
from pipeline.turn import FRAME, TurnMachine
from pipeline.turn_settings import TurnSettings
from pipeline.turn_signals import Ask, BotState, Decision, NativeEnd, Observation, Verdict, Voice, Words

SILENT_BOT = BotState()
GREETING = BotState(busy=True, audible=True, played_ms=500)
THINKING = BotState(busy=True, answering=True)
ANSWER = BotState(busy=True, audible=True, played_ms=500, answering=True)
LONG_ANSWER = BotState(busy=True, audible=True, played_ms=2500, answering=True)

USER = -20.0
"""How loud the user usually is, dBFS."""

D = TypeVar("D", bound=Decision)


class Replay:
    """Times are in s of the media time; a decision counts as made at the end of its frame."""

    def __init__(self, settings: TurnSettings | None = None, language: str = "en", **changes: Any) -> None:
        self.machine = TurnMachine(settings or TurnSettings(**changes), language)
        self.decided: list[tuple[float, Decision]] = []
        self._frames = 0

    @property
    def now(self) -> float:
        return round(self._frames * FRAME, 2)

    def hear(
        self, *, ms: int, voice: float, bot: BotState = SILENT_BOT, level: float = USER, echo: float = 0.0
    ) -> Replay:
        for _ in range(ms // FRAME_MS):
            self.hear_frame(Voice(voice, level, echo), bot)
        return self

    def hear_frame(self, voice: Voice, bot: BotState = SILENT_BOT) -> None:
        self._note(self.machine.observe(self._frames * FRAME, voice, bot), self.now + FRAME)
        self._frames += 1

    def silence(self, ms: int, bot: BotState = SILENT_BOT) -> Replay:
        return self.hear(ms=ms, voice=0.0, bot=bot, level=-70.0)

    def give_back(self) -> Replay:
        """Silence that ends a turn of which nobody knows whether it is complete."""
        return self.silence(math.ceil(self.machine.settings.undecided_ms / FRAME_MS) * FRAME_MS)

    def speak(self, ms: int, bot: BotState = SILENT_BOT, level: float = USER) -> Replay:
        return self.hear(ms=ms, voice=0.9, bot=bot, level=level)

    def read(self, text: str, bot: BotState = SILENT_BOT, *, settled: bool = False, saying: str = "") -> Replay:
        return self.observe(Words(text, settled, saying), bot)

    def judge(self, probability: float, question: int | None = None) -> Replay:
        """The turn model answers the last question, or another one."""
        return self.observe(Verdict(self.all(Ask)[-1].question if question is None else question, probability))

    def guess(self, probability: float, *, eager: bool = False) -> Replay:
        return self.observe(NativeEnd(probability, eager))

    def observe(self, observation: Observation, bot: BotState = SILENT_BOT) -> Replay:
        self._note(self.machine.observe((self._frames - 1) * FRAME, observation, bot), self.now)
        return self

    def release(self) -> Replay:
        self._note(self.machine.release(), self.now)
        return self

    def kinds(self, *ignored: type[Decision]) -> list[type[Decision]]:
        return [type(decision) for _, decision in self.decided if not isinstance(decision, ignored)]

    def all(self, kind: type[D]) -> list[D]:
        return [decision for _, decision in self.decided if isinstance(decision, kind)]

    def at(self, kind: type[Decision]) -> float:
        """When the last decision of this kind was made."""
        return next(at for at, decision in reversed(self.decided) if isinstance(decision, kind))

    def _note(self, decisions: Iterable[Decision], at: float) -> None:
        self.decided += [(round(at, 2), decision) for decision in decisions]
