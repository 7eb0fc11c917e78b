"""Plays items to subjects in virtual time, on all cores, and keeps what was made on disk."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

from bench.turns.items import Item, Recipe, make
from bench.turns.recordings import CACHE, packages
from bench.turns.scores import Outcome, judge
from bench.turns.senses import Senses
from bench.turns.subject import Decision, Kind, Playout, Subject, subject

THINKING = 0.7
"""Seconds from the end of a turn until the bot is heard."""

AROUND = 2.0
"""Seconds before and behind the place of the bot whose words it is said to be saying."""

ROOT = Path(__file__).parents[2]
ITEM_SOURCES = (
    "bench/turns/texts.toml",
    *(f"bench/turns/{name}.py" for name in ("items", "line", "recordings", "sounds", "voices")),
    *(f"media/{name}.py" for name in ("level", "opus", "receiver", "reorder", "vad")),
    *(f"pipeline/tts/{name}.py" for name in ("hibari", "phrasing", "pico")),
    "tests/data/*",
)
SENSE_SOURCES = (
    "bench/turns/senses.py",
    *(f"pipeline/{name}.py" for name in ("silero", "smart_turn", "logmel")),
    *(f"pipeline/stt/{name}.py" for name in ("moonshine", "whisper")),
)
"""What an item, and the models' answers about it, depend on."""


class Bot:
    """The bot of a scripted call: speaks from the start when the item says so, and answers each turn in its time."""

    def __init__(self, item: Item) -> None:
        self._item = item
        self._speaks_from = item.bot_from
        self._answering = item.bot_from is not None
        self._halted: float | None = None  # since when it waits in the middle
        self._waited = 0.0

    def playout(self, now: float) -> Playout:
        if self._speaks_from is None:
            return Playout()
        if now < self._speaks_from:
            return Playout(busy=True, answering=self._answering)
        played = (now if self._halted is None else self._halted) - self._speaks_from - self._waited
        near = [word for at, word in self._item.bot_words if played - AROUND <= at < played + AROUND]
        audible = self._halted is None
        return Playout(True, audible, round(played * 1000), self._answering, " ".join(near))

    def take(self, decision: Decision) -> None:
        match decision.kind:
            case Kind.INTERRUPT | Kind.SPEECH_STARTED:
                self._speaks_from = self._halted = None
            case Kind.PAUSE_PLAYBACK if self._halted is None:
                self._halted = decision.at
            case Kind.RESUME_PLAYBACK if self._halted is not None:
                self._waited += decision.at - self._halted
                self._halted = None
            case Kind.END:
                self._speaks_from, self._halted, self._waited = decision.at + THINKING, None, 0.0
                self._answering = True


def play(item: Item, who: Subject, senses: Senses) -> list[Decision]:
    """All decisions of a subject about an item."""
    who.start(item, senses)
    bot = Bot(item)
    made = []
    for now, frame in item.heard:
        for decision in who.frame(now, frame, bot.playout(now)):
            bot.take(decision)
            made.append(decision)
    return made


def run(recipes: Sequence[Recipe], names: Sequence[str], processes: int | None = None) -> Iterator[list[Outcome]]:
    """The outcomes of each item, one for each subject; the order is that of the recipes."""
    items = CACHE / "items" / digest(ITEM_SOURCES)
    answers = CACHE / "answers" / digest(ITEM_SOURCES + SENSE_SOURCES)
    work = partial(outcomes, names=tuple(names), items=items, answers=answers)
    with ProcessPoolExecutor(processes or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, recipes, chunksize=4)


def outcomes(recipe: Recipe, names: tuple[str, ...], items: Path, answers: Path) -> list[Outcome]:
    item = stored(recipe, items)
    senses = Senses(item, answers / f"{recipe.name}.json")
    found = [judge(item, name, play(item, _subject(name), senses)) for name in names]
    senses.save()
    return found


def stored(recipe: Recipe, folder: Path) -> Item:
    """The item, made or out of the folder."""
    path = folder / f"{recipe.name}.pickle"
    if path.exists():
        item: Item = pickle.loads(path.read_bytes())
        return item
    item = make(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.write_bytes(pickle.dumps(item, pickle.HIGHEST_PROTOCOL))
    fresh.replace(path)
    return item


def digest(patterns: Sequence[str]) -> str:
    """Of the content of the files that match, and of the packages that are there."""
    found = hashlib.sha256()
    for path in sorted(path for pattern in patterns for path in ROOT.glob(pattern)):
        found.update(path.read_bytes())
    for path in sorted(packages().glob("*")):
        found.update(path.name.encode())
    return found.hexdigest()[:16]


@cache
def _subject(name: str) -> Subject:
    return subject(name)
