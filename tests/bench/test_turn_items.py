"""The material of the evaluation: the same from the same seeds, the halves apart, and its labels true."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bench.turns import items, people, recordings, sounds
from bench.turns.alignment import aligner, begin_of
from bench.turns.items import EVENTS, SPLITS, VOICES, Item, Recipe, make, recipes
from bench.turns.line import transmit
from bench.turns.pausing import PLACES, plain, with_marks
from bench.turns.sounds import Sound, decibels
from bench.turns.voices import LEVEL, Gap, Voice, place_near, say, speech, with_pauses
from media.audio import INPUT_RATE, OUTPUT_RATE
from media.level import dbfs

pytestmark = pytest.mark.models


@pytest.fixture(autouse=True)
def without_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what every checkout has: nothing is fetched."""
    monkeypatch.setattr(recordings, "packages", lambda: tmp_path)
    recordings.recordings.cache_clear()
    people._speakers.cache_clear()


def heard(item: Item) -> Sound:
    return (np.concatenate([frame.pcm for _, frame in item.heard]) / 32768).astype(np.float32)


def level(sound: Sound, begin: float, end: float) -> float:
    """dBFS between two times, s."""
    return dbfs(sounds.to_pcm(sound[round(begin * INPUT_RATE) : round(end * INPUT_RATE)]))


def quiet(recipe: Recipe) -> Item:
    """The first item from this recipe on that has no noise and no DTX."""
    while True:
        item = make(recipe)
        if item.noise == "quiet" and not item.dtx and item.echo_after is None:
            return item
        recipe = Recipe(recipe.split, recipe.language, recipe.kind, recipe.number + 2)


def test_there_is_enough_of_everything() -> None:
    every = recipes()
    assert len({recipe.name for recipe in every}) == len(every)
    assert sum(recipe.kind == "turn" for recipe in every) >= 300
    assert sum(recipe.kind != "turn" for recipe in every) >= 300
    assert len(set(Counter((recipe.split, recipe.language) for recipe in every).values())) == 1
    assert recipes("tune") + recipes("held-out") == every


@pytest.mark.parametrize(("kind", "language"), list(zip(["turn", *EVENTS], ["es", "en"] * 5, strict=False)))
def test_a_recipe_always_gives_the_same(kind: str, language: str) -> None:
    one, other = (make(Recipe("held-out", language, kind, 2)) for _ in range(2))
    assert np.array_equal(heard(one), heard(other))
    assert (one.truth, one.text, one.noise, one.dtx) == (other.truth, other.text, other.noise, other.dtx)
    assert [arrival.at for arrival in one.heard] == [arrival.at for arrival in other.heard]


def test_numbers_and_halves_give_different_items() -> None:
    sounds = [heard(make(Recipe(split, "en", "cough", number))) for split in SPLITS for number in (0, 1)]
    assert len({sound.tobytes() for sound in sounds}) == 4


def test_the_halves_share_no_voice_and_no_sentence() -> None:
    texts = items._all_texts()
    for language in ("en", "es"):
        assert not set(VOICES["tune", language]) & set(VOICES["held-out", language])
        for kind in ("turns", "interruptions", "bot"):
            said = [{plain(text) for text in texts[split][language][kind]} for split in SPLITS]
            assert not said[0] & said[1]


def test_the_halves_share_no_speaker() -> None:
    speakers = [{each.speaker for each in recordings.recordings() if each.split == split} for split in SPLITS]
    assert not speakers[0] & speakers[1]


@pytest.mark.parametrize("language", ["en", "es"])
@pytest.mark.parametrize("number", [0, 6])
def test_a_turn_is_loud_where_it_is_said_to_be(language: str, number: int) -> None:
    item = quiet(Recipe("held-out", language, "turn", number))
    sound, truth = heard(item), item.truth
    speaking = level(sound, truth.onset, truth.end)
    assert speaking > -36
    assert level(sound, 0.1, truth.onset - 0.02) < speaking - 20
    assert level(sound, truth.end + 0.05, item.length - 0.1) < speaking - 20
    for begin, end, place in truth.pauses:
        assert place in PLACES
        assert truth.onset < begin < end < truth.end
        assert 0.15 < end - begin < 1.6
        assert level(sound, begin + 0.05, end - 0.05) < speaking - 20
        assert level(sound, begin + 0.05, end - 0.05) > -100  # room, not digital silence


