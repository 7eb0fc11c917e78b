"""The mouth of a session: what was written to the playout becomes RTP packets, paced by a clock."""

from __future__ import annotations

import secrets

import numpy as np

from media import opus, rtp
from media.audio import OUTPUT_FRAME, Pcm
from media.playout import Encoded, Playout

BITRATE = 32_000
"""bit/s. At 24,000 libopus makes room for FEC by cutting the band to that of a telephone; here it need not."""

COMPLEXITY = 0
"""Half the cost of 5 (58 us a frame, not 128) for 0.4 dB more spectral distance: `python -m bench.audio`."""

COMPLEXITY_AHEAD = 5
"""For what is encoded once and sent often."""

FEC_FROM = 10
"""Expected loss in percent below which libopus, at this bit rate, writes no FEC at all."""

# In samples of the RTP clock, as all moments inside.
_PERIOD = rtp.TICK_SAMPLES
_MAX_LATE = rtp.CLOCK_RATE * 60 // 1000  # what is due longer is not caught up with
_DTX_INTERVAL = rtp.CLOCK_RATE * 400 // 1000  # between the packets that say "still silent", as in libopus itself

_MAX_BURST = 3  # packets sent back to back after a late tick
_TRAILING_FRAMES = 3  # encoded silence after speech, so that the far decoder ends quietly
_SILENCE = np.zeros(OUTPUT_FRAME, np.int16)


def encode_ahead(pcm: Pcm) -> Encoded:
    """Encode speech at ``OUTPUT_RATE`` before it is said: in all calls and each time it is said it costs nothing more.

    Takes some 6 ms per second of speech and holds the GIL.
    """
    encoder = opus.Encoder(bitrate=BITRATE, complexity=COMPLEXITY_AHEAD)
    frames = np.pad(pcm, (0, -len(pcm) % OUTPUT_FRAME)).reshape(-1, OUTPUT_FRAME)
    return Encoded(pcm, [encoder.encode(frame) for frame in frames])


class Sender:
    """Drains ``playout``, one packet each 20 ms while there is something to say, and the DTX pattern else.

    The playout moves only when a packet is handed out, so its position is what the peer was sent.
    """

    def __init__(self, playout: Playout, *, payload_type: int, ssrc: int) -> None:
        self.ssrc = ssrc
        self.packet_count = 0
        self.octet_count = 0
        """Payload bytes sent, as the sender report counts them."""
        self._playout = playout
        self._payload_type = payload_type
        self._encoder = opus.Encoder(bitrate=BITRATE, complexity=COMPLEXITY)
        self._dtx = b""
        self._sequence = secrets.randbelow(1 << 16)
        self._timestamp = secrets.randbelow(1 << 32)  # of the last packet (RFC 3550 section 5.1: a random start)
        self._sent_at = 0  # when that packet was due
        self._wall = 0  # what turns a moment into the timestamp of wall time
        self._deadline: int | None = None  # when the next packet is due
        self._in_spurt = False
        self._trailing = _TRAILING_FRAMES  # silent frames left to send
        self._expected_loss = 0.0
        self._is_lossy = False  # it counts in percent

    def tick(self, now: float) -> list[bytes]:
        """The packets due at ``now``, seconds: none to three."""
        moment = round(now * rtp.CLOCK_RATE)
        if self._deadline is None:
            self._deadline = self._sent_at = moment
            self._wall = self._timestamp + _PERIOD - moment
        if not self._trailing:
            if self._playout.ready:
                self._deadline = moment
                self._trailing = _TRAILING_FRAMES
            elif moment < self._deadline - _PERIOD // 2:
                return []
            else:
                return [self._send_dtx(moment)]
        if moment - self._deadline > _MAX_LATE:
            self._deadline = moment  # slip: the peer hears a pause, not a burst that its buffer would have to stretch
        packets: list[bytes] = []
        # A tick may come a little before the deadline that an earlier, late one has set; the phase then moves forward.
        while len(packets) < _MAX_BURST and moment >= self._deadline - _PERIOD // 2 and self._trailing:
            due = min(self._deadline, moment)
            packets.append(self._send_frame(due))
            self._deadline = due + _PERIOD
        return packets

    def on_receiver_report(self, fraction_lost: float) -> None:
        """The peer lost this share of our packets (0 to 1) since its last report: steer the redundancy."""
        # Up at once, down slowly: loss comes in waves.
        self._expected_loss = max(fraction_lost, self._expected_loss * 0.75)
        percent = min(100, round(self._expected_loss * 100))
        self._is_lossy = percent > 0
        self._encoder.expect_loss(max(FEC_FROM, percent) if percent else 0)

    def rtp_timestamp(self, now: float) -> int:
        """The RTP time of ``now``, for the sender report: unwrapped."""
        return self._timestamp + round(now * rtp.CLOCK_RATE) - self._sent_at

    def _send_frame(self, due: int) -> bytes:
        pcm = self._playout.take(OUTPUT_FRAME)
        starts = pcm is not None and not self._in_spurt
        if pcm is None:
            pcm = _SILENCE
            self._trailing -= 1
            if not self._trailing:
                self._in_spurt = False
        else:
            self._in_spurt = True
            self._trailing = _TRAILING_FRAMES
        # What was encoded before has no redundancy, so a peer that loses packets gets it made anew.
        ahead = None if self._is_lossy else self._playout.payload
        payload = ahead or self._encoder.encode(pcm)
        self._dtx = opus.dtx_payload(payload)
        return self._packet(payload, due, is_anchored=starts, marker=starts)

    def _send_dtx(self, moment: int) -> bytes:
        self._deadline = moment + _DTX_INTERVAL
        return self._packet(self._dtx, moment, is_anchored=True, marker=False)

    def _packet(self, payload: bytes, due: int, *, is_anchored: bool, marker: bool) -> bytes:
        self._sequence += 1
        self._timestamp += _PERIOD
        if is_anchored:
            self._timestamp = max(self._timestamp, self._wall + due)
        self._sent_at = due
        self.packet_count += 1
        self.octet_count += len(payload)
        packet = rtp.Packet(self._payload_type, marker, self._sequence, self._timestamp, self.ssrc, payload)
        return rtp.build(packet)
