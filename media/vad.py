"""Voice activity: is somebody speaking in these 20 ms?"""

from __future__ import annotations

from typing import Protocol

import webrtcvad

from media.audio import INPUT_RATE, Pcm


class Vad(Protocol):
    """A detector with a memory: one instance hears one stream, in order."""

    def is_speech(self, frame: Pcm) -> bool:
        """The verdict on 20 ms at ``INPUT_RATE``, shape ``(INPUT_FRAME,)``."""


class WebRtcVad:
    """The detector of WebRTC: some 6 us a frame."""

    def __init__(self, mode: int = 2) -> None:
        """``mode`` 0 to 3: the higher, the fewer false alarms and the more missed speech."""
        self._vad = webrtcvad.Vad(mode)

    def is_speech(self, frame: Pcm) -> bool:
        return bool(self._vad.is_speech(frame.tobytes(), INPUT_RATE))