@pytest.mark.parametrize("kind", ["interruption", "backchannel", "cough", "typing", "door"])
def test_an_event_begins_within_20_ms_of_its_label(kind: str) -> None:
    item = quiet(Recipe("held-out", "en", kind, 0))
    sound, onset = heard(item), item.truth.onset
    before = sound[: round((onset - 0.02) * INPUT_RATE)]
    floor = float(np.sqrt(np.mean(before[-INPUT_RATE // 2 :] ** 2)))
    after = sound[round((onset - 0.02) * INPUT_RATE) :]
    blocks = np.sqrt(np.mean(after[: 16000 // 80 * 80].reshape(-1, 80) ** 2, axis=1))
    first = float(np.flatnonzero(blocks > 3 * floor)[0]) * 0.005 - 0.02
    assert abs(first) <= 0.02


def test_echo_is_the_bot_20_db_softer_and_later() -> None:
    item = make(Recipe("held-out", "en", "echo", 0))
    assert item.bot is not None
    assert item.bot_from is not None
    assert item.echo_after is not None
    bot = sounds.resampled((item.bot / 32768).astype(np.float32), OUTPUT_RATE / INPUT_RATE)
    sound = heard(item)[round(item.bot_from * INPUT_RATE) :][: len(bot)]
    bot = bot[: len(sound)]
    spectrum = np.fft.rfft(sound, 2 * len(bot)) * np.conj(np.fft.rfft(bot, 2 * len(bot)))
    delay = int(np.argmax(np.abs(np.fft.irfft(spectrum)[: INPUT_RATE // 2]))) / INPUT_RATE
    assert item.echo_after - 0.01 < delay < item.echo_after + 0.13  # the room follows
    gain = dbfs(sounds.to_pcm(sound)) - dbfs(item.bot)
    assert -27 < gain < -13
    without = np.concatenate([frame.pcm for _, frame in item.unechoed])
    assert dbfs(without) < dbfs(sounds.to_pcm(sound)) - 10


def test_the_bots_words_have_times() -> None:
    item = make(Recipe("held-out", "es", "cough", 0))
    times = [at for at, _ in item.bot_words]
    assert times == sorted(times)
    assert times[0] < 0.2
    assert " ".join(word for _, word in item.bot_words).startswith(("Su paquete", "Hay dos"))


def test_pauses_are_put_into_gaps_and_keep_every_sound() -> None:
    said = say(Voice("hibari", "heart"), "The meeting starts at nine, no, sorry, at half past nine.")
    first, *_, last = sorted(said.gaps, key=lambda gap: gap[1] - gap[0])[-2:]
    wanted = [Gap(*first, "whole", 0.5), Gap(*last, "phrase", 1.2)]
    sound, pauses = with_pauses(said, wanted, np.random.default_rng(1))
    put = {gap.place: round((gap.end - gap.begin) / INPUT_RATE, 2) for gap in pauses}
    assert put == {"whole": 0.5, "phrase": 1.2}
    added = len(sound) - len(said.sound)
    assert 1.2 < added / INPUT_RATE < 1.7
    assert float(np.sum(sound**2)) == pytest.approx(float(np.sum(said.sound**2)), rel=0.01)


def test_a_pause_is_put_between_two_words_that_are_spoken_as_one() -> None:
    said = say(Voice("pico", "en-GB"), "Please send the invoice to my accountant instead of me.")
    words = aligner().words(said.sound, "en")
    assert [word for _, word in words][:6] == ["Please", "send", "the", "invoice", "to", "my"]
    begin = begin_of(5, "Please send the invoice to my accountant instead of me.", words)
    assert begin == words[5][0]
    assert 0.7 < begin < 1.4
    place = place_near(said, begin)
    sound, [pause] = with_pauses(said, [Gap(*place, "phrase", 0.8)], np.random.default_rng(1))
    assert pause.begin / INPUT_RATE == pytest.approx(begin, abs=0.15)
    quiet = sound[pause.begin + 160 : pause.end - 160]
    assert sounds.rms(quiet) < sounds.rms(sound) / 30
    assert begin_of(5, "Please send that thing to my accountant.", words) == begin
    assert begin_of(4, "Please send that thing to my accountant.", words) is None  # nobody heard what is before it


def test_a_mark_becomes_a_pause_and_numbers_are_read_in_groups() -> None:
    marked = "The code is | two zero five | eight eight one / I think."
    drawn = [with_marks(marked, "en", np.random.default_rng(seed)) for seed in range(200)]
    places = Counter(place for _, marks in drawn for _, place, _ in marks)
    assert set(places) == {"phrase", "filler", "whole"}
    for text, marks in drawn:
        words = text.split()
        for word, place, seconds in marks:
            assert 0.3 <= seconds <= 1.5
            assert (words[word - 1] in ("um,", "uh,", "er,")) == (place == "filler")
            if place == "phrase" and words[word] in ("two", "eight"):
                assert words[word - 1].endswith(",")
    assert plain(marked) == "The code is two zero five eight eight one I think."


def test_speech_is_cut_and_brought_to_one_level() -> None:
    tone = np.sin(np.arange(INPUT_RATE) * 0.3).astype(np.float32) * np.float32(0.05)
    found = speech(np.concatenate([np.zeros(8000, np.float32), tone, np.zeros(4000, np.float32)]))
    assert found.seconds == pytest.approx(1.0, abs=0.01)
    assert dbfs(sounds.to_pcm(found.sound)) == pytest.approx(LEVEL, abs=0.5)
    with pytest.raises(ValueError, match="no speech"):
        speech(np.zeros(16000, np.float32))


def test_a_click_before_or_behind_speech_is_none() -> None:
    tone = np.sin(np.arange(INPUT_RATE) * 0.3).astype(np.float32) * np.float32(0.05)
    click = np.full(200, 0.5, np.float32)
    nothing = np.zeros(8000, np.float32)
    found = speech(np.concatenate([click, nothing, tone, nothing, click, nothing[:2000], click]))
    assert found.seconds == pytest.approx(1.0, abs=0.01)


def test_the_line_keeps_time_and_dtx_sends_less() -> None:
    sound = np.zeros(2 * INPUT_RATE, np.float32)
    sound[INPUT_RATE : INPUT_RATE + 3200] = np.sin(np.arange(3200) * 0.2) * decibels(-12)
    for dtx in (False, True):
        arrivals = transmit(sound, bitrate=24_000, dtx=dtx)
        assert [round(frame.time, 2) for _, frame in arrivals] == [round(n * 0.02, 2) for n in range(len(arrivals))]
        assert all(at >= frame.time + 0.0199 for at, frame in arrivals)
        loud = [frame.time for _, frame in arrivals if frame.level > -30]
        assert loud[0] == pytest.approx(1.0, abs=0.021)
        if dtx:
            assert any(frame.concealed for _, frame in arrivals)


@pytest.mark.parametrize("make_sound", [sounds.cough, sounds.throat, sounds.typing, sounds.door, sounds.hum])
def test_made_sounds_are_short_finite_and_differ(make_sound: object) -> None:
    assert callable(make_sound)
    one, other = (make_sound(np.random.default_rng(seed)) for seed in (1, 2))
    for sound in (one, other):
        assert sound.dtype == np.float32
        assert np.isfinite(sound).all()
        assert 0.1 < len(sound) / INPUT_RATE < 3
    assert len(one) != len(other) or not np.array_equal(one, other)
