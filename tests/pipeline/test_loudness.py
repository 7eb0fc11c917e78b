"""How loud the user, the room and the bot's echo are, and what follows from that."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.loudness import (
    ABOVE_ECHO,
    BELOW_USER,
    DELAY,
    ECHO,
    ENOUGH,
    FADE,
    FALL,
    FAR_ABOVE_ECHO,
    HARDLY_ECHO,
    LEAST_ABOVE_ROOM,
    LOUD,
    QUICK,
    RISE,
    SURE_ECHO,
    SWELL,
    VOICE_SLOWER,
    Loudness,
)
from pipeline.turn_settings import TurnSettings

USUAL = TurnSettings()
SOFT_ECHO = -50.0
LEVELS = st.floats(-127, 0)


def with_echo(level: float = SOFT_ECHO) -> Loudness:
    loudness = Loudness()
    for _ in range(ENOUGH):
        loudness.hear_echo(level)
    return loudness


# --- the room


def test_the_room_is_what_it_was_from_the_first_frame() -> None:
    loudness = Loudness()
    assert loudness.room is None
    loudness.hear_room(-60.0)
    assert loudness.room == -60.0


def test_the_room_settles_where_most_frames_are_softer() -> None:
    loudness, chance = Loudness(), random.Random(0)
    settled = []
    for n in range(6000):
        loudness.hear_room(chance.uniform(-70, -50))
        assert loudness.room is not None
        if n >= 3000:
            settled.append(loudness.room)
    share = RISE / (RISE + FALL)  # it rises as often as it falls times the ratio of its paces
    assert sum(settled) / len(settled) == pytest.approx(-70 + 20 * share, abs=2)


@pytest.mark.parametrize("level", [-70.0, -30.0])
def test_it_settles_in_the_first_second_and_follows_slowly_then(level: float) -> None:
    loudness = Loudness()
    loudness.hear_room(-50.0)
    for _ in range(QUICK - 1):
        loudness.hear_room(level)
    assert loudness.room == pytest.approx(level)
    loudness.forget_recent()
    loudness.hear_room(level + 20)
    loudness.hear_room(level - 20)
    for _ in range(DELAY - 1):
        loudness.hear_room(level)
    assert loudness.room == pytest.approx(level + RISE)
    loudness.hear_room(level)
    assert loudness.room == pytest.approx(level + RISE - FALL)


def test_a_voice_does_not_raise_the_room_that_it_has_to_stand_out_of() -> None:
    loudness = Loudness()
    for _ in range(2 * QUICK):
        loudness.hear_room(-60.0)
    for _ in range(DELAY):
        loudness.hear_room(-20.0)
    assert loudness.room == pytest.approx(-60.0)
    loudness.forget_recent()  # it was the user's turn
    for _ in range(2 * DELAY):
        loudness.hear_room(-60.0)
    assert loudness.room == pytest.approx(-60.0)


def test_a_voice_at_the_microphone_is_hardly_the_room_however_long_it_lasts() -> None:
    def room(level: float, *, voice: bool, before: int) -> float:
        loudness = Loudness()
        for _ in range(before):
            loudness.hear_room(-60.0)
        for _ in range(DELAY + 10):
            loudness.hear_room(level, voice=voice)
        assert loudness.room is not None
        return loudness.room

    assert room(LOUD + 5, voice=True, before=2 * QUICK) == pytest.approx(-60 + 10 * RISE / VOICE_SLOWER)
    assert room(LOUD + 5, voice=False, before=2 * QUICK) == pytest.approx(-60 + 10 * RISE)
    assert room(LOUD - 5, voice=True, before=2 * QUICK) == pytest.approx(-60 + 10 * RISE)
    # In the first second of a call, too, when the room is learnt in haste.
    assert room(LOUD + 5, voice=True, before=DELAY // 3) < -40
    assert room(LOUD + 5, voice=False, before=DELAY // 3) == pytest.approx(LOUD + 5)


def test_nor_does_it_make_the_room_restless() -> None:
    loudness = Loudness()
    for _ in range(10 * QUICK):
        loudness.hear_room(-60.0)
    before = loudness.least(USUAL)
    for _ in range(DELAY + 10):
        loudness.hear_room(LOUD + 10, voice=True)
    assert loudness.least(USUAL) == pytest.approx(before, abs=1)


def test_after_the_first_turn_no_voice_is_taken_for_the_room_of_a_new_call() -> None:
    loudness = Loudness()
    for _ in range(QUICK // 2):
        loudness.hear_room(-60.0)
    loudness.forget_recent()
    for _ in range(DELAY):
        loudness.hear_room(-20.0)
    assert loudness.room == pytest.approx(-60.0)


def test_what_changes_little_by_itself_need_not_be_topped_by_much() -> None:
    def least(swing: float) -> float:
        loudness = Loudness()
        for n in range(20 * QUICK):
            loudness.hear_room(-65.0 + swing * (-1) ** n)
        assert loudness.room is not None
        return loudness.least(replace(USUAL, min_level=-100.0)) - loudness.room

    assert least(0.0) == pytest.approx(LEAST_ABOVE_ROOM)
    assert LEAST_ABOVE_ROOM < least(1.5) < USUAL.above_room
    assert least(20.0) == pytest.approx(USUAL.above_room)


def test_a_single_clap_is_soon_forgotten() -> None:
    loudness = Loudness()
    for _ in range(QUICK):
        loudness.hear_room(-60.0)
    loudness.hear_room(0.0)
    for _ in range(DELAY + math.ceil(RISE / FALL)):
        loudness.hear_room(-60.0)
    assert loudness.room == pytest.approx(-60)


@given(st.lists(LEVELS, min_size=1, max_size=200))
def test_nothing_leaves_the_range_of_what_was_heard(levels: list[float]) -> None:
    loudness = Loudness()
    for level in levels:
        loudness.hear_room(level)
        loudness.hear_echo(level)
        assert loudness.room is not None
        assert min(levels) <= loudness.room <= max(levels)
        assert loudness.echo is None or min(levels) - 1e-9 <= loudness.echo <= max(levels) + 1e-9


# --- the user


def test_the_user_is_as_loud_as_their_loudest_lately() -> None:
    loudness, chance = Loudness(), random.Random(0)
    for _ in range(500):
        loudness.hear_user(chance.uniform(-40, -20))
    assert loudness.user is not None
    assert -24 < loudness.user <= -20


def test_the_peak_rises_fast_and_falls_slowly() -> None:
    loudness = Loudness()
    assert loudness.user is None
    loudness.hear_user(-40.0)
    assert loudness.user == pytest.approx(-40, abs=2 * FADE)
    before = loudness.user or 0.0
    loudness.hear_user(-20.0)
    assert loudness.user == pytest.approx(before + SWELL)
    for _ in range(round(20 / SWELL)):
        loudness.hear_user(-20.0)
    assert loudness.user == pytest.approx(-20, abs=2 * FADE)
    top = loudness.user or 0.0
    loudness.hear_user(-60.0)
    assert loudness.user == pytest.approx(top - FADE)


@given(st.lists(LEVELS, min_size=1, max_size=200))
def test_the_user_is_never_louder_than_they_were(levels: list[float]) -> None:
    loudness = Loudness()
    for level in levels:
        loudness.hear_user(level)
    assert loudness.user is not None
    assert min(levels) - FADE * len(levels) <= loudness.user <= max(levels)
    assert loudness.soft == loudness.user - BELOW_USER


def test_nobody_is_soft_before_the_user_spoke() -> None:
    assert Loudness().soft == -math.inf


# --- echo


def test_echo_is_learnt_from_enough_frames_of_it() -> None:
    loudness = Loudness()
    for n in range(ENOUGH - 1):
        assert loudness.is_echo(SOFT_ECHO + n % 3, SURE_ECHO)
        assert loudness.echo is None
    loudness.is_echo(SOFT_ECHO, SURE_ECHO)
    assert loudness.echo == pytest.approx(SOFT_ECHO + 1, abs=1)


def test_what_is_hardly_alike_teaches_nothing() -> None:
    loudness = Loudness()
    for _ in range(10 * ENOUGH):
        loudness.is_echo(SOFT_ECHO, (ECHO + SURE_ECHO) / 2)
        loudness.is_echo(SOFT_ECHO, HARDLY_ECHO)
        loudness.is_echo(LOUD + 1, 1.0)
    assert loudness.echo is None


def test_a_few_wrong_frames_do_not_spoil_it() -> None:
    loudness = Loudness()
    for n in range(ENOUGH):
        loudness.hear_echo(LOUD if n < ENOUGH // 3 else SOFT_ECHO)
    assert loudness.echo == SOFT_ECHO


def test_it_follows_a_loudspeaker_that_is_turned_up() -> None:
    loudness = with_echo(-50)
    for _ in range(200):
        loudness.is_echo(-42, SURE_ECHO)
    assert loudness.echo == pytest.approx(-42, abs=1)


@pytest.mark.parametrize(
    ("level", "likeness", "expected"),
    [
        (SOFT_ECHO, ECHO, True),
        (LOUD, ECHO, True),
        (LOUD + 0.1, 1.0, False),  # somebody at the microphone
        (SOFT_ECHO, ECHO - 0.01, False),
        (SOFT_ECHO, 0.0, False),
    ],
)
def test_before_its_loudness_is_known_likeness_decides(level: float, likeness: float, *, expected: bool) -> None:
    assert Loudness().is_echo(level, likeness) == expected


@pytest.mark.parametrize(
    ("above", "likeness", "expected"),
    [
        (0, 1.0, True),
        (FAR_ABOVE_ECHO - 0.1, ECHO, True),
        (FAR_ABOVE_ECHO, 1.0, False),  # a voice over it, however alike
        (ABOVE_ECHO - 0.1, HARDLY_ECHO, True),  # covered by other sounds
        (ABOVE_ECHO, HARDLY_ECHO, False),
        (ABOVE_ECHO, ECHO - 0.01, False),
        (0, HARDLY_ECHO - 0.01, False),
        (-30, 0.0, False),  # the user may be softer than the bot's echo
    ],
)
def test_then_its_loudness_counts_too(above: float, likeness: float, *, expected: bool) -> None:
    assert with_echo().is_echo(SOFT_ECHO + above, likeness) == expected


def test_a_loud_echo_is_still_a_voice_when_it_is_as_loud_as_one() -> None:
    assert not with_echo(LOUD).is_echo(LOUD + 1, 1.0)


@given(LEVELS, st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_the_more_alike_the_more_echo(level: float, low: float, high: float, known: bool) -> None:
    low, high = sorted((low, high))
    loudness = with_echo if known else Loudness
    assert loudness().is_echo(level, low) <= loudness().is_echo(level, high)


@given(LEVELS, LEVELS, st.floats(0, 1), st.booleans())
def test_the_louder_the_less(one: float, other: float, likeness: float, known: bool) -> None:
    soft, loud = sorted((one, other))
    loudness = with_echo if known else Loudness
    assert loudness().is_echo(soft, likeness) >= loudness().is_echo(loud, likeness)


# --- what may interrupt


def test_of_a_new_call_only_the_least_level_counts() -> None:
    assert Loudness().least(USUAL) == USUAL.min_level


def test_who_is_much_softer_than_the_user_does_not_interrupt() -> None:
    loudness = Loudness()
    loudness.user = -20.0
    assert loudness.least(USUAL) == -20 - USUAL.below_user
    assert loudness.least(replace(USUAL, below_user=math.inf)) == USUAL.min_level
    loudness.user = -60.0
    assert loudness.least(USUAL) == USUAL.min_level


def test_who_does_not_stand_out_of_the_room_does_not_interrupt() -> None:
    loudness = Loudness()
    loudness.room = -45.0
    assert loudness.least(USUAL) == -45 + USUAL.above_room
    assert loudness.least(replace(USUAL, above_room=-math.inf)) == USUAL.min_level
    loudness.room = -90.0
    assert loudness.least(USUAL) == USUAL.min_level
    loudness.room = -10.0
    assert loudness.least(USUAL) == LOUD  # however loud it is, who is near gets through


@given(st.one_of(st.none(), LEVELS), st.one_of(st.none(), LEVELS), st.floats(-60, 0))
def test_the_strictest_rule_decides(user: float | None, room: float | None, min_level: float) -> None:
    loudness = Loudness()
    loudness.user, loudness.room = user, room
    least = loudness.least(replace(USUAL, min_level=min_level))
    assert least >= min_level
    assert user is None or least >= user - USUAL.below_user
    assert room is None or least >= min(room + LEAST_ABOVE_ROOM, LOUD)
    assert least <= max(min_level, LOUD, -math.inf if user is None else user - USUAL.below_user)
