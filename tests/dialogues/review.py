"""Compares what happened with what the script expects, and tells the difference as a person reads it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from tests.dialogues.player import Moment, Record
from tests.dialogues.script import RANGE, Expectation, Script, Timing, bounds

_RANGE = re.compile(RANGE)
_LABEL = re.compile(r"[A-Z]")
SHORT = {"turn": "turn_id", "message": "message_id", "words": "words_spoken"}
SHOWN = ("turn_id", "text", "reason", "words_spoken", "played_ms", "probability", "remaining_seconds", "code", "error")
AFTERWARDS = 6
"""Moments that are shown behind the one that was not expected."""


def review(script: Script, record: Record) -> str:
    """What is wrong, or nothing."""
    problems = list(record.problems)
    problems += _forbidden(script, record)
    problems += Comparison(script, record).problems()
    problems += _differences("history", script.history, record.history)
    asked = None if script.asked is None else [(line, "", text) for line, text in script.asked]
    problems += _differences("asked", asked, [("", text) for text in record.asked])
    return "\n".join(f"{script.path.name}: {problem}" for problem in problems)


@dataclass(slots=True)
class Comparison:
    """Both lists side by side. Strict: only what the script ignores may happen unexpectedly."""

    script: Script
    record: Record
    names: dict[str, str] = field(default_factory=dict)
    """Letters of the script and the message ids for which they stand."""
    shown: list[str] = field(default_factory=list)

    def problems(self) -> list[str]:
        moments = self.record.moments
        expected = iter(self.script.expected)
        wanted = next(expected, None)
        for place, moment in enumerate(moments):
            reasons = list(self._reasons(wanted, place)) if wanted else ["nothing more is expected"]
            if not reasons:
                self.shown.append(f"    {moment.time:7.2f}  {_told(moment)}")
                wanted = next(expected, None)
            elif moment.name not in self.script.ignored:
                return [self._difference(wanted, place, reasons)]
        return [self._difference(wanted, len(moments), ["it never happened"])] if wanted else []

    def _reasons(self, wanted: Expectation, place: int) -> Iterator[str]:
        """Why this moment is not the one that is wanted."""
        moment = self.record.moments[place]
        if moment.name != wanted.name:
            yield "something else happened"
            return
        for short, value in wanted.fields.items():
            name = SHORT.get(short, short)
            got = moment.fields.get(name, moment.fields.get(short))
            if not self._fits(value, got):
                yield f"{short} is {got}, not {value}"
        said = str(moment.fields.get("text", moment.fields.get("error", "")))
        if wanted.text is not None and not same(wanted.text, said):
            yield f'the text is "{said}"'
        if wanted.timing:
            yield from self._late(wanted.timing, place)

    def _fits(self, value: str, got: object) -> bool:
        if _LABEL.fullmatch(value):
            others = {id for label, id in self.names.items() if label != value}  # noqa: A001
            return self.names.setdefault(value, str(got)) == got and got not in others
        found = _RANGE.fullmatch(value)
        if found and isinstance(got, int | float):
            return bounds(found["low"], found["dots"], found["high"]).hold(got)
        return str(got) == value

    def _late(self, timing: Timing, place: int) -> Iterator[str]:
        moments = self.record.moments
        now = moments[place].time
        match timing.after:
            case "":
                since = [0.0]
            case "voice":
                since = [began for began, _ in self.record.voices if began <= now]
            case "silence":
                since = [ended for _, ended in self.record.voices if ended <= now + 1e-6]
            case name:
                since = [moment.time for moment in moments[:place] if moment.name == name]
        if not since:
            yield f"there was no {timing.after} before it"
        elif not timing.bounds.hold(now - since[-1]):
            where = f" after {timing.after}" if timing.after else ""
            yield f"it came {now - since[-1]:.2f} s{where}, not {timing.bounds}"

    def _difference(self, wanted: Expectation | None, place: int, reasons: Sequence[str]) -> str:
        rest = [
            moment
            for moment in self.record.moments[place:]
            if moment.name not in self.script.ignored or moment is self.record.moments[place]
        ]
        line = wanted.line if wanted else self.script.expected[-1].line
        out = [f"line {line}: {', '.join(reasons)}", *self.shown]
        if wanted:
            out.append(f"  - {'':7}  {wanted.source}")
        if rest:
            out.append(f"  + {rest[0].time:7.2f}  {_told(rest[0])}")
        out += [f"    {moment.time:7.2f}  {_told(moment)}" for moment in rest[1 : 1 + AFTERWARDS]]
        return "\n".join(out)


def same(expected: str, got: str) -> bool:
    """Equal, or an expected text that ends in "…" is how it begins."""
    if expected.endswith("…"):
        return got.startswith(expected.removesuffix("…").rstrip())
    return got == expected


def _forbidden(script: Script, record: Record) -> Iterator[str]:
    for moment in record.moments:
        if moment.name in script.never:
            yield f"line {script.never[moment.name]}: it happened at {moment.time:.2f}: {_told(moment)}"


def _differences(
    name: str, expected: Sequence[tuple[int, str, str]] | None, got: Sequence[tuple[str, str]]
) -> Iterator[str]:
    if expected is None:
        return
    for wanted, real in zip_longest(expected, got):
        if wanted and real and wanted[1] == real[0] and same(wanted[2], real[1]):
            continue
        line = f"line {wanted[0]}: " if wanted else ""
        out = [f"{line}the {name} is another"]
        out += [f"  - {_spoken(role, text)}" for _, role, text in expected]
        out += [f"  + {_spoken(role, text)}" for role, text in got]
        yield "\n".join(out)
        return


def _spoken(role: str, text: str) -> str:
    return f"{role}: {text}" if role else text


def _told(moment: Moment) -> str:
    shorter = {name: short for short, name in SHORT.items()}
    fields = {name: moment.fields[name] for name in SHOWN if name in moment.fields}
    text = fields.pop("text", fields.pop("error", None))
    pairs = [f"{shorter.get(name, name)}={value}" for name, value in fields.items()]
    return " ".join([moment.name, *pairs, *([f'"{text}"'] if text is not None else [])])
