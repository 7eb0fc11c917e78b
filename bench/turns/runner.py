"""Plays items to subjects in virtual time, on all cores, and keeps what was made on disk."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

from bench.turns.items import Item, Recipe, make
from bench.turns.line import TICK
from bench.turns.recordings import CACHE, packages
from bench.turns.scores import Outcome, judge
from bench.turns.senses import Senses
from bench.turns.subject import Decision, Kind, Playout, Subject, subject
from media.audio import OUTPUT_FRAME

THINKING = 0.7
"""Seconds from the end of a turn until the bot is heard."""

AROUND = 2.0
"""Seconds before and behind the place of the bot whose words it is said to be saying."""

KEPT = 2
"""Earlier versions of the material, some 150 MB each, that stay beside the present one."""

ROOT = Path(__file__).parents[2]
SOURCES = ("alignment", "items", "line", "pausing", "people", "recordings", "sounds", "talkies", "voices")
ITEM_SOURCES = (
    "bench/turns/texts.toml",
    *(f"bench/turns/{name}.py" for name in SOURCES),
    *(f"media/{name}.py" for name in ("level", "opus", "receiver", "reorder", "vad")),
    *(f"pipeline/tts/{name}.py" for name in ("hibari", "phrasing", "pico")),
    "tests/data/*",
)
SENSE_SOURCES = (
    "bench/turns/senses.py",
    *(f"pipeline/{name}.py" for name in ("silero", "turn_model", "end_of_turn", "logmel")),
    *(f"pipeline/stt/{name}.py" for name in ("moonshine", "moonshine_network")),
    *(f"pipeline/stt/{name}.py" for name in ("whisper", "whisper_graph", "whisper_network", "whisper_weights")),
    "pipeline/assets/end-of-turn.npz",
)
"""What an item, and the models' answers about it, depend on."""


class Bot:
    """The bot of a scripted call: speaks from the start when the item says so, and answers each turn in its time.

    Its sound is a programme that goes on while it is halted, so that the echo in the item stays the echo of it.
    """

    def __init__(self, item: Item) -> None:
        self._item = item
        self._speaks_from = item.bot_from
        self._answering = item.bot_from is not None
        self._halted = False
        self._played = 0.0
        self._echoing: deque[bool] = deque([False], maxlen=1 + round((item.echo_after or 0.0) / TICK))

    @property
    def echoes(self) -> bool:
        """Whether what is heard now holds its voice."""
        return self._echoing[0]

    def playout(self, now: float) -> Playout:
        """Once a frame."""
        audible = self._speaks_from is not None and now > self._speaks_from + TICK / 2 and not self._halted
        scripted = audible and self._speaks_from == self._item.bot_from
        self._echoing.append(scripted)
        if self._speaks_from is None:
            return Playout()
        self._played += TICK if audible else 0.0
        at = now - self._speaks_from
        saying, sounding = "", None
        if scripted:
            saying = " ".join(word for begin, word in self._item.bot_words if at - AROUND <= begin < at + AROUND)
        if scripted and self._item.bot is not None:
            last = round(at / TICK) * OUTPUT_FRAME
            sounding = self._item.bot[last - OUTPUT_FRAME : last]
            sounding = sounding if len(sounding) == OUTPUT_FRAME else None
        return Playout(True, audible, round(self._played * 1000), self._answering, saying, sounding)

    def take(self, decision: Decision) -> None:
        match decision.kind:
            case Kind.INTERRUPT:
                self._speaks_from, self._halted = None, False
            case Kind.PAUSE_PLAYBACK | Kind.RESUME_PLAYBACK:
                self._halted = decision.kind is Kind.PAUSE_PLAYBACK
            case Kind.END:
                self._speaks_from, self._halted, self._played = decision.at + THINKING, False, 0.0
                self._answering = True


def play(item: Item, who: Subject, senses: Senses) -> list[Decision]:
    """All decisions of a subject about an item."""
    senses.restart()
    who.start(item, senses)
    bot = Bot(item)
    made = []
    now = 0.0
    for usual, unechoed in zip(item.heard, item.unechoed or item.heard, strict=False):
        now = max(now, usual.at, unechoed.at)  # with DTX the same frame may come at two times
        playout = bot.playout(now)
        clean = bool(item.unechoed) and not bot.echoes
        frame = unechoed.frame if clean else usual.frame
        senses.hear(frame, clean=clean)
        for decision in who.frame(now, frame, playout):
            bot.take(decision)
            made.append(decision)
    return made


def run(recipes: Sequence[Recipe], names: Sequence[str], processes: int | None = None) -> Iterator[list[Outcome]]:
    """The outcomes of each item, one for each subject; the order is that of the recipes."""
    items = CACHE / "items" / digest(ITEM_SOURCES)
    answers = CACHE / "answers" / digest(ITEM_SOURCES + SENSE_SOURCES)
    for folder in (items, answers):
        prune(folder)
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


def prune(folder: Path) -> None:
    """Make room: of the folders beside this one only the last ones stay."""
    folder.mkdir(parents=True, exist_ok=True)
    others = sorted(folder.parent.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in [path for path in others if path != folder][KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


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
