"""Has the user finished, or only paused? Judged from the sound alone by smart-turn v3.2 (BSD-2-Clause; ONNX file of the
package ``pipecat-ai``) and by the melody of the last words; one input of the turn machine among others.

The model is Whisper's smallest encoder with a classifier, and always looks at 8 s. It lives in a worker process: one
answer takes some 60 ms, a quarter of it in numpy.
"""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from media.audio import INPUT_RATE, Pcm
from pipeline.engine import EngineError
from pipeline.logmel import HOP, WINDOW, scaled_loudness
from pipeline.melody import fall
from pipeline.onnx import open_session
from pipeline.worker import Worker

LONGEST = 8 * INPUT_RATE
"""Samples that are judged: the last ones."""

QUEUE = 6
"""Requests of all calls that may wait. The last one would be answered after some 0.4 s, when it hardly matters."""

DEADLINE = 0.5
"""Seconds after which an answer is of no use: a fixed silence has decided."""

DOUBT = 0.01
"""No opinion of the model is surer than this."""

PER_SEMITONE, PER_OPINION, BIAS = 0.203, 0.3, -1.247
"""Log odds for each semitone, for each of the model's own log odds, and always: ``python -m bench.turns.melody``.

That gives the model 0.1. It was made from people who talk, and is judged there by people and machines who read: it is
believed more than it earns there, which changes nothing there (docs/decisions/0005).
"""

LEAST_FALL, USUAL_FALL, MOST_FALL = -1.0, 5.5, 12.0
"""Semitones."""


class SmartTurn:
    """Answers all calls of this process."""

    name = "smart-turn"

    def __init__(self, path: Path) -> None:
        """``path`` of ``smart-turn-v3.2-cpu.onnx``."""
        self._worker = Worker("pipeline.smart_turn:Classifier", {"path": str(path)}, name=self.name, queue=QUEUE)

    async def start(self) -> None:
        """Load the model. Raises ``EngineError`` when it cannot be loaded; may be called again then."""
        await self._worker.start()

    async def ask(self, pcm: Pcm, deadline: float = DEADLINE) -> float | None:
        """Probability, 0 to 1, that the user has finished.

        ``pcm``: what the user said in this turn so far at ``INPUT_RATE``, up to some 100 ms after the last voiced
        window and no further, however late the question comes: silence itself sounds complete. (Of sentences cut
        between two words the model takes 36 % for complete after 0.1 s of silence, 52 % after 0.2 s and 77 % after
        0.5 s, of whole ones 84 to 89 %. These are English; Spanish ones it tells apart less well.)

        ``None``, instead of an error, when there is no model, too many requests wait (at once) or ``deadline`` seconds
        have passed. Cancelling takes back a request that has not begun.
        """
        try:
            async with asyncio.timeout(deadline):
                probability: float = await self._worker.call("judge", pcm[-LONGEST:].tobytes())
                return probability
        except (EngineError, TimeoutError):
            return None

    async def aclose(self) -> None:
        """End the process; who still waits gets ``None``."""
        await self._worker.aclose()


class Classifier:
    """The model. Lives in the worker process, called by one thread."""

    def __init__(self, path: str) -> None:
        self._session = open_session(Path(path))
        self.judge(bytes(2 * INPUT_RATE))  # the first run is slow

    def judge(self, pcm: bytes) -> float:
        """Probability that the turn is complete, of int16 samples."""
        sound = np.frombuffer(pcm, np.int16)
        return weigh(self.opinion(sound), fall(sound))

    def opinion(self, sound: Pcm) -> float:
        """The model's alone, of at most ``LONGEST`` samples."""
        seen = features(sound)[np.newaxis]
        probability: float = self._session.run(None, {"input_features": seen})[0].item()
        return probability


def weigh(opinion: float, fallen: float | None) -> float:
    """Probability that a turn is complete about which the model has this opinion, and at whose end the voice has fallen
    by so many semitones.
    """
    doubted = (opinion + DOUBT) / (1 + 2 * DOUBT)
    pitch = USUAL_FALL if fallen is None else min(max(fallen, LEAST_FALL), MOST_FALL)
    odds = PER_SEMITONE * pitch + PER_OPINION * math.log(doubted / (1 - doubted)) + BIAS
    return 1 / (1 + math.exp(-odds))


def features(pcm: Pcm) -> NDArray[np.float32]:
    """What the model sees of at most ``LONGEST`` samples: silence in front of them, mean 0 and variance 1 over all,
    mirrored at both ends; shape (BANDS, LONGEST / HOP).
    """
    samples = np.zeros(LONGEST, np.float32)
    samples[LONGEST - len(pcm) :] = pcm.astype(np.float32) / 32768
    samples = (samples - samples.mean()) / np.sqrt(samples.var() + np.float32(1e-7))
    hops = LONGEST // HOP
    return scaled_loudness(np.pad(samples, WINDOW // 2, mode="reflect"), hops, hops)
