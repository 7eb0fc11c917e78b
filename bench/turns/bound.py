"""``python -m bench.turns.bound``: what a detector could get at best that knows every word at once, and nothing else.

Where a sentence is not finished it never ends the turn. Where it is, a pause and an end look alike: to be as fast as
the floors it has to end half of them after 0.5 s, all but a twentieth of the others after 1.2 s, and cuts whoever
pauses longer. Of the synthetic turns, whose pauses stand where the text says.
"""

from __future__ import annotations

import json
import re

import numpy as np

from bench.turns.items import FILLERS, SPLITS, Item, recipes
from bench.turns.recordings import CACHE
from bench.turns.runner import ITEM_SOURCES, digest, stored
from bench.turns.scores import FLOORS

FINISHED = re.compile(
    r"(?:Saturday|six people|nine zero|accountant|Tuesday|the lesson|it cost|Robert|tickets|an adult|habitación|noches"
    r"|cero dos|alguien|ventas|lunes|clase|envío|Carmen|entradas|para mí|abierto|Lisbon|March|zero four|last week"
    r"|at nine|it take|Margaret|coffee|sugar|appointment|four people|garage|tell me|Lisboa|marzo|cero cuatro|pasada"
    r"|las nueve|azul|tarda|Margarita|café|azúcar|cita|cuatro personas|aparcamiento|supo decir)$"
)
"""Ends of what was said so far, among the places where the texts may pause, at which the sentence could be over."""

SOON, LATE = FLOORS["end_p50_ms"] / 1000, FLOORS["end_p95_ms"] / 1000


def cut(item: Item) -> tuple[float, int, int]:
    """Probability that the turn is cut off; its pauses, and those at a place where the sentence could be over."""
    parts = item.text.split(",")
    kept, pauses, finished = 1.0, 0, 0
    said = ""
    fillers = {filler for own in FILLERS.values() for filler in own}
    times = [end - begin for begin, end in item.truth.pauses if end - begin >= 0.29]
    places = [place for place in range(1, len(parts)) if parts[place].strip() not in fillers]
    for place, length in zip(places, times, strict=False):
        said = ",".join(parts[:place]).strip()
        pauses += 1
        if FINISHED.search(said):
            finished += 1
            kept *= 1 - 0.5 * (length > SOON) - 0.45 * (length > LATE)
    return 1 - kept, pauses, finished


def main() -> None:
    folder = CACHE / "items" / digest(ITEM_SOURCES)
    for split in SPLITS:
        items = [stored(recipe, folder) for recipe in recipes(split) if recipe.kind == "turn"]
        found = [cut(item) for item in items if not item.human and not item.speaker.startswith("project")]
        chances, pauses, finished = (np.array(column) for column in zip(*found, strict=True))
        told = {"split": split, "turns": len(found), "pauses": int(pauses.sum()), "finished": int(finished.sum())}
        print(json.dumps({**told, "cut_off_rate": round(float(chances.mean()), 3)}))


if __name__ == "__main__":
    main()
