"""What a receiver reports about a source: RFC 3550 section 6.4.1, computed as in its appendices A.1, A.3 and A.8."""

from __future__ import annotations

from media.rtcp import ReportBlock, SenderReport
from media.rtp import CLOCK_RATE, SEQUENCE_MODULUS, unwrap


class Reception:
    """Statistics of one source. Packets are authenticated, so the first one counts without probation."""

    def __init__(self, ssrc: int, sequence: int) -> None:
        self.ssrc = ssrc
        self.received = 0
        """Packets, duplicates included."""
        self.jitter = 0.0
        """Interarrival jitter, units of ``CLOCK_RATE``."""
        self._first = self._highest = sequence
        self._transit: int | None = None
        self._expected_before = self._received_before = 0
        self._last_sr = 0
        self._last_sr_at = 0.0

    @property
    def expected(self) -> int:
        """Packets that the sequence numbers promise."""
        return self._highest - self._first + 1

    @property
    def lost(self) -> int:
        """Packets that never came; duplicates can make it negative."""
        return self.expected - self.received

    def add(self, sequence: int, timestamp: int, now: float) -> None:
        """Count one packet that came at ``now``, seconds."""
        self.received += 1
        self._highest = max(self._highest, unwrap(sequence, self._highest, SEQUENCE_MODULUS))
        transit = int(now * CLOCK_RATE) - timestamp
        if self._transit is not None:
            # Modulo 2^32, as the timestamp wraps.
            delta = abs(unwrap(transit - self._transit, 0, 1 << 32))
            self.jitter += (delta - self.jitter) / 16
        self._transit = transit

    def on_sender_report(self, report: SenderReport, now: float) -> None:
        """Keep what the next block tells back, so that the peer can compute the round trip."""
        if report.ssrc == self.ssrc:
            self._last_sr = report.ntp >> 16 & 0xFFFFFFFF
            self._last_sr_at = now

    def block(self, now: float) -> ReportBlock:
        """The block for the report that leaves now; its ``fraction_lost`` covers the time since the last call."""
        expected = self.expected - self._expected_before
        received = self.received - self._received_before
        self._expected_before, self._received_before = self.expected, self.received
        return ReportBlock(
            ssrc=self.ssrc,
            fraction_lost=max(0, expected - received) / expected if expected > 0 else 0.0,
            cumulative_lost=self.lost,
            highest_sequence=self._highest & 0xFFFFFFFF,
            jitter=int(self.jitter),
            last_sr=self._last_sr,
            delay_since_last_sr=int((now - self._last_sr_at) * 65536) & 0xFFFFFFFF if self._last_sr else 0,
        )
