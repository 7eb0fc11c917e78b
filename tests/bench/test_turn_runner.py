"""The scripted call around a subject, the models' answers and how late they come, and the fixed silences."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from bench.turns import people, recordings, runner, senses
from bench.turns.baselines import FixedSilence
from bench.turns.items import Item, Recipe, Truth, make
from bench.turns.line import Arrival
from bench.turns.runner import THINKING, play, stored
from bench.turns.scores import judge
from bench.turns.senses import Recogniser, Senses
from bench.turns.subject import SUBJECTS, Decision, Kind, Playout, subject
from media.audio import INPUT_FRAME, INPUT_RATE, AudioFrame
from pipeline.stt.redecoding import PARTIAL_EVERY


@pytest.fixture(autouse=True)
def without_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what every checkout has: nothing is fetched."""
    monkeypatch.setattr(recordings, "packages", lambda: tmp_path / "none")
    recordings.recordings.cache_clear()
    people._speakers.cache_clear()


class Scripted:
    """A ``Subject`` that decides what it was told to, and keeps what it saw of the bot."""

    name = "scripted"

    def __init__(self, *script: tuple[float, Kind]) -> None:
        self.script = list(script)
        self.seen: dict[float, Playout] = {}

    def start(self, item: Item, senses: Senses) -> None:
        self.seen.clear()

    def frame(self, now: float, frame: AudioFrame, bot: Playout) -> list[Decision]:
        self.seen[round(now, 2)] = bot
        return [Decision(now, kind) for at, kind in self.script if abs(at - now) < 0.001]


class Known:
    """Senses with a voice from one time to another, and the words "until" with the end of what was heard."""

    language = "en"

    def __init__(self, *voiced: tuple[float, float]) -> None:
        self._voiced = voiced

    def restart(self) -> None:
        self._time = 0.0
        self.heard: list[tuple[float, bool]] = []

    def hear(self, frame: AudioFrame, *, clean: bool) -> None:
        self._time = frame.time
        self.heard.append((frame.time + 0.02, clean))

    def voice(self) -> float:
        return float(any(begin <= self._time < end for begin, end in self._voiced))

    def words(self, since: float, until: float) -> str:
        return f"until {until:.2f}"


def silent_item(seconds: float, *, bot_from: float | None = None) -> Item:
    frames = [
        Arrival((n + 1) * 0.02, AudioFrame(np.zeros(INPUT_FRAME, np.int16), n * 0.02, False, -127.0, False))
        for n in range(round(seconds / 0.02))
    ]
    return Item(
        recipe=Recipe("tune", "en", "interruption" if bot_from is not None else "turn", 0),
        truth=Truth(1.0, 2.0),
        speaker="nobody",
        human=False,
        noise="quiet",
        snr=float("inf"),
        dtx=False,
        text="",
        heard=frames,
        bot_from=bot_from,
        bot_words=tuple((n / 2 + 0.1, f"word{n}") for n in range(20)),
    )


def hearing(known: Senses, item: Item) -> Senses:
    """The senses when the whole item was heard."""
    for _, frame in item.heard:
        known.hear(frame, clean=False)
    return known


def run(item: Item, who: object, known: object) -> list[Decision]:
    return play(item, who, known)  # type: ignore[arg-type]


def test_the_bot_speaks_until_it_is_interrupted() -> None:
    who = Scripted((3.0, Kind.INTERRUPT))
    run(silent_item(5, bot_from=0.5), who, Known())
    assert who.seen[0.3] == Playout(busy=True, answering=True)
    assert (who.seen[2.5].audible, who.seen[2.5].played_ms) == (True, 2000)
    assert who.seen[2.5].saying.split() == [f"word{n}" for n in range(8)]
    assert who.seen[3.02] == Playout()


def test_a_halted_bot_goes_on() -> None:
    who = Scripted((2.0, Kind.PAUSE_PLAYBACK), (2.6, Kind.RESUME_PLAYBACK))
    run(silent_item(5, bot_from=0.5), who, Known())
    assert (who.seen[2.3].busy, who.seen[2.3].audible, who.seen[2.3].played_ms) == (True, False, 1500)
    assert (who.seen[3.0].audible, who.seen[3.0].played_ms) == (True, 1900)


def test_echo_stops_with_the_bot_and_comes_later() -> None:
    item = silent_item(5, bot_from=0.5)
    item = replace(item, unechoed=item.heard, echo_after=0.2, bot=np.ones(24_000 * 5, np.int16))
    known = Known()
    who = Scripted((2.0, Kind.PAUSE_PLAYBACK), (2.6, Kind.RESUME_PLAYBACK), (4.0, Kind.INTERRUPT))
    run(item, who, known)
    changes = [at for (_, before), (at, after) in pairwise(known.heard) if before != after]
    assert changes == pytest.approx([0.72, 2.22, 2.82, 4.22], abs=0.001)
    assert who.seen[1.0].sounding is not None
    assert who.seen[2.3].sounding is None
    assert who.seen[4.5].sounding is None


