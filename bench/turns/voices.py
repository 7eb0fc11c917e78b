"""Speech with known borders: synthetic voices, where speech begins and ends, and where a pause can be put into it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from bench.turns.sounds import Sound, decibels, pink, resampled, rms, samples
from media.audio import INPUT_RATE, OUTPUT_RATE
from pipeline.tts.phrasing import pause_after

BLOCK = INPUT_RATE // 200
"""Samples (5 ms) that share one level."""

AUDIBLE = -32.0
"""dB below the level of speech: what is quieter does not count as speech."""

SHORTEST_GAP = 0.04
"""s. A shorter quiet stretch is the closure of a consonant."""

MARGIN = 0.03
"""s of a gap that stay at each side of a pause that is put in: words begin and end softly."""

CLICK, APART = 0.08, 0.15
"""s. Less sound than the first at an end of a recording, and farther than the second from the rest, is no speech."""

EDGE = 0.25
"""s. Nobody stops so shortly behind the beginning or before the end."""

FADE = 0.03
"""s in which a voice that is stopped between two words falls silent."""

NEAR, SOFTEST = 0.1, 0.06
"""s around the time of a word's beginning in which the gap before it is looked for, and else the softest moment."""

LEVEL = -26.0
"""dBFS of speech, before an item turns it up or down."""


@dataclass(frozen=True, slots=True)
class Voice:
    """A synthetic speaker: an engine, its voice, and how much faster its sound is played (and slower it speaks)."""

    engine: str
    name: str
    shift: float = 1.0

    def __str__(self) -> str:
        return f"{self.engine} {self.name}" + (f" x{self.shift}" if self.shift != 1 else "")


@dataclass(frozen=True, slots=True)
class Speech:
    """Sound at ``LEVEL`` that begins and ends with speech; ``gaps`` are its quiet stretches, in samples.

    ``words`` tells when each begins, in seconds, where that is known.
    """

    sound: Sound
    gaps: tuple[tuple[int, int], ...]
    words: tuple[tuple[float, str], ...] = ()

    @property
    def seconds(self) -> float:
        return len(self.sound) / INPUT_RATE


@dataclass(frozen=True, slots=True)
class Gap:
    """A quiet stretch, in samples, of speech: with ``seconds`` what it is to become."""

    begin: int
    end: int
    place: str = ""
    """Where in the sentence: see ``bench.turns.items.PLACES``."""
    seconds: float = 0.0


@cache
def _hibari() -> Any:
    from pipeline.tts.hibari import Synthesizer

    return Synthesizer()


@cache
def _fresh() -> ForkServerContext:
    context = get_context("forkserver")
    context.set_forkserver_preload(["pipeline.tts.pico"])
    return context


def _pico(text: str, speed: float, voice: str) -> list[Any]:
    from pipeline.tts.pico import Synthesizer

    return list(Synthesizer().say(text, speed, voice))


@cache
def say(voice: Voice, text: str) -> Speech:
    """What a synthetic voice makes of a text."""
    speed = 1 / voice.shift
    if voice.engine == "hibari":
        said = _hibari().say(text, speed)
    else:
        with _fresh().Pool(1) as process:  # what Pico says depends on all that it has said in the same one
            said = process.apply(_pico, (text, speed, voice.name))
    parts: list[Sound] = []
    words: list[tuple[float, str]] = []
    pause = 0.0
    for data, times in said:
        parts.append(np.zeros(round(pause * OUTPUT_RATE), np.float32))
        began = sum(map(len, parts)) / OUTPUT_RATE
        parts.append((np.frombuffer(data, "<i2") / 32768).astype(np.float32))
        words += [((began + start) / voice.shift, word) for word, start, _ in times]
        pause = pause_after(times[-1][0]) / speed
    found = speech(resampled(np.concatenate(parts), OUTPUT_RATE / INPUT_RATE * voice.shift))
    return replace(found, words=tuple(words))


