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
"""How long new packets may all be too late before their time line is taken for a new one, seconds."""

CAPACITY = 256
"""Packets held at most."""

# More media than time passes is let through at no more than this rate, after a burst of so many seconds. It bounds what
# a peer can cost, and tells a pause (whose length has passed) from a clock that was set to another time (it has not).
_BURST = 2.0
_RATE = 1.25


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
    arrived: float


class ReorderBuffer:
    """Packets of one source in, pieces of contiguous media time out. It has no clock: ``now`` is in seconds."""

    def __init__(self) -> None:
        self._held: dict[int, _Held] = {}  # by unwrapped RTP timestamp
        self._started = False
        self._position = 0  # timestamp behind the last piece that left
        self._sequence = 0  # sequence number behind the last packet that left
        self._newest = (0, 0)  # sequence number and timestamp of the newest packet seen
        self._arrived = 0.0  # when the last packet came
        self._idle_from: int | None = None  # position when the buffer ran empty after that
        self._late_since: float | None = None
        self._is_dtx = False  # the last packet that left announced silence
        self._credit = _BURST * CLOCK_RATE
        self._popped = 0.0

    def restart(self) -> None:
        """Another source follows: its first packet continues where the old one ended."""
        self._held.clear()
        self._started = False

    def push(self, sequence: int, timestamp: int, payload: bytes, samples: int, now: float) -> Verdict:
        """Take one packet of ``samples`` at ``CLOCK_RATE`` (more than 0)."""
        if not self._started:
            self._start(sequence, timestamp, now)
        newest_sequence, newest_timestamp = self._newest
        sequence = unwrap(sequence, newest_sequence, SEQUENCE_MODULUS)
        timestamp = unwrap(timestamp, newest_timestamp, TIMESTAMP_MODULUS)
        self._arrived = now
        self._idle_from = None
        is_new = sequence > newest_sequence or timestamp > newest_timestamp
        if is_new:
            if timestamp <= newest_timestamp:  # time never goes back in one stream: the sender's clock was set anew
                self._move(sequence, timestamp)
            self._newest = sequence, timestamp
        if timestamp + samples <= self._position:
            return self._late(sequence, timestamp, payload, samples, now) if is_new else Verdict.LATE
        self._late_since = None
        return self._hold(sequence, timestamp, payload, samples, now)

    def pop(self, now: float) -> list[Piece]:
        """Everything whose time has come."""
        pieces: list[Piece] = []
        if not self._started:
            return pieces
        self._credit = min(_BURST * CLOCK_RATE, self._credit + (now - self._popped) * _RATE * CLOCK_RATE)
        self._popped = now
        while self._held:
            timestamp = min(self._held)
            packet = self._held[timestamp]
            gap = timestamp - self._position
            if gap > 0:
                missing = packet.sequence > self._sequence
                if missing and now - min(held.arrived for held in self._held.values()) < REORDER_WAIT:
                    return pieces
                self._fill(gap, packet, missing, pieces)
            if packet.samples > self._credit:
                return pieces
            del self._held[timestamp]
            skip = self._position - timestamp
            self._emit(Piece(Kind.PACKET, packet.samples - skip, packet.payload, skip), pieces)
            self._sequence = packet.sequence + 1
            self._is_dtx = len(packet.payload) <= 2
        self._fill_stall(now, pieces)
        return pieces

    def _start(self, sequence: int, timestamp: int, now: float) -> None:
        self._started = True
        self._newest = sequence - 1, timestamp - 1
        self._popped = now
        self._move(sequence, timestamp)

    def _move(self, sequence: int, timestamp: int) -> None:
        """Go on at another timestamp: media time stays contiguous, only its relation to the sender's clock changes."""
        self._held.clear()
        self._position = timestamp
        self._sequence = sequence
        self._late_since = None

    def _late(self, sequence: int, timestamp: int, payload: bytes, samples: int, now: float) -> Verdict:
        # After a stall in the network the late packets come at once and the on-time ones right behind them. A sender
        # whose clock stood still (a replaced track) stays late for ever and must be followed.
        if self._late_since is None:
            self._late_since = now
        if now - self._late_since < LATE_WAIT:
            self._sequence = max(self._sequence, sequence + 1)  # it is not missing
            return Verdict.LATE
        self._move(sequence, timestamp)
        return self._hold(sequence, timestamp, payload, samples, now)

    def _hold(self, sequence: int, timestamp: int, payload: bytes, samples: int, now: float) -> Verdict:
        if timestamp in self._held:
            return Verdict.DUPLICATE
        if len(self._held) >= CAPACITY:
            return Verdict.OVERFLOW
        self._held[timestamp] = _Held(sequence, payload, samples, now)
        return Verdict.KEPT

    def _fill(self, gap: int, packet: _Held, missing: bool, pieces: list[Piece]) -> None:
        if gap > self._credit:  # so much time has not passed
            self._position += gap
        elif missing:
            recoverable = min(gap, packet.samples)
            if gap > recoverable:
                self._emit(Piece(Kind.LOST, gap - recoverable), pieces)
            self._emit(Piece(Kind.FEC, recoverable, packet.payload), pieces)
        else:
            self._emit(Piece(Kind.SILENCE, gap), pieces)

    def _fill_stall(self, now: float, pieces: list[Piece]) -> None:
        if self._idle_from is None:
            self._idle_from = self._position
        due = self._idle_from + int((now - self._arrived - STALL_WAIT) * CLOCK_RATE) - self._position
        due = min(due, int(self._credit)) // TICK_SAMPLES * TICK_SAMPLES
        if due > 0:
            self._emit(Piece(Kind.SILENCE if self._is_dtx else Kind.LOST, due), pieces)

    def _emit(self, piece: Piece, pieces: list[Piece]) -> None:
        pieces.append(piece)
        self._position += piece.samples
        self._credit -= piece.samples
