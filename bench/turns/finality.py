"""``python -m bench.turns.finality``: learn ``pipeline/assets/finality.npz`` from what ``bench.turns.endings`` finds.

Wants PyTorch (``pip install torch``), which nothing else here does. Then, or with ``--judge`` at once, it prints how
well the network does on dialogues and speakers that it has not learnt from, in a clean room and spoiled.

Ends count as much as all other places that are as long after the beginning, so that length alone tells nothing; real
pauses, which are few, count three times as much as cuts.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.turns.endings import Place, heard, lines, places
from bench.turns.separation import separation
from media.audio import INPUT_RATE
from pipeline.finality import REACH, STEP, WEIGHTS, Network
from pipeline.prosody import BANDS, CHANNELS, SILENT, prosody

COUNTS = {"pause": 3.0, "gap": 0.6}
"""What a place counts; 1 where nothing is said. A stamp counts ``STAMP`` of that."""

STAMP = 0.4
LENGTHS = (1.2, 1.6, 2.0, 2.5, 3.0, 3.9)
"""Seconds at which places are divided into groups of one length."""

SHARES = {"gap": 0.5, "soft": 0.35}
"""Of these places so many are learnt from."""

ROUNDS = 1
"""How often each place is heard in another way."""

WIDTHS = (48, 64, 64)
"""Channels of both convolutions, and of the recurrent states."""

BATCH, RATE, DECAY, DROPPED, SOFTENED = 128, 2e-3, 0.02, 0.2, 0.03
"""Of learning: places a step, step size at first, weight decay, dropout, and how far the truth is doubted."""


class Example(NamedTuple):
    source: str
    kind: str
    seconds: float
    seen: NDArray[np.float16]
    """Prosody."""


def example(job: tuple[Place, int, bool]) -> Example:
    place, seed, spoiled = job
    pcm = heard(place, np.random.default_rng([seed, place.line, place.cut]), spoiled=spoiled)
    seconds = min(len(pcm) / INPUT_RATE, 4.0)
    return Example(lines()[place.line].source, place.kind, seconds, prosody(pcm).astype(np.float16))


def examples(chosen: list[Place], seed: int, *, spoiled: bool) -> list[Example]:
    lines()  # before the processes divide
    jobs = [(place, seed, spoiled) for place in chosen]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("fork")) as pool:
        return list(pool.map(example, jobs, chunksize=32))


def weights(found: list[Example]) -> NDArray[np.float64]:
    """What each counts: among those of one length, ends as much as all others."""
    ends = np.array([each.kind == "end" for each in found])
    counts = np.array([COUNTS.get(each.kind, 1.0) * (STAMP if each.source == "stamps" else 1) for each in found])
    groups = np.digitize([each.seconds for each in found], LENGTHS)
    for group in set(groups):
        whole = counts[groups == group].sum()
        for own in ((groups == group) & ends, (groups == group) & ~ends):
            if own.any():
                counts[own] *= whole / counts[own].sum() / 2
    counts = np.minimum(counts, 10 * np.median(counts))
    balanced: NDArray[np.float64] = counts / counts.mean()
    return balanced


def learn(found: list[Example], minutes: float) -> dict[str, NDArray[np.float32]]:
    """The weights of a network. Its steps get smaller until the time is over."""
    import torch

    torch.manual_seed(1)
    network = _untrained()
    seen = torch.from_numpy(np.stack([each.seen for each in found]))
    truth = torch.tensor([float(each.kind == "end") for each in found])
    truth = truth * (1 - 2 * SOFTENED) + SOFTENED
    counts = torch.tensor(weights(found), dtype=torch.float32)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    began, steps = time.monotonic(), 0
    while (spent := (time.monotonic() - began) / 60 / minutes) < 1:
        for own in torch.randperm(len(seen)).split(BATCH):
            spent = min((time.monotonic() - began) / 60 / minutes, 1)
            steps += 1
            for group in optimizer.param_groups:
                group["lr"] = RATE * max(0.01, (1 + math.cos(math.pi * spent)) / 2) * min(1, steps / 25)
            odds = network(_spoiled(seen[own].float()))
            losses = torch.nn.functional.binary_cross_entropy_with_logits(odds, truth[own], reduction="none")
            optimizer.zero_grad()
            (losses * counts[own]).mean().backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
    return _exported(network.eval())


def _untrained() -> Any:
    import torch
    from torch import nn

    first, second, states = WIDTHS

    class Trained(nn.Module):
        """The same as ``Network``, of many at once; batch normalisation goes into the convolutions afterwards."""

        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv1d(CHANNELS, first, REACH, STEP, REACH // 2)
            self.second = nn.Conv1d(first, second, REACH, STEP, REACH // 2)
            self.norms = nn.ModuleList([nn.BatchNorm1d(first), nn.BatchNorm1d(second)])
            self.recurrent = nn.GRU(second, states, batch_first=True)
            self.attention = nn.Linear(states, 1)
            self.hidden = nn.Linear(2 * states, 32)
            self.output = nn.Linear(32, 1)
            self.drop = nn.Dropout(DROPPED)

        def forward(self, seen: Any) -> Any:
            seen = seen.transpose(1, 2)
            for layer, norm in zip((self.first, self.second), self.norms, strict=True):
                seen = self.drop(norm(layer(seen)).relu())
            states, _ = self.recurrent(seen.transpose(1, 2))
            mean = (torch.softmax(self.attention(states), 1) * states).sum(1)
            hidden = self.hidden(self.drop(torch.cat([states[:, -1], mean], 1))).relu()
            return self.output(self.drop(hidden))[:, 0]

    return Trained()


def _spoiled(seen: Any) -> Any:
    """Prosody as it could be, too: somewhat later, with a floor of noise, another colour, holes, and no past."""
    import torch

    count, frames, _ = seen.shape
    rand = torch.rand
    channel, frame = torch.arange(CHANNELS)[None, None, :], torch.arange(frames)[None, :, None]
    band, pitch = channel < BANDS, (channel >= BANDS) & (channel < BANDS + 3)
    late = int(torch.randint(0, 5, (1,)))
    seen = torch.cat([seen[:, :late], seen[:, : frames - late]], 1)
    floor = torch.where(rand(count, 1, 1) < 0.3, 1.8 * rand(count, 1, 1) - 1.8, -9.0)
    seen = torch.where(band, torch.maximum(seen, floor + 0.06 * torch.randn_like(seen)), seen)
    tilt = 0.6 * (rand(count, 1, 1) - 0.5) * torch.linspace(-1, 1, CHANNELS)
    seen = seen + band * (tilt + 0.3 * (rand(count, 1, 1) - 0.5))
    lowest = torch.randint(0, BANDS - 4, (count, 1, 1))
    width = torch.randint(1, 7, (count, 1, 1)) * (rand(count, 1, 1) < 0.4)
    hole = band & (channel >= lowest) & (channel < lowest + width)
    seen = torch.where(hole, torch.where(rand(count, 1, 1) < 0.5, SILENT, 0.0), seen)
    begin = torch.randint(0, 260, (count, 1, 1))
    length = torch.randint(5, 30, (count, 1, 1)) * (rand(count, 1, 1) < 0.3)
    seen = torch.where((frame >= begin) & (frame < begin + length), 0.0, seen)
    begin = torch.randint(0, 220, (count, 1, 1)) * (rand(count, 1, 1) < 0.5)
    seen = torch.where(frame < begin, torch.where(pitch, 0.0, SILENT), seen)
    return torch.where(pitch & (rand(count, 1, 1) < 0.1), 0.0, seen)


def _exported(trained: Any) -> dict[str, NDArray[np.float32]]:
    """As ``Network`` has them."""
    found = {}
    for layer, norm in zip(("first", "second"), trained.norms, strict=True):
        convolution = getattr(trained, layer)
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        weight = (convolution.weight * scale[:, None, None]).permute(2, 1, 0)
        found[f"{layer}.weight"] = weight.reshape(-1, len(scale))
        found[f"{layer}.bias"] = (convolution.bias - norm.running_mean) * scale + norm.bias
    units = trained.recurrent
    found |= {"input.weight": units.weight_ih_l0.T, "input.bias": units.bias_ih_l0}
    found |= {"state.weight": units.weight_hh_l0.T, "state.bias": units.bias_hh_l0}
    found["attention.weight"] = trained.attention.weight[0]
    found |= {"hidden.weight": trained.hidden.weight.T, "hidden.bias": trained.hidden.bias}
    found |= {"output.weight": trained.output.weight[0], "output.bias": trained.output.bias[0]}
    return {name: value.detach().numpy().astype(np.float32) for name, value in found.items()}


def calibrated(stored: dict[str, NDArray[np.float32]], found: list[Example]) -> dict[str, NDArray[np.float32]]:
    """The weights of a network whose odds are true of these: logistic regression by Newton's method."""
    columns = np.c_[odds_of(Network(stored), found), np.ones(len(found))]
    truth, counts = np.array([each.kind == "end" for each in found]), weights(found)
    scale = np.array([1.0, 0.0])
    for _ in range(20):
        p = 1 / (1 + np.exp(-columns @ scale))
        slope = columns.T @ (counts * (p - truth))
        scale -= np.linalg.solve((columns.T * (counts * p * (1 - p))) @ columns, slope)
    factor, bias = scale.astype(np.float32)
    return stored | {
        "output.weight": stored["output.weight"] * factor,
        "output.bias": stored["output.bias"] * factor + bias,
    }


