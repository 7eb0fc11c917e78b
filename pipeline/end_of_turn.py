"""Is the speaker done? A small network on what Moonshine's encoder makes of the last second of a sound.

The encoder was taught to understand many people in many rooms: whether words break off, and how they sound at the end,
is in its states as well as what they are. ``python -m bench.turns.end_of_turn`` learns the weights.
"""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from pipeline.engine import EngineError

WEIGHTS = Path(__file__).parent / "assets" / "end-of-turn.npz"

Floats = NDArray[np.float32]


class EndOfTurn:
    """Any number of threads may ask it at once."""

    def __init__(self, weights: dict[str, Floats]) -> None:
        """``weights``: float32, see ``odds``."""
        self._weights = weights

    @classmethod
    def load(cls) -> EndOfTurn:
        """That of the package. Raises ``EngineError``."""
        try:
            with WEIGHTS.open("rb") as file, np.load(file) as stored:
                return cls({name: stored[name].astype(np.float32) for name in stored.files})
        except (OSError, EOFError, ValueError, BadZipFile):
            raise EngineError("its weights are missing or damaged: install the package again") from None

    def odds(self, states: Floats) -> float:
        """Log odds that a turn ends where the sound ends, if half of the turns did.

        ``states``: of the encoder, shape ``(frames, width)``; at least one. Each of some views looks at a mean of what
        the layer in front finds, weighed by what that is and how long ago.
        """
        of = self._weights
        seen = states[-len(of["time"]) :]
        found = np.maximum((seen - of["mean"]) * of["scale"] @ of["first.weight"] + of["first.bias"], 0)
        views = found @ of["view.weight"] + of["time"][-len(found) :]
        views = np.exp(views - views.max(axis=0))
        pooled = (views / views.sum(axis=0)).T @ found
        hidden = np.maximum(pooled.ravel() @ of["hidden.weight"] + of["hidden.bias"], 0)
        return float(hidden @ of["output.weight"] + of["output.bias"])
