"""RTCP: the reports that both sides send each second (RFC 3550 section 6)."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from typing import NamedTuple, Protocol

_SENDER_REPORT, _RECEIVER_REPORT, _SDES, _BYE = 200, 201, 202, 203
_CNAME = 1
_HEADER = struct.Struct("!BBH")
_SENDER_INFO = struct.Struct("!IQIII")
_BLOCK = struct.Struct("!IIIIII")

# Loop time to NTP time. RFC 3550 section 4 wants one steady clock behind all reports, hence no second look at the wall.
_NTP_OFFSET = time.time() - time.monotonic() + 2_208_988_800


class ReportBlock(NamedTuple):
    """How well one source is received."""

    ssrc: int
    fraction_lost: float
    """Share of the packets lost since the previous report, 0 to 1."""
    cumulative_lost: int
    highest_sequence: int
    jitter: int
    """Interarrival jitter in units of the RTP clock."""
    last_sr: int
    """Middle 32 bits of the NTP time of the last sender report; 0 when none came."""
    delay_since_last_sr: int
    """Units of 1/65536 s."""


class SenderReport(NamedTuple):
    """What a source says it has sent."""

    ssrc: int
    ntp: int
    """NTP time of the report, 32.32 bits."""
    rtp_timestamp: int
    packet_count: int
    octet_count: int


class Source(Protocol):
    """What a sender report tells of its sender."""

    @property
    def ssrc(self) -> int: ...

    @property
    def packet_count(self) -> int: ...

    @property
    def octet_count(self) -> int:
        """Payload bytes."""

    def rtp_timestamp(self, now: float) -> int:
        """The RTP time of ``now``, unwrapped."""


class Listener(Protocol):
    """What a report tells of its receiver."""

    def report_block(self, now: float) -> ReportBlock | None:
        """``None`` before the first packet. Begins a new interval."""


class Bye(NamedTuple):
    """Sources that end."""

    ssrcs: tuple[int, ...]


def ntp_time(now: float) -> int:
    """The NTP time, 32.32 bits, of a moment on the event loop's clock, seconds."""
    return int((now + _NTP_OFFSET) * (1 << 32)) & 0xFFFFFFFFFFFFFFFF


def round_trip(block: ReportBlock, now: float) -> float | None:
    """Round trip in seconds that a block about us tells at its arrival (RFC 3550 section 6.4.1)."""
    if not block.last_sr:
        return None
    delta = ((ntp_time(now) >> 16) - block.last_sr - block.delay_since_last_sr) & 0xFFFFFFFF
    return delta / 65536 if delta < 1 << 31 else 0.0


def build_report(sender: Source, receiver: Listener, *, now: float, cname: str) -> bytes:
    """A compound packet: sender report (receiver report before the first packet) and the description of the source.

    ``cname``: 1 to 255 bytes of UTF-8, the same in all reports and in the SDP.
    """
    block = receiver.report_block(now)
    blocks = _pack_block(block) if block else b""
    count = 1 if block else 0
    if sender.packet_count:
        info = _SENDER_INFO.pack(
            sender.ssrc,
            ntp_time(now),
            sender.rtp_timestamp(now) & 0xFFFFFFFF,
            sender.packet_count & 0xFFFFFFFF,
            sender.octet_count & 0xFFFFFFFF,
        )
        report = _packet(_SENDER_REPORT, count, info + blocks)
    else:
        report = _packet(_RECEIVER_REPORT, count, struct.pack("!I", sender.ssrc) + blocks)
    name = cname.encode()
    chunk = struct.pack("!IBB", sender.ssrc, _CNAME, len(name)) + name
    # A chunk ends with at least one zero and is filled to whole words (section 6.5).
    return report + _packet(_SDES, 1, chunk + bytes(4 - len(chunk) % 4))


def parse(data: bytes) -> list[ReportBlock | SenderReport | Bye]:
    """What a compound packet tells. Unknown and malformed parts are left out; never raises."""
    facts: list[ReportBlock | SenderReport | Bye] = []
    for kind, count, body in _packets(data):
        start = 4
        if kind == _SENDER_REPORT and len(body) >= _SENDER_INFO.size:
            facts.append(SenderReport(*_SENDER_INFO.unpack_from(body)))
            start = _SENDER_INFO.size
        elif kind == _BYE:
            facts.append(Bye(struct.unpack_from(f"!{min(count, len(body) // 4)}I", body)))
            continue
        elif kind != _RECEIVER_REPORT:
            continue
        whole = min(count, (len(body) - start) // _BLOCK.size)
        facts += [_unpack_block(body, start + index * _BLOCK.size) for index in range(whole)]
    return facts


def _packets(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, count and body of each packet in a compound one (RFC 3550 section 6.1)."""
    position = 0
    while position + 4 <= len(data):
        first, kind, words = _HEADER.unpack_from(data, position)
        end = position + 4 + words * 4
        if first >> 6 != 2 or end > len(data):
            return
        body = data[position + 4 : end]
        if first & 0x20 and body:
            body = body[: max(0, len(body) - body[-1])]
        yield kind, first & 0x1F, body
        position = end


def _packet(kind: int, count: int, body: bytes) -> bytes:
    return _HEADER.pack(0x80 | count, kind, len(body) // 4) + body


def _pack_block(block: ReportBlock) -> bytes:
    lost = max(-0x800000, min(0x7FFFFF, block.cumulative_lost)) & 0xFFFFFF
    fraction = min(255, int(block.fraction_lost * 256))
    return _BLOCK.pack(block.ssrc, fraction << 24 | lost, *block[3:])


def _unpack_block(body: bytes, start: int) -> ReportBlock:
    ssrc, loss, *rest = _BLOCK.unpack_from(body, start)
    lost = loss & 0xFFFFFF
    return ReportBlock(ssrc, (loss >> 24) / 256, lost - 0x1000000 if lost & 0x800000 else lost, *rest)
