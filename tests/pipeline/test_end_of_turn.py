"""The network that tells an end: which states of an encoder it looks at."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.end_of_turn import EndOfTurn

FRAMES, WIDTH = 48, 288


@pytest.fixture(scope="module")
def network() -> EndOfTurn:
    return EndOfTurn.load()


def states(count: int, seed: int = 0) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, FRAMES - 1, FRAMES, FRAMES + 1, 500])
def test_any_number_of_states_gives_odds(network: EndOfTurn, count: int) -> None:
    for size in (0.0, 1.0, 1e4):
        assert np.isfinite(network.odds(size * states(count)))


def test_what_was_more_than_a_second_ago_does_not_count(network: EndOfTurn) -> None:
    last = states(FRAMES)
    before = np.concatenate([states(30, seed=1), last])
    assert network.odds(before) == network.odds(last)
    assert network.odds(last[1:]) != network.odds(last)


def test_it_matters_which_state_is_the_last(network: EndOfTurn) -> None:
    one = states(FRAMES)
    assert network.odds(one) != pytest.approx(network.odds(one[::-1]), abs=1e-3)
