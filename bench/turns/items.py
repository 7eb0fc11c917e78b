"""The items of the evaluation: what is made is a matter of seeds alone, and what is true of it is known exactly."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from bench.turns import sounds
from bench.turns.line import TICK, Arrival, at_output_rate, transmit
from bench.turns.pausing import gaps_at_marks, gaps_of_person, plain, with_marks
from bench.turns.people import heard, pick
from bench.turns.recordings import Recording
from bench.turns.sounds import Sound, decibels, pink, rms, samples, silence
from bench.turns.voices import LEVEL, Speech, Voice, say, with_pauses
from media.audio import INPUT_RATE, Pcm
from pipeline.phrases import is_acknowledgement

SPLITS = ("tune", "held-out")
LANGUAGES = ("en", "es")

TURNS = 80
EVENTS = {
    "interruption": 40,
    "backchannel": 24,
    "cough": 10,
    "throat": 6,
    "typing": 10,
    "door": 4,
    "television": 10,
    "echo": 10,
}
"""How many items of each kind a half has in each language."""

SEED = {"tune": 20_260_101, "held-out": 70_814_243}

LEAD, TAIL = (0.5, 1.0), 4.0
"""Seconds before and behind a turn."""

AFTER = 2.5
"""Seconds behind what happens while the bot speaks."""

SHORT_TURN, LONG_TURN = 1.2, 8.0
"""Seconds of recordings that are taken for turns."""

SHORT_CALL, LONG_CALL = 0.6, 3.0
"""Seconds of recordings that are taken for interruptions."""

ANY_LENGTH = (0.3, 20.0)
"""Seconds of recordings that are heard in the background."""

WORDS = 2
"""The fewest of such recordings: "okay" alone is no interruption, and a scream is no turn."""

VOICES = {
    ("tune", "en"): (Voice("pico", "en-GB"), Voice("pico", "en-GB", 0.85), Voice("pico", "en-US", 1.15)),
    ("tune", "es"): (Voice("pico", "es-ES", 0.82), Voice("pico", "es-ES", 1.18)),
    ("held-out", "en"): (Voice("hibari", "heart"), Voice("hibari", "heart", 0.84), Voice("pico", "en-US")),
    ("held-out", "es"): (Voice("pico", "es-ES"), Voice("pico", "es-ES", 0.9)),
}
BOTS = {"en": Voice("hibari", "heart"), "es": Voice("pico", "es-ES")}
"""What callers hear by default."""

GAINS = {"cough": (-6, 6), "throat": (-8, 2), "typing": (-18, -6), "door": (-10, 6), "backchannel": (-8, 2)}
"""dB above the level of speech."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Which item to make. ``kind`` is ``turn``, or what happens while the bot speaks."""

    split: str
    language: str
    kind: str
    number: int

    @property
    def name(self) -> str:
        return f"{self.split}-{self.language}-{self.kind}-{self.number:03}"


class Pause(NamedTuple):
    """Quiet in mid-turn, s; ``place`` is one of ``PLACES``."""

    begin: float
    end: float
    place: str


