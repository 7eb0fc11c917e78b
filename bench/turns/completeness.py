"""``python -m bench.turns.completeness``: the weights of ``pipeline.completeness``, from written utterances.

Trained on ``utterances-*.txt``, which were written for this, and on numbers that are read out, made by rule. An
utterance is complete at its end; between two of its words it is not, at "|" least of all; at "/" it may be.
Logistic regression with a ridge, the two classes at even odds. Prints how well it tells the ends of the texts that the
evaluation's voices say (half ``tune``) from the places at which they pause; ``--check`` prints it without training.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from bench.turns.separation import separation
from pipeline.completeness import ASSETS, LANGUAGES, classes, evidence, features

HERE = Path(__file__).parent

BREAK, POSSIBLE, WITHIN, END = "|", "/", "", "end"

WEIGHTS = {END: 2.0, BREAK: 1.0, WITHIN: 0.3}
"""Of a place, before both classes are made equal."""

AS_END, AS_NONE = 1.0, 0.33
"""Of a possible end, which counts as both."""

LEAST = 2
"""Places at which a feature has to be seen."""

RIDGE, SCALE = 4.0, 10_000
STEPS, RATE = 150, 0.1
SMALLEST = 0.03
"""Log odds. Weights below are left out."""

OFTEN = "+ "
OFTEN_WEIGHT = 30.0
"""Of an answer or a greeting that is said more often than anything else, and in front of such a line."""

NUMBERS = 300
"""Utterances with a number that is read out."""

DIGITS = {
    "en": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "es": ("cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve"),
}
DOUBLE = {"en": "double", "es": "doble"}
MORE = {"en": ("and my name is | Anna.", "thanks."), "es": ("y me llamo | Ana.", "gracias.")}
LEADS = {
    "en": {
        "My phone number is": (9, 11), "My number is": (9, 11), "The number is": (7, 11), "It's": (7, 11), "": (7, 11),
        "The card number is": (16, 16), "My account number is": (8, 10), "The code is": (4, 6), "My pin is": (4, 4),
        "The reference number is": (6, 9), "You can reach me at": (9, 11), "Call me on": (9, 11), "Yes, it's": (9, 11),
        "The order number is": (5, 8), "My zip code is": (5, 5), "My pin code is": (4, 4),
        "My customer number is": (7, 8), "The first four digits are": (4, 4), "The serial number is": (8, 10),
    },
    "es": {
        "Mi teléfono es": (9, 10), "Mi número es": (9, 10), "El número es": (9, 10), "Es el": (9, 10), "": (9, 9),
        "El número de la tarjeta es": (16, 16), "Mi número de cuenta es": (10, 12), "El código es": (4, 6),
        "El pin es": (4, 4), "La referencia es": (6, 8), "Me puede llamar al": (9, 9), "Apunte,": (9, 9),
        "El móvil de mi mujer es el": (9, 9), "El número de pedido es": (5, 8),
        "Mi carné es el": (8, 8), "Sí, es el": (9, 9), "El código postal es el": (5, 5), "Mi pasaporte es el": (7, 8),
        "Los cuatro primeros son": (4, 4),
    },
}  # fmt: skip
"""What people say before a number, and its digits, fewest and most."""


class Place(NamedTuple):
    """Words of an utterance up to a place, without a mark behind them, and what stands there."""

    text: str
    kind: str


def places(line: str) -> Iterator[Place]:
    said: list[str] = []
    parts = re.split(r"\s+", line.strip())
    for part, behind in zip(parts, [*parts[1:], END], strict=True):
        if part in (BREAK, POSSIBLE):
            continue
        said.append(part)
        yield Place(" ".join(said).rstrip(".,;:…?!-"), behind if behind in (BREAK, POSSIBLE, END) else WITHIN)


def written(language: str) -> list[str]:
    lines = (HERE / f"utterances-{language}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def numbers(language: str, rng: Generator) -> Iterator[str]:
    """Numbers that are read out in groups, as words or in figures."""
    leads = list(LEADS[language].items())
    for _ in range(NUMBERS):
        lead, (fewest, most) = leads[int(rng.integers(len(leads)))]
        count = int(rng.integers(fewest, most + 1))
        digits = [int(digit) for digit in rng.integers(0, 10, count)]
        size = 4 if count == 16 else count if count <= 6 and rng.random() < 0.5 else int(rng.choice((2, 3, 3, 4)))
        groups = [digits[at : at + size] for at in range(0, count, size)]
        if len(groups) > 1 and len(groups[-1]) == 1:
            groups[-2:] = [groups[-2] + groups[-1]]
        if rng.random() < 0.5:
            said = ["".join(map(str, group)) for group in groups]
        else:
            said = [" ".join(DIGITS[language][digit] for digit in group) for group in groups]
            if rng.random() < 0.2:
                said[0] = f"{DOUBLE[language]} {said[0]}"
        line = " | ".join([lead, *said] if lead else said)
        if rng.random() < 0.15:
            line += f" / {rng.choice(MORE[language])}"
        yield line[0].upper() + line[1:]


def train(language: str) -> dict[str, float]:
    """Weights of the features."""
    rng = np.random.default_rng(5)
    texts, complete, weights = [], [], []
    for line in [*written(language), *numbers(language, rng)]:
        often = OFTEN_WEIGHT if line.startswith(OFTEN) else 1.0
        for text, kind in places(line.removeprefix(OFTEN)):
            for truth in (True, False) if kind == POSSIBLE else (kind == END,):
                texts.append(text)
                complete.append(truth)
                weights.append(
                    (AS_END if truth else AS_NONE)
                    if kind == POSSIBLE
                    else WEIGHTS[kind] * (often if kind == END else 1)
                )
    known = classes(language)
    seen = [list(features(text, language, known)) for text in texts]
    counts = Counter(name for names in seen for name in names)
    names = sorted(name for name, count in counts.items() if count >= LEAST)
    found = fit(seen, names, np.array(complete), np.array(weights))
    return {name: weight for name, weight in zip(names, found, strict=True) if abs(weight) >= SMALLEST}


def fit(
    seen: list[list[str]], names: list[str], complete: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Logistic regression, by Adam on all of it at once. Column 0 stands for no feature."""
    numbers = {name: number for number, name in enumerate(names, 1)}
    width = max(map(len, seen))
    columns = np.zeros((len(seen), width), np.int32)
    for row, of_row in zip(columns, seen, strict=True):
        known = [numbers[name] for name in of_row if name in numbers]
        row[: len(known)] = known
    for truth in (True, False):
        weights = np.where(complete == truth, weights / weights[complete == truth].sum() * SCALE / 2, weights)
    found, first, second = np.zeros((3, len(names) + 1))
    for step in range(STEPS):
        error = weights * (1 / (1 + np.exp(-found[columns].sum(axis=1))) - complete)
        slope = np.bincount(columns.ravel(), np.repeat(error, width), len(found)) + RIDGE * found
        slope[0] = 0
        first = 0.9 * first + 0.1 * slope
        second = 0.99 * second + 0.01 * slope**2
        away = np.sqrt(second / (1 - 0.99 ** (step + 1))) + 1e-6
        found = found - RATE * (1 - step / STEPS) * first / (1 - 0.9 ** (step + 1)) / away
    return found[1:]


