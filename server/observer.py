"""The sockets of those who watch: one that follows a log from a cursor, one that follows what agents do now.

Nothing waits in here for a reader: frames that many get are written to each socket as the same bytes, and who does not
take them loses the connection, with a cursor to come back with. Source: protocol 6.3, 6.5.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from itertools import islice

from aiohttp import WSMsgType, web

from server.call_log import CallLog
from server.log_entries import Entry, encode, gap, with_seq, without_seq
from server.log_store import Line, LogInfo, LogKey, Page, StoreError
from server.log_tail import AT_ONCE, Tail, joined, text_frame
from server.outbox import CLOSE_SECONDS
from server.pace import Pace

logger = logging.getLogger(__name__)

MAX_FRAME = 4096
"""Bytes of what an observer sends, which is nothing but pings."""

HEARTBEAT_SECONDS = 30.0
MAX_UNSENT = 256 * 1024
"""Bytes that may wait in the socket of a reader: minutes of a call."""

DRAIN_SECONDS = 20.0
"""How long a reader may leave what is stored unread, once its socket is full."""

AGAIN_SECONDS = 1.0
"""After that, work that did not end is cancelled again."""

PAGE = 256
SLOW = 1013, "slow_consumer"
UNAVAILABLE = 1013, "the log is not available"
FINISHED = 1000, "finished"
PONG = text_frame('{"event":"pong"}')


class Pipe:
    """One WebSocket, of which only the server has something to tell. Everything is called on the event loop."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request, transport: asyncio.Transport) -> None:
        self._socket = socket
        self._request = request
        self._transport = transport
        self._end: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

    @property
    def is_open(self) -> bool:
        return not self._end.done() and not self._transport.is_closing()

    def write(self, frames: bytes) -> None:
        """Whole frames. Never waits; at a reader who is too slow the connection ends."""
        if not self.is_open:
            return
        if self._transport.get_write_buffer_size() > MAX_UNSENT:
            self.end(*SLOW)
            return
        self._transport.write(frames)

    def end(self, code: int, reason: str) -> None:
        """Close the connection behind what was written so far."""
        if not self._end.done():
            self._end.set_result((code, reason))

    async def drain(self) -> None:
        """Until the reader has taken most of what was written, ``DRAIN_SECONDS`` at most; then the connection ends."""
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._request.writer.drain()
        except TimeoutError:
            self.end(*SLOW)
        await asyncio.sleep(0)

    async def run(self, work: Coroutine[None, None, None]) -> None:
        """Do ``work`` until either side closes the connection."""
        working = asyncio.create_task(work, name="following a log")
        closing = asyncio.create_task(self._close(), name="closing an observer")
        try:
            await self._read()
        finally:
            if not self._end.done():
                closing.cancel()
            while not working.done():  # redis-py waits with ``asyncio.wait_for``, which may swallow that
                working.cancel()
                await asyncio.wait({working}, timeout=AGAIN_SECONDS)
            await asyncio.gather(working, closing, return_exceptions=True)

    async def _read(self) -> None:
        pace = Pace(asyncio.get_running_loop().time)
        async for message in self._socket:
            if message.type is WSMsgType.TEXT and _is_ping(message.data):
                self.write(PONG)
            if wait := pace.take(len(message.data)):
                await asyncio.sleep(wait)

    async def _close(self) -> None:
        code, reason = await self._end
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._socket.close(code=code, message=reason.encode())
        self._transport.abort()


