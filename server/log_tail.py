"""Following a log: what a reader has seen of it, and who follows which. Source: protocol 6.5.

A reader first has the log delivered, then reads what is stored behind its cursor, page by page, and goes live when it
has read to the end: what was delivered meanwhile waits, so that it gets every stored line once and in order.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from server.log_store import Line, LogKey, Page

logger = logging.getLogger(__name__)

RECENT = 512
"""Lines that may wait for a reader who still reads what is stored; at more it reads on instead."""

AT_ONCE = 16
"""Readers that are served between two turns of the event loop: the media clock ticks in between."""


class Tail:
    """What one reader has seen. Pure; whoever holds it sends what it returns, at once and in order."""

    def __init__(self, after: int) -> None:
        self.seen = after
        """The cursor: everything stored up to here was returned."""
        self.is_live = False
        self._recent: deque[Line] = deque()
        self._missed = False

    def hear(self, lines: Sequence[Line]) -> Sequence[Line]:
        """They were delivered. Those to send: none before it is live."""
        if self.is_live:
            fresh = lines if lines[0].seq > self.seen else [line for line in lines if line.seq > self.seen]
            if fresh:
                self.seen = fresh[-1].seq
            return fresh
        self._recent.extend(lines)
        if len(self._recent) > RECENT:
            self._recent.clear()
            self._missed = True
        return ()

    def read(self, page: Page) -> Sequence[Line]:
        """A page from the store, asked for with ``seen``."""
        fresh = [line for line in page.lines if line.seq > self.seen]
        self.seen = max(self.seen, page.end)
        return fresh

    def go_live(self) -> Sequence[Line] | None:
        """After the last page. ``None``: too much came meanwhile, read again."""
        recent, self._recent = self._recent, deque()
        if self._missed:
            self._missed = False
            return None
        self.is_live = True
        return self.hear(list(recent)) if recent else ()

    def doubt(self) -> None:
        """Something may not have been delivered: read again."""
        self.is_live = self._missed = False
        self._recent.clear()


class Follower(Protocol):
    """Who is told of lines as they come."""

    def take(self, lines: Sequence[Line], frames: bytes) -> None:
        """``frames``: the same, as they go over a WebSocket. Must not wait."""

    def doubt(self) -> None:
        """See ``Tail.doubt``."""


class Fanout:
    """Who follows which log. Each line is encoded once, however many follow it."""

    def __init__(self) -> None:
        self._followers: defaultdict[LogKey, set[Follower]] = defaultdict(set)

    def add(self, log: LogKey, follower: Follower) -> None:
        self._followers[log].add(follower)

    def remove(self, log: LogKey, follower: Follower) -> None:
        self._followers[log].discard(follower)
        if not self._followers[log]:
            del self._followers[log]

    async def deliver(self, log: LogKey, lines: Sequence[Line]) -> None:
        """Implements ``server.log_store.Deliver``."""
        if log not in self._followers or not lines:
            return
        frames = joined(lines, numbered=log.kind != "feed")
        for number, follower in enumerate(list(self._followers[log]), 1):
            try:
                follower.take(lines, frames)
            except Exception:
                logger.exception("a reader of a log failed")
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)

    def doubt(self) -> None:
        """Implements ``server.log_store.Doubt``."""
        for followers in list(self._followers.values()):
            for follower in list(followers):
                follower.doubt()


def joined(lines: Iterable[Line], *, numbered: bool = True) -> bytes:
    """The lines as WebSocket frames, one behind the other."""
    return b"".join(text_frame(line.text if numbered else line.unnumbered) for line in lines)


def text_frame(text: str) -> bytes:
    """An unmasked, uncompressed text frame in one piece. RFC 6455, 5.2."""
    payload = text.encode()
    if (length := len(payload)) < 126:
        head = struct.pack("!BB", 0x81, length)
    elif length < 1 << 16:
        head = struct.pack("!BBH", 0x81, 126, length)
    else:
        head = struct.pack("!BBQ", 0x81, 127, length)
    return head + payload