def validate(language: str) -> dict[str, float]:
    """Of the evaluation's texts, half ``tune``: how often an end scores higher than a pause; what thresholds cost.

    ``breaks_at_50``: share of the places where the words cannot be all that are taken for complete at the threshold at
    which half of the ends are; ``possible_…``: of those where they could be.
    """
    lines = tomllib.loads((HERE / "texts.toml").read_text(encoding="utf-8"))["tune"][language]["turns"]
    found = [place for line in lines for place in places(line)]
    scores = np.array([sum(weight for _, weight in evidence(place.text, language)) for place in found])
    kinds = np.array([place.kind for place in found])
    ends = scores[kinds == END]
    told: dict[str, float] = {"ends": len(ends)}
    for name, kind in (("breaks", BREAK), ("possible", POSSIBLE)):
        those = scores[kinds == kind]
        told[name] = len(those)
        if len(those):
            pairs = np.concatenate([ends, those]), np.repeat([True, False], [len(ends), len(those)])
            told[f"separation_{name}"] = separation(*pairs)
            for share in (50, 80, 95):
                told[f"{name}_at_{share}"] = float(np.mean(those >= np.percentile(ends, 100 - share)))
    return {name: round(value, 3) for name, value in told.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="do not train")
    wanted = parser.parse_args()
    for language in LANGUAGES:
        if not wanted.check:
            lines = [f"{name}\t{weight:.2f}\n" for name, weight in train(language).items()]
            (ASSETS / f"completeness-{language}.tsv").write_text("".join(lines), encoding="utf-8")
        print(json.dumps({"language": language, **validate(language)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
