"""The way of a sound from a browser's microphone to the server's ear: Opus, RTP and ``media.receiver``."""

from __future__ import annotations

from typing import NamedTuple

import av
import numpy as np

from bench.turns.sounds import Sound, samples, to_pcm
from media import opus, rtp
from media.audio import INPUT_RATE, OUTPUT_FRAME, OUTPUT_RATE, AudioFrame, Pcm
from media.receiver import Receiver
from media.vad import WebRtcVad

TICK = 0.02
LOOKAHEAD = 0.0065
"""Seconds that libopus delays by (its ``OPUS_GET_LOOKAHEAD``). They are taken out, so that labels stay true."""

PAYLOAD_TYPE = 111
_SET_DTX = 4016


class Arrival(NamedTuple):
    """A frame, and when the server had it: s since the microphone was opened."""

    at: float
    frame: AudioFrame


class Browser(opus.Encoder):
    """The encoder as browsers set it up, which may stop sending when there is nothing to hear (DTX)."""

    def __init__(self, *, bitrate: int, dtx: bool) -> None:
        super().__init__(bitrate=bitrate, complexity=5)
        self._set(_SET_DTX, int(dtx))


def transmit(sound: Sound, *, bitrate: int, dtx: bool) -> list[Arrival]:
    """What the server hears, frame by frame. The network itself neither delays nor loses."""
    encoder, receiver = Browser(bitrate=bitrate, dtx=dtx), Receiver(payload_type=PAYLOAD_TYPE, vad=WebRtcVad())
    spoken = at_output_rate(sound[samples(LOOKAHEAD) :])
    heard: list[Arrival] = []
    sequence = 0
    for number in range(len(spoken) // OUTPUT_FRAME):
        now = (number + 1) * TICK
        payload = encoder.encode(spoken[number * OUTPUT_FRAME : (number + 1) * OUTPUT_FRAME])
        if len(payload) > 2:  # what is shorter need not be sent
            sequence += 1
            packet = rtp.Packet(PAYLOAD_TYPE, False, sequence, number * rtp.TICK_SAMPLES, 1, payload)
            receiver.receive(rtp.build(packet), now)
        heard += [Arrival(now, frame) for frame in receiver.tick(now)]
    return heard


def at_output_rate(sound: Sound) -> Pcm:
    """The sound at ``OUTPUT_RATE``."""
    frame = av.AudioFrame.from_ndarray(to_pcm(sound)[np.newaxis], format="s16", layout="mono")
    frame.sample_rate = INPUT_RATE
    resampler = av.AudioResampler("s16", "mono", OUTPUT_RATE)
    return np.concatenate([part.to_ndarray()[0] for part in (*resampler.resample(frame), *resampler.resample(None))])
