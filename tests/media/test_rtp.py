"""RTP parsing against aiortc's as the oracle, and arithmetic that wraps."""

from __future__ import annotations

import struct

import pytest
from aiortc.rtp import RtpPacket
from hypothesis import given
from hypothesis import strategies as st

from media import rtp

PAYLOADS = st.binary(max_size=200)


@given(st.integers(0, 127), st.booleans(), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF), PAYLOADS)
def test_what_is_built_is_read_back(pt: int, marker: bool, sequence: int, timestamp: int, payload: bytes) -> None:
    packet = rtp.Packet(pt, marker, sequence, timestamp, 0xDEADBEEF, payload)
    assert rtp.parse(rtp.build(packet)) == packet


def test_numbers_are_cut_to_their_width() -> None:
    built = rtp.build(rtp.Packet(111, True, 0x1_0005, 0x3_0000_0007, 1, b"x"))
    assert rtp.parse(built) == rtp.Packet(111, True, 5, 7, 1, b"x")


@given(
    st.lists(st.integers(0, 0xFFFFFFFF), max_size=15),
    st.none() | st.tuples(st.integers(0, 0xFFFF), st.integers(0, 8)),
    st.integers(0, 255),
    PAYLOADS,
)
def test_extras_are_skipped(csrcs: list[int], extension: tuple[int, int] | None, padding: int, payload: bytes) -> None:
    first = 0x80 | len(csrcs) | (0x10 if extension else 0) | (0x20 if padding else 0)
    data = struct.pack("!BBHII", first, 0x80 | 111, 7, 9, 11) + struct.pack(f"!{len(csrcs)}I", *csrcs)
    if extension:
        profile, words = extension
        data += struct.pack("!HH", profile, words) + bytes(words * 4)
    data += payload
    if padding:
        data += bytes(padding - 1) + bytes((padding,))
    assert rtp.parse(data) == rtp.Packet(111, True, 7, 9, 11, payload)


def aiortc_parse(data: bytes) -> RtpPacket | str:
    try:
        return RtpPacket.parse(data)
    except ValueError as error:
        return str(error)


@given(st.binary(max_size=80), st.booleans())
def test_garbage_is_refused_exactly_where_aiortc_refuses_it(data: bytes, is_version_2: bool) -> None:
    if is_version_2 and data:
        data = bytes((data[0] & 0x3F | 0x80,)) + data[1:]
    parsed = rtp.parse(data)
    expected = aiortc_parse(data)
    if isinstance(expected, RtpPacket):
        assert parsed is not None
        assert parsed.payload == expected.payload
        assert parsed.sequence == expected.sequence_number
        assert (parsed.timestamp, parsed.ssrc) == (expected.timestamp, expected.ssrc)
    else:
        # aiortc looks into RFC 8285 elements and refuses broken ones; we skip them unread.
        assert parsed is None or "header extension" in expected


@given(st.integers(-(1 << 40), 1 << 40), st.integers(-(1 << 31), (1 << 31) - 1))
def test_unwrap_finds_the_nearest(near: int, distance: int) -> None:
    assert rtp.unwrap((near + distance) % (1 << 32), near, 1 << 32) == near + distance


@pytest.mark.parametrize(
    ("value", "near", "expected"), [(1, 65535, 65537), (65535, 65537, 65535), (0, 0, 0), (65535, 0, -1)]
)
def test_unwrap_sequence_numbers(value: int, near: int, expected: int) -> None:
    assert rtp.unwrap(value, near, rtp.SEQUENCE_MODULUS) == expected


@pytest.mark.parametrize(("second", "expected"), [(200, True), (201, True), (223, True), (111, False), (0xEF, False)])
def test_rtcp_is_told_from_rtp(second: int, expected: bool) -> None:
    assert rtp.is_rtcp(bytes((0x80, second, 0, 0))) is expected
    assert not rtp.is_rtcp(b"\x80")
