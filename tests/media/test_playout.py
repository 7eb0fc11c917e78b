"""The playout against the simplest model of it: a list."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from media.audio import OUTPUT_FRAME
from media.playout import Encoded, Playout

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


def test_opus_made_ahead_is_given_with_its_samples_and_only_with_them() -> None:
    playout = Playout()
    pcm = np.arange(3 * OUTPUT_FRAME - 100, dtype=np.int16)
    playout.write(Encoded(pcm, [b"0", b"1", b"2"]))
    playout.take(OUTPUT_FRAME)
    assert playout.payload == b"0"
    assert np.array_equal(playout.take(OUTPUT_FRAME), pcm[OUTPUT_FRAME : 2 * OUTPUT_FRAME])
    assert playout.payload == b"1"
    playout.take(OUTPUT_FRAME)
    assert playout.payload == b"2"  # its end is silence, as in the frame
    assert playout.take(OUTPUT_FRAME) is None
    assert playout.payload is None
    assert playout.played == len(pcm)


def test_a_lowered_voice_has_no_opus_of_before() -> None:
    playout = Playout()
    playout.write(Encoded(np.ones(20 * OUTPUT_FRAME, np.int16), [b"%d" % index for index in range(20)]))
    playout.duck()
    playout.take(OUTPUT_FRAME)
    assert playout.payload is None
    playout.resume()
    payloads = []
    for _ in range(10):
        playout.take(OUTPUT_FRAME)
        payloads.append(playout.payload)
    assert payloads[0] is None
    assert payloads[-1] == b"10"


@given(st.lists(st.tuples(st.integers(1, 3 * OUTPUT_FRAME), st.booleans()), max_size=8))
def test_the_samples_do_not_depend_on_what_was_made_ahead(parts: list[tuple[int, bool]]) -> None:
    plain, mixed = Playout(), Playout()
    for number, (size, is_encoded) in enumerate(parts):
        pcm = np.full(size, number + 1, np.int16)
        plain.write(pcm)
        mixed.write(Encoded(pcm, [bytes([number])] * -(-size // OUTPUT_FRAME)) if is_encoded else pcm)
    while (expected := plain.take(OUTPUT_FRAME)) is not None:
        given_now = mixed.take(OUTPUT_FRAME)
        assert given_now is not None
        assert np.array_equal(given_now, expected)
        assert mixed.played == plain.played
        if mixed.payload is not None:  # all of it, silence at the very end left out, is of the part it was made of
            assert set(given_now.tolist()) <= {mixed.payload[0] + 1, 0}
    assert mixed.take(OUTPUT_FRAME) is None
