"""Has the user finished, or only paused? Judged from the sound alone, one input of the turn machine among others.

The network (``pipeline/finality.py``) lives in a worker process, so that the media clock does not wait for it: one
answer takes some 15 ms.
"""

from __future__ import annotations

import asyncio
import math
from zipfile import BadZipFile

import numpy as np

from media.audio import INPUT_RATE, Pcm
from pipeline.engine import EngineError
from pipeline.finality import Network
from pipeline.prosody import LENGTH
from pipeline.worker import Worker

QUEUE = 16
"""Requests of all calls that may wait. The last one would be answered after some 0.3 s, when it hardly matters."""

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

        ``pcm``: what the user said in this turn so far at ``INPUT_RATE``, up to some 100 ms after the last voiced
        window and no further, however late the question comes: it has learnt from ends that were cut there.

        ``None``, instead of an error, when there is no model, too many requests wait (at once) or ``deadline`` seconds
        have passed. Cancelling takes back a request that has not begun.
        """
        try:
            async with asyncio.timeout(deadline):
                probability: float = await self._worker.call("judge", pcm[-LENGTH:].tobytes())
                return probability
        except (EngineError, TimeoutError):
            return None

    async def aclose(self) -> None:
        """End the process; who still waits gets ``None``."""
        await self._worker.aclose()


class Classifier:
    """The model. Lives in the worker process, called by one thread."""

    def __init__(self) -> None:
        try:
            self._network = Network.load()
        except (OSError, EOFError, ValueError, BadZipFile):
            raise EngineError("its weights are missing or damaged: install the package again") from None
        self.judge(bytes(2 * INPUT_RATE))  # the first run is slow

    def judge(self, pcm: bytes) -> float:
        """Probability that the turn is complete, of int16 samples."""
        return 1 / (1 + math.exp(-self._network.odds(np.frombuffer(pcm, np.int16))))
