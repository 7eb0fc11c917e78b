"""Loudness of a frame."""

from __future__ import annotations

import math

import numpy as np

from media.audio import Pcm

SILENCE = -127.0
"""Level of digital silence, dBFS: the floor of RFC 6464."""

_FULL_SCALE = 20 * math.log10(32768)


def dbfs(pcm: Pcm) -> float:
    """RMS level in dB relative to full scale, -127 to 0; a full-scale square wave has 0, a sine -3."""
    if not len(pcm):
        return SILENCE
    samples = pcm.astype(np.float32)
    energy = float(np.dot(samples, samples)) / len(pcm)
    return max(SILENCE, 10 * math.log10(energy) - _FULL_SCALE) if energy else SILENCE
