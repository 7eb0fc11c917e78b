"""What synthetic callers say: recordings as a browser would encode them, and when to say them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np

from media.audio import FRAME_MS, INPUT_RATE, Pcm
from media.call_report import CallReport
from media.sdp import UPLINK_BITRATE
from server.recording import LOUD, RATE

PATIENCE = 20.0
"""How long an answer may take until the question counts as unanswered, s."""

GREETING_PATIENCE = 4.0
PAUSE = 1.0
"""Between an answer and the next question, s."""

_FRAME = RATE * FRAME_MS // 1000


def encode(pcm: Pcm, *, bitrate: int = UPLINK_BITRATE, band: int = INPUT_RATE // 2, loss: int = 0) -> list[bytes]:
    """Opus payloads of 20 ms of mono PCM at ``RATE``, as browsers make them: for voice, without DTX.

    ``bitrate`` in bit/s and ``band`` in Hz are those that our answer asks for. ``loss``: percent of packets that the
    browser was told are lost, above 0 payloads repeat what was before them.
    """
    codec = av.CodecContext.create("libopus", "w")
    codec.sample_rate, codec.layout, codec.format = RATE, "mono", "s16"
    codec.bit_rate, codec.time_base = bitrate, Fraction(1, RATE)
    codec.options = {
        "application": "voip",
        "frame_duration": str(FRAME_MS),
        "cutoff": str(band),
        "fec": str(int(loss > 0)),
        "packet_loss": str(loss),
    }
    payloads = []
    frames = np.pad(pcm, (0, -len(pcm) % _FRAME)).reshape(-1, _FRAME)
    for index, samples in enumerate(frames):
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, index * _FRAME, Fraction(1, RATE)
        payloads += [bytes(packet) for packet in codec.encode(frame)]
    return payloads + [bytes(packet) for packet in codec.encode(None)]


def trim(pcm: Pcm) -> Pcm:
    """Without the silence at both ends, so that a question ends where its last sound does."""
    frames = pcm[: len(pcm) // _FRAME * _FRAME].reshape(-1, _FRAME).astype(np.float64)
    loud = np.flatnonzero(np.sqrt(np.mean(frames**2, axis=1)) > LOUD)
    return pcm[loud[0] * _FRAME : (loud[-1] + 1) * _FRAME] if len(loud) else pcm


class Monologue:
    """Speaks without end, each caller from another place of the recording."""

    def __init__(self, payloads: list[bytes], number: int) -> None:
        self._payloads = payloads
        self._position = number * 97 % len(payloads)

    def next_payload(self, now: float) -> bytes:
        self._position = (self._position + 1) % len(self._payloads)
        return self._payloads[self._position]

    def on_event(self, frame: dict[str, Any], now: float) -> None:
        pass

    def on_bot_voice(self, now: float) -> None:
        pass


class Questioner:
    """Listens to the greeting, says the recording, hears the answer out, and again; notes it all in ``report``.

    Without ``payloads`` it only listens.
    """

    def __init__(self, payloads: list[bytes], silence: bytes, report: CallReport) -> None:
        self._payloads = payloads
        self._silence = silence
        self._report = report
        self._position = 0  # of the next payload; 0 while listening
        self._due: float | None = None  # when the next question begins
        self._asked: float | None = None  # when the last one ended, until the bot's voice came
        self._awaiting = False  # the answer to it has not begun
        self._speaking: set[str] = set()  # messages of the bot under way

    def next_payload(self, now: float) -> bytes:
        if self._due is None:
            self._due = now + GREETING_PATIENCE
        if not self._position:
            if not self._payloads or now < self._due or (self._speaking and not self._awaiting):
                return self._silence
            self._report.questions += 1
        payload = self._payloads[self._position]
        self._position = (self._position + 1) % len(self._payloads)
        if not self._position:
            self._asked, self._awaiting, self._due = now, True, now + PATIENCE
        return payload

    def on_event(self, frame: dict[str, Any], now: float) -> None:
        message = str(frame.get("message_id", ""))
        match frame.get("event"):
            case "bot.speaking":
                self._speaking.add(message)
                if self._awaiting and not self._position:
                    self._awaiting = False
                    self._report.answers += 1
            case "bot.finished" | "bot.interrupted" if message in self._speaking:
                self._speaking.discard(message)
                if not self._speaking and not self._awaiting:
                    self._due = now + PAUSE

    def on_bot_voice(self, now: float) -> None:
        if self._asked is not None:
            self._report.response_seconds.append(now - self._asked)
            self._asked = None
