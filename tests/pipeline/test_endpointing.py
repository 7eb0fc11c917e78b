"""How much silence ends a turn: the more probably it is complete the less, and never more than the ceiling."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from config.agent import AgentConfig
from config.turns import Preset, TurnMode
from pipeline.completeness import completeness
from pipeline.endpointing import probability_complete, silence_needed
from pipeline.turn_settings import NATIVE_SILENCE_MS, PRESETS, SILENCE_MS, TurnSettings

USUAL = TurnSettings()
ROUNDING = 1e-9
SHARES = st.floats(0, 1)
TEXTS = st.sampled_from(["", "Book a table.", "Is it late?", "I would like the", "Well,", "¿Qué hora es?", "y"])
LANGUAGES = st.sampled_from(["en", "es", "fr"])


@st.composite
def ordered(draw: st.DrawFn) -> TurnSettings:
    """Whatever an agent sets, they come in this order."""
    complete, undecided, unfinished, ceiling = sorted(draw(st.lists(st.integers(0, 5000), min_size=4, max_size=4)))
    return TurnSettings(
        complete_ms=complete,
        undecided_ms=undecided,
        unfinished_ms=unfinished,
        max_silence_ms=ceiling,
        complete_from=draw(SHARES),
    )


# --- what is believed


def test_nobody_knows() -> None:
    assert probability_complete(None, "", "en") is None
    assert probability_complete(None, "Réservez une table.", "fr", settled=True) is None
    assert probability_complete(None, "Book a table.", "en") is None  # there may be another word


@pytest.mark.parametrize("text", ["Is it late?", "I would like the", "so I went...", "Book a table."])
def test_words_alone(text: str) -> None:
    probability = completeness(text, "en")
    assert probability is not None
    assert probability_complete(None, text, "en", settled=True) == probability


@given(SHARES)
def test_where_words_are_missing_the_turn_model_decides(verdict: float) -> None:
    alone = probability_complete(verdict, "", "en", settled=True)
    assert alone is not None
    assert 0 < alone < 1
    assert probability_complete(verdict, "Réservez une table.", "fr") == alone
    assert probability_complete(verdict, "Is it late?", "en") == alone  # there may be another word


def test_it_is_believed_with_caution() -> None:
    sure, doubtful, opposed = (probability_complete(verdict, "", "en") for verdict in (1.0, 0.5, 0.0))
    assert sure is not None
    assert doubtful is not None
    assert opposed is not None
    assert opposed < 0.05 < doubtful < 0.5 < 0.9 < sure


@pytest.mark.parametrize("verdict", [0.1, 0.5, 0.9])
def test_words_and_model_move_each_other(verdict: float) -> None:
    model = probability_complete(verdict, "", "en")
    question = probability_complete(verdict, "Is it late?", "en", settled=True)
    promise = probability_complete(verdict, "I would like the", "en", settled=True)
    assert model is not None
    assert question is not None
    assert promise is not None
    assert promise < model < question


@pytest.mark.parametrize("text", ["Is it late?", "I would like the"])
def test_no_opinion_is_certain(text: str) -> None:
    sure = [probability_complete(verdict, text, "en", settled=True) for verdict in (0.0, 1.0)]
    assert None not in sure
    assert 0 < sure[0] < sure[1] < 1  # type: ignore[operator]


def test_words_are_read_in_their_language() -> None:
    spanish, english = (
        probability_complete(None, "no me acuerdo de", language, settled=True) for language in ("es", "en")
    )
    assert spanish is not None
    assert english is not None
    assert spanish < 0.1 < english


@given(SHARES, SHARES, TEXTS, LANGUAGES)
def test_the_surer_the_model_the_more_probable(low: float, high: float, text: str, language: str) -> None:
    low, high = sorted((low, high))
    less, more = (probability_complete(verdict, text, language, settled=True) for verdict in (low, high))
    assert less is not None
    assert more is not None
    assert 0 <= less <= more + ROUNDING
    assert more <= 1


# --- what is waited for


def test_the_corners() -> None:
    assert silence_needed(None, USUAL) == USUAL.undecided_ms
    assert silence_needed(1.0, USUAL) == USUAL.complete_ms
    assert silence_needed(0.0, USUAL) == USUAL.unfinished_ms
    assert silence_needed(USUAL.complete_from, USUAL) == USUAL.undecided_ms


@pytest.mark.parametrize("preset", Preset)
def test_the_presets_wait_longer_for_what_is_less_complete(preset: Preset) -> None:
    settings = PRESETS[preset]
    waits = [silence_needed(tenth / 10, settings) for tenth in range(11)]
    assert waits == sorted(waits, reverse=True)
    assert len(set(waits)) > 4
    assert settings.pause_ms < waits[-1] < silence_needed(None, settings) < waits[0] < settings.max_silence_ms


@given(ordered(), SHARES, SHARES)
def test_the_more_probable_the_less_silence(settings: TurnSettings, low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert silence_needed(low, settings) >= silence_needed(high, settings)


@given(ordered(), st.one_of(st.none(), SHARES))
def test_bounds(settings: TurnSettings, probability: float | None) -> None:
    needed = silence_needed(probability, settings)
    assert settings.complete_ms <= needed <= min(settings.unfinished_ms, settings.max_silence_ms)
    assert needed == round(needed)
    if probability is not None:
        complete = probability >= settings.complete_from
        assert needed <= settings.undecided_ms if complete else needed >= settings.undecided_ms


@given(ordered(), st.one_of(st.none(), SHARES), st.integers(0, 5000))
def test_nothing_is_waited_for_beyond_the_ceiling(
    settings: TurnSettings, probability: float | None, ceiling: int
) -> None:
    lower = replace(settings, max_silence_ms=ceiling)
    assert silence_needed(probability, lower) == min(silence_needed(probability, settings), ceiling)


@given(ordered(), SHARES, SHARES, SHARES)
def test_a_stricter_threshold_never_shortens_it(
    settings: TurnSettings, probability: float, lax: float, strict: float
) -> None:
    lax, strict = sorted((lax, strict))
    assume(strict > lax)
    waits = [silence_needed(probability, replace(settings, complete_from=border)) for border in (lax, strict)]
    assert waits[0] <= waits[1] + 1  # of rounding


@pytest.mark.parametrize("border", [0.0, 1.0])
def test_a_threshold_at_the_edge(border: float) -> None:
    settings = replace(USUAL, complete_from=border)
    assert silence_needed(1.0, settings) == USUAL.complete_ms
    assert silence_needed(0.0, settings) == (USUAL.undecided_ms if border == 0 else USUAL.unfinished_ms)


# --- modes


@pytest.mark.parametrize(("mode", "silence"), [(TurnMode.SILENCE, SILENCE_MS), (TurnMode.NATIVE, NATIVE_SILENCE_MS)])
@given(probability=st.one_of(st.none(), SHARES))
def test_where_nobody_is_asked_it_is_always_the_same(mode: TurnMode, silence: int, probability: float | None) -> None:
    agent, problems = AgentConfig.parse("demo", {"turn_detection": mode.value})
    assert not problems
    settings = TurnSettings.of(agent)
    assert settings.mode is mode
    assert silence_needed(probability, settings) == silence
