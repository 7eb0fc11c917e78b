"""The playout against the simplest model of it: a list."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.audio import OUTPUT_FRAME
from media.playout import DUCKED, RISE, Encoded, Playout

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
    taken = [(playout.take(OUTPUT_FRAME), playout.payload) for _ in range(4)]
    assert [payload for _, payload in taken] == [b"0", b"1", b"2", None]  # the end of the last is silence, as here
    assert taken[1][0] is not None
    assert np.array_equal(taken[1][0], pcm[OUTPUT_FRAME : 2 * OUTPUT_FRAME])
    assert taken[3][0] is None
    assert playout.played == len(pcm)


def test_a_lowered_voice_has_no_opus_of_before() -> None:
    playout = Playout()
    playout.write(Encoded(np.ones(20 * OUTPUT_FRAME, np.int16), [b"%d" % index for index in range(20)]))
    playout.duck()
    payloads: list[bytes | None] = []
    for _ in range(11):
        playout.take(OUTPUT_FRAME)
        payloads.append(playout.payload)
        playout.resume()
    assert payloads[:2] == [None, None]
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


FULL = 10_000


def voice(frames: int) -> Playout:
    """A playout with a steady sound, so that what is taken shows the volume."""
    playout = Playout()
    playout.write(np.full(frames * OUTPUT_FRAME, FULL, np.int16))
    return playout


def take(playout: Playout) -> list[float] | None:
    """The volume at the beginning and at the end of the next frame."""
    pcm = playout.take(OUTPUT_FRAME)
    return None if pcm is None else [round(float(sample) / FULL, 2) for sample in (pcm[0], pcm[-1])]


def test_a_lowered_voice_falls_within_a_frame_and_comes_back_without_a_jolt() -> None:
    playout = voice(20)
    assert take(playout) == [1, 1]
    playout.duck()
    assert take(playout) == [1, DUCKED]
    assert take(playout) == [DUCKED, DUCKED]
    playout.resume()
    volumes = [DUCKED]
    while volumes[-1] < 1:
        first, last = take(playout) or []
        assert first == pytest.approx(volumes[-1], abs=0.01)
        assert last - first == pytest.approx(RISE, abs=0.02)
        volumes.append(last)
    assert len(volumes) == 5
    assert playout.played == 7 * OUTPUT_FRAME  # a low voice goes on


def test_a_pause_keeps_the_place() -> None:
    playout = Playout()
    pcm = np.arange(1, 20 * OUTPUT_FRAME + 1, dtype=np.int16)
    playout.write(pcm)
    playout.take(OUTPUT_FRAME)
    playout.pause()
    fading = playout.take(OUTPUT_FRAME)
    assert fading is not None
    assert fading[-1] == 0
    assert not playout.ready
    for _ in range(100):
        assert playout.take(OUTPUT_FRAME) is None
    assert playout.played == 2 * OUTPUT_FRAME
    assert playout.pending == 18 * OUTPUT_FRAME
    playout.resume()
    heard = [frame for _ in range(6) if (frame := playout.take(OUTPUT_FRAME)) is not None]
    assert heard[0][0] == 0
    assert np.array_equal(heard[5], pcm[7 * OUTPUT_FRAME : 8 * OUTPUT_FRAME])


def test_what_is_written_during_a_pause_waits_for_its_end() -> None:
    playout = Playout()
    playout.pause()  # before anything is said: nothing of it is heard, not even a moment
    pcm = np.arange(1, 20 * OUTPUT_FRAME + 1, dtype=np.int16)
    assert playout.write(pcm) == len(pcm)
    assert playout.take(OUTPUT_FRAME) is None
    assert (playout.played, playout.pending, playout.ready) == (0, len(pcm), False)
    playout.resume()
    heard = []
    while (frame := playout.take(OUTPUT_FRAME)) is not None:
        heard.append(frame)
    assert len(heard) == 20
    assert np.array_equal(np.concatenate(heard[5:]), pcm[5 * OUTPUT_FRAME :])


def test_what_follows_an_interruption_is_in_full_voice() -> None:
    for lower in (Playout.duck, Playout.pause):
        playout = voice(5)
        lower(playout)
        playout.take(OUTPUT_FRAME)
        playout.clear()
        assert not playout.ready
        playout.write(np.full(OUTPUT_FRAME, FULL, np.int16))
        assert take(playout) == [1, 1]


def test_a_pause_of_a_low_voice_and_a_low_voice_after_a_pause() -> None:
    playout = voice(10)
    playout.duck()
    take(playout)
    playout.pause()
    assert take(playout) == [DUCKED, 0]
    assert take(playout) is None
    playout.duck()
    assert take(playout) == [0, DUCKED]


VOLUME_STEPS = st.lists(
    st.tuples(st.just(WRITE), st.integers(0, 1500))
    | st.tuples(st.just(TAKE), st.integers(1, 6))
    | st.tuples(st.sampled_from(["duck", "pause", "resume"]), st.just(0)),
    max_size=60,
)


@given(VOLUME_STEPS)
def test_no_volume_and_no_pause_costs_or_repeats_a_sample(steps: list[tuple[str, int]]) -> None:
    playout = Playout()
    source = np.random.default_rng(0).integers(-30_000, 30_000, 100_000).astype(np.int16)
    paused, volume = False, 1.0
    for action, count in steps:
        match action:
            case "write":
                playout.write(source[playout.written : playout.written + count])
            case "take":
                for _ in range(count):
                    at, pending = playout.played, playout.pending
                    pcm = playout.take(OUTPUT_FRAME)
                    if pcm is None:
                        assert playout.played == at
                        assert paused or not pending
                        continue
                    moved = playout.played - at
                    assert moved == min(pending, OUTPUT_FRAME)
                    assert not pcm[moved:].any()
                    before, after = volume, playout._gain
                    gains = np.linspace(before, after, OUTPUT_FRAME)[:moved]
                    assert np.abs(pcm[:moved] - source[at : at + moved] * gains).max() <= 1.1
                    assert -1 <= after - before <= RISE + 1e-9
                    volume = after
            case _:
                getattr(playout, action)()
                paused = action == "pause"
                volume = playout._gain
    playout.resume()
    while playout.take(OUTPUT_FRAME) is not None:
        pass
    assert playout.played == playout.written
