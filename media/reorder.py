"""The reorder buffer: what the peer said, back in order and on its own time line.

It is no playout buffer. Nobody listens on this side, so nothing is held back for smoothness and the drift between the
two clocks does not matter: a packet leaves as soon as those before it have left, and its place in time is its RTP
timestamp.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from media.rtp import CLOCK_RATE, SEQUENCE_MODULUS, TICK_SAMPLES, TIMESTAMP_MODULUS, unwrap

REORDER_WAIT = 0.060
"""How long a missing packet is waited for once a later one is here, seconds."""

STALL_WAIT = 0.100
"""How long nothing at all may arrive before time is filled, seconds. The filling stays so far behind the clock."""

LATE_WAIT = 0.200
LATE_PACKETS = 5
"""How long (seconds), and how many, new packets may all be too late before their time line is taken for a new one."""

CAPACITY = 256
"""Packets held at most."""

# Media may run ahead of time by two seconds at once and then a quarter faster than time. It bounds what a peer can
# cost, and tells a pause (whose length has passed) from a clock that was set to another time (it has not).
_BURST = 2 * CLOCK_RATE

_REORDER_WAIT = round(REORDER_WAIT * CLOCK_RATE)
_STALL_WAIT = round(STALL_WAIT * CLOCK_RATE)
_LATE_WAIT = round(LATE_WAIT * CLOCK_RATE)


class Kind(Enum):
    PACKET = "packet"  # decode the payload
    FEC = "fec"  # recover from the payload that follows
    LOST = "lost"  # no packet came: conceal
    SILENCE = "silence"  # the peer sent nothing because there was nothing to hear (DTX)


class Piece(NamedTuple):
    """A stretch of media time. Pieces follow each other without gap or overlap."""

    kind: Kind
    samples: int
    """Length at ``CLOCK_RATE``."""
    payload: bytes = b""
    skip: int = 0
    """Samples at ``CLOCK_RATE`` to drop from the front of a decoded payload: their time was filled before it came."""


class Verdict(Enum):
    """What became of a packet that was pushed."""

    KEPT = "kept"
    DUPLICATE = "duplicate"
    LATE = "late"
    OVERFLOW = "overflow"


class _Held(NamedTuple):
    sequence: int
    payload: bytes
    samples: int
    arrived: int


class ReorderBuffer:
    """Packets of one source in, pieces of contiguous media time out. It has no clock: ``now`` is in seconds.

    Inside, moments are counted in samples at ``CLOCK_RATE`` too, so that all comparisons are exact.
    """

    def __init__(self) -> None:
        self._held: dict[int, _Held] = {}  # by unwrapped RTP timestamp
        self._started = False
        self._position = 0  # timestamp behind the last piece that left
        self._sequence = 0  # sequence number behind the last packet that left
        self._is_dtx = False  # that packet announced silence
        self._newest = (0, 0)  # sequence number and timestamp of the newest packet seen
        self._arrived = 0  # when the last packet was taken
        self._idle_from: int | None = None  # position when the buffer ran empty after that
        self._late_count = 0  # packets too late since the last one in time
        self._late_since = 0  # when the first of them came
        self._credit = _BURST
        self._popped = 0

    def restart(self) -> None:
        """Another source follows: its first packet continues where the old one ended."""
        self._held.clear()
        self._started = False

    def push(self, sequence: int, timestamp: int, payload: bytes, samples: int, now: float) -> Verdict:
        """Take one packet of ``samples`` at ``CLOCK_RATE`` (more than 0)."""
        arrived = round(now * CLOCK_RATE)
        if not self._started:
            self._started = True
            self._newest = sequence - 1, timestamp - 1
            self._popped = arrived
            self._move(sequence, timestamp)
        newest_sequence, newest_timestamp = self._newest
        packet = _Held(unwrap(sequence, newest_sequence, SEQUENCE_MODULUS), payload, samples, arrived)
        timestamp = unwrap(timestamp, newest_timestamp, TIMESTAMP_MODULUS)
        is_new = packet.sequence > newest_sequence or timestamp > newest_timestamp
        if is_new:
            if timestamp <= newest_timestamp:  # time never goes back in one stream: the sender's clock was set anew
                self._move(packet.sequence, timestamp)
            self._newest = packet.sequence, timestamp
        if timestamp + samples > self._position:
            self._late_count = 0
        elif not is_new or self._is_merely_late(packet):
            return Verdict.LATE
        else:
            self._move(packet.sequence, timestamp)
        if timestamp in self._held:
            return Verdict.DUPLICATE
        if len(self._held) >= CAPACITY:
            return Verdict.OVERFLOW
        self._held[timestamp] = packet
        self._arrived = arrived  # only now: a straggler must not put off the filling of a stall
        self._idle_from = None
        return Verdict.KEPT

    def pop(self, now: float) -> list[Piece]:
        """Everything whose time has come."""
        pieces: list[Piece] = []
        if not self._started:
            return pieces
        moment = round(now * CLOCK_RATE)
        self._credit = min(_BURST, self._credit + (moment - self._popped) * 5 // 4)
        self._popped = moment
        while self._held:
            timestamp = min(self._held)
            packet = self._held[timestamp]
            gap = timestamp - self._position
            if gap > 0:
                is_missing = packet.sequence > self._sequence
                if is_missing and moment - min(held.arrived for held in self._held.values()) < _REORDER_WAIT:
                    return pieces
                self._fill(gap, packet, is_missing, pieces)
            if packet.samples > self._credit:
                return pieces
            del self._held[timestamp]
            skip = self._position - timestamp
            if skip < packet.samples:
                self._emit(Piece(Kind.PACKET, packet.samples - skip, packet.payload, skip), pieces)
            self._sequence = packet.sequence + 1
            self._is_dtx = len(packet.payload) <= 2
        self._fill_stall(moment, pieces)
        return pieces

    def _move(self, sequence: int, timestamp: int) -> None:
        """Go on at another timestamp: media time stays contiguous, only its relation to the sender's clock changes."""
        self._held.clear()
        self._position = timestamp
        self._sequence = sequence
        self._late_count = 0

    def _is_merely_late(self, packet: _Held) -> bool:
        """Whether a new packet whose time was filled is a straggler, not the sign of a clock that stood still.

        After a stall in the network the late packets come at once and the on-time ones right behind them. A sender
        whose clock stood still (a replaced track) stays late for ever and must be followed.
        """
        self._sequence = max(self._sequence, packet.sequence + 1)  # too late is not missing
        if not self._late_count:
            self._late_since = packet.arrived
        self._late_count += 1
        return self._late_count < LATE_PACKETS or packet.arrived - self._late_since < _LATE_WAIT

    def _fill(self, gap: int, packet: _Held, is_missing: bool, pieces: list[Piece]) -> None:
        """Fill the time before ``packet``."""
        if gap > self._credit:  # so much time has not passed
            self._position += gap
        elif is_missing:
            recoverable = min(gap, packet.samples)
            if gap > recoverable:
                self._emit(Piece(Kind.LOST, gap - recoverable), pieces)
            self._emit(Piece(Kind.FEC, recoverable, packet.payload), pieces)
        else:
            self._emit(Piece(Kind.SILENCE, gap), pieces)

    def _fill_stall(self, moment: int, pieces: list[Piece]) -> None:
        """Fill the time in which nothing came."""
        if self._idle_from is None:
            self._idle_from = self._position
        due = self._idle_from + moment - self._arrived - _STALL_WAIT - self._position
        due = min(due, self._credit) // TICK_SAMPLES * TICK_SAMPLES
        if due > 0:
            self._emit(Piece(Kind.SILENCE if self._is_dtx else Kind.LOST, due), pieces)

    def _emit(self, piece: Piece, pieces: list[Piece]) -> None:
        pieces.append(piece)
        self._position += piece.samples
        self._credit -= piece.samples
