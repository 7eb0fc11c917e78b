"""``python -m bench.turns.confidence``: whether recognisers know what they misheard, and what a draft saves them.

Hears the turns of the half ``tune`` as a call hears them. Prints, for each language in quiet and in noise: the word
error rate; and of the texts with words how the confidence goes with the share of wrong words (Pearson), and how often,
of two texts of which one has more than 30 % of wrong words, the other is the surer one. Then the error rate and the
time with the draft of what was understood 600 ms before, and without.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np

from bench.turns.items import LANGUAGES, Item, recipes
from bench.turns.recordings import CACHE
from bench.turns.runner import ITEM_SOURCES, digest, stored
from bench.turns.senses import _transcribe
from media.audio import INPUT_RATE, Pcm
from pipeline.stt.redecoding import LONGEST, PARTIAL_EVERY
from tests.words import edits, normalised

WRONG = 0.3
"""Share of wrong words in a text that is called wrong."""


def turn(item: Item) -> Pcm:
    """The sound of it, as far as it is decoded at once."""
    pcm = np.concatenate([arrival.frame.pcm for arrival in item.heard])
    begin, end = (round(at * INPUT_RATE) for at in (item.truth.onset - 0.3, item.truth.end + 0.2))
    return pcm[begin : min(end, begin + LONGEST)]


def summary(heard: list[tuple[int, int, int, float]]) -> dict[str, float]:
    """Of (wrong words, words heard, words said, confidence)."""
    errors = sum(wrong for wrong, *_ in heard) / sum(said for _, _, said, _ in heard)
    wrong, found, _, sure = np.array([row for row in heard if row[1]]).T
    share = np.minimum(wrong / found, 1)
    bad = share > WRONG
    pairs = [(a > b) + (a == b) / 2 for a in sure[~bad] for b in sure[bad]]
    return {
        "turns": len(heard),
        "word error rate": round(errors, 3),
        "correlation": round(float(np.corrcoef(sure, share)[0, 1]), 2),
        "right in pairs": round(float(np.mean(pairs)), 2),
        "median confidence": round(float(np.median(sure)), 2),
    }


def main() -> int:
    folder = CACHE / "items" / digest(ITEM_SOURCES)
    for language in LANGUAGES:
        rows: dict[str, list[tuple[int, int, int, float]]] = {"quiet": [], "noise": []}
        plain = drafted = words = 0
        alone = helped = 0.0
        for recipe in recipes("tune"):
            if recipe.kind != "turn" or recipe.language != language:
                continue
            item = stored(recipe, folder)
            sound, said = turn(item), normalised(item.text)
            began = time.perf_counter()
            heard = _transcribe(sound, language)
            alone += time.perf_counter() - began
            found = normalised(heard.text)
            row = (edits(said, found), len(found), len(said), heard.confidence)
            rows["quiet" if item.noise == "quiet" else "noise"].append(row)
            draft = _transcribe(sound[:-PARTIAL_EVERY], language).tokens
            began = time.perf_counter()
            again = _transcribe(sound, language, draft)
            helped += time.perf_counter() - began
            plain, words = plain + row[0], words + len(said)
            drafted += edits(said, normalised(again.text))
        for noise, row_list in rows.items():
            print(json.dumps({"language": language, "noise": noise, **summary(row_list)}))
        rates = {"alone": round(plain / words, 3), "with a draft": round(drafted / words, 3)}
        print(json.dumps({"language": language, **rates, "share of the time": round(helped / alone, 2)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
