"""Has the user finished, or only paused? Judged from the sound alone, one input of the turn machine among others.

Moonshine's encoder hears it, which was taught to understand speech, and a small network (``pipeline/end_of_turn.py``)
tells from its states whether that was all, in other languages than English, too. They live in a worker process, so that
the media clock does not wait for them: one answer takes some 30 ms.
"""

from __future__ import annotations

import asyncio
import math

import numpy as np

from media.audio import INPUT_RATE, Pcm
from pipeline.end_of_turn import EndOfTurn
from pipeline.engine import EngineError
from pipeline.stt import moonshine
from pipeline.worker import Worker

BLOCK = INPUT_RATE // 100
"""Samples (10 ms) of which the loudness is told."""

RECENT, ROOM, SEARCHED = 3 * INPUT_RATE, 12, 50
"""Samples that are asked about, and tell how loud the voice is; blocks at the end that tell how loud the room is, and
in which the voice may end."""

ABOVE_ROOM, FADED = 5.0, 34.0
"""dB. A voice is louder than the room by the first, and no softer than its loudest twentieth by the second."""

KEPT = round(0.09 * INPUT_RATE)
"""Samples behind the voice that are judged with it: the network has learnt from sound that was cut there."""

LENGTH = 2 * INPUT_RATE
"""Samples that are heard. More cost more, and tell nothing more."""

QUEUE = 16
"""Requests of all calls that may wait. The last one would be answered after some 0.3 s, when it hardly matters."""

BEHIND_MS = 100
"""Sound that is wanted behind the last voice: it tells how loud the room is."""

DEADLINE = 0.5
"""Seconds after which an answer is of no use: a fixed silence has decided."""


class TurnModel:
    """Answers all calls of this process."""

    name = "turn model"

    def __init__(self) -> None:
        self._worker = Worker("pipeline.turn_model:Classifier", name=self.name, queue=QUEUE)

    async def start(self) -> None:
        """Load the model. Raises ``EngineError`` when it cannot be loaded; may be called again then."""
        await self._worker.start()

    async def ask(self, pcm: Pcm, deadline: float = DEADLINE) -> float | None:
        """Probability, 0 to 1, that the user has finished, if half of those had who pause.

        ``pcm``: what the user said in this turn so far at ``INPUT_RATE``, up to ``BEHIND_MS`` after a detector heard
        the last voice and no further, however late the question comes.

        ``None``, instead of an error, when there is no model, too many requests wait (at once) or ``deadline`` seconds
        have passed. Cancelling takes back a request that has not begun.
        """
        try:
            async with asyncio.timeout(deadline):
                probability: float = await self._worker.call("judge", pcm[-RECENT:].tobytes())
                return probability
        except (EngineError, TimeoutError):
            return None

    async def aclose(self) -> None:
        """End the process; who still waits gets ``None``."""
        await self._worker.aclose()


class Classifier:
    """The model. Lives in the worker process, called by one thread."""

    def __init__(self) -> None:
        self._encoder = moonshine.encoder()
        self._ending = EndOfTurn.load()
        self.judge(bytes(2 * INPUT_RATE))  # the first run is slow

    def judge(self, pcm: bytes) -> float:
        """Probability that the turn is complete, of int16 samples. Of next to none it is even."""
        sound = np.frombuffer(pcm, np.int16)
        states = self._encoder.states(moonshine.to_samples(sound[: voice_end(sound) + KEPT][-LENGTH:]))
        return 1 / (1 + math.exp(-self._ending.odds(states))) if len(states) else 0.5


def voice_end(pcm: Pcm) -> int:
    """The sample at which the last voice ends, as far as loudness tells it.

    A detector hears a voice for some 0.1 s longer than it fades, and for 0.2 s longer than it breaks off: behind what
    the detector takes for its end an end looks like a break.
    """
    blocks = pcm[len(pcm) % BLOCK :][-RECENT:].astype(np.float32)
    blocks = blocks[: len(blocks) // BLOCK * BLOCK].reshape(-1, BLOCK)
    if len(blocks) < ROOM:
        return len(pcm)
    levels = 10 * np.log10(np.mean(blocks**2, axis=1) + 1)
    levels = np.convolve(np.pad(levels, 1, "edge"), np.full(3, 1 / 3), "valid")
    room = float(np.percentile(levels[-ROOM:], 40))
    least = max(room + ABOVE_ROOM, float(np.percentile(levels, 95)) - FADED)
    loud = np.flatnonzero(levels[-SEARCHED:] > least)
    return len(pcm) - BLOCK * (min(SEARCHED, len(levels)) - 1 - int(loud[-1])) if len(loud) else len(pcm)