def odds_of(network: Network, found: list[Example]) -> NDArray[np.float64]:
    return np.array([network.forward(each.seen.astype(np.float32)) for each in found])


def judged(odds: NDArray[np.float64], found: list[Example]) -> dict[str, float]:
    """Ends against real pauses and against cuts; how many of these pass for ends where half, or 95 %, of the ends do;
    and how many of what the network gives a probability of 0.1, 0.3 ... are ends, if half of all were.
    """
    kinds = np.array([each.kind for each in found])
    ends = kinds == "end"
    told: dict[str, float] = {"ends": int(ends.sum())}
    for name, own in (("pauses", kinds == "pause"), ("cuts", ~ends & (kinds != "pause"))):
        if own.any():
            told[name] = int(own.sum())
            told[f"separation_{name}"] = separation(odds[ends | own], ends[ends | own])
            for share in (0.5, 0.95):
                told[f"{name}_taken_at_{share}"] = float(np.mean(odds[own] >= np.quantile(odds[ends], 1 - share)))
    counts, fifths = weights(found), (5 / (1 + np.exp(-odds))).astype(int)
    for fifth in range(5):
        own = fifths == fifth
        if own.any():
            told[f"ends_of_{fifth / 5 + 0.1:.1f}"] = float(np.average(ends[own], weights=counts[own]))
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", action="store_true", help="learn nothing")
    parser.add_argument("--minutes", type=float, default=30, help="of learning, once all is heard")
    options = parser.parse_args()
    if not any(line.source == "queen" for line in lines()):
        print("there are no dialogues to learn from", file=sys.stderr)
        return 1
    rng = np.random.default_rng(1)
    kept = [place for place in places(rng) if lines()[place.line].kept]
    heard_so = {spoiled: examples(kept, 7, spoiled=spoiled) for spoiled in (False, True)}
    if not options.judge:
        chosen = [
            each for each in places(rng) if not lines()[each.line].kept and rng.random() < SHARES.get(each.kind, 1)
        ]
        found = [each for seed in range(ROUNDS) for each in examples(chosen, seed, spoiled=True)]
        weights_found = calibrated(learn(found, options.minutes), heard_so[False] + heard_so[True])
        np.savez_compressed(WEIGHTS, **{name: value.astype(np.float16) for name, value in weights_found.items()})
    network = Network.load()
    for spoiled, found in heard_so.items():
        odds = odds_of(network, found)
        sources = np.array([each.source for each in found])
        for source in ("all", *sorted(set(sources))):
            own = np.flatnonzero((sources == source) | (source == "all"))
            told = judged(odds[own], [found[n] for n in own])
            name = {"source": source, "spoiled": spoiled}
            print(json.dumps(name | {key: round(value, 3) for key, value in told.items()}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