class LogObserver:
    """Follows one log from a cursor. ``server.log_tail.Follower``."""

    def __init__(self, pipe: Pipe, calls: CallLog, log: LogKey, after: int, *, numbered_markers: bool = True) -> None:
        """``numbered_markers``: as protocol 6.5 wants them, not 6.3."""
        self._pipe = pipe
        self._calls = calls
        self._log = log
        self._tail = Tail(after)
        self._numbered_markers = numbered_markers
        self._again = asyncio.Event()
        self._delivered = after
        self._agent = ""

    def take(self, lines: Sequence[Line], frames: bytes) -> None:
        fresh = self._tail.hear(lines)
        if fresh:
            self._send(fresh, frames if len(fresh) == len(lines) else joined(fresh))

    def doubt(self) -> None:
        self._tail.doubt()
        self._again.set()

    async def work(self) -> None:
        """Until the log has come to its end, or is not to be had."""
        try:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(self._calls.following(self._log, self))
                await self._begin()
                is_over = await self._catch_up()
                self._mark("log.caught_up", {"seq": self._delivered})
                while not is_over:
                    await self._again.wait()
                    self._again.clear()
                    is_over = await self._catch_up()
                self._pipe.end(*FINISHED)
        except StoreError as error:
            logger.warning("an observer was sent away: %s", error)
            self._pipe.end(*UNAVAILABLE)
        except Exception:
            logger.exception("an observer was lost")
            self._pipe.end(*UNAVAILABLE)

    async def _begin(self) -> None:
        """See to it that the cursor points into the log. Of a call that has not begun there is none yet."""
        info = await self._calls.find(self._log)
        if info is None:
            return
        self._agent = info.agent
        if (missing := gap_behind(info, self._tail.seen)) is not None:
            since, resume_from = missing
            self._tail.seen = self._delivered = resume_from - 1
            self._mark("log.gap", gap(time.time(), resume_from, since).data)

    async def _catch_up(self) -> bool:
        """Whether it is the log of a call that has ended."""
        is_over = False
        while not self._tail.is_live and self._pipe.is_open:
            page = await self._calls.read(self._log, self._tail.seen, PAGE)
            if page is None:
                page = Page(LogInfo("", self._tail.seen, live=True), (), more=False)
            for lines in _chunks(self._tail.read(page)):
                self._send(lines, joined(lines))
                await self._pipe.drain()
            is_over = self._log.kind == "call" and page.info.last > 0 and not page.info.live
            if not page.more and (late := self._tail.go_live()):
                self._send(late, joined(late))
        return is_over

    def _send(self, lines: Sequence[Line], frames: bytes) -> None:
        self._pipe.write(frames)
        self._delivered, self._agent = lines[-1].seq, lines[-1].agent
        if self._tail.is_live and any(line.closes for line in lines):
            self._pipe.end(*FINISHED)

    def _mark(self, kind: str, data: dict[str, int]) -> None:
        call = self._log.name if self._log.kind == "call" else None
        agent = self._agent if call else self._log.name
        body = encode(Entry(kind, round(time.time(), 3), data), call=call, agent=agent)
        self._pipe.write(text_frame(with_seq(self._delivered, body) if self._numbered_markers else without_seq(body)))


class FeedObserver:
    """Follows what the calls of some agents say, from now on. ``server.log_tail.Follower``."""

    def __init__(self, pipe: Pipe, calls: CallLog, feeds: Sequence[LogKey]) -> None:
        self._pipe = pipe
        self._calls = calls
        self._feeds = feeds

    def take(self, lines: Sequence[Line], frames: bytes) -> None:
        self._pipe.write(frames)

    def doubt(self) -> None:
        """What was missed cannot be had: there is no cursor. Who comes back knows that it was away."""
        self._pipe.end(*UNAVAILABLE)

    async def work(self) -> None:
        try:
            async with AsyncExitStack() as stack:
                for feed in self._feeds:
                    await stack.enter_async_context(self._calls.following(feed, self))
                ready = Entry("log.caught_up", round(time.time(), 3), {"seq": 0})
                body = encode(ready, call=None, agent=",".join(feed.name for feed in self._feeds))
                self._pipe.write(text_frame(without_seq(body)))
                await asyncio.get_running_loop().create_future()
        except StoreError as error:
            logger.warning("an observer was sent away: %s", error)
            self._pipe.end(*UNAVAILABLE)


def gap_behind(info: LogInfo, after: int) -> tuple[int, int] | None:
    """What a cursor misses: the first number, and the one from which there is something to read again.

    It is behind what was deleted; or it is of a log that was here before this one.
    """
    if after < info.floor:
        return after + 1, info.floor + 1
    if after > info.last:
        return after + 1, info.last + 1
    return None


def _is_ping(text: str) -> bool:
    try:
        frame = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(frame, dict) and frame.get("action") == "ping"


def _chunks(lines: Sequence[Line]) -> Iterator[list[Line]]:
    rest = iter(lines)
    while chunk := list(islice(rest, AT_ONCE)):
        yield chunk
