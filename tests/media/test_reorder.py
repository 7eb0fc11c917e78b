"""The reorder buffer under loss, jitter, duplication, silence and clocks that jump, in virtual time."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.reorder import CAPACITY, REORDER_WAIT, STALL_WAIT, Kind, Piece, ReorderBuffer, Verdict

TICK = 0.020
MS = 48


@dataclass
class Sent:
    """One packet of the simulated sender; times in ms of its own clock."""

    index: int
    at: int
    ms: int
    sequence: int

    @property
    def payload(self) -> bytes:
        return self.index.to_bytes(4, "big")


@dataclass
class Line:
    """A receiver that ticks each 20 ms and notes when which piece left, and where in media time it lies."""

    sequence: int = 65_530
    timestamp: int = 0xFFFF_F000
    buffer: ReorderBuffer = field(default_factory=ReorderBuffer)
    pieces: list[tuple[float, int, Piece]] = field(default_factory=list)  # now, position in ms, piece
    now: float = 100.0
    position: int = 0

    def push(self, sent: Sent, shift_ms: int = 0) -> Verdict:
        sequence = (self.sequence + sent.sequence) & 0xFFFF
        timestamp = (self.timestamp + (sent.at + shift_ms) * MS) & 0xFFFF_FFFF
        return self.buffer.push(sequence, timestamp, sent.payload, sent.ms * MS, self.now)

    def tick(self) -> list[Piece]:
        pieces = self.buffer.pop(self.now)
        for piece in pieces:
            assert piece.samples > 0
            self.pieces.append((self.now, self.position // MS, piece))
            self.position += piece.samples
        return pieces

    def run(self, seconds: float) -> list[Piece]:
        """Let time pass."""
        pieces = []
        for _ in range(round(seconds / TICK)):
            self.now += TICK
            pieces += self.tick()
        return pieces

    def send(self, *indices: int, ms: int = 20) -> list[Piece]:
        """Packets of a contiguous stream, one each tick."""
        pieces = []
        for index in indices:
            self.now += TICK
            self.push(Sent(index, index * ms, ms, index))
            pieces += self.tick()
        return pieces

    @property
    def heard(self) -> list[int]:
        """Indices of the packets that left, in order."""
        return [int.from_bytes(piece.payload, "big") for _, _, piece in self.pieces if piece.kind is Kind.PACKET]

    @property
    def kinds(self) -> list[tuple[Kind, int]]:
        return [(piece.kind, piece.samples // MS) for _, _, piece in self.pieces]


@st.composite
def streams(draw: st.DrawFn) -> list[Sent]:
    """A sender that uses one packet length, with pauses (DTX) of any length in whole packets."""
    ms = draw(st.sampled_from([10, 20, 40, 60]))
    sent: list[Sent] = []
    at = 0
    for index, pause in enumerate(draw(st.lists(st.sampled_from([0] * 9 + [1, 3, 20]), min_size=1, max_size=60))):
        at += pause * ms if index else 0
        sent.append(Sent(index, at, ms, index))
        at += ms
    return sent


def play(line: Line, arrivals: list[tuple[float, Sent]], until: float) -> None:
    """Deliver packets at their times, in seconds from now, with ticks between."""
    start = line.now
    queue = sorted(arrivals, key=lambda arrival: arrival[0])
    while line.now < start + until:
        tick_at = line.now + TICK
        while queue and start + queue[0][0] <= tick_at:
            line.now = max(line.now, start + queue[0][0])
            line.push(queue.pop(0)[1])
        line.now = tick_at
        line.tick()


def check_time_line(line: Line, stream: list[Sent]) -> None:
    """Nothing is heard twice, and what is heard lies where its timestamp says."""
    assert len(line.heard) == len(set(line.heard))
    assert line.heard == sorted(line.heard)
    first = stream[line.heard[0]].at
    for _, position, piece in line.pieces:
        if piece.kind is Kind.PACKET:
            sent = stream[int.from_bytes(piece.payload, "big")]
            assert position == sent.at - first + piece.skip // MS
            assert piece.samples + piece.skip == sent.ms * MS


@given(streams(), st.data())
def test_jitter_below_the_wait_loses_nothing(stream: list[Sent], data: st.DataObject) -> None:
    line = Line()
    jitter = st.floats(0, REORDER_WAIT * 0.9)
    arrivals = [(0.0, stream[0])]  # the first packet anchors the time line
    arrivals += [((sent.at + sent.ms - stream[0].ms) / 1000 + data.draw(jitter), sent) for sent in stream[1:]]
    play(line, arrivals, stream[-1].at / 1000 + 0.2)
    assert line.heard == list(range(len(stream)))
    check_time_line(line, stream)


@given(streams(), st.data())
def test_loss_delay_and_duplicates_never_bend_time(stream: list[Sent], data: st.DataObject) -> None:
    line = Line()
    fates = data.draw(
        st.lists(st.sampled_from(["fine"] * 6 + ["lost", "late", "twice"]), min_size=len(stream), max_size=len(stream))
    )
    for index in range(3, len(fates)):
        if set(fates[index - 3 : index]) == {"late"}:
            fates[index] = "fine"  # a longer run is a line that has become slower, and is followed
    arrivals = [(0.0, stream[0])]
    for sent, fate in zip(stream[1:], fates[1:], strict=True):
        at = (sent.at + sent.ms) / 1000 + data.draw(st.floats(0, 0.03))
        if fate != "lost":
            arrivals.append((at + (data.draw(st.floats(0.06, 0.5)) if fate == "late" else 0), sent))
        if fate == "twice":
            arrivals.append((at + data.draw(st.floats(0, 0.3)), sent))
    length = stream[-1].at / 1000 + 1
    play(line, arrivals, length)
    check_time_line(line, stream)
    # Media time keeps up with the clock: behind by the stall wait and by how late a packet may be and still be taken.
    assert length * 1000 - 2 * STALL_WAIT * 1000 - 100 <= line.position / MS <= length * 1000 + 60


@given(
    st.lists(
        st.tuples(
            st.integers(0, 0xFFFF),
            st.integers(0, 0xFFFF_FFFF) | st.integers(0, 100_000),
            st.sampled_from([120, 960, 2880, 5760]),
            st.floats(0, 0.5),
        ),
        max_size=80,
    )
)
def test_nonsense_costs_no_more_than_time_allows(packets: list[tuple[int, int, int, float]]) -> None:
    buffer = ReorderBuffer()
    now = 50.0
    total = 0
    for index, (sequence, timestamp, samples, pause) in enumerate(packets):
        now += pause
        buffer.push(sequence, timestamp, index.to_bytes(4, "big"), samples, now)
        for piece in buffer.pop(now):
            assert piece.samples > 0
            if piece.kind is Kind.PACKET:
                assert 0 <= piece.skip < packets[int.from_bytes(piece.payload, "big")][2]
            total += piece.samples
        assert total <= (2.0 + 1.25 * (now - 50.0)) * 48_000 + 80


def test_a_missing_packet_is_waited_for_and_then_recovered() -> None:
    line = Line()
    line.send(0, 1)
    assert line.send(3) == []
    assert line.run(REORDER_WAIT - TICK) == []
    pieces = line.run(TICK)
    assert [piece.kind for piece in pieces] == [Kind.FEC, Kind.PACKET]
    assert pieces[0].payload == pieces[1].payload
    assert pieces[0].samples == 960


def test_the_wait_counts_from_the_first_packet_behind_the_gap() -> None:
    line = Line()
    line.send(0)
    line.send(3)
    line.run(0.04)
    line.send(2)  # 60 ms after the gap was noticed: 1 is given up at once
    assert line.heard == [0, 2, 3]


def test_only_the_packet_before_can_be_recovered() -> None:
    line = Line()
    line.send(0, 1, 5)
    line.run(0.1)
    assert line.kinds == [(Kind.PACKET, 20)] * 2 + [(Kind.LOST, 40), (Kind.FEC, 20), (Kind.PACKET, 20)]


def test_silence_is_no_loss_and_is_not_waited_for() -> None:
    line = Line()
    line.send(0, 1)
    line.push(Sent(2, 100, 20, 2))
    line.tick()
    assert line.kinds == [(Kind.PACKET, 20)] * 2 + [(Kind.SILENCE, 60), (Kind.PACKET, 20)]


@pytest.mark.parametrize(("payload", "kind"), [(b"\x08", Kind.SILENCE), (b"\x08\x01\x02", Kind.LOST)])
def test_a_stall_is_filled_100_ms_behind_the_clock(payload: bytes, kind: Kind) -> None:
    buffer = ReorderBuffer()
    buffer.push(1, 0, payload, 960, 10.0)
    assert buffer.pop(10.0) == [Piece(Kind.PACKET, 960, payload, 0)]
    filled = 0
    for tick in range(1, 51):
        now = 10.0 + tick * TICK
        for piece in buffer.pop(now):
            assert piece.kind is kind
            filled += piece.samples
        assert filled / 48_000 <= max(0.0, now - 10.0 - STALL_WAIT) + 1e-6
        assert filled / 48_000 >= now - 10.0 - STALL_WAIT - TICK - 1e-6


def test_after_a_stall_late_media_is_dropped_and_the_rest_lies_where_it_belongs() -> None:
    line = Line()
    stream = [Sent(index, index * 20, 20, index) for index in range(60)]
    line.send(*range(20))
    line.run(0.400)  # packets 20 to 39 are stuck in the network
    for index in range(20, 40):
        line.push(stream[index])
    line.tick()
    line.send(*range(40, 60))
    check_time_line(line, stream)
    assert line.heard == [*range(20), *range(35, 60)]  # 300 ms were filled before they came
    assert line.position == 60 * 960


def test_a_packet_half_of_whose_time_is_gone_is_cut() -> None:
    line = Line()
    line.send(0, ms=60)
    line.run(0.140)  # fills 40 ms
    line.push(Sent(1, 60, 60, 1))
    line.tick()
    assert line.kinds[1:] == [(Kind.LOST, 20)] * 2 + [(Kind.PACKET, 20)]
    assert line.pieces[-1][2].skip == 40 * MS


def test_duplicates_and_stragglers_are_told_apart() -> None:
    line = Line()
    line.send(0, 1)
    line.send(4)
    assert line.push(Sent(4, 80, 20, 4)) is Verdict.DUPLICATE
    assert line.push(Sent(1, 20, 20, 1)) is Verdict.LATE
    line.run(0.1)
    assert line.push(Sent(3, 60, 20, 3)) is Verdict.LATE
    line.run(0.02)
    assert line.heard == [0, 1, 4]


@pytest.mark.parametrize("shift_ms", [-3_600_000, -5000, -40, 10_000, 3_600_000, 40_000_000])
def test_a_clock_set_to_another_time_is_followed(shift_ms: int) -> None:
    line = Line()
    line.send(*range(10))
    for index in range(10, 20):
        line.now += TICK
        assert line.push(Sent(index, index * 20, 20, index), shift_ms) is Verdict.KEPT
        line.tick()
    assert line.heard == list(range(20))
    assert line.position == 20 * 960


def test_a_clock_that_stood_still_is_followed() -> None:
    """A track that is replaced or paused may leave the sender's timestamps behind for ever."""
    line = Line()
    line.send(*range(10))
    line.run(3)
    filled = line.position
    for index in range(10, 60):
        line.now += TICK
        line.push(Sent(index, index * 20, 20, index))  # as if no time had passed
        line.tick()
    assert line.heard[:10] == list(range(10))
    assert line.heard[10] <= 21
    assert line.heard[10:] == list(range(line.heard[10], 60))
    assert line.position == filled + 50 * 960  # media time went on all the while


