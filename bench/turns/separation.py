"""How well a score tells two kinds of things apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def separation(scores: NDArray[np.float64], complete: NDArray[np.bool_]) -> float:
    """How often what is complete scores higher than what is not (area under the curve)."""
    pairs = scores[complete][:, np.newaxis] - scores[~complete][np.newaxis]
    return float(np.mean(pairs > 0) + np.mean(pairs == 0) / 2)
