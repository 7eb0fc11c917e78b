"""RTCP with aiortc as the peer: what we build it reads, what it builds we read."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import pytest
from aiortc.rtp import (
    RtcpByePacket,
    RtcpPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpSdesPacket,
    RtcpSenderInfo,
    RtcpSourceInfo,
    RtcpSrPacket,
)
from hypothesis import given
from hypothesis import strategies as st

from media import rtcp, rtp
from media.playout import Playout
from media.receiver import Receiver
from media.sender import Sender
from media.vad import WebRtcVad
from tests.media.signals import payloads, tone

U32 = st.integers(0, 0xFFFF_FFFF)
BLOCKS = st.builds(
    RtcpReceiverInfo, U32, st.integers(0, 255), st.integers(-(1 << 23), (1 << 23) - 1), U32, U32, U32, U32
)


def a_pair() -> tuple[Sender, Receiver]:
    playout = Playout()
    return Sender(playout, payload_type=111, ssrc=1234), Receiver(payload_type=111, vad=WebRtcVad())


@pytest.mark.parametrize("cname", ["a", "ab", "abc", "abcd", "x" * 255])
def test_reports_before_and_after_the_first_packets(cname: str) -> None:
    sender, receiver = a_pair()
    empty, description = RtcpPacket.parse(rtcp.build_report(sender, receiver, now=1.0, cname=cname))
    assert empty == RtcpRrPacket(ssrc=1234, reports=[])
    assert description == RtcpSdesPacket(chunks=[RtcpSourceInfo(1234, [(1, cname.encode())])])

    sizes = 0
    for index in range(3):
        (packet,) = sender.tick(10 + index * 0.02)
        sizes += len(packet) - 12
    for index, payload in enumerate(payloads(tone(16_000, 16_000))):
        if index % 5:
            receiver.receive(
                rtp.build(rtp.Packet(111, False, 65_530 + index, index * 960, 99, payload)), 10 + index / 50
            )
    report, description = RtcpPacket.parse(rtcp.build_report(sender, receiver, now=11.0, cname=cname))
    assert isinstance(report, RtcpSrPacket)
    assert report.ssrc == 1234
    assert (report.sender_info.packet_count, report.sender_info.octet_count) == (3, sizes)
    last = rtp.parse(packet)
    assert last is not None
    assert report.sender_info.rtp_timestamp == pytest.approx((last.timestamp + 0.96 * 48_000) % (1 << 32), abs=2)
    (block,) = report.reports
    assert (block.ssrc, block.packets_lost, block.highest_sequence) == (99, 9, 65_530 + 49)
    assert block.fraction_lost == 9 * 256 // 49
    assert isinstance(description, RtcpSdesPacket)


def test_extreme_losses_fit_into_their_fields() -> None:
    block = rtcp.ReportBlock(1, 1.0, 1 << 40, 0, 0, 0, 0)
    assert rtcp._pack_block(block)[4:8] == b"\xff\x7f\xff\xff"


@given(
    U32, st.integers(0, (1 << 64) - 1), U32, st.lists(BLOCKS, max_size=31), st.lists(U32, max_size=31), st.booleans()
)
def test_what_aiortc_builds_is_read(
    ssrc: int, ntp: int, stamp: int, blocks: list[RtcpReceiverInfo], gone: list[int], is_sender: bool
) -> None:
    first = RtcpSrPacket(ssrc, RtcpSenderInfo(ntp, stamp, 7, 8), blocks) if is_sender else RtcpRrPacket(ssrc, blocks)
    sdes = RtcpSdesPacket([RtcpSourceInfo(ssrc, [(1, b"someone")])])
    facts: Sequence[object] = rtcp.parse(bytes(first) + bytes(sdes) + bytes(RtcpByePacket(gone)))
    expected: list[object] = [rtcp.SenderReport(ssrc, ntp, stamp, 7, 8)] if is_sender else []
    expected += [
        rtcp.ReportBlock(b.ssrc, b.fraction_lost / 256, b.packets_lost, b.highest_sequence, b.jitter, b.lsr, b.dlsr)
        for b in blocks
    ]
    assert facts == [*expected, rtcp.Bye(tuple(gone))]


@given(st.binary(max_size=200))
def test_garbage_never_raises(data: bytes) -> None:
    rtcp.parse(data)
    rtcp.parse(b"\x81\xc8" + data)
    rtcp.parse(b"\x81\xc9\x00\x07" + data)


@given(st.lists(BLOCKS, min_size=1, max_size=3), st.integers(0, 100))
def test_a_truncated_packet_tells_nothing_and_those_before_it_all(blocks: list[RtcpReceiverInfo], cut: int) -> None:
    whole = bytes(RtcpRrPacket(1, blocks))
    broken = whole[: max(0, len(whole) - 1 - cut)]
    assert len(rtcp.parse(whole + broken)) == len(blocks)


def test_padding_and_unknown_types_are_skipped() -> None:
    unknown = struct.pack("!BBHI", 0x80, 207, 1, 5)  # extended report
    padded = b"\xa0\xc9\x00\x02" + struct.pack("!I", 5) + b"\0\0\0\4"
    assert rtcp.parse(unknown + padded + bytes(RtcpByePacket([3]))) == [rtcp.Bye((3,))]
    assert rtcp.parse(b"\xa0\xc9\x00\x01\0\0\0\xff") == []


@given(st.floats(0, 1e6), st.floats(0.001, 60), st.floats(0, 10))
def test_round_trip(now: float, delay: float, held: float) -> None:
    last_sr = rtcp.ntp_time(now) >> 16 & 0xFFFF_FFFF
    block = rtcp.ReportBlock(1, 0, 0, 0, 0, last_sr, int(held * 65536))
    measured = rtcp.round_trip(block, now + delay + held)
    assert measured == pytest.approx(delay, abs=1e-3)


def test_no_round_trip_without_a_sender_report_nor_below_zero() -> None:
    block = rtcp.ReportBlock(1, 0, 0, 0, 0, 0, 0)
    assert rtcp.round_trip(block, 5.0) is None
    ahead = rtcp.ntp_time(6.0) >> 16 & 0xFFFF_FFFF
    assert rtcp.round_trip(block._replace(last_sr=ahead), 5.0) == 0


def test_a_call_between_two_of_us_measures_loss_and_round_trip() -> None:
    """Two ends, a third of the packets of one lost, reports each second with 30 ms on the way."""
    near, far = a_pair(), a_pair()
    playout = near[0]._playout
    playout.write(np.tile(tone(24_000, 24_000), 4))
    told: list[rtcp.ReportBlock] = []
    trips: list[float | None] = []
    sent = 0
    for step in range(200):
        now = 50 + step * 0.02
        for packet in near[0].tick(now):
            sent += 1
            if sent % 3:
                far[1].receive(packet, now + 0.03)
        far[0].tick(now)
        if step % 50 == 25:
            for fact in rtcp.parse(rtcp.build_report(*near, now=now, cname="near")):
                if isinstance(fact, rtcp.SenderReport):
                    far[1].on_sender_report(fact, now + 0.03)
            for fact in rtcp.parse(rtcp.build_report(*far, now=now + 0.1, cname="far")):
                if isinstance(fact, rtcp.ReportBlock):
                    told.append(fact)
                    trips.append(rtcp.round_trip(fact, now + 0.13))
    assert [block.fraction_lost for block in told] == [pytest.approx(1 / 3, abs=0.06)] * 4
    assert trips == [pytest.approx(0.06, abs=0.001)] * 4