def test_sequence_numbers_that_start_anew_lose_nothing() -> None:
    line = Line()
    line.send(*range(10))
    line.sequence += 30_000
    line.send(*range(10, 20))
    line.sequence -= 50_000
    line.send(*range(20, 30))
    line.send(31)
    line.run(0.1)
    assert line.heard == [*range(30), 31]
    assert Kind.FEC in [kind for kind, _ in line.kinds]  # loss is seen again


def test_another_source_goes_on_where_the_first_ended() -> None:
    line = Line()
    line.send(*range(5))
    line.buffer.restart()
    line.timestamp = line.sequence = 77
    line.send(5, 6, 7)
    assert line.heard == list(range(8))
    assert line.position == 8 * 960


def test_it_is_bounded() -> None:
    buffer = ReorderBuffer()
    verdicts = [buffer.push(index * 2, index * 1920, b"abc", 960, 1.0) for index in range(CAPACITY + 10)]
    assert verdicts.count(Verdict.KEPT) == CAPACITY
    assert verdicts.count(Verdict.OVERFLOW) == 10


def test_a_loop_that_was_blocked_gets_everything_that_came_meanwhile() -> None:
    line = Line()
    line.send(*range(5))
    line.now += 1.5
    for index in range(5, 80):
        line.push(Sent(index, index * 20, 20, index))
    line.tick()
    assert line.heard == list(range(80))


def test_nothing_is_heard_before_the_first_packet() -> None:
    assert ReorderBuffer().pop(1e6) == []
