"""How well the packets of a call travel, as a value: for events, metrics and logs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quality:
    """Since the call began, unless it says otherwise. Times in seconds, shares 0 to 1.

    What concerns our own packets is known from the peer's last report, and ``None`` before the first (RFC 3550
    section 6.4.1).
    """

    received: int = 0
    """RTP packets of the peer, duplicates included."""
    lost: int = 0
    """RTP packets of the peer that never came."""
    late: int = 0
    """RTP packets of the peer that came after their time had been filled."""
    jitter: float = 0.0
    """Interarrival jitter of the peer's packets, now."""
    recovered: float = 0.0
    """Media time of lost packets that FEC brought back."""
    concealed: float = 0.0
    """Media time that had to be invented; the silence of a peer that uses DTX is not."""
    sent: int = 0
    far_loss: float | None = None
    """Share of our packets that the peer lost between its last two reports."""
    far_lost: int | None = None
    """Our packets that never reached the peer."""
    far_jitter: float | None = None
    """Interarrival jitter of our packets at the peer."""
    round_trip: float | None = None

    @property
    def loss(self) -> float:
        """Share of the peer's packets that never came."""
        return self.lost / (self.received + self.lost) if self.received + self.lost else 0.0
