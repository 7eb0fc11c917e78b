"""Recorded speech over bad networks, in virtual time: what is heard, and when."""

from __future__ import annotations

import numpy as np
import pytest

from media import rtp
from media.audio import INPUT_FRAME, INPUT_RATE, AudioFrame
from media.receiver import Receiver
from media.reorder import REORDER_WAIT, STALL_WAIT, Kind, ReorderBuffer, Verdict
from media.vad import WebRtcVad
from tests.media.bad_line import OPUS, TICK, carry
from tests.media.bad_network import BadNetwork
from tests.media.signals import likeness, payloads, speech

VOICE = speech()


@pytest.mark.parametrize("ms", [10, 20, 40, 60])
def test_jitter_and_copies_harm_nothing(ms: int) -> None:
    network = BadNetwork(jitter=REORDER_WAIT * 0.9, duplicates=0.2)
    heard = carry(network, payloads(VOICE, ms), ms)
    quality = heard.receiver.stats
    assert quality.concealed_ms == quality.recovered_ms == 0
    assert quality.duplicate + quality.late == quality.received - len(heard.frames) * 20 // ms > 0
    assert likeness(heard.pcm, VOICE) > 0.8
    assert max(heard.delays) <= REORDER_WAIT + ms / 1000 + TICK


@pytest.mark.parametrize("ms", [20, 40, 60])
@pytest.mark.parametrize("seed", range(3))
def test_random_loss_is_mostly_recovered_when_the_sender_repeats_itself(ms: int, seed: int) -> None:
    packets = payloads(VOICE, ms, loss=20, bitrate=40_000)
    network = BadNetwork(loss=0.08, jitter=0.03, seed=seed)
    heard = carry(network, packets, ms)
    stats = heard.receiver.stats
    assert network.lost > 0
    assert heard.receiver.lost == network.lost
    assert stats.recovered_ms + stats.concealed_ms == network.lost * ms
    assert stats.recovered_ms >= stats.concealed_ms
    assert likeness(heard.pcm, VOICE) > 0.6


@pytest.mark.parametrize("lost", [2, 5, 10, 25])
def test_after_a_burst_of_loss_the_delay_is_what_it_was(lost: int) -> None:
    heard = carry(BadNetwork(jitter=0.01), payloads(VOICE), drop=(60, lost))
    assert heard.receiver.stats.concealed_ms == lost * 20
    assert heard.concealed == [60 <= index < 60 + lost for index in range(len(heard.frames))]
    usual = max(heard.delays[:60])
    assert max(heard.delays[60 + lost + 3 :]) <= usual + 1e-6  # within 60 ms of the first packet behind the burst
    assert max(heard.delays) <= STALL_WAIT + REORDER_WAIT + 2 * TICK


@pytest.mark.parametrize("seconds", [0.08, 0.2, 0.5, 2.0])
def test_after_a_stall_the_delay_is_what_it_was_at_once(seconds: float) -> None:
    heard = carry(BadNetwork(), payloads(VOICE), stall=(1.0, seconds))
    first, behind = round(1.0 / TICK), round((1.0 + seconds) / TICK)
    assert max(heard.delays[behind + 1 :]) <= max(heard.delays[:first]) + 1e-6
    assert max(heard.delays) <= STALL_WAIT + 2 * TICK
    # What the stall held back is dropped as far as its time was filled; what came before and after lies where it did.
    assert sum(heard.concealed) == max(0, round((seconds - STALL_WAIT) / TICK))
    voice = VOICE[(behind + 5) * INPUT_FRAME :]
    assert likeness(heard.pcm[(behind + 5) * INPUT_FRAME :], voice) > 0.7


@pytest.mark.parametrize("ppm", [-200, 200])
def test_a_clock_that_is_200_ppm_off_costs_nothing_in_an_hour(ppm: int) -> None:
    """A buffer that plays at its own pace runs dry or over each 100 s; here time is that of the sender."""
    buffer, network, count = ReorderBuffer(), BadNetwork(jitter=0.015), 3600 * 50
    pace = TICK / (1 + ppm * 1e-6)
    arrivals = sorted((network.fates(index * pace)[0], index) for index in range(count))
    behind = taken = position = 0
    for tick in range(round(count * pace / TICK) + 2):
        now = tick * TICK
        while taken < count and arrivals[taken][0] <= now:
            at, index = arrivals[taken]
            timestamp = 0xFFF0_0000 + index * rtp.TICK_SAMPLES & 0xFFFF_FFFF
            assert buffer.push(index & 0xFFFF, timestamp, b"abc", rtp.TICK_SAMPLES, at) is Verdict.KEPT
            taken += 1
        for piece in buffer.pop(now):
            assert piece == (Kind.PACKET, rtp.TICK_SAMPLES, b"abc", 0)
            position += 1
        behind = max(behind, int(now / pace) - position)
    assert position == taken == count
    assert behind <= 2


def test_speech_after_the_silence_of_dtx_begins_with_its_first_sample() -> None:
    """A pause of a peer with DTX, over jitter: nothing of the word behind it is lost, and it is not late."""
    pause = np.zeros(INPUT_RATE * 2, np.int16)
    packets = payloads(np.concatenate([VOICE, pause, VOICE]), dtx=True)
    receiver, now, sequence = Receiver(payload_type=OPUS, vad=WebRtcVad()), 10.0, 0
    frames: list[AudioFrame] = []
    silent, jitter = 0, np.random.default_rng(1).uniform(0, 0.02, len(packets))
    arrivals = []
    for index, payload in enumerate(packets):
        silent = silent + 1 if len(payload) <= 2 else 0
        if silent % 20 <= 1:
            header = rtp.Packet(OPUS, False, sequence, index * 960, 1, payload)
            arrivals.append((now + index * TICK + jitter[index], rtp.build(header)))
            sequence += 1
    for step in range(len(packets) + 2):
        moment = now + step * TICK
        while arrivals and arrivals[0][0] <= moment:
            receiver.receive(arrivals[0][1], arrivals.pop(0)[0])
        frames += receiver.tick(moment)
    pcm = np.concatenate([frame.pcm for frame in frames])
    second = len(VOICE) + len(pause)
    assert receiver.stats.concealed_ms == 0
    assert sequence < len(packets) - 70
    assert likeness(pcm[: len(VOICE)], VOICE) > 0.8
    assert likeness(pcm[second:], VOICE) > 0.8
    onset = np.flatnonzero(np.abs(VOICE) > 1000)[0]
    heard = np.flatnonzero(np.abs(pcm[second:]) > 1000)[0]
    assert heard - onset < 0.03 * INPUT_RATE  # the delay of the codec
