"""``python -m bench.turns.melody``: the weights of ``pipeline.smart_turn.weigh``, from the tune half alone.

More items than the evaluation has, of the same recipes and of the voices of its tune half: what was said before each
pause and before the end, as far as the voice goes. Recordings of people, who pause seldom, are cut at their softest
places, too. A logistic regression in which each speaker, and each of their two classes, counts as much as any other.

``pico en-GB`` is left out: that voice speaks a comma and a full stop alike.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.turns.items import LANGUAGES, TURNS, Item, Recipe
from bench.turns.recordings import CACHE, fetch
from bench.turns.runner import ITEM_SOURCES, digest, stored
from config.settings import Settings
from media.audio import FRAME_MS, INPUT_FRAME, INPUT_RATE, Pcm
from pipeline.melody import fall
from pipeline.models import SMART_TURN
from pipeline.smart_turn import DOUBT, LEAST_FALL, MOST_FALL, USUAL_FALL, Classifier

NUMBERS = range(TURNS, TURNS + 120)
"""Of the items in each language; those below are evaluated."""

MUTE = "pico en-GB"
LAG, BEFORE = 0.08, 0.3
"""Seconds that are heard behind the voice, and before it."""

CUTS = 3
"""Places at which a person's recording is cut."""


class Point(NamedTuple):
    speaker: str
    complete: bool
    opinion: float
    fallen: float | None


def prefixes(item: Item) -> Iterator[tuple[bool, Pcm]]:
    """What is heard up to each place where somebody may seem to be done, and whether they are."""
    heard = np.concatenate([arrival.frame.pcm for arrival in item.heard])
    first = _sample(item.truth.onset - BEFORE)
    for begin, _, _ in item.truth.pauses:
        yield False, heard[first : _sample(begin + LAG)]
    yield True, heard[first : _sample(item.truth.end + LAG)]
    if item.human:
        behind = _sample(item.truth.end + 0.5)
        for place in _softest(heard[_sample(item.truth.onset) : _sample(item.truth.end)], item.recipe.number):
            cut = _sample(item.truth.onset) + place
            yield False, np.concatenate([heard[first:cut], heard[behind : behind + _sample(LAG)]])


def _softest(voice: Pcm, seed: int) -> list[int]:
    """Samples in the middle of some frames that are softer than all around them."""
    frames = voice[: len(voice) // INPUT_FRAME * INPUT_FRAME].reshape(-1, INPUT_FRAME).astype(float)
    levels = np.convolve(10 * np.log10(np.mean(frames**2, axis=1) + 1), np.ones(3) / 3, "same")
    around, edge = 160 // FRAME_MS, 400 // FRAME_MS
    soft = np.percentile(levels, 25)
    found = [
        n
        for n in range(edge, len(levels) - edge)
        if levels[n] < soft and levels[n] == levels[n - around : n + around + 1].min()
    ]
    np.random.default_rng(seed).shuffle(found)
    return [n * INPUT_FRAME + INPUT_FRAME // 2 for n in found[:CUTS]]


def _sample(time: float) -> int:
    return max(0, round(time * INPUT_RATE))


def points(recipe: Recipe) -> list[Point]:
    item = stored(recipe, CACHE / "items" / digest(ITEM_SOURCES))
    model = _model()
    return [
        Point(item.speaker, complete, model.opinion(sound[-8 * INPUT_RATE :]), fall(sound))
        for complete, sound in prefixes(item)
    ]


@cache
def _model() -> Classifier:
    return Classifier(str(Settings.load().models_dir / SMART_TURN.name))


def fit(seen: NDArray[np.float64], complete: NDArray[np.bool_], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logistic regression by Newton's method: the weight of each column, and the bias."""
    columns = np.c_[seen, np.ones(len(seen))]
    ridge = np.eye(columns.shape[1])
    ridge[-1, -1] = 1e-3
    found = np.zeros(columns.shape[1])
    for _ in range(40):
        p = 1 / (1 + np.exp(-columns @ found))
        slope = columns.T @ (weights * (p - complete)) + ridge @ found
        found -= np.linalg.solve((columns.T * (weights * p * (1 - p))) @ columns + ridge, slope)
    return found


def separation(scores: NDArray[np.float64], complete: NDArray[np.bool_]) -> float:
    """How often an end scores higher than a pause (area under the curve)."""
    ends, pauses = scores[complete][:, np.newaxis], scores[~complete][np.newaxis]
    return float(np.mean((ends > pauses) + (ends == pauses) / 2))


def main() -> int:
    fetch()
    recipes = [Recipe("tune", language, "turn", number) for number in NUMBERS for language in LANGUAGES]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        found = [point for of_item in pool.map(points, recipes, chunksize=8) for point in of_item]
    found = [point for point in found if not point.speaker.startswith(MUTE)]
    speakers = np.array([point.speaker for point in found])
    complete = np.array([point.complete for point in found])
    opinions = np.array([(point.opinion + DOUBT) / (1 + 2 * DOUBT) for point in found])
    falls = np.array([USUAL_FALL if point.fallen is None else point.fallen for point in found])
    seen = np.c_[np.clip(falls, LEAST_FALL, MOST_FALL), np.log(opinions / (1 - opinions))]
    weights = np.array([1 / np.sum((speakers == s) & (complete == c)) for s, c in zip(speakers, complete, strict=True)])
    per_semitone, per_opinion, bias = fit(seen, complete, weights / weights.mean())
    scores = seen @ [per_semitone, per_opinion]
    told = {"per_semitone": per_semitone, "per_opinion": per_opinion, "bias": bias, "points": len(found)}
    for name, column in (("both", scores), ("fall", seen[:, 0]), ("opinion", seen[:, 1])):
        told[f"separation_{name}"] = separation(column, complete)
        for speaker in sorted(set(speakers)):
            told[f"separation_{name} {speaker}"] = separation(
                column[speakers == speaker], complete[speakers == speaker]
            )
    print(json.dumps({name: round(value, 3) for name, value in told.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
