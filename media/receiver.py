"""The ear of a session: RTP packets in, 20 ms frames with level and voice activity out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from media import level, opus, rtp
from media.audio import FRAME_MS, INPUT_FRAME, INPUT_RATE, AudioFrame, Pcm
from media.reception import Reception
from media.reorder import Kind, Piece, ReorderBuffer, Verdict
from media.rtcp import ReportBlock, SenderReport
from media.vad import Vad

_DECIMATION = rtp.CLOCK_RATE // INPUT_RATE
_CODEC_STEP = INPUT_RATE // 400  # libopus conceals in steps of 2.5 ms
_FADE_START = INPUT_RATE * 60 // 1000  # samples concealed before the fade begins
_FADE_END = INPUT_RATE * 100 // 1000  # and when it is silent
_FORMER_SOURCE = 1.0  # seconds for which stragglers of the source before are refused


@dataclass(slots=True)
class ReceiverStats:
    """Counts since the session began."""

    received: int = 0
    malformed: int = 0
    duplicate: int = 0
    late: int = 0
    overflow: int = 0
    recovered_ms: int = 0
    """Media time of lost packets that FEC brought back."""
    concealed_ms: int = 0
    """Media time that no packet held, silence of a peer that uses DTX left out."""


class Receiver:
    """Hears one peer. Give it each decrypted packet at once and call ``tick`` each 20 ms, all on the event loop."""

    def __init__(self, *, payload_type: int, vad: Vad) -> None:
        self.stats = ReceiverStats()
        self._payload_type = payload_type
        self._vad = vad
        self._decoder = opus.Decoder()
        self._buffer = ReorderBuffer()
        self._reception: Reception | None = None
        self._former = (-1, 0.0)  # the source before and when it was left
        self._lost_before = 0  # packets of all sources before
        self._frames = 0
        self._rest: list[Pcm] = []  # decoded samples of the frame in the making
        self._rest_samples = 0
        self._rest_concealed = False
        self._hidden = 0  # samples concealed in a row

    def receive(self, packet: bytes, now: float) -> None:
        """Take one decrypted RTP packet that came at ``now``, seconds. What is no audio is counted and dropped."""
        parsed = rtp.parse(packet)
        if parsed is None or parsed.payload_type != self._payload_type:
            self.stats.malformed += 1
            return
        samples = opus.duration(parsed.payload)
        if not samples:
            self.stats.malformed += 1
            return
        reception = self._reception
        if reception is None or reception.ssrc != parsed.ssrc:
            if parsed.ssrc == self._former[0] and now < self._former[1] + _FORMER_SOURCE:
                self.stats.late += 1
                return
            reception = self._change_source(parsed, now)
        reception.add(parsed.sequence, parsed.timestamp, now)
        self.stats.received += 1
        verdict = self._buffer.push(parsed.sequence, parsed.timestamp, parsed.payload, samples, now)
        if verdict is not Verdict.KEPT:
            self._count(verdict)

    def tick(self, now: float) -> list[AudioFrame]:
        """All frames that are complete and in order at ``now``; none, one or, after a stall, many."""
        frames: list[AudioFrame] = []
        for piece in self._buffer.pop(now):
            self._take(piece, frames)
        return frames

    @property
    def lost(self) -> int:
        """Packets that never came, of all sources; late duplicates do not make it negative."""
        return self._lost_before + (max(0, self._reception.lost) if self._reception else 0)

    @property
    def jitter(self) -> float:
        """Interarrival jitter of the present source, seconds."""
        return self._reception.jitter / rtp.CLOCK_RATE if self._reception else 0.0

    def report_block(self, now: float) -> ReportBlock | None:
        """What the next report tells about the peer; ``None`` before its first packet. Begins a new interval."""
        return self._reception.block(now) if self._reception else None

    def on_sender_report(self, report: SenderReport, now: float) -> None:
        """The peer's own report came."""
        if self._reception:
            self._reception.on_sender_report(report, now)

    def _change_source(self, packet: rtp.Packet, now: float) -> Reception:
        if self._reception:
            self._former = self._reception.ssrc, now
            self._lost_before = self.lost
            self._buffer.restart()
            self._decoder.reset()
        self._reception = Reception(packet.ssrc, packet.sequence)
        return self._reception

    def _count(self, verdict: Verdict) -> None:
        if verdict is Verdict.LATE:
            self.stats.late += 1
        elif verdict is Verdict.DUPLICATE:
            self.stats.duplicate += 1
        else:
            self.stats.overflow += 1

    def _take(self, piece: Piece, frames: list[AudioFrame]) -> None:
        """Turn a piece of media time into samples, exactly as many as it lasts."""
        wanted = piece.samples // _DECIMATION
        if piece.kind is Kind.PACKET:
            try:
                pcm = self._decoder.decode(piece.payload)[piece.skip // _DECIMATION :][:wanted]
            except opus.OpusError:
                self.stats.malformed += 1
            else:
                self._hidden = 0
                self._append(pcm, False, frames)
                wanted -= len(pcm)
        elif piece.kind is Kind.SILENCE:
            self._hidden = _FADE_END
            self._append(np.zeros(wanted, np.int16), True, frames)
            return
        elif piece.kind is Kind.FEC and opus.has_fec(piece.payload) and wanted % _CODEC_STEP == 0:
            try:
                pcm = self._decoder.recover(piece.payload, wanted)
            except opus.OpusError:
                pass  # the packet itself is next and will be counted there
            else:
                self._hidden = 0
                self.stats.recovered_ms += wanted * 1000 // INPUT_RATE
                self._append(pcm, False, frames)
                return
        self._conceal(wanted, frames)

    def _conceal(self, wanted: int, frames: list[AudioFrame]) -> None:
        self.stats.concealed_ms += wanted * 1000 // INPUT_RATE
        while wanted > 0:
            if self._hidden >= _FADE_END:
                self._append(np.zeros(wanted, np.int16), True, frames)
                return
            count = min(wanted, INPUT_FRAME)
            pcm = self._decoder.conceal(-(-count // _CODEC_STEP) * _CODEC_STEP)[:count]
            if self._hidden + count > _FADE_START:
                gain = (_FADE_END - self._hidden - np.arange(count)) / (_FADE_END - _FADE_START)
                pcm = (pcm * np.clip(gain, 0, 1)).astype(np.int16)
            self._hidden += count
            self._append(pcm, True, frames)
            wanted -= count

    def _append(self, pcm: Pcm, concealed: bool, frames: list[AudioFrame]) -> None:
        """Cut what was decoded into frames of 20 ms."""
        if len(pcm) == INPUT_FRAME and not self._rest_samples:  # the common case: a packet is a frame
            frames.append(self._frame(pcm, concealed))
            return
        if not len(pcm):
            return
        self._rest.append(pcm)
        self._rest_samples += len(pcm)
        self._rest_concealed |= concealed
        if self._rest_samples < INPUT_FRAME:
            return
        joined = np.concatenate(self._rest)
        whole = len(joined) // INPUT_FRAME * INPUT_FRAME
        frames += [
            self._frame(joined[start : start + INPUT_FRAME], self._rest_concealed if start == 0 else concealed)
            for start in range(0, whole, INPUT_FRAME)
        ]
        self._rest_samples = len(joined) - whole
        self._rest = [joined[whole:]] if self._rest_samples else []
        self._rest_concealed = concealed and self._rest_samples > 0

    def _frame(self, pcm: Pcm, concealed: bool) -> AudioFrame:
        time = self._frames * FRAME_MS / 1000
        self._frames += 1
        loudness = level.dbfs(pcm)
        return AudioFrame(pcm, time, self._vad.is_speech(pcm, loudness), loudness, concealed)
