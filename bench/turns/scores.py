"""From decisions to figures: what came of each item, rates with their confidence, percentiles, floors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.turns.items import EVENTS, Item
from bench.turns.pausing import PLACES
from bench.turns.subject import Decision, Kind

TRAILING = 0.25
"""Seconds before the last sample from which the end of a turn is no cut-off: a speaker's last breath."""

ONSET = 0.02
"""Seconds of an onset that may be missing: one frame."""

PATIENCE = 1.5
"""Seconds behind an interruption after which stopping is no answer to it."""

FLOORS = {"cut_off_rate": 0.08, "end_p50_ms": 500, "end_p95_ms": 1200, "stop_p95_ms": 450, "false_rate": 0.05}
"""The most that is allowed, in the slice ``all``."""

OTHERS = tuple(kind for kind in EVENTS if kind != "interruption")
"""What must not stop the bot."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a subject made of an item. Times in seconds; what does not apply is ``None`` or 0."""

    subject: str
    item: str
    kind: str
    language: str
    human: bool
    noise: str
    dtx: bool
    echo: bool
    pauses: tuple[tuple[str, bool], ...] = ()
    """Of each pause of the user the place, and whether the turn was ended in it."""
    cut: bool = False
    """The turn was ended before the user had finished."""
    end: float | None = None
    """From the last sample of speech to the end of the turn; when there is none, to the end of the item."""
    ended: bool = False
    stop: float | None = None
    """From the onset of an interruption until the bot was silent for good; if missed, to the end of the item."""
    stopped: bool = False
    interrupted: bool = False
    """By something that should not, or too early."""
    ducked: bool = False
    halted: bool = False
    """The bot fell silent for a while."""
    lost: bool | None = None
    """The recogniser did not hear the first syllable. ``None`` when it should not hear, or the bot was not stopped."""


def judge(item: Item, subject: str, decisions: Sequence[Decision]) -> Outcome:
    recipe, truth = item.recipe, item.truth
    about = {
        "subject": subject,
        "item": recipe.name,
        "kind": recipe.kind,
        "language": recipe.language,
        "human": item.human,
        "noise": item.noise,
        "dtx": item.dtx,
        "echo": item.echo_after is not None,
    }
    kinds = {decision.kind for decision in decisions}
    about |= {"ducked": Kind.DUCK in kinds, "halted": Kind.PAUSE_PLAYBACK in kinds}
    if item.is_turn:
        ends = [decision.at for decision in decisions if decision.kind is Kind.END]
        late = [at for at in ends if at >= truth.end - TRAILING]
        return Outcome(
            **about,  # type: ignore[arg-type]
            pauses=tuple((one.place, any(one.begin <= at < one.end for at in ends)) for one in truth.pauses),
            cut=any(truth.onset <= at < truth.end - TRAILING for at in ends),
            end=max(0.0, (late[0] if late else item.length) - truth.end),
            ended=bool(late),
            lost=not _heard(decisions, truth.onset),
        )
    if recipe.kind != "interruption":
        return Outcome(**about, interrupted=Kind.INTERRUPT in kinds)  # type: ignore[arg-type]
    silent = _silent(decisions)
    early = silent is not None and silent < truth.onset - ONSET
    stopped = silent is not None and not early and silent <= truth.end + PATIENCE
    return Outcome(
        **about,  # type: ignore[arg-type]
        stop=max(0.0, (silent if stopped and silent else item.length) - truth.onset),
        stopped=stopped,
        interrupted=early,
        lost=not _heard(decisions, truth.onset) if stopped else None,
    )


def _heard(decisions: Sequence[Decision], onset: float) -> bool:
    """Whether the recogniser was listening at the onset, or was given what came before it began to."""
    since: float | None = None
    for decision in decisions:
        if decision.kind is Kind.SPEECH_STARTED:
            since = decision.since
        elif decision.kind is Kind.END and decision.at > onset and since is not None:
            break
        elif decision.kind is Kind.END:
            since = None
        if since is not None and since <= onset + ONSET and decision.at > onset:
            return True
    return since is not None and since <= onset + ONSET


