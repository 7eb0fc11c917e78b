"""``python -m bench.turns.bound``: what a detector could get at best that knows every word at once, and nothing else.

Where a sentence is not finished it never ends the turn. Where it is, a pause and an end look alike: to be as fast as
the floors it has to end half of them after 0.5 s, all but a twentieth of the others after 1.2 s, and cuts whoever
pauses longer. Of the synthetic turns, whose pauses stand where the text says.
"""

from __future__ import annotations

import json

import numpy as np

from bench.turns.items import SPLITS, Item, recipes
from bench.turns.recordings import CACHE
from bench.turns.runner import ITEM_SOURCES, digest, stored
from bench.turns.scores import FLOORS

SOON, LATE = FLOORS["end_p50_ms"] / 1000, FLOORS["end_p95_ms"] / 1000


def cut(item: Item) -> float:
    """Probability that the turn is cut off."""
    kept = 1.0
    for begin, end, place in item.truth.pauses:
        if place == "whole":
            kept *= 1 - 0.5 * (end - begin > SOON) - 0.45 * (end - begin > LATE)
    return 1 - kept


def main() -> None:
    folder = CACHE / "items" / digest(ITEM_SOURCES)
    for split in SPLITS:
        items = [stored(recipe, folder) for recipe in recipes(split) if recipe.kind == "turn"]
        found = [item for item in items if not item.human]
        pauses = [pause for item in found for pause in item.truth.pauses]
        whole = sum(pause.place == "whole" for pause in pauses)
        chance = round(float(np.mean([cut(item) for item in found])), 3)
        told = {"split": split, "turns": len(found), "pauses": len(pauses), "whole": whole, "cut_off_rate": chance}
        print(json.dumps(told))


if __name__ == "__main__":
    main()
