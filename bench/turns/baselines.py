"""What everybody begins with: a neural VAD, a fixed silence that ends the turn, 300 ms of voice that stop the bot."""

from __future__ import annotations

from collections import deque

from bench.turns.items import Item
from bench.turns.senses import Senses
from bench.turns.subject import Decision, Kind, Playout
from media.audio import FRAME_MS, AudioFrame

SPEECH, SILENCE = 0.5, 0.35
"""Probabilities at which voice begins and ends."""

ONSET_MS, BARGE_IN_MS = 100, 300
"""Voice without a break that begins a turn, and that stops the bot."""

PRE_ROLL = 0.3


class FixedSilence:
    """A ``Subject`` without a thought."""

    def __init__(self, silence_ms: int) -> None:
        self.name = f"silence-{silence_ms}"
        self._silence_ms = silence_ms

    def start(self, item: Item, senses: Senses) -> None:
        self._senses = senses
        self._voiced = self._turn = False
        self._run: deque[float] = deque()
        self._quiet = 0

    def frame(self, now: float, frame: AudioFrame, bot: Playout) -> list[Decision]:
        self._voiced = self._senses.voice() >= (SILENCE if self._voiced else SPEECH)
        if not self._voiced:
            self._run.clear()
            self._quiet += FRAME_MS
            if self._turn and self._quiet >= self._silence_ms:
                self._turn = False
                return [Decision(now, Kind.END)]
            return []
        self._run.append(frame.time)
        self._quiet = 0
        needed = BARGE_IN_MS if bot.busy else ONSET_MS
        if self._turn or len(self._run) * FRAME_MS < needed:
            return []
        self._turn = True
        started = Decision(now, Kind.SPEECH_STARTED, since=self._run[0] - PRE_ROLL)
        return [started, Decision(now, Kind.INTERRUPT)] if bot.busy else [started]


def silence_500() -> FixedSilence:
    return FixedSilence(500)


def silence_800() -> FixedSilence:
    return FixedSilence(800)


def silence_1200() -> FixedSilence:
    return FixedSilence(1200)
