"""What one synthetic call brought, and the check of the packets that it heard."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from media import rtp

LATE = 0.010
"""A packet that came later than this after its deadline is late, s."""

GAP = 0.060
"""One that came later than this, or never, was missed by a listener whose buffer is that of a browser at rest, s."""

BUCKETS = 250
"""Buckets of 1 ms of lateness; the last one holds the rest too."""

_NUMBERS = struct.Struct("!HI")  # sequence and timestamp, from byte 2 on


@dataclass(slots=True)
class CallReport:
    """What one call brought. Times in seconds; moments are of ``time.time()``. It can be pickled."""

    connect_seconds: float | None = None
    """From the offer's leaving until audio and DataChannel were open."""
    answer_seconds: float | None = None
    """Of these, until the answer to the offer was here."""
    first_audio_seconds: float | None = None
    """From the offer's leaving until the first packet of the bot's voice."""
    sent: int = 0
    received: int = 0
    lost: int = 0
    late: int = 0
    """Packets more than ``LATE`` behind the pace of their talk spurt."""
    gaps: int = 0
    """Times that nothing came for longer than ``GAP``, or a packet was lost, inside a talk spurt."""
    lateness: list[int] = field(default_factory=lambda: [0] * (BUCKETS + 1))
    """Packets by lateness, ms."""
    forged: int = 0
    """SRTP and SRTCP that could not be decrypted."""
    events: int = 0
    questions: int = 0
    answers: int = 0
    response_seconds: list[float] = field(default_factory=list)
    """From the end of each question until the bot's voice."""
    error: str = ""


class Ear:
    """Checks the numbers of the packets of one source against time: sequence, timestamps, pace."""

    def __init__(self, report: CallReport) -> None:
        self._report = report
        self._highest: int | None = None  # unwrapped sequence number
        self._first = 0
        self._timestamp = 0  # unwrapped, of that packet
        self._base = 0.0  # what turns a timestamp of this spurt into its deadline

    def hear(self, plain: bytes, at: float) -> bool:
        """One decrypted packet that came at ``at``; tells whether a talk spurt began with it."""
        report = self._report
        report.received += 1
        sequence, timestamp = _NUMBERS.unpack_from(plain, 2)
        highest = self._highest
        if highest is None:
            self._highest, self._first, self._timestamp = sequence, sequence, timestamp
            self._base = at - timestamp / rtp.CLOCK_RATE
            return plain[1] >= 0x80
        step = (sequence - highest + 0x8000) % 0x10000 - 0x8000
        if step <= 0:  # out of order or a copy: it fills no place of its own in the pace
            return False
        passed = (timestamp - self._timestamp + (1 << 31)) % (1 << 32) - (1 << 31)
        self._highest = highest + step
        self._timestamp += passed
        report.lost = self._highest - self._first + 1 - report.received
        begins = plain[1] >= 0x80
        transit = at - self._timestamp / rtp.CLOCK_RATE
        if begins or passed != step * rtp.TICK_SAMPLES:
            self._base = transit
            return begins
        self._base = min(transit, self._base + 2e-6)  # 100 ppm: the other side's crystal
        late = transit - self._base
        report.lateness[min(BUCKETS, int(late * 1000))] += 1
        if late > LATE:
            report.late += 1
        if late > GAP or step > 1:
            report.gaps += 1
            self._base = transit  # a listener's buffer has grown by as much: what follows is in time for it
        return False
