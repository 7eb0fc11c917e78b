"""``python -m bench.turns``: JSON lines on stdout, one for each subject and slice; a table on stderr."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from bench.turns.items import SPLITS, recipes
from bench.turns.recordings import fetch
from bench.turns.runner import run
from bench.turns.scores import SLICES, Outcome, failures, figures
from bench.turns.subject import SUBJECTS

COLUMNS = {
    "cut off": "cut_off_rate",
    "end p50": "end_p50_ms",
    "p95": "end_p95_ms",
    "stop p50": "stop_p50_ms",
    "p95 ": "stop_p95_ms",
    "missed": "missed_rate",
    "false": "false_rate",
    "halted": "false_halt_rate",
    "ducked": "false_duck_rate",
    "lost": "lost_onset_rate",
}


def main() -> int:
    options = arguments()
    names = [name for name in options.subjects if find_spec(SUBJECTS[name].partition(":")[0])]
    fetch()
    began = time.monotonic()
    chosen = [recipe for recipe in recipes(options.split) if not options.only or options.only in recipe.name]
    outcomes: list[Outcome] = []
    for done, of_item in enumerate(run(chosen, names, options.processes), 1):
        outcomes += of_item
        if sys.stderr.isatty():
            print(f"\r{done} of {len(chosen)} items", end="", file=sys.stderr)
    if options.items:
        for one in outcomes:
            print(json.dumps(told(one)))
    by_subject = {name: [one for one in outcomes if one.subject == name] for name in names}
    overall: dict[str, dict[str, Any]] = {}
    for name, own in by_subject.items():
        for label, belongs in SLICES.items():
            if found := [one for one in own if belongs(one)]:
                row = figures(found)
                overall.setdefault(name, row)
                print(json.dumps({"subject": name, "split": options.split, "slice": label, **row}))
    print(f"\n{options.split}: {len(chosen)} items in {time.monotonic() - began:.0f} s", file=sys.stderr)
    print(table(by_subject), file=sys.stderr)
    return check(overall, options.judge) if options.check else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.turns", description="Evaluate turn taking.")
    parser.add_argument("--split", choices=[*SPLITS, "all"], default="held-out", help="half of the material")
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=list(SUBJECTS), metavar="NAME")
    parser.add_argument("--only", default="", metavar="TEXT", help="items whose name holds this text")
    parser.add_argument("--items", action="store_true", help="print what came of each item, too")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a floor is missed")
    parser.add_argument("--judge", default="machine", metavar="NAME", help="the subject that --check is about")
    parser.add_argument("--processes", type=int, help="how many work at the same time; default: one a core")
    return parser.parse_args()


def told(one: Outcome) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__slots__}


def table(by_subject: Mapping[str, Sequence[Outcome]]) -> str:
    lines = ["".join([f"{'':26}", *(f"{title:>9}" for title in COLUMNS)])]
    for name, own in by_subject.items():
        for label, belongs in SLICES.items():
            found = [one for one in own if belongs(one)]
            if not found:
                continue
            row = figures(found)
            cells = [shown(key, row.get(key)) for key in COLUMNS.values()]
            lines.append("".join([f"{name:14}{label:12}", *(f"{cell:>9}" for cell in cells)]))
    return "\n".join(lines)


def shown(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1%}" if key.endswith("rate") else f"{value} ms"


def check(overall: dict[str, dict[str, Any]], judged: str) -> int:
    """0 when all floors hold. 2 when there is nothing to check."""
    if judged not in overall:
        print(f"there is no {judged} to check", file=sys.stderr)
        return 2
    fixed = {name: row for name, row in overall.items() if name.startswith("silence-") and name != judged}
    missed = failures(overall[judged], fixed)
    for line in missed:
        print(f"{judged}: {line}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
