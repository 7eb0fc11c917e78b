"""Who is heard in an item: a recorded person, drawn so that each speaker is as likely as another."""

from __future__ import annotations

from functools import cache

from numpy.random import Generator

from bench.turns.alignment import aligner
from bench.turns.recordings import Recording, recordings
from bench.turns.voices import Speech, speech

ACTED = 0.75
"""How probably somebody acts: people who converse are rarer in recordings than in calls."""

TRIES = 40
"""Recordings that are looked at for one of the wanted length."""


def pick(
    split: str, language: str, rng: Generator, seconds: tuple[float, float], words: int = 0
) -> tuple[Recording, Speech] | None:
    """One of so many seconds and at least so many ``words``; ``None`` where there is none.

    Where there are people who act and people who read, most of them act.
    """
    kinds = _speakers(split, language)
    for _ in range(TRIES if kinds else 0):
        speakers = kinds[-1 if rng.random() < ACTED else 0]
        own = speakers[int(rng.integers(len(speakers)))]
        recording = own[int(rng.integers(len(own)))]
        said = _spoken(recording)
        if said and seconds[0] <= said.seconds <= seconds[1] and (not words or len(heard(recording)) >= words):
            return recording, said
    return None


@cache
def heard(recording: Recording) -> tuple[tuple[float, str], ...]:
    """When each of its words begins, s from the first audible sample, as far as they are understood."""
    said = _spoken(recording)
    return aligner().words(said.sound, recording.language) if said else ()


@cache
def _speakers(split: str, language: str) -> list[list[list[Recording]]]:
    """Those who act and those who read, by speaker."""
    kinds: dict[bool, dict[str, list[Recording]]] = {}
    for recording in recordings():
        if (recording.split, recording.language) == (split, language) and recording.human:
            kinds.setdefault(recording.acted, {}).setdefault(recording.speaker, []).append(recording)
    return [list(speakers.values()) for _, speakers in sorted(kinds.items())]


@cache
def _spoken(recording: Recording) -> Speech | None:
    """``None`` where nothing is said."""
    try:
        return speech(recording.load())
    except ValueError:
        return None