@dataclass(frozen=True, slots=True)
class Truth:
    """All in seconds since the microphone was opened, of what the user says or what happens instead."""

    onset: float
    """First sample."""
    end: float
    """Last sample."""
    pauses: tuple[Pause, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    recipe: Recipe
    truth: Truth
    speaker: str
    human: bool
    """Whether what happens was recorded from a person, not made by a machine."""
    noise: str
    """``quiet``, ``pink`` or ``babble``."""
    snr: float
    """dB; infinite in quiet."""
    dtx: bool
    text: str
    heard: list[Arrival] = field(repr=False)
    bot_from: float | None = None
    """When the bot begins to be heard; it goes on to the end of the item. ``None``: it is silent."""
    bot: Pcm | None = field(default=None, repr=False)
    """What it says from then on, at ``OUTPUT_RATE``."""
    bot_words: tuple[tuple[float, str], ...] = ()
    """When each of its words begins, s after ``bot_from``."""
    echo_after: float | None = None
    """Its voice comes back through the microphone so many seconds later. ``None``: it does not."""
    unechoed: list[Arrival] = field(default_factory=list, repr=False)
    """What is heard in place of ``heard`` while the bot does not sound. Empty without echo."""

    @property
    def is_turn(self) -> bool:
        return self.recipe.kind == "turn"

    @property
    def length(self) -> float:
        return self.heard[-1].at


def recipes(split: str = "all") -> list[Recipe]:
    """All of one half, or of both."""
    wanted = SPLITS if split == "all" else (split,)
    return [
        Recipe(half, language, kind, number)
        for half in wanted
        for language in LANGUAGES
        for kind, count in {"turn": TURNS, **EVENTS}.items()
        for number in range(count)
    ]


def make(recipe: Recipe) -> Item:
    """The item of a recipe; the same one whenever the voices are the same."""
    numbers = [LANGUAGES.index(recipe.language), ["turn", *EVENTS].index(recipe.kind), recipe.number]
    rng = np.random.default_rng([SEED[recipe.split], *numbers])
    return _turn(recipe, rng) if recipe.kind == "turn" else _during_speech(recipe, rng)


def _turn(recipe: Recipe, rng: Generator) -> Item:
    person = _person(recipe, rng, (SHORT_TURN, LONG_TURN), WORDS) if recipe.number % 2 else None
    if person:
        recording, said = person
        text, speaker = recording.text or _transcript(recording), recording.speaker
        pauses = gaps_of_person(said, heard(recording), rng)
    else:
        voice = _voice(recipe, rng)
        text, marks = with_marks(str(rng.choice(_texts(recipe)["turns"])), recipe.language, rng)
        said, speaker = say(voice, text), str(voice)
        pauses = gaps_at_marks(said, text, marks, recipe.language)
    sound, found = with_pauses(said, pauses, rng)
    lead = rng.uniform(*LEAD)
    gain = decibels(rng.uniform(-4, 4))
    whole = np.concatenate([silence(lead), sound * np.float32(gain), silence(TAIL)])
    onset = samples(lead) / INPUT_RATE
    times = tuple(Pause(onset + gap.begin / INPUT_RATE, onset + gap.end / INPUT_RATE, gap.place) for gap in found)
    truth = Truth(onset, onset + len(sound) / INPUT_RATE, times)
    return _finish(recipe, rng, whole, truth, speaker=speaker, human=bool(person), text=text)


def _during_speech(recipe: Recipe, rng: Generator) -> Item:
    bot_from = rng.uniform(0.3, 0.6)
    onset = round(bot_from + rng.uniform(0.7, 4.5), 3)
    sound, speaker, human, text = _event(recipe, rng)
    length = samples(onset) + len(sound) + samples(AFTER)
    whole = np.zeros(length, np.float32)
    whole[samples(onset) : samples(onset) + len(sound)] = sound
    bot, words = _bot(recipe, rng, length - samples(bot_from))
    echo_after: float | None = None
    echo: Sound | None = None
    if recipe.kind == "echo" or (recipe.kind != "television" and rng.random() < 0.4):
        echo_after = float(rng.uniform(0.08, 0.25))
        back = sounds.through_speaker(rng, bot, echo_after) * np.float32(decibels(-20 + rng.uniform(-3, 3)))
        echo = np.concatenate([silence(bot_from), back])[:length]
    if recipe.kind == "television":
        whole += _television(recipe, rng, length) * np.float32(decibels(LEVEL + rng.uniform(-25, -15)))
    truth = Truth(onset, onset + len(sound) / INPUT_RATE)
    playing = {"bot_from": bot_from, "bot": at_output_rate(bot), "bot_words": words, "echo_after": echo_after}
    return _finish(recipe, rng, whole, truth, echo, speaker=speaker, human=human, text=text, **playing)


def _event(recipe: Recipe, rng: Generator) -> tuple[Sound, str, bool, str]:
    """What happens: its sound, who makes it, whether that is a person, what is said."""
    kind = recipe.kind
    gain = decibels(rng.uniform(*GAINS.get(kind, (-5, 5))))
    if kind in ("echo", "television"):
        return silence(rng.uniform(2, 4)), "nobody", False, ""
    person = None
    if kind == "interruption" and recipe.number % 2:
        person = _person(recipe, rng, (SHORT_CALL, LONG_CALL), WORDS)
    if person:
        recording, said = person
        text = recording.text or _transcript(recording)
        if len(text.split()) >= WORDS and not is_acknowledgement(text, recipe.language):
            return said.sound * np.float32(gain), recording.speaker, True, text
    if kind in ("interruption", "backchannel") and not (kind == "backchannel" and recipe.number % 6 == 0):
        voice = _voice(recipe, rng, but=BOTS[recipe.language])
        text = str(rng.choice(_texts(recipe)[f"{kind}s"]))
        return say(voice, text).sound * np.float32(gain), str(voice), False, text
    made = {"backchannel": sounds.hum}.get(kind) or getattr(sounds, kind)
    sound = made(rng)
    loud = np.sort(np.abs(sound))[-len(sound) // 5 :]
    return sound * np.float32(gain * decibels(LEVEL) / rms(loud)), "rules", False, ""


def _finish(
    recipe: Recipe, rng: Generator, sound: Sound, truth: Truth, echo: Sound | None = None, **about: object
) -> Item:
    """Add the room and its noise, and send it all through the line."""
    noise = "quiet"
    snr = float("inf")
    dtx = bool(rng.random() < 0.15)
    if recipe.kind not in ("television", "echo"):
        noise = str(rng.choice(["quiet", "pink", "babble"], p=[0.5, 0.3, 0.2]))
    sound = sound + pink(rng, len(sound)) * np.float32(decibels(rng.uniform(-75, -60)))
    if noise != "quiet":
        snr = round(float(rng.uniform(5 if noise == "pink" else 10, 20)), 1)
        other = pink(rng, len(sound)) if noise == "pink" else _babble(recipe, rng, len(sound))
        sound = sound + other * np.float32(decibels(LEVEL - snr))
    send = partial(transmit, bitrate=int(rng.choice([24_000, 32_000])), dtx=dtx)
    heard = unechoed = send(sound.astype(np.float32))
    if echo is not None:
        padded = np.zeros(len(sound), np.float32)
        padded[: len(echo)] = echo
        heard = send((sound + padded).astype(np.float32))
    return Item(
        recipe=recipe,
        truth=truth,
        noise=noise,
        snr=snr,
        dtx=dtx,
        heard=heard,
        unechoed=[] if echo is None else unechoed,
        **about,  # type: ignore[arg-type]
    )


def _bot(recipe: Recipe, rng: Generator, length: int) -> tuple[Sound, tuple[tuple[float, str], ...]]:
    """What the bot says for ``length`` samples, and when it begins each word."""
    texts = list(_texts(recipe)["bot"])
    rng.shuffle(texts)
    parts: list[Sound] = []
    words: list[tuple[float, str]] = []
    while (had := sum(map(len, parts))) < length:
        said = say(BOTS[recipe.language], texts[len(parts) // 2 % len(texts)])
        words += [(had / INPUT_RATE + start, word) for start, word in said.words]
        parts += [said.sound, silence(0.3)]
    return np.concatenate(parts)[:length], tuple(words)


def _television(recipe: Recipe, rng: Generator, length: int) -> Sound:
    """A programme with voices and music, heard through a loudspeaker, of RMS 1."""
    voices = _row(recipe, rng, length)
    music = sounds.music(rng, length / INPUT_RATE + 0.1)[:length] * np.float32(rms(voices) * decibels(-8))
    programme = sounds.through_speaker(rng, voices + music, 0.01)
    return programme / np.float32(rms(programme))


def _babble(recipe: Recipe, rng: Generator, length: int) -> Sound:
    """Six voices at once, of RMS 1."""
    mixed: Sound = np.sum([_row(recipe, rng, length) for _ in range(6)], axis=0).astype(np.float32)
    return mixed / np.float32(rms(mixed))


def _row(recipe: Recipe, rng: Generator, length: int) -> Sound:
    """One voice after the other, without a pause, from anywhere in the row."""
    parts: list[Sound] = []
    while sum(map(len, parts)) < length + INPUT_RATE:
        person = _person(recipe, rng, ANY_LENGTH) if rng.random() < 0.8 else None
        if person:
            parts.append(person[1].sound)
        else:
            text = plain(str(rng.choice(_texts(recipe)["turns"])))
            parts.append(say(_voice(recipe, rng), text).sound)
    start = int(rng.integers(INPUT_RATE // 2))
    return np.concatenate(parts)[start : start + length]


def _person(
    recipe: Recipe, rng: Generator, seconds: tuple[float, float], words: int = 0
) -> tuple[Recording, Speech] | None:
    return pick(recipe.split, recipe.language, rng, seconds, words)


def _transcript(recording: Recording) -> str:
    return " ".join(word for _, word in heard(recording))


def _voice(recipe: Recipe, rng: Generator, but: Voice | None = None) -> Voice:
    voices = [voice for voice in VOICES[recipe.split, recipe.language] if voice != but]
    return voices[int(rng.integers(len(voices)))]


@cache
def _all_texts() -> dict[str, dict[str, dict[str, list[str]]]]:
    return tomllib.loads((Path(__file__).parent / "texts.toml").read_text())


def _texts(recipe: Recipe) -> dict[str, list[str]]:
    return _all_texts()[recipe.split][recipe.language]


def minutes(items: Iterable[Item]) -> float:
    return sum(len(item.heard) for item in items) * TICK / 60
