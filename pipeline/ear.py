"""The ear of one call: frames to what the turn machine is told of voices, and the turn model's opinion of a turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

import numpy as np

from media.audio import FRAME_MS, AudioFrame, Pcm
from pipeline.echo import Echo
from pipeline.silero import Activity
from pipeline.turn_model import BEHIND_MS
from pipeline.turn_signals import Observation, Verdict, Voice

ASKED_MS = 8_000
"""The turn model is asked about so much of the turn's end."""

LATE_MS = 200
"""When the neural detector is so far behind, the cheap one speaks for it."""


DOUBTFUL = 0.3
"""Less probable voice need not be told from echo."""


class Detector(Protocol):
    """``pipeline.silero.VoiceActivity``."""

    def hear(self, frame: AudioFrame) -> bool: ...

    def close(self) -> None: ...


class Ears(Protocol):
    """``pipeline.ears.Ears``."""

    def listen(self, on_activity: Callable[[Activity], None]) -> Detector: ...

    async def is_complete(self, pcm: Pcm) -> float | None: ...


class Ear:
    """Synchronous: what takes time comes back through ``observe``, on the event loop."""

    def __init__(self, ears: Ears, observe: Callable[[Observation], None]) -> None:
        self._ears = ears
        self._observe = observe
        self._detector = ears.listen(self._on_activity)
        self._activity: Activity | None = None
        self._asked_since: float | None = None  # media time since which the neural detector is asked
        self._echo = Echo()
        self._turn: deque[Pcm] = deque(maxlen=ASKED_MS // FRAME_MS)
        self._asking: set[asyncio.Task[None]] = set()

    def hear(self, frame: AudioFrame, played: Pcm | None) -> Voice:
        """What the next frame is, as far as that is known now. ``played``: what the bot said at the same time."""
        self._turn.append(frame.pcm)
        self._echo.hear(frame.pcm, played)
        probability = self._probability(frame)
        echo = self._echo.likeness() if probability >= DOUBTFUL or frame.is_speech else 0.0
        return Voice(probability, frame.level, echo, perhaps=frame.is_speech)

    def begin_turn(self, ms: int) -> None:
        """What was heard before the last ``ms`` does not belong to the turn."""
        while len(self._turn) * FRAME_MS > ms:
            self._turn.popleft()

    def ask(self, question: int, silence_ms: int) -> None:
        """Have the turn model judge the present turn, of whose last ``silence_ms`` it hears the beginning: however late
        it is asked, it hears the same. A ``Verdict`` comes, or nothing does.
        """
        self.close_question()
        heard = list(self._turn)[: max(1, len(self._turn) - max(0, silence_ms - BEHIND_MS) // FRAME_MS)]
        task = asyncio.create_task(self._judge(question, np.concatenate(heard)), name="turn model")
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    def close_question(self) -> None:
        """The answer is of no use any more."""
        for task in self._asking:
            task.cancel()

    def close(self) -> None:
        """Nothing is observed any more."""
        self._detector.close()
        self.close_question()

    async def aclose(self) -> None:
        self.close()
        await asyncio.gather(*self._asking, return_exceptions=True)

    def _on_activity(self, activity: Activity) -> None:
        self._activity = activity

    def _probability(self, frame: AudioFrame) -> float:
        if not self._detector.hear(frame):
            self._activity = self._asked_since = None
            return 0.0
        if self._asked_since is None:
            self._asked_since = frame.time
        known = max(self._asked_since, self._activity.time if self._activity else 0.0)
        if (frame.time - known) * 1000 > LATE_MS:
            return float(frame.is_speech)
        return self._activity.probability if self._activity else 0.0

    async def _judge(self, question: int, pcm: Pcm) -> None:
        probability = await self._ears.is_complete(pcm)
        if probability is not None:
            self._observe(Verdict(question, probability))
