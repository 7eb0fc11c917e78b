"""What the bot says, waiting for the media clock, with a sample-exact position."""

from __future__ import annotations

from collections import deque

import numpy as np

from media.audio import Pcm


class Playout:
    """A queue of PCM at ``OUTPUT_RATE`` that the media clock drains one frame at a time.

    Positions count samples since the session began and never go back, so a caller that remembers where a sentence was
    written knows from ``played`` how much of it was heard. Not thread-safe: event loop only.
    """

    def __init__(self) -> None:
        self._queue: deque[Pcm] = deque()
        self._offset = 0  # samples of the head of the queue that were sent already
        self.written = 0
        """Position behind the last sample accepted."""
        self.played = 0
        """Position behind the last sample sent."""

    @property
    def pending(self) -> int:
        """Samples accepted and not yet sent."""
        return self.written - self.played

    def write(self, pcm: Pcm) -> int:
        """Queue samples at ``OUTPUT_RATE``; returns the position behind them.

        The array is kept, not copied. How far to write ahead is the writer's to bound, by ``pending``.
        """
        if len(pcm):
            self._queue.append(pcm)
            self.written += len(pcm)
        return self.written

    def clear(self) -> int:
        """Drop all that was not sent; ``written`` falls back to ``played``. Returns that position."""
        self._queue.clear()
        self._offset = 0
        self.written = self.played
        return self.played

    def take(self, count: int) -> Pcm | None:
        """Take ``count`` samples to send, zero-padded at the end of the queue; ``None`` when it is empty.

        Only real samples move ``played``: padding was never written.
        """
        if not self._queue:
            return None
        out = np.zeros(count, np.int16)
        filled = 0
        while self._queue and filled < count:
            head = self._queue[0]
            n = min(count - filled, len(head) - self._offset)
            out[filled : filled + n] = head[self._offset : self._offset + n]
            filled += n
            self._offset += n
            if self._offset == len(head):
                self._queue.popleft()
                self._offset = 0
        self.played += filled
        return out
