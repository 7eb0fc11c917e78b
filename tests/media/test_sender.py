"""The sender in virtual time: pacing, the DTX pattern, timestamps, and what the far end hears of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media import opus, rtp
from media.audio import OUTPUT_FRAME
from media.playout import Playout
from media.receiver import Receiver
from media.sender import Sender, encode_ahead
from media.vad import WebRtcVad
from tests.media.signals import likeness, speech, tone

TICK = 0.020


class Mouth:
    """A sender and what it sent: the moment of each packet and the packet, numbers unwrapped."""

    def __init__(self) -> None:
        self.playout = Playout()
        self.sender = Sender(self.playout, payload_type=111, ssrc=42)
        self.now = 10.0
        self.sent: list[tuple[float, rtp.Packet]] = []

    def tick(self, now: float | None = None) -> list[rtp.Packet]:
        self.now = self.now if now is None else now
        parsed = []
        for data in self.sender.tick(self.now):
            packet = rtp.parse(data)
            assert packet is not None
            assert (packet.payload_type, packet.ssrc) == (111, 42)
            if self.sent:
                last = self.sent[-1][1]
                packet = packet._replace(
                    sequence=rtp.unwrap(packet.sequence, last.sequence, rtp.SEQUENCE_MODULUS),
                    timestamp=rtp.unwrap(packet.timestamp, last.timestamp, rtp.TIMESTAMP_MODULUS),
                )
                assert packet.sequence == last.sequence + 1
                assert packet.timestamp >= last.timestamp + 960
            self.sent.append((self.now, packet))
            parsed.append(packet)
        return parsed

    def run(self, seconds: float) -> list[rtp.Packet]:
        packets = []
        for _ in range(round(seconds / TICK)):
            packets += self.tick()
            self.now += TICK
        return packets

    def say(self, frames: int) -> None:
        self.playout.write(tone(frames * OUTPUT_FRAME, 24_000))


def is_dtx(packet: rtp.Packet) -> bool:
    return len(packet.payload) == 1


def test_from_connection_on_three_silent_frames_then_a_byte_each_400_ms() -> None:
    mouth = Mouth()
    packets = mouth.run(2)
    assert [is_dtx(packet) for packet in packets] == [False] * 3 + [True] * 5
    assert [round(at - 10, 3) for at, _ in mouth.sent] == [0, 0.02, 0.04, 0.06, 0.46, 0.86, 1.26, 1.66]
    assert [packet.timestamp - packets[0].timestamp for packet in packets] == [
        round((at - 10) * 48_000) for at, _ in mouth.sent
    ]
    assert not any(packet.marker for packet in packets)
    assert {opus.duration(packet.payload) for packet in packets} == {960}
    assert mouth.playout.played == 0


def test_a_spurt_begins_at_once_with_a_marker_and_ends_with_the_pattern() -> None:
    mouth = Mouth()
    mouth.run(0.7)
    mouth.sent.clear()
    mouth.say(50)
    packets = mouth.run(2)
    assert mouth.sent[0][0] == pytest.approx(10.7)
    assert [packet.marker for packet in packets] == [True] + [False] * (len(packets) - 1)
    assert [is_dtx(packet) for packet in packets] == [False] * 53 + [True] * 3
    steps = np.diff([packet.timestamp for packet in packets])
    assert set(steps[:53]) == {960}
    assert set(steps[53:]) == {19_200}
    assert mouth.playout.played == 50 * OUTPUT_FRAME


def test_speech_that_goes_on_within_the_trailing_silence_is_the_same_spurt() -> None:
    mouth = Mouth()
    mouth.run(1)
    mouth.say(10)
    mouth.run(0.24)  # ten frames and two of silence
    mouth.say(5)
    packets = mouth.run(0.1)
    assert [packet.marker for packet in packets] == [False] * 5
    assert set(np.diff([packet.timestamp for _, packet in mouth.sent[-17:]])) == {960}


def test_the_first_words_get_a_marker_even_within_the_first_silence() -> None:
    mouth = Mouth()
    mouth.run(0.04)
    mouth.say(3)
    assert [packet.marker for packet in mouth.run(0.06)] == [True, False, False]


def test_the_next_spurt_is_anchored_to_wall_time_after_a_slip() -> None:
    mouth = Mouth()
    mouth.run(1)
    first = mouth.sent[0]
    mouth.say(20)
    mouth.run(0.2)
    mouth.now += 0.5  # the loop was blocked
    before = mouth.sent[-1][1]
    packets = mouth.tick()
    assert len(packets) == 1  # slipped, no burst
    assert packets[0].timestamp == before.timestamp + 960  # contiguous within the spurt
    mouth.run(1)
    mouth.say(5)
    mouth.run(0.1)
    at, packet = next((at, packet) for at, packet in reversed(mouth.sent) if packet.marker)
    assert packet.timestamp - first[1].timestamp == round((at - first[0]) * 48_000)


@pytest.mark.parametrize(("late_ms", "expected"), [(0, 1), (5, 1), (20, 2), (40, 3), (60, 3), (75, 1), (500, 1)])
def test_what_is_due_after_a_late_tick(late_ms: int, expected: int) -> None:
    mouth = Mouth()
    mouth.say(100)
    for _ in range(10):
        mouth.tick()
        mouth.now += TICK
    mouth.now += late_ms / 1000
    played = mouth.playout.played
    assert len(mouth.tick()) == expected
    assert mouth.playout.played == played + expected * OUTPUT_FRAME
    mouth.run(1)
    length = mouth.now - 10.0
    if late_ms <= 60:  # caught up with: nothing is missing
        assert len(mouth.sent) == round(length / TICK)
    else:
        assert len(mouth.sent) == pytest.approx((length - late_ms / 1000) / TICK, abs=1)


@settings(deadline=None)
@given(st.lists(st.floats(0, 0.009), min_size=50, max_size=200))
def test_ticks_that_tremble_send_one_packet_each(lateness: list[float]) -> None:
    mouth = Mouth()
    mouth.say(300)
    for index, late in enumerate(lateness):
        assert len(mouth.tick(10 + index * TICK + late)) == 1


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.floats(0, 0.1), st.sampled_from([0, 0, 0, 100, 480, 2000]), st.booleans()), max_size=120),
)
def test_any_clock_and_any_writing(steps: list[tuple[float, int, bool]]) -> None:
    mouth = Mouth()
    for pause, samples, clears in steps:
        mouth.now += pause
        mouth.playout.write(np.ones(samples, np.int16))
        if clears:
            mouth.playout.clear()
        before, pending = mouth.playout.played, mouth.playout.pending
        packets = mouth.tick()  # checks that sequence and time go on
        assert len(packets) <= 3
        assert mouth.playout.played - before <= min(pending, len(packets) * OUTPUT_FRAME)
        if pending and not packets:
            assert mouth.now - mouth.sent[-1][0] < TICK
    assert len(mouth.sent) <= (mouth.now - 10) / TICK + 4


def test_an_interruption_ends_the_sound_with_the_next_packet() -> None:
    mouth = Mouth()
    mouth.say(100)
    mouth.run(0.2)
    played = mouth.playout.clear()
    packets = mouth.run(1)
    assert mouth.playout.played == played
    assert [is_dtx(packet) for packet in packets[:4]] == [False, False, False, True]


def test_the_far_end_hears_every_word_and_nothing_else() -> None:
    voice = speech(rate=24_000)
    mouth = Mouth()
    ear = Receiver(payload_type=111, vad=WebRtcVad())
    frames = []
    for step in range(400):
        if step == 60:
            mouth.playout.write(voice)
        for data in mouth.sender.tick(mouth.now):
            ear.receive(data, mouth.now + 0.01)
        mouth.now += TICK
        frames += ear.tick(mouth.now)
    assert ear.stats.concealed_ms == ear.stats.late == 0
    assert mouth.playout.played == len(voice)
    spoken = np.concatenate([frame.pcm for frame in frames[60:]])
    assert likeness(spoken, speech(), search=2000) > 0.8
    quiet = frames[5:60] + frames[60 + len(voice) // OUTPUT_FRAME + 8 :]
    assert max(frame.level for frame in quiet) < -50
    assert not any(frame.is_speech for frame in quiet)
    assert len(frames) == pytest.approx(400, abs=6)


def test_reported_loss_brings_redundancy_and_quiet_reports_take_it_away() -> None:
    mouth = Mouth()
    mouth.playout.write(np.tile(speech(rate=24_000), 6))

    def redundancy(seconds: float) -> float:
        packets = mouth.run(seconds)
        return sum(opus.has_fec(packet.payload) for packet in packets) / len(packets)

    mouth.sender.on_receiver_report(0.0)
    assert redundancy(3) == 0
    mouth.sender.on_receiver_report(0.02)
    assert redundancy(3) > 0.5
    for _ in range(20):
        mouth.sender.on_receiver_report(0.0)
    assert redundancy(3) < 0.05


def test_counters_and_the_time_of_the_sender_report() -> None:
    mouth = Mouth()
    assert mouth.sender.packet_count == mouth.sender.octet_count == 0
    mouth.say(10)
    packets = mouth.run(0.5)
    assert mouth.sender.packet_count == len(packets)
    assert mouth.sender.octet_count == sum(len(packet.payload) for packet in packets)
    at, last = mouth.sent[-1]
    assert mouth.sender.rtp_timestamp(at + 0.25) % (1 << 32) == pytest.approx(
        last.timestamp % (1 << 32) + 12_000, abs=1
    )


def test_what_was_encoded_ahead_is_sent_as_it_is_and_heard() -> None:
    mouth, pcm = Mouth(), speech(rate=24_000)
    ahead = encode_ahead(pcm)
    mouth.playout.write(ahead)
    packets = mouth.run(len(pcm) / 24_000)
    sent = [packet.payload for packet in packets if not is_dtx(packet)]
    first = sent.index(ahead.payloads[0])
    assert sent[first : first + len(ahead.payloads)] == ahead.payloads[: len(sent) - first]
    assert [packet.timestamp - packets[0].timestamp for packet in packets[:100]] == list(range(0, 96_000, 960))
    decoder = opus.Decoder()
    heard = np.concatenate([decoder.decode(payload) for payload in sent[first:]])
    assert likeness(heard, speech()[: len(heard)]) > 0.8


def test_a_peer_that_loses_packets_gets_redundancy_instead_of_what_was_encoded_ahead() -> None:
    mouth, ahead = Mouth(), encode_ahead(speech(rate=24_000))
    mouth.playout.write(ahead)
    mouth.run(0.2)
    mouth.sender.on_receiver_report(0.2)
    during = [packet.payload for packet in mouth.run(0.4)]
    assert not set(during) & set(ahead.payloads)
    assert any(opus.has_fec(payload) for payload in during)
    for _ in range(20):
        mouth.sender.on_receiver_report(0.0)
    assert set(ahead.payloads) >= {packet.payload for packet in mouth.run(0.2)}


def test_a_pause_sends_the_silence_pattern_and_then_goes_on_at_the_same_place() -> None:
    mouth = Mouth()
    mouth.run(1)
    mouth.say(100)
    mouth.run(0.4)
    mouth.playout.pause()
    mouth.sent.clear()
    packets = mouth.run(1.5)
    fading, silence, pattern = packets[0], packets[1:4], packets[4:]
    assert mouth.playout.played == 21 * OUTPUT_FRAME  # one frame to fall silent in
    assert not any(is_dtx(packet) for packet in (fading, *silence))
    assert [is_dtx(packet) for packet in pattern] == [True] * 4
    assert set(np.diff([at for at, _ in mouth.sent[4:]]).round(3)) == {0.4}
    assert not any(packet.marker for packet in packets)
    mouth.playout.resume()
    mouth.sent.clear()
    packets = mouth.run(79 * TICK)
    assert [packet.marker for packet in packets] == [True] + [False] * 78  # a spurt, which begins at once
    assert set(np.diff([packet.timestamp for packet in packets])) == {960}
    assert mouth.playout.played == 100 * OUTPUT_FRAME
    assert mouth.playout.pending == 0


def test_a_pause_before_anything_is_said_loses_nothing() -> None:
    mouth = Mouth()
    mouth.run(1)
    mouth.playout.pause()
    mouth.say(10)
    assert all(is_dtx(packet) for packet in mouth.run(1))
    assert mouth.playout.played == 0
    mouth.playout.resume()
    packets = mouth.run(0.2)
    assert len(packets) == 10
    assert packets[0].marker
    assert mouth.playout.played == 10 * OUTPUT_FRAME


def test_a_lowered_voice_is_the_same_spurt() -> None:
    mouth = Mouth()
    mouth.run(1)
    mouth.say(30)
    mouth.run(0.2)
    mouth.playout.duck()
    low = mouth.run(0.2)
    mouth.playout.resume()
    packets = [*low, *mouth.run(0.2)]
    assert not any(packet.marker for packet in packets)
    assert set(np.diff([packet.timestamp for packet in packets])) == {960}
    assert mouth.playout.played == 30 * OUTPUT_FRAME


def test_the_far_end_hears_a_lowered_voice_14_db_softer_and_a_pause_as_silence() -> None:
    mouth = Mouth()
    ear = Receiver(payload_type=111, vad=WebRtcVad())
    levels = []
    mouth.say(150)
    for step in range(150):
        match step:
            case 50:
                mouth.playout.duck()
            case 100:
                mouth.playout.pause()
        for data in mouth.sender.tick(mouth.now):
            ear.receive(data, mouth.now + 0.01)
        mouth.now += TICK
        levels += [frame.level for frame in ear.tick(mouth.now)]
    full, low, silent = np.median(levels[20:45]), np.median(levels[65:95]), np.median(levels[115:145])
    assert full - low == pytest.approx(14, abs=1.5)
    assert silent < -60
    assert ear.stats.concealed_ms == 0
