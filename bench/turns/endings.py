"""What the network of ``pipeline.end_of_turn`` learns from: ends of turns, and places where somebody goes on.

People alone: acted dialogue in English (``flight-of-the-amazon-queen``, ``drascula``) and in Spanish
(``drascula-spanish``), and names of things, spoken by volunteers (``tuxpaint-stamps-default``). The first is of the
half for tuning, the others are in neither half. Each place is heard through another room, microphone, noise and codec.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.random import Generator

from bench.turns.recordings import fetch, load, packages, recordings, unpacked
from bench.turns.sounds import Sound, decibels, pink, rms, samples, shaped, to_pcm
from bench.turns.voices import EDGE, LEVEL, Speech, speech
from media import opus
from media.audio import INPUT_RATE, OUTPUT_FRAME, OUTPUT_RATE, Pcm

PACKAGES = ("drascula", "drascula-spanish", "tuxpaint-stamps-default")
"""Fetched and unpacked as those of the evaluation are. Drascula is free to share, the stamps are GPL-2."""

DRASCULA_RATE = 11_025
"""Hz of its 8-bit sound."""

SHORTEST, LONGEST = 0.45, 9.0
"""Seconds of a line, and before a cut."""

PAUSE, HUSH = 0.15, -48.0
"""A pause is as long, s, and below this (dBFS) or what ``speech`` takes for quiet."""

CLOSURE = 0.06
"""s. A shorter quiet stretch is the closure of a consonant."""

SOFTEST = 2
"""Cuts at soft places of each line."""

LEAD, TAIL = (0.1, 0.5), (0.03, 0.17)
"""Seconds of room before the first sound and behind the last: what is taken for the end of a voice is not quite it."""

BED = 60.0
"""Seconds of noise that are made once."""


@dataclass(frozen=True, slots=True)
class Line:
    """``ends``: nobody of the same dialogue goes on behind it. ``kept``: for validation."""

    source: str
    language: str
    speech: Speech
    ends: bool = True
    before: Speech | None = None
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """``kind`` is ``end``, ``pause`` (a real one), ``gap`` (a short one) or ``soft`` (a dip in fluent speech)."""

    line: int
    kind: str
    cut: int


@cache
def lines() -> tuple[Line, ...]:
    fetch()
    for name in PACKAGES:
        unpacked(name)
    found = (*_queen(), *_drascula("drascula", "en"), *_drascula("drascula-spanish", "es"), *_stamps(), *_prompts())
    return tuple(line for line in found if SHORTEST < line.speech.seconds < LONGEST)


KEPT_PLACES = {"24", "25", "26", "57", "58", "59", "60", "61", "62"}
"""Of the Queen: where dialogues are played that are kept for validation."""

KEPT_SPEAKERS = {"I", "VB"}
"""Of Drascula: Igor, Von Braun."""


def _queen() -> Iterator[Line]:
    whole = {each.path for each in recordings() if each.speaker.startswith("queen")}
    paths = sorted(next(iter(whole)).parent.glob("*.mp3")) if whole else []
    said = {path.stem: found for path in paths if (found := _heard(path))}
    for path in paths:
        name = path.stem
        if name in said:
            before = said.get(f"{name[:-1]}{int(name[-1]) - 1}")
            yield Line("queen", "en", said[name], path in whole, before, name[:2] in KEPT_PLACES)


def _drascula(package: str, language: str) -> Iterator[Line]:
    folder = packages() / package / "usr/share/scummvm/drascula" / language
    for path in sorted(folder.glob("*.ALS")):
        speaker = re.match("[A-Z]*", path.stem)
        if path.exists() and speaker and (found := _heard(path)):  # a few are links into another package
            yield Line(package, language, found, kept=speaker.group() in KEPT_SPEAKERS)


def _stamps() -> Iterator[Line]:
    for path in sorted((packages() / "tuxpaint-stamps-default").rglob("*_desc_es.ogg")):
        if (found := _heard(path)) and found.seconds > 1:
            yield Line("stamps", "es", found)


def _prompts() -> Iterator[Line]:
    """Nothing is learned from them: who reads prompts has to be judged as well."""
    for each in recordings():
        if each.speaker == "colombian" and (found := _heard(each.path)):
            yield Line("colombian", "es", found, kept=True)


def _heard(path: Path) -> Speech | None:
    try:
        if path.suffix != ".ALS":
            return speech(load(path))
        raw = (np.frombuffer(path.read_bytes(), np.uint8).astype(np.float32) - 128) / 128
        return speech(faster(raw, DRASCULA_RATE / INPUT_RATE))
    except ValueError:
        return None


def places(rng: Generator) -> list[Place]:
    """All ends and pauses, and some of the places in fluent speech."""
    found = []
    for number, line in enumerate(lines()):
        said = line.speech
        if line.ends:
            found.append(Place(number, "end", len(said.sound)))
        inner = [gap for gap in said.gaps if _inside(said, gap)]
        pauses = [gap for gap in inner if gap[1] - gap[0] >= samples(PAUSE)]
        hushes, soft = _dips(said)
        hushes = [gap for gap in hushes if _inside(said, gap) and not any(_near(gap[0], each, 0.2) for each in pauses)]
        found += [Place(number, "pause", begin) for begin, _ in pauses]
        found += [Place(number, "pause", begin + samples(0.025)) for begin, _ in hushes]
        short = [gap for gap in inner if samples(CLOSURE) <= gap[1] - gap[0] < samples(PAUSE)]
        found += [Place(number, "gap", begin) for begin, _ in short]
        soft = [at for at in soft if not any(_near(at, gap, 0.05) for gap in (*said.gaps, *hushes))]
        rng.shuffle(soft)
        found += [Place(number, "soft", at) for at in soft[:SOFTEST]]
    return found


def _inside(said: Speech, gap: tuple[int, int]) -> bool:
    return gap[0] >= samples(SHORTEST) and gap[1] <= len(said.sound) - samples(EDGE)


def _near(at: int, gap: tuple[int, int], seconds: float) -> bool:
    return gap[0] - samples(seconds) < at < gap[1] + samples(seconds)


def _dips(said: Speech) -> tuple[list[tuple[int, int]], list[int]]:
    """Stretches that are hushed as long as a pause, and samples in the middle of what is softer than all around it."""
    block = INPUT_RATE // 200
    power = np.square(said.sound[: len(said.sound) // block * block].reshape(-1, block)).mean(axis=1)
    levels = 10 * np.log10(np.convolve(power, np.ones(4) / 4, "same") + 1e-10)
    borders = np.flatnonzero(np.diff(np.concatenate([[0], levels < HUSH, [0]]))).reshape(-1, 2)
    hushed = [(int(a) * block, int(b) * block) for a, b in borders if (b - a) * block >= samples(PAUSE)]
    smooth = np.convolve(levels, np.ones(6) / 6, "same")
    low = np.percentile(smooth, 25)
    soft = [
        n * block for n in range(90, len(smooth) - 60) if smooth[n] < low and smooth[n] == smooth[n - 32 : n + 33].min()
    ]
    return hushed, soft


def heard(place: Place, rng: Generator) -> Pcm:
    """What the server gets up to a place."""
    line = lines()[place.line]
    sound = line.speech.sound[: place.cut].copy()
    if place.kind == "soft" or (place.kind != "pause" and rng.random() < 0.2):
        fading = min(samples(rng.uniform(0.01, 0.04)), len(sound) // 4)
        sound[-fading:] *= np.linspace(1, 0, fading, dtype=np.float32) ** 0.5
    if line.before is not None and rng.random() < 0.4:
        sound = np.concatenate([line.before.sound, np.zeros(samples(rng.uniform(0.25, 0.8)), np.float32), sound])
    return through_line(sound, rng, kept=line.kept)


def through_line(sound: Sound, rng: Generator, *, kept: bool) -> Pcm:
    """What the server gets of a sound at ``LEVEL``, through a room, a microphone, noise or a codec, by chance.

    ``kept`` as of a ``Line``.
    """
    if rng.random() < 0.7:
        sound = faster(sound, rng.uniform(0.9, 1.1))
    before, behind = (np.zeros(samples(rng.uniform(*room)), np.float32) for room in (LEAD, TAIL))
    sound = np.concatenate([before, sound, behind])[-5 * INPUT_RATE :]
    if rng.random() < 0.35:
        sound = _in_room(sound, rng)
    sound = sound * np.float32(decibels(rng.uniform(-8, 6)))
    if rng.random() < 0.5:
        edge = rng.choice([3400, 3800, 5500])
        sound = shaped(sound, 1 / np.sqrt(1 + (np.linspace(0, INPUT_RATE / 2, 1025) / edge) ** 12))
    sound = sound + _cut(_hiss(), len(sound), rng) * np.float32(decibels(rng.uniform(-75, -58)))
    if rng.random() < 0.55:
        babble = rng.random() < 0.4
        noise = _cut(_babble(kept), len(sound), rng) if babble else _cut(_hiss(), len(sound), rng)
        if rng.random() < 0.3:
            noise = shaped(noise, np.linspace(1, rng.uniform(0.1, 2), 64))
        below = rng.uniform(8 if babble else 5, 20)
        sound = sound + noise * np.float32(decibels(LEVEL - below) / rms(noise))
    if rng.random() < 0.3:
        return _through_opus(sound, int(rng.choice([24_000, 32_000])))
    return to_pcm(sound)


def faster(sound: Sound, factor: float) -> Sound:
    positions = np.arange(0, len(sound) - 1, factor)
    return np.interp(positions, np.arange(len(sound)), sound).astype(np.float32)


def _in_room(sound: Sound, rng: Generator) -> Sound:
    """With an echo of noise that dies away."""
    length = samples(rng.uniform(0.1, 0.45))
    echo = rng.standard_normal(length) * 10 ** (-3 * np.arange(length) / length)
    echo *= decibels(-rng.uniform(4, 14)) / np.sqrt(np.sum(echo**2))
    echo[0] = 1
    size = 1 << (len(sound) + length).bit_length()
    out = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(echo, size), size)
    return out[: len(sound)].astype(np.float32)


@cache
def _hiss() -> Sound:
    return pink(np.random.default_rng(1), samples(BED))


@cache
def _babble(kept: bool) -> Sound:
    """Six voices, of those that are kept for validation or of the others."""
    rng = np.random.default_rng(2)
    own = [line.speech.sound for line in lines() if line.kept == kept]
    mixed = np.zeros(samples(BED), np.float32)
    for _ in range(6):
        row: list[Sound] = []
        while sum(map(len, row)) < len(mixed):
            row.append(own[int(rng.integers(len(own)))])
        mixed += np.concatenate(row)[: len(mixed)]
    return mixed


def _cut(bed: Sound, length: int, rng: Generator) -> Sound:
    start = int(rng.integers(len(bed) - length))
    return bed[start : start + length]


def _through_opus(sound: Sound, bitrate: int) -> Pcm:
    ratio = OUTPUT_RATE / INPUT_RATE
    up = to_pcm(np.interp(np.arange(round(len(sound) * ratio)) / ratio, np.arange(len(sound)), sound))
    up = np.pad(up, (0, -len(up) % OUTPUT_FRAME + OUTPUT_FRAME)).reshape(-1, OUTPUT_FRAME)
    encoder, decoder = opus.Encoder(bitrate=bitrate, complexity=2), opus.Decoder()
    return np.concatenate([decoder.decode(encoder.encode(frame)) for frame in up])[: len(sound)]