def speech(sound: Sound) -> Speech:
    """Cut silence off both ends, bring to ``LEVEL`` and find the gaps. Raises ``ValueError`` when there is nothing."""
    levels = _levels(sound)
    loud = levels > np.percentile(levels, 95) - 20  # what carries the loudness
    active = 10 * np.log10(np.mean(10 ** (levels[loud] / 10))) if loud.any() else -200.0
    heard = np.flatnonzero(levels > active + AUDIBLE)
    if active < -70 or not len(heard):
        raise ValueError("no speech in this sound")
    heard = _without_clicks(heard)
    first, last = int(heard[0]), int(heard[-1]) + 1
    cut = sound[first * BLOCK : last * BLOCK] * np.float32(decibels(LEVEL - active))
    borders = np.flatnonzero(np.diff(heard) > SHORTEST_GAP / 0.005)
    gaps = tuple(((int(heard[i]) + 1 - first) * BLOCK, (int(heard[i + 1]) - first) * BLOCK) for i in borders)
    return Speech(cut, gaps)


def _without_clicks(heard: NDArray[np.intp]) -> NDArray[np.intp]:
    """The numbers of audible blocks without the clicks, of a mouse perhaps, in front of and behind speech."""
    islands = np.split(heard, np.flatnonzero(np.diff(heard) > APART / 0.005) + 1)
    for end in (0, -1):
        while len(islands) > 1 and len(islands[end]) < CLICK / 0.005:
            del islands[end]
    return np.concatenate(islands)


def _levels(sound: Sound) -> NDArray[np.float64]:
    """dB of each whole block."""
    blocks = sound[: len(sound) // BLOCK * BLOCK].reshape(-1, BLOCK).astype(np.float64)
    levels: NDArray[np.float64] = 10 * np.log10(np.mean(blocks**2, axis=1) + 1e-12)
    return levels


def place_near(said: Speech, at: float, within: float = NEAR) -> tuple[int, int]:
    """The stretch in which a pause is put that begins about this time, s: the longest gap around it, or between two
    words that are spoken as one the softest moment, which is empty.
    """
    first, last = (samples(max(0.0, at + side)) for side in (-within, within))
    if gaps := [gap for gap in said.gaps if gap[0] < last and gap[1] > first]:
        return max(gaps, key=lambda gap: gap[1] - gap[0])
    first, last = (samples(max(0.0, at + side)) // BLOCK for side in (-SOFTEST, SOFTEST))
    levels = _levels(said.sound)[first : last + 1]
    softest = (first + int(levels.argmin())) * BLOCK + BLOCK // 2 if len(levels) else samples(at)
    return softest, softest


def with_pauses(said: Speech, pauses: list[Gap], rng: Generator) -> tuple[Sound, list[Gap]]:
    """Put pauses in; gives the sound and where they are in it. One that overlaps another or an end is left out.

    A pause holds the room of the gap that it replaces, as far as there was one. Pauses that were there before count
    from 200 ms on, as ``own``.
    """
    wanted = {(gap.begin, gap.end): gap for gap in pauses}
    at, length, edge = 0, 0, samples(EDGE)
    parts: list[Sound] = []
    found: list[Gap] = []
    for begin, end in sorted({*said.gaps, *wanted}):
        if begin < at or ((begin, end) in wanted and not edge <= begin <= end <= len(said.sound) - edge):
            continue
        gap = wanted.get((begin, end), Gap(begin, end, "own"))
        added = samples(gap.seconds) - (end - begin)
        words, quiet = said.sound[at:begin], said.sound[begin:end]
        if added > 0:
            margin = min(samples(MARGIN), len(quiet) // 2)
            tone = pink(rng, added) * np.float32(min(rms(quiet) if len(quiet) else 1.0, decibels(-60)))
            quiet = np.concatenate([quiet[:margin], tone, quiet[margin:]])
        if begin == end:
            words = faded(words)
        length += len(words)
        parts += [words, quiet]
        if len(quiet) >= samples(0.2):
            found.append(Gap(length, length + len(quiet), gap.place))
        length += len(quiet)
        at = end
    parts.append(said.sound[at:])
    return np.concatenate(parts), found


def faded(words: Sound) -> Sound:
    """Nobody stops from one sample to the next."""
    faded = words.copy()
    count = min(samples(FADE), len(faded))
    faded[len(faded) - count :] *= np.linspace(1, 0, count, dtype=np.float32)
    return faded
