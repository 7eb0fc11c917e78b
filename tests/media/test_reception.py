"""Receiver statistics against the definitions of RFC 3550."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.reception import Reception
from media.rtcp import SenderReport


@given(st.integers(0, 0xFFFF), st.lists(st.booleans(), min_size=1, max_size=300), st.integers(1, 100))
def test_every_loss_is_reported_once(first: int, arrives: list[bool], interval: int) -> None:
    reception = Reception(1, first)
    reception.add(first, 0, 0.0)
    reported = 0.0
    highest_before = first - 1
    highest = first
    for index, came in enumerate(arrives, 1):
        if came:
            highest = first + index
            reception.add(highest & 0xFFFF, index * 960, index * 0.02)
        if index % interval == 0:
            block = reception.block(index * 0.02)
            assert 0 <= block.fraction_lost < 1
            reported += block.fraction_lost * (highest - highest_before)
            highest_before = highest
    block = reception.block(len(arrives) * 0.02)
    reported += block.fraction_lost * (highest - highest_before)
    lost = arrives[: highest - first].count(False)
    assert reported == pytest.approx(lost)
    assert block.cumulative_lost == reception.lost == lost
    assert block.highest_sequence == highest


def test_duplicates_make_no_negative_fraction() -> None:
    reception = Reception(1, 5)
    for _ in range(3):
        reception.add(5, 0, 0.0)
    block = reception.block(1.0)
    assert block.fraction_lost == 0
    assert block.cumulative_lost == -2
    assert reception.block(2.0).fraction_lost == 0  # nothing was expected since


def test_jitter() -> None:
    steady, shaky = Reception(1, 0), Reception(1, 0)
    for index in range(500):
        steady.add(index, 0xFFFF_FF00 + index * 960 & 0xFFFF_FFFF, 1000 + index * 0.02)
        shaky.add(index, index * 960, 1000 + index * 0.02 + (index % 2) * 0.005)
    assert steady.jitter < 1
    assert shaky.jitter == pytest.approx(240, rel=0.02)  # 5 ms between neighbours


def test_round_trip_fields() -> None:
    reception = Reception(7, 0)
    reception.add(0, 0, 1.0)
    assert (reception.block(1.0).last_sr, reception.block(1.0).delay_since_last_sr) == (0, 0)
    reception.on_sender_report(SenderReport(8, 1 << 40, 0, 0, 0), 2.0)  # of somebody else
    assert reception.block(2.0).last_sr == 0
    reception.on_sender_report(SenderReport(7, 0x1122_3344_5566_7788, 0, 0, 0), 2.0)
    block = reception.block(2.5)
    assert block.last_sr == 0x3344_5566
    assert block.delay_since_last_sr == 32768
