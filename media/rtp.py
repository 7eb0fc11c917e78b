"""RTP packets (RFC 3550 section 5.1): parsing, building, and numbers that wrap."""

from __future__ import annotations

import struct
from typing import NamedTuple

CLOCK_RATE = 48_000
"""RTP clock of Opus, Hz, whatever the sampling rate of the codec (RFC 7587 section 4.1)."""

TICK_SAMPLES = CLOCK_RATE // 50
"""20 ms in units of the RTP clock."""

SEQUENCE_MODULUS = 1 << 16
TIMESTAMP_MODULUS = 1 << 32

_HEADER = struct.Struct("!BBHII")
_VERSION_2 = 0x80


class Packet(NamedTuple):
    """One RTP packet. CSRCs, extensions and padding are skipped when it is read and never written."""

    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes


def is_rtcp(data: bytes) -> bool:
    """Tell RTCP from RTP on one port (RFC 5761 section 4): packet types 192 to 223."""
    return len(data) >= 2 and 192 <= data[1] <= 223


def parse(data: bytes) -> Packet | None:
    """Read one packet; ``None`` when it is malformed. Never raises."""
    size = len(data)
    if size < _HEADER.size:
        return None
    first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(data)
    start, end = _HEADER.size, size
    if first != _VERSION_2:  # the common header has no extras
        if first >> 6 != 2:
            return None
        start += (first & 0x0F) * 4
        if first & 0x10:  # an extension of any kind: a profile and a length in words (section 5.3.1, RFC 8285)
            if start + 4 > size:
                return None
            start += 4 + int.from_bytes(data[start + 2 : start + 4], "big") * 4
        if first & 0x20:  # padding: its last byte counts it, itself included
            if not data[-1]:
                return None
            end -= data[-1]
        if start > end:
            return None
    return Packet(second & 0x7F, second >= 0x80, sequence, timestamp, ssrc, data[start:end])


def build(packet: Packet) -> bytes:
    """The bytes of a packet. ``sequence`` and ``timestamp`` may be unwrapped: they are cut to their width."""
    payload_type, marker, sequence, timestamp, ssrc, payload = packet
    second = payload_type | 0x80 if marker else payload_type
    return _HEADER.pack(_VERSION_2, second, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc) + payload


def unwrap(value: int, near: int, modulus: int) -> int:
    """The integer congruent to ``value`` that lies nearest to ``near``, so that numbers which wrap can be compared."""
    half = modulus >> 1
    return near + (value - near + half) % modulus - half
