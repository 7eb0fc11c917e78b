"""Packets over a bad network to a receiver, in virtual time."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import numpy as np

from media import rtp
from media.audio import AudioFrame, Pcm
from media.receiver import Receiver
from media.reorder import REORDER_WAIT
from media.vad import WebRtcVad
from tests.media.bad_network import BadNetwork

TICK = 0.020
OPUS = 111


@dataclass(repr=False)
class Heard:
    """What came of a line. ``delays``: of each frame, from when its last sample was said until it was handed on."""

    receiver: Receiver
    frames: list[AudioFrame] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)

    @property
    def pcm(self) -> Pcm:
        return np.concatenate([frame.pcm for frame in self.frames])

    @property
    def concealed(self) -> list[bool]:
        return [frame.concealed for frame in self.frames]


def carry(
    network: BadNetwork,
    packets: list[bytes],
    ms: int = 20,
    *,
    stall: tuple[float, float] | None = None,
    drop: tuple[int, int] | None = None,
) -> Heard:
    """Send ``packets`` of ``ms`` each over the network to a receiver that ticks each 20 ms.

    ``stall``: when the network holds everything back, and for how long, s. ``drop``: index of a packet from which so
    many are lost.
    """
    heard = Heard(Receiver(payload_type=OPUS, vad=WebRtcVad()))
    under_way: list[tuple[float, int, bytes]] = []
    start, sent, now = 50.0, 0, 50.0
    rest = round(REORDER_WAIT / TICK)  # ticks after the last packet
    if stall:
        stall = start + stall[0], stall[1]
    while (under_way or sent < len(packets)) or (rest := rest - 1) >= 0:
        now += TICK
        while sent < len(packets) and (at := start + (sent + 1) * ms / 1000) <= now:
            if stall and at >= stall[0]:
                network.stall(*stall)
                stall = None
            if drop and sent == drop[0]:
                network.drop(drop[1])
            header = rtp.Packet(OPUS, False, 65_500 + sent, 0xFFFF_0000 + sent * ms * 48, 1, packets[sent])
            spared = sent in (0, len(packets) - 1)  # so that all that is lost can be noticed
            for arrival in [at] if spared else network.fates(at):
                heapq.heappush(under_way, (arrival, sent, rtp.build(header)))
            sent += 1
        while under_way and under_way[0][0] <= now:
            arrival, _, packet = heapq.heappop(under_way)
            heard.receiver.receive(packet, arrival)
        for frame in heard.receiver.tick(now):
            heard.delays.append(now - start - (len(heard.frames) + 1) * TICK)
            heard.frames.append(frame)
            assert abs(frame.time - (len(heard.frames) - 1) * TICK) < 1e-6
    return heard
