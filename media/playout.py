"""What the bot says, waiting for the media clock, with a sample-exact position, a volume and a pause."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np

from media.audio import OUTPUT_FRAME, Pcm

DUCKED = 0.2
"""Gain of a lowered voice: -14 dB."""

RISE = 0.2
"""How much the gain grows in one frame, so that the voice comes back without a jolt. It falls within one."""


class Encoded(NamedTuple):
    """Speech that is said more than once, or will be soon: samples at ``OUTPUT_RATE`` and the Opus made of them.

    ``payloads`` has one payload for each ``OUTPUT_FRAME`` of ``pcm``; the last one may hold silence behind its end.
    """

    pcm: Pcm
    payloads: list[bytes]


class Playout:
    """A queue of PCM at ``OUTPUT_RATE`` that the media clock drains one frame at a time.

    Positions count samples since the session began and never go back, so a caller that remembers where a sentence was
    written knows from ``played`` how much of it was heard. Not thread-safe: event loop only.
    """

    def __init__(self) -> None:
        self._queue: deque[Encoded] = deque()  # without payloads: to be encoded when it is sent
        self._offset = 0  # samples of the head of the queue that were sent already
        self._gain = self._target = 1.0
        self.written = 0
        """Position behind the last sample accepted."""
        self.played = 0
        """Position behind the last sample sent."""
        self.last: Pcm | None = None
        """What ``take`` gave last."""
        self.payload: bytes | None = None
        """The Opus of exactly that, when there is any: not of a voice that is lowered or was joined to another."""

    @property
    def pending(self) -> int:
        """Samples accepted and not yet sent."""
        return self.written - self.played

    @property
    def ready(self) -> bool:
        """``take`` would give something: samples wait, and are not held back."""
        return bool(self._queue) and (self._target > 0 or self._gain > 0)

    def duck(self) -> None:
        """Go on in a low voice."""
        self._target = DUCKED

    def pause(self) -> None:
        """Fall silent within one frame and keep the place; writing goes on."""
        self._target = 0.0
        if not self._queue:
            self._gain = 0.0

    def resume(self) -> None:
        """Go on in full voice where it was."""
        self._target = 1.0

    def write(self, speech: Pcm | Encoded) -> int:
        """Queue samples at ``OUTPUT_RATE``; returns the position behind them.

        The array is kept, not copied. How far to write ahead is the writer's to bound, by ``pending``.
        """
        item = speech if isinstance(speech, Encoded) else Encoded(speech, [])
        if len(item.pcm):
            self._queue.append(item)
            self.written += len(item.pcm)
        return self.written

    def clear(self) -> int:
        """Drop all that was not sent, the volume included; ``written`` falls back to ``played``, which is returned."""
        self._queue.clear()
        self._offset = 0
        self._gain = self._target = 1.0
        self.written = self.played
        return self.played

    def take(self, count: int) -> Pcm | None:
        """Take ``count`` samples to send, zero-padded at the end of the queue; ``None`` when it is empty or paused.

        Only real samples move ``played``: padding was never written. What is given must not be changed.
        """
        self.payload = None
        if not self.ready:
            return None
        pcm, payloads = self._queue[0]
        start, end = self._offset, self._offset + count
        is_full = self._gain == self._target == 1.0
        is_whole = count == OUTPUT_FRAME and not start % count and (end <= len(pcm) or len(self._queue) == 1)
        if payloads and is_full and is_whole:
            self.payload = payloads[start // count]
        if end < len(pcm):  # the common case
            out = pcm[start:end]
            self._offset = end
            self.played += count
        else:
            out = self._join(count)
        self.last = out if is_full else self._shaped(out)
        return self.last

    def _join(self, count: int) -> Pcm:
        """The next ``count`` samples across the borders of what was written."""
        out = np.zeros(count, np.int16)
        filled = 0
        while self._queue and filled < count:
            head = self._queue[0].pcm
            n = min(count - filled, len(head) - self._offset)
            out[filled : filled + n] = head[self._offset : self._offset + n]
            filled += n
            self._offset += n
            if self._offset == len(head):
                self._queue.popleft()
                self._offset = 0
        self.played += filled
        return out

    def _shaped(self, pcm: Pcm) -> Pcm:
        """The frame at the present volume, on its way to the one that is wanted."""
        before, self._gain = self._gain, min(self._target, self._gain + RISE)
        return (pcm * np.linspace(before, self._gain, len(pcm), dtype=np.float32)).astype(np.int16)
