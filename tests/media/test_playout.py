"""The playout against the simplest model of it: a list."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from media.playout import Playout

WRITE, TAKE, CLEAR = "write", "take", "clear"
STEPS = st.lists(
    st.tuples(st.just(WRITE), st.integers(0, 1500))
    | st.tuples(st.just(TAKE), st.integers(1, 600))
    | st.tuples(st.just(CLEAR), st.just(0)),
    max_size=60,
)


@given(STEPS)
def test_every_sample_is_sent_once_in_order_or_dropped(steps: list[tuple[str, int]]) -> None:
    playout = Playout()
    waiting: list[int] = []
    counter = 0
    for action, count in steps:
        played = playout.played
        if action == WRITE:
            fresh = [(counter + index) % 30_000 + 1 for index in range(count)]
            counter += count
            waiting += fresh
            assert playout.write(np.array(fresh, np.int16)) == playout.written
        elif action == TAKE:
            taken = playout.take(count)
            if not waiting:
                assert taken is None
            else:
                assert taken is not None
                sent, waiting = waiting[:count], waiting[count:]
                assert taken.tolist() == sent + [0] * (count - len(sent))
                assert playout.played == played + len(sent)
        else:
            waiting = []
            assert playout.clear() == playout.played == playout.written
        assert played <= playout.played <= playout.written
        assert playout.pending == len(waiting)


def test_taking_from_an_empty_queue_moves_nothing() -> None:
    playout = Playout()
    assert playout.take(480) is None
    playout.write(np.ones(100, np.int16))
    assert playout.take(480) is not None
    assert (playout.written, playout.played, playout.take(480)) == (100, 100, None)
