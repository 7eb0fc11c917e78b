"""WebSockets that bring a voice and take back its words: what both dialects share. Source: protocol 2.9, 2.10."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web

from media.audio import INPUT_RATE, Pcm
from media.encoding import Resampler
from pipeline.dictation import Dictation
from server.http import ApiError, parse_object
from server.outbox import CLOSE_SECONDS, Outbox

MAX_FRAME = 1 << 20
"""Bytes of one frame; at a larger one the connection ends with code 1009 (RFC 6455, 7.4.1)."""

HEARTBEAT_SECONDS = 25.0
MAX_FRAMES, MAX_BYTES = 1024, 1 << 20
"""What may wait for a client that does not read."""

SILENT_SECONDS = 60.0
"""How long a client may send nothing, neither voice nor a word."""

SLICE = INPUT_RATE // 2
"""Samples that are heard before others get their turn."""

NORMAL, GOING_AWAY, POLICY, INTERNAL = 1000, 1001, 1008, 1011
LEAVING = "the server is going away"


class VoiceSockets:
    """The sockets of one kind that are open."""

    def __init__(self) -> None:
        self._open: set[Outbox] = set()

    def __len__(self) -> int:
        return len(self._open)

    @asynccontextmanager
    async def accept(self, request: web.Request) -> AsyncIterator[tuple[web.WebSocketResponse, Outbox]]:
        """Upgrade a request. Who is to be refused is told so over the socket: browsers show nobody an HTTP error."""
        socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_SECONDS, max_msg_size=MAX_FRAME, compress=False, timeout=CLOSE_SECONDS
        )
        await socket.prepare(request)
        async with Outbox(socket, request, max_frames=MAX_FRAMES, max_bytes=MAX_BYTES) as outbox:
            self._open.add(outbox)
            try:
                yield socket, outbox
            finally:
                self._open.discard(outbox)

    async def close(self) -> None:
        """The server leaves."""
        for outbox in (leaving := list(self._open)):
            outbox.close(GOING_AWAY, LEAVING)
        await asyncio.gather(*(outbox.wait_closed() for outbox in leaving))


class Ear:
    """Makes of the bytes that a client sends what a dictation hears."""

    def __init__(self, encoding: str = "linear16", rate: int = INPUT_RATE) -> None:
        """``linear16`` (little-endian) or ``mulaw`` (ITU-T G.711), mono."""
        self._mulaw = encoding == "mulaw"
        self._resampler = Resampler(rate, INPUT_RATE)
        self._half = b""

    def hear(self, data: bytes) -> Pcm:
        """The samples in some more bytes; a sample may be cut in half between two frames."""
        if self._mulaw:
            return self._resampler.feed(MULAW[np.frombuffer(data, np.uint8)])
        data = self._half + data
        whole = len(data) // 2 * 2
        self._half = data[whole:]
        return self._resampler.feed(np.frombuffer(data[:whole], "<i2").astype(np.int16))


async def listen(
    socket: web.WebSocketResponse,
    dictation: Dictation,
    ear: Ear,
    *,
    command: Callable[[dict[str, Any]], bool],
    lead: float | None,
    longest: float,
) -> bool:
    """Hear a client until it is done: true when ``command`` said so, false when it left without a word.

    ``command`` gets the text frames; true ends the voice. A client may be ``lead`` seconds ahead of its own voice,
    ``None``: as far as the recogniser follows. Raises ``ApiError`` for one that sends nothing, or more than ``longest``
    seconds.
    """
    clock = asyncio.get_running_loop().time
    began = clock()
    while True:
        try:
            message = await socket.receive(timeout=SILENT_SECONDS)
        except TimeoutError:
            raise ApiError(408, "Nothing was sent for a minute", "IDLE_TIMEOUT") from None
        if message.type is WSMsgType.BINARY:
            pcm = ear.hear(message.data)
            for start in range(0, len(pcm), SLICE):
                dictation.write(pcm[start : start + SLICE])
                await asyncio.sleep(0)
                await dictation.room()
            if dictation.heard > longest:
                raise ApiError(413, f"More than {longest / 60:g} minutes were spoken", "INPUT_TOO_LONG")
            if lead is not None and (ahead := dictation.heard - (clock() - began)) > lead:
                await asyncio.sleep(ahead - lead)
        elif message.type is WSMsgType.TEXT:
            with suppress(ApiError):  # what is no object means nothing
                if command(parse_object(message.data, "The frame")):
                    return True
        else:
            return False


def told(**facts: Any) -> str:
    """A frame."""
    return json.dumps(facts, ensure_ascii=False)


def _mulaw() -> Pcm:
    """The sample that each byte stands for: G.711, table 2a, on the scale of 16 bits."""
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = ((((code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


MULAW = _mulaw()
