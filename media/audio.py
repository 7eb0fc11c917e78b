"""The shapes of audio that cross the border between media and pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Pcm = NDArray[np.int16]
"""Mono signed 16-bit samples, shape ``(n,)``."""

FRAME_MS = 20
"""Length of one tick of the media clock and of one frame, ms."""

INPUT_RATE = 16_000
"""Rate of what the pipeline hears, Hz."""

OUTPUT_RATE = 24_000
"""Rate of what the pipeline says, Hz."""

INPUT_FRAME = INPUT_RATE * FRAME_MS // 1000
"""Samples in one heard frame."""

OUTPUT_FRAME = OUTPUT_RATE * FRAME_MS // 1000
"""Samples in one spoken frame."""


@dataclass(frozen=True, slots=True)
class AudioFrame:
    """20 ms of what the peer said.

    ``pcm`` has shape ``(INPUT_FRAME,)``; ``time`` is the media time of its first sample in seconds since the first
    frame of the session (from the RTP timestamp, so loss and jitter do not bend it); ``is_speech`` is the verdict of
    the VAD; ``level`` is the RMS level in dBFS (-127 to 0); ``concealed`` tells that no packet held this frame.
    """

    pcm: Pcm
    time: float
    is_speech: bool
    level: float
    concealed: bool


class LineObserver(Protocol):
    """What the owner of a media session hears of it, on the event loop. No method may block or raise."""

    def on_connected(self) -> None:
        """ICE and DTLS are up: audio flows both ways. Exactly once, before every ``on_audio``."""

    def on_audio(self, frame: AudioFrame) -> None:
        """20 ms were heard, in order and without gaps."""

    def on_played(self, position: int) -> None:
        """The playout clock moved: ``position`` samples (at ``OUTPUT_RATE``) of what was written have been sent."""

    def on_channel_open(self) -> None:
        """The DataChannel ``events`` is open. Messages sent earlier were kept and are flushed in order."""

    def on_message(self, text: str) -> None:
        """One text message from the DataChannel, bounded in size; never the bare ``ping``."""

    def on_closed(self, reason: str) -> None:
        """The session is over and everything of it is released. Exactly once, the last call.

        ``reason``: ``closed`` (by ``close()``), ``disconnected`` (peer left or vanished), ``timeout`` (never connected)
        or ``failed``.
        """
