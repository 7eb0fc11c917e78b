"""The recorded voices in ``tests/data``."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import av
import numpy as np

from media.audio import INPUT_RATE, OUTPUT_RATE, Pcm

DATA = Path(__file__).parent / "data"
MANIFEST: dict[str, dict[str, str]] = json.loads((DATA / "manifest.json").read_text())
ENGLISH, SPANISH = (
    sorted(name for name, about in MANIFEST.items() if about["language"] == language) for language in ("en", "es")
)


def said(name: str) -> str:
    """The text of a recording."""
    return MANIFEST[name]["text"]


@cache
def recording(name: str) -> Pcm:
    """The samples of a recording, at ``INPUT_RATE``."""
    with av.open(str(DATA / name)) as container:
        pcm: Pcm = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    pcm.flags.writeable = False
    return pcm


def silence(seconds: float) -> Pcm:
    return np.zeros(round(seconds * INPUT_RATE), np.int16)


def as_heard(pcm: Pcm) -> Pcm:
    """What was spoken at ``OUTPUT_RATE``, at ``INPUT_RATE``."""
    frame = av.AudioFrame.from_ndarray(pcm[np.newaxis], format="s16", layout="mono")
    frame.sample_rate = OUTPUT_RATE
    resampler = av.AudioResampler("s16", "mono", INPUT_RATE)
    return np.concatenate([part.to_ndarray()[0] for part in (*resampler.resample(frame), *resampler.resample(None))])
