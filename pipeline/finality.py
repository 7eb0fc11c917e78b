"""Does this sound finished? A small recurrent network over the prosody of the last three seconds, in numpy.

Two convolutions (a step of 40 ms each), gated recurrent units (Cho et al. 2014), and a weighted mean of what they said
on the way, beside what they say in the end. ``python -m bench.turns.finality`` learns its weights.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from media.audio import Pcm
from pipeline.prosody import prosody

WEIGHTS = Path(__file__).parent / "assets" / "finality.npz"

STEP, REACH = 2, 5
"""Of the convolutions: every second place, and so many places each."""

Array = NDArray[np.float32]


class Network:
    """Any number of threads may ask it at once."""

    def __init__(self, weights: dict[str, Array]) -> None:
        """``weights``: float32, see ``forward``."""
        self._weights = weights

    @classmethod
    def load(cls) -> Network:
        """That of the package."""
        with WEIGHTS.open("rb") as file, np.load(file) as stored:
            return cls({name: stored[name].astype(np.float32) for name in stored.files})

    def odds(self, pcm: Pcm) -> float:
        """Log odds that a turn ends where this sound at ``INPUT_RATE`` ends, if half of the turns did. Some 15 ms."""
        return self.forward(prosody(pcm))

    def forward(self, seen: Array) -> float:
        """The same of a spectrogram, shape (frames, channels)."""
        of = self._weights
        for layer in ("first", "second"):
            seen = np.maximum(_convolved(seen, of[f"{layer}.weight"], of[f"{layer}.bias"]), 0)
        states = _recurrent(seen @ of["input.weight"] + of["input.bias"], of["state.weight"], of["state.bias"])
        attention = np.exp(states @ of["attention.weight"])  # of values between -1 and 1: no overflow
        mean = (attention[:, np.newaxis] * states).sum(axis=0) / attention.sum()
        hidden = np.maximum(np.concatenate([states[-1], mean]) @ of["hidden.weight"] + of["hidden.bias"], 0)
        return float(hidden @ of["output.weight"] + of["output.bias"])


def _convolved(seen: Array, weight: Array, bias: Array) -> Array:
    """``weight`` has the shape (REACH * channels, channels after it): all channels of the first place come first."""
    edge = REACH // 2
    padded = np.pad(seen, ((edge, edge), (0, 0)))
    places = np.lib.stride_tricks.sliding_window_view(padded, REACH, axis=0)[::STEP].swapaxes(1, 2)
    convolved: Array = places.reshape(len(places), -1) @ weight + bias
    return convolved


def _recurrent(inputs: Array, weight: Array, bias: Array) -> Array:
    """All states. ``inputs``, ``weight`` and ``bias`` have, side by side, those of reset, update and candidate."""
    size = weight.shape[0]
    state = np.zeros(size, np.float32)
    states = np.empty((len(inputs), size), np.float32)
    for n, now in enumerate(inputs):
        before = state @ weight + bias
        gates = 1 / (1 + np.exp(-(now[: 2 * size] + before[: 2 * size])))
        candidate = np.tanh(now[2 * size :] + gates[:size] * before[2 * size :])
        state = candidate + gates[size:] * (state - candidate)
        states[n] = state
    return states