def test_the_bot_answers_a_turn_in_its_time() -> None:
    who = Scripted((1.0, Kind.SPEECH_STARTED), (2.0, Kind.END))
    run(silent_item(5), who, Known())
    assert who.seen[2.0] == Playout()
    assert who.seen[2.02] == Playout(busy=True, answering=True)
    assert who.seen[round(2.02 + THINKING, 2)].audible


def test_a_fixed_silence_ends_after_its_time_and_stops_after_300_ms() -> None:
    ends = run(silent_item(5), FixedSilence(500), Known((1.0, 2.0)))
    assert [(each.kind, round(each.at, 2)) for each in ends] == [(Kind.SPEECH_STARTED, 1.1), (Kind.END, 2.5)]
    assert ends[0].since == pytest.approx(0.7)
    stops = run(silent_item(5, bot_from=0.0), FixedSilence(500), Known((1.0, 1.2), (2.0, 3.0)))
    assert [round(each.at, 2) for each in stops if each.kind is Kind.INTERRUPT] == [2.3]


def test_partials_come_as_late_as_the_recogniser() -> None:
    recogniser = Recogniser(Known())  # type: ignore[arg-type]
    recogniser.listen(1.0)
    told = {}
    for n in range(round(1.0 / 0.02), round(3.0 / 0.02)):
        now = round((n + 1) * 0.02, 2)
        if n == 120:
            recogniser.pause(now)
        if heard := recogniser.hear(now, now):
            told[now] = heard
    every, (least, rate) = PARTIAL_EVERY / INPUT_RATE, senses.TRANSCRIBING["en"]
    first = min(told)
    assert first == pytest.approx(1.0 + every + least + rate * every, abs=0.021)
    assert told[first] == ("until 1.60", False)
    assert [text for text, settled in told.values() if settled] == ["until 2.42"]


def test_what_was_made_is_kept(tmp_path: Path) -> None:
    recipe = Recipe("tune", "en", "door", 0)
    one = stored(recipe, tmp_path)
    other = stored(recipe, tmp_path)
    assert one.truth == other.truth
    assert all(np.array_equal(a.frame.pcm, b.frame.pcm) for a, b in zip(one.heard, other.heard, strict=True))
    assert [path.name for path in tmp_path.iterdir()] == [f"{recipe.name}.pickle"]


def test_old_material_goes(tmp_path: Path) -> None:
    for age, name in enumerate("abcd"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "item").write_text("x")
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    runner.prune(tmp_path / "new")
    assert {path.name for path in tmp_path.iterdir()} == {"new", "a", "b"}


def test_the_digest_follows_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    (tmp_path / "a.py").write_text("one")
    one = runner.digest(("a.py",))
    assert runner.digest(("a.py",)) == one
    (tmp_path / "a.py").write_text("two")
    assert runner.digest(("a.py",)) != one


@pytest.mark.models
def test_the_models_answers_are_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = (make(Recipe("held-out", "en", "turn", number)) for number in range(0, 40, 2))
    item = next(item for item in items if item.noise == "quiet" and len(item.text.split()) > 5)
    store = tmp_path / "answers.json"
    first = hearing(Senses(item, store), item)
    said = first.words(item.truth.onset - 0.3, item.truth.end + 0.3)
    done, half = (first.complete(0, at) for at in (item.truth.end + 0.2, item.truth.onset + 0.6))
    first.save()
    for name in ("_transcribe", "_judge", "_network"):
        monkeypatch.setattr(senses, name, None)  # would fail if it were called
    again = hearing(Senses(item, store), item)
    assert again.words(item.truth.onset - 0.3, item.truth.end + 0.3) == said
    assert again.complete(0, item.truth.end + 0.2) == done
    assert len(said.split()) > 2
    assert 0 <= half <= 1
    voice = np.array(first._voice[False])
    times = np.array([frame.time for _, frame in item.heard])
    assert voice[(times > item.truth.onset + 0.2) & (times < item.truth.end)].mean() > 0.5
    assert voice[times > item.truth.end + 1].mean() < 0.1


@pytest.mark.models
def test_an_item_from_end_to_end(tmp_path: Path) -> None:
    item = make(Recipe("held-out", "es", "turn", 14))
    who = subject("silence-800")
    one = judge(item, who.name, play(item, who, Senses(item, tmp_path / "answers.json")))
    assert one.ended
    assert one.end is not None
    assert 0.7 < one.end < 1.3
    assert one.lost is False


def test_every_subject_has_its_name() -> None:
    assert all(subject(name).name == name for name in SUBJECTS if name != "machine")
