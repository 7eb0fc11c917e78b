"""The receiver on real Opus: recorded speech through loss, silence, other sources and garbage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media import opus, rtp
from media.audio import INPUT_FRAME, INPUT_RATE, AudioFrame, Pcm
from media.level import dbfs
from media.receiver import Receiver
from media.vad import WebRtcVad
from tests.media.signals import likeness, payloads, pink_noise, speech, tone

TICK = 0.020
OPUS = 111


class Ear:
    """A receiver in virtual time."""

    def __init__(self) -> None:
        self.receiver = Receiver(payload_type=OPUS, vad=WebRtcVad())
        self.frames: list[AudioFrame] = []
        self.now = 10.0
        self.ssrc = 1

    def packet(self, index: int, payload: bytes, ms: float = 20) -> None:
        header = rtp.Packet(OPUS, False, 65_000 + index, 0xFFFF_0000 + int(index * ms * 48), self.ssrc, payload)
        self.receiver.receive(rtp.build(header), self.now)

    def tick(self) -> list[AudioFrame]:
        self.now += TICK
        frames = self.receiver.tick(self.now)
        for frame in frames:
            assert frame.pcm.shape == (INPUT_FRAME,)
            assert frame.pcm.dtype == np.int16
            assert frame.time == pytest.approx(len(self.frames) * TICK)
            assert frame.level == pytest.approx(dbfs(frame.pcm))
            self.frames.append(frame)
        return frames

    def hear(self, packets: list[bytes], ms: float = 20, lost: set[int] | None = None, start: int = 0) -> None:
        """Packets at their pace, then the time that a gap at the end needs."""
        due = self.now
        for index, payload in enumerate(packets, start):
            if index not in (lost or set()):
                self.packet(index, payload, ms)
            due += ms / 1000
            while self.now + TICK / 2 < due:
                self.tick()
        self.tick()

    @property
    def pcm(self) -> Pcm:
        return np.concatenate([frame.pcm for frame in self.frames])


@pytest.mark.parametrize("ms", [10, 20, 40, 60])
@pytest.mark.parametrize("channels", [1, 2])
def test_speech_is_heard_whatever_the_packet_length(ms: int, channels: int) -> None:
    voice = speech()
    ear = Ear()
    packets = payloads(np.repeat(voice, channels), ms, channels=channels, bitrate=48_000)
    ear.hear(packets, ms)
    assert len(ear.frames) == len(packets) * ms // 20
    assert likeness(ear.pcm, voice) > 0.8
    assert not any(frame.concealed for frame in ear.frames)
    loud = [frame for frame in ear.frames if frame.level > -40]
    assert len(loud) > 50
    assert sum(frame.is_speech for frame in loud) > 0.95 * len(loud)


@pytest.mark.parametrize("ms", [20, 40])
def test_lost_packets_come_back_by_fec(ms: int, monkeypatch: pytest.MonkeyPatch) -> None:
    voice = speech()
    packets = payloads(voice, ms, loss=20, bitrate=40_000)
    lost = set(range(3, len(packets) - 1, 7))
    ear = Ear()
    ear.hear(packets, ms, lost)
    assert len(ear.frames) * 20 == len(packets) * ms
    stats = ear.receiver.stats
    assert stats.recovered_ms + stats.concealed_ms == len(lost) * ms
    assert stats.recovered_ms > len(lost) * ms / 2
    whole, guessed = Ear(), Ear()
    whole.hear(packets, ms)
    monkeypatch.setattr(opus, "has_fec", lambda payload: False)
    guessed.hear(packets, ms, lost)
    assert guessed.receiver.stats.concealed_ms == len(lost) * ms
    assert difference(ear.pcm, whole.pcm) < 0.3 * difference(guessed.pcm, whole.pcm)


def difference(one: Pcm, other: Pcm) -> float:
    return float(np.sum((one.astype(np.float64) - other) ** 2))


def test_a_long_loss_fades_to_silence() -> None:
    sound = payloads(tone(INPUT_RATE * 2, INPUT_RATE, 300), bitrate=32_000)
    ear = Ear()
    ear.hear(sound[:50])
    ear.hear(sound[60:70], start=60)
    levels = [frame.level for frame in ear.frames]
    assert [frame.concealed for frame in ear.frames] == [False] * 50 + [True] * 10 + [False] * 10
    assert levels[50] > -30  # the tone goes on
    assert levels[54] < levels[52]  # fading
    assert levels[55:60] == [-127.0] * 5
    assert levels[65] > -30  # and is back
    assert ear.receiver.stats.concealed_ms == 200


def test_dtx_is_silence_not_loss() -> None:
    """A browser with DTX: the first packet of one or two bytes is sent, then one each 400 ms, numbered without gaps."""
    voice = np.concatenate([speech()[:48_000], pink_noise(64_000, dbfs=-75)])
    ear = Ear()
    sequence = silent = sent_silent = 0
    for index, payload in enumerate(payloads(voice, dtx=True)):
        silent = silent + 1 if len(payload) <= 2 else 0
        if silent % 20 <= 1:
            sent_silent += silent > 0
            header = rtp.Packet(OPUS, False, 65_530 + sequence, 0xFFFF_0000 + index * 960, 1, payload)
            ear.receiver.receive(rtp.build(header), ear.now)
            sequence += 1
        ear.tick()
    assert sequence < 250
    assert sent_silent >= 5
    assert ear.receiver.stats.concealed_ms == 0
    assert len(ear.frames) == pytest.approx(350, abs=6)  # the 100 ms that a stall is waited for
    assert not any(frame.is_speech for frame in ear.frames[-100:])
    assert max(frame.level for frame in ear.frames[-100:]) < -60
    block = ear.receiver.report_block(ear.now)
    assert block is not None
    assert block.cumulative_lost == 0


def test_another_source_is_followed_and_stragglers_of_the_first_are_not() -> None:
    sound = payloads(tone(INPUT_RATE, INPUT_RATE, 300))
    ear = Ear()
    ear.hear(sound[:20])
    count = len(ear.frames)
    ear.ssrc = 2
    ear.packet(5000, sound[20])
    ear.ssrc = 1
    ear.packet(20, sound[20])
    ear.tick()
    assert ear.receiver.stats.late == 1
    ear.ssrc = 2
    ear.hear(sound[21:], start=5001)
    assert len(ear.frames) == count + len(sound) - 20
    block = ear.receiver.report_block(ear.now)
    assert block is not None
    assert (block.ssrc, block.cumulative_lost) == (2, 0)


def test_what_is_no_audio_is_counted_and_dropped() -> None:
    ear = Ear()
    sound = payloads(tone(INPUT_RATE, INPUT_RATE, 300))
    good = rtp.Packet(OPUS, False, 0, 0, 1, sound[0])
    for bad in (
        b"",
        b"\x80",
        rtp.build(good._replace(payload_type=126)),  # telephone-event
        rtp.build(good._replace(payload=b"")),
        rtp.build(good._replace(payload=b"\xff\x00")),  # code 3 with no frame
        rtp.build(good._replace(payload=b"\xff\x3f")),  # 63 frames: more than 120 ms
    ):
        ear.receiver.receive(bad, ear.now)
    assert ear.receiver.stats.malformed == 6
    assert ear.receiver.report_block(ear.now) is None
    assert ear.tick() == []
    ear.hear(sound)
    assert len(ear.frames) == len(sound)


def test_a_payload_that_does_not_decode_is_concealed() -> None:
    sound = payloads(tone(INPUT_RATE, INPUT_RATE, 300))
    sound[10] = b"\x4b\x02\xff"  # two frames of 20 ms announced, broken lengths
    ear = Ear()
    ear.hear(sound[:11])
    assert ear.receiver.stats.malformed == 1
    assert [frame.concealed for frame in ear.frames] == [False] * 10 + [True] * 2


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.binary(max_size=60), st.booleans(), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF_FFFF)),
        max_size=40,
    )
)
def test_garbage_never_raises_and_never_bends_time(packets: list[tuple[bytes, bool, int, int]]) -> None:
    ear = Ear()
    for data, is_framed, sequence, timestamp in packets:
        framed = rtp.build(rtp.Packet(OPUS, False, sequence, timestamp, 1, data))
        ear.receiver.receive(framed if is_framed else data, ear.now)
        ear.tick()
    assert len(ear.frames) <= 100 + 2 * len(packets)
    start = len(ear.frames)
    sound = payloads(tone(INPUT_RATE, INPUT_RATE, 300))
    ear.ssrc = 7  # whatever came before, a new source is heard
    ear.hear(sound)
    assert np.abs(ear.frames[-1].pcm).max() > 1000
    assert len(ear.frames) >= start + len(sound)
