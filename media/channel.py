"""The DataChannel ``events``: text both ways, bounded in size, rate and memory (protocol 4.3)."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from aiortc.rtcdatachannel import RTCDataChannel

from media.sdp import MAX_MESSAGE_SIZE

logger = logging.getLogger(__name__)

LABEL = "events"
PING = "ping"
"""What clients send each second to tell that they are there; it is no message."""

MAX_RATE = 100.0
"""Messages taken from the peer per second, and at once."""

MAX_BUFFERED = 1024 * 1024
"""Bytes kept for a peer before its channel opens, and later while it does not acknowledge."""


class EventChannel:
    """Waits for the peer's channel, keeps what is sent before, and passes on what the peer says.

    Binary messages, channels of other names and what exceeds a bound are dropped. Event loop only.
    """

    def __init__(self, *, max_size: int, on_open: Callable[[], None], on_message: Callable[[str], None]) -> None:
        """``max_size``: the largest message the peer takes, bytes of UTF-8."""
        self.dropped = 0
        """Messages of either direction."""
        self._max_size = max_size
        self._on_open = on_open
        self._on_message = on_message
        self._channel: RTCDataChannel | None = None
        self._waiting: deque[str] = deque()
        self._waiting_size = 0
        self._tokens = MAX_RATE
        self._refilled = 0.0

    def attach(self, channel: RTCDataChannel) -> None:
        """A channel that the peer opened. One may follow that was closed; what was sent in between is lost."""
        if channel.label != LABEL or (self._channel is not None and self._channel.readyState == "open"):
            logger.debug("DataChannel ignored: not %r, or a second one", LABEL)
            return
        is_first = self._channel is None
        self._channel = channel
        channel.on("message", self._receive)
        while self._waiting:
            channel.send(self._waiting.popleft())
        self._waiting_size = 0
        if is_first:
            self._on_open()

    def send(self, text: str) -> bool:
        """Send now, or at open; ``False`` when it was dropped: too large, too much under way, or the channel closed."""
        size = len(text.encode())
        channel = self._channel
        buffered = self._waiting_size if channel is None else channel.bufferedAmount
        gone = channel is not None and channel.readyState != "open"
        if gone or size > self._max_size or buffered + size > MAX_BUFFERED:
            if not self.dropped:
                logger.warning("DataChannel message of %d bytes dropped, %d are buffered", size, buffered)
            self.dropped += 1
            return False
        if channel is None:
            self._waiting.append(text)
            self._waiting_size += size
        else:
            channel.send(text)
        return True

    def _receive(self, data: str | bytes) -> None:
        if data == PING:
            return
        if not isinstance(data, str) or len(data.encode()) > MAX_MESSAGE_SIZE or not self._take_token():
            self.dropped += 1
            return
        self._on_message(data)

    def _take_token(self) -> bool:
        now = asyncio.get_running_loop().time()
        self._tokens = min(MAX_RATE, self._tokens + (now - self._refilled) * MAX_RATE)
        self._refilled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
