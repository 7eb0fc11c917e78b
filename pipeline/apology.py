"""The recording that a caller hears when the voice itself does not work, so that a failure is never silence."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import av
import numpy as np

from config.identity import base_language
from pipeline.tts import SpeechChunk, WordTime

FOLDER = Path(__file__).parent / "assets"
"""Its README says how the recordings were made. They are mono, at ``OUTPUT_RATE``."""


def apology(language: str) -> SpeechChunk:
    """The recording in this language, in English where there is none. All are decoded at the first use."""
    recordings = _recordings()
    return recordings.get(base_language(language), recordings["en"])


@cache
def _recordings() -> dict[str, SpeechChunk]:
    return {path.stem.rpartition("-")[2]: _decode(path) for path in FOLDER.glob("apology-*.flac")}


def _decode(path: Path) -> SpeechChunk:
    with av.open(str(path)) as container:
        pcm = np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)])
    words = [WordTime(*word) for word in json.loads(path.with_suffix(".json").read_text())]
    return SpeechChunk(pcm.astype(np.int16), words)
