"""What does a recording say? Transcribed with the server's own recogniser, compared as words."""

from __future__ import annotations

import re
import wave
from datetime import date
from pathlib import Path

import av
import numpy as np

from media.audio import INPUT_RATE, Pcm
from pipeline.stt.moonshine import Moonshine
from pipeline.stt.whisper import Whisper

QUIET = 10 ** (-50 / 20) * 32768
PAUSE_SECONDS = 1.2
"""Silence of this length separates two messages: the bot pauses for less within one."""

UNITS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
ORDINALS = {
    "first": "one", "second": "two", "third": "three", "fifth": "five", "eighth": "eight", "ninth": "nine",
    "twelfth": "twelve", "twentieth": "twenty", "thirtieth": "thirty",
}  # fmt: skip


def read_wav(path: Path) -> Pcm:
    """Mono PCM at ``INPUT_RATE``."""
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = file.getframerate()
    resampler = av.AudioResampler(format="s16", layout="mono", rate=INPUT_RATE)
    return np.concatenate([out.to_ndarray()[0] for part in (frame, None) for out in resampler.resample(part)])


def messages(pcm: Pcm) -> list[Pcm]:
    """The stretches of a recording that are separated by long silence."""
    block = INPUT_RATE // 50
    blocks = pcm[: len(pcm) // block * block].reshape(-1, block).astype(np.float64)
    loud = np.flatnonzero(np.sqrt(np.mean(blocks**2, axis=1)) > QUIET)
    breaks = np.flatnonzero(np.diff(loud) > PAUSE_SECONDS * 50)
    starts = [loud[0], *loud[breaks + 1]]
    ends = [*loud[breaks], loud[-1]]
    margin = 10  # words begin and end softly
    return [pcm[max(0, a - margin) * block : (b + margin) * block] for a, b in zip(starts, ends, strict=True)]


async def transcribe(*parts: Pcm, language: str = "en") -> list[str]:
    """What each part says."""
    engine = Moonshine() if language == "en" else Whisper()
    await engine.start()
    try:
        stream = engine.stream(language)
        try:
            texts = []
            for part in parts:
                stream.write(part)
                stream.flush()
                async for transcript in stream:
                    if transcript.final:
                        texts.append(transcript.text)
                        break
            return texts
        finally:
            await stream.aclose()
    finally:
        await engine.aclose()


def words(text: str) -> list[str]:
    """Lower case, no punctuation, numbers and ordinals as cardinal words."""
    found = []
    for word in re.findall(r"[a-z']+|\d+", re.sub(r"(?<=\d)(st|nd|rd|th)\b", "", text.lower())):
        found += number(int(word)) if word.isdigit() else [ordinal(word)]
    return found


def number(value: int) -> list[str]:
    """Below a hundred in words, which is what days, hours and minutes need."""
    if value < 20:
        return [UNITS[value]]
    if value < 100:
        return [TENS[value // 10 - 2], *([UNITS[value % 10]] if value % 10 else [])]
    return [str(value)]


def ordinal(word: str) -> str:
    if word in ORDINALS:
        return ORDINALS[word]
    return word[:-2] if word.endswith("th") and word[:-2] in UNITS else word


def spoken_date(day: date) -> set[str]:
    """The words that a spoken date holds, whatever its form."""
    return {day.strftime("%B").lower(), *number(day.day)}


def word_errors(reference: str, heard: str) -> tuple[int, int]:
    """Edit distance in words, and the number of words of the reference."""
    a, b = words(reference), words(heard)
    row = list(range(len(b) + 1))
    for i, word in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (word != other))
    return row[-1], len(a)