def _silent(decisions: Iterable[Decision]) -> float | None:
    """When the bot fell silent and did not go on."""
    halted: float | None = None
    for decision in decisions:
        match decision.kind:
            case Kind.PAUSE_PLAYBACK if halted is None:
                halted = decision.at
            case Kind.RESUME_PLAYBACK:
                halted = None
            case Kind.INTERRUPT:
                return decision.at if halted is None else halted
    return None


SLICES: dict[str, Callable[[Outcome], bool]] = {
    "all": lambda _: True,
    "en": lambda one: one.language == "en",
    "es": lambda one: one.language == "es",
    "human": lambda one: one.human,
    "synthetic": lambda one: not one.human,
    "quiet": lambda one: one.noise == "quiet",
    "pink": lambda one: one.noise == "pink",
    "babble": lambda one: one.noise == "babble",
    "dtx": lambda one: one.dtx,
    "echo": lambda one: one.echo,
}


def figures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """All figures of one subject and slice; what there is no item for is left out."""
    turns = [one for one in outcomes if one.kind == "turn"]
    real = [one for one in outcomes if one.kind == "interruption"]
    other = [one for one in outcomes if one.kind in OTHERS]
    found: dict[str, Any] = {"items": len(outcomes)}
    if turns:
        pauses = [pause for one in turns for pause in one.pauses]
        found |= {"turns": len(turns), "pauses": len(pauses)}
        found |= rate("cut_off", [one.cut for one in turns])
        found["cut_pause_rate"] = share(sum(cut for _, cut in pauses), len(pauses))
        for place in PLACES:
            if at_place := [cut for where, cut in pauses if where == place]:
                found[f"cut_{place}_rate"] = share(sum(at_place), len(at_place))
        found |= percentiles("end", [one.end or 0.0 for one in turns])
        found["never_ended"] = sum(not one.ended for one in turns)
    if real:
        found["interruptions"] = len(real)
        found |= percentiles("stop", [one.stop or 0.0 for one in real])
        found |= rate("missed", [not one.stopped for one in real])
        found["early"] = sum(one.interrupted for one in real)
    if other:
        found["others"] = len(other)
        found |= rate("false", [one.interrupted for one in other])
        for kind in OTHERS:
            of_kind = [one.interrupted for one in other if one.kind == kind]
            if of_kind:
                found[f"false_{kind}_rate"] = share(sum(of_kind), len(of_kind))
        found["false_halt_rate"] = share(sum(one.halted for one in other), len(other))
        found["false_duck_rate"] = share(sum(one.ducked or one.halted for one in other), len(other))
    heard = [one.lost for one in outcomes if one.lost is not None]
    return found | (rate("lost_onset", heard) if heard else {})


def rate(name: str, hits: Sequence[bool]) -> dict[str, Any]:
    """The share of hits, and its interval of 95 % confidence."""
    return {f"{name}_rate": share(sum(hits), len(hits)), f"{name}_ci": wilson(sum(hits), len(hits))}


def share(hits: int, trials: int) -> float:
    return round(hits / trials, 4) if trials else 0.0


def wilson(hits: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """The interval of a rate (Wilson 1927): it stays within 0 and 1 and is true for few trials."""
    if not trials:
        return 0.0, 1.0
    p = hits / trials
    centre = p + z * z / (2 * trials)
    spread = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return round(max(0.0, (centre - spread) / scale), 4), round(min(1.0, (centre + spread) / scale), 4)


def percentiles(name: str, seconds: Sequence[float]) -> dict[str, int]:
    middle, most = (round(float(np.percentile(seconds, q)) * 1000) for q in (50, 95))
    return {f"{name}_p50_ms": middle, f"{name}_p95_ms": most}


def failures(ours: dict[str, Any], fixed: dict[str, dict[str, Any]]) -> list[str]:
    """What figures of the slice ``all`` miss: a floor, or to be better than a fixed silence. One line each.

    Better: less often cut off at no later end, or an earlier end at no more cut-offs.
    """
    missed = [f"{name} is {ours[name]}, more than {most}" for name, most in FLOORS.items() if ours[name] > most]
    for name, other in fixed.items():
        one, two = ((figure["cut_off_rate"], figure["end_p50_ms"]) for figure in (ours, other))
        if not (one != two and one[0] <= two[0] and one[1] <= two[1]):
            missed.append(f"(cut_off_rate, end_p50_ms) is {one}, and {two} with {name}: not better")
    return missed
