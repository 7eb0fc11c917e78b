"""A server with media and nothing else, to be measured from another process: `python -m bench.media_server KIND WORK`.

KIND is ``own`` (this project's media engine) or ``aiortc`` (``RTCPeerConnection`` with frames in and out). WORK:

- ``w1``: bot audio all the time, from Opus that was encoded before (aiortc: from frames, which it encodes);
- ``w1-silero``: the same, and the neural voice detector where its gate asks for it;
- ``w2``: bot audio half the time, from PCM at 24 kHz that is encoded here;
- ``barge-in``: bot audio all the time, dropped at the first frame with a voice in it.

All of them decode, measure level and voice activity, send three events a second, and hear a ping. Prints its port. It
speaks as much of the server's HTTP as a synthetic caller needs; ``/stats`` tells what it took.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import numpy as np
from aiohttp import web
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

from bench.audio import voice
from config.settings import Settings
from media.audio import OUTPUT_RATE, AudioFrame, Pcm
from media.engine import MediaEngine
from media.playout import Encoded
from media.sdp import parse_offer
from media.sender import encode_ahead
from media.session import Session
from pipeline.models import SILERO
from pipeline.silero import Activity, Silero, VoiceActivity
from server import peer  # noqa: F401 - lets aioice gather 127.0.0.1 when there is nothing else

EVENT = json.dumps({"event": "bot.word", "call_id": "0" * 36, "seq": 1, "ts": 0.0, "word": "hello", "position": 12345})
SPURT_FRAMES = 250  # of W2: 5 s of speech, 5 s of silence
HUSH_FRAMES = 25  # after a barge-in the bot begins again when it heard nothing for so long
SECOND_FRAMES = 50


class Totals:
    def __init__(self) -> None:
        self.frames = 0
        self.concealed = 0
        self.asked = 0
        """Windows that the neural detector judged."""
        self.offer_ms: list[float] = []

    def stats(self) -> dict[str, Any]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "at": time.monotonic(),
            "cpu": usage.ru_utime + usage.ru_stime,
            "kernel": usage.ru_stime,
            "rss_mb": usage.ru_maxrss // 1024,
            "frames": self.frames,
            "concealed": self.concealed,
            "asked": self.asked,
            "offer_ms": self.offer_ms,
        }


class Line:
    """Observer of a session that has the work of a call and none of its thoughts."""

    session: Session
    ear: VoiceActivity | None = None

    def __init__(self, totals: Totals, speech: Pcm, ahead: list[Encoded], work: str, number: int) -> None:
        """``ahead``: the speech in seconds that were encoded before, for the works that want it."""
        self._totals = totals
        self._speech = speech
        self._ahead = ahead
        self._work = work
        self._count = number * 7  # so that not all begin at once
        self._position = number if ahead else number * OUTPUT_RATE % len(speech)
        self._hush = HUSH_FRAMES

    def on_connected(self) -> None:
        self._say(2.0)

    def on_audio(self, frame: AudioFrame) -> None:
        self._totals.frames += 1
        self._totals.concealed += frame.concealed
        self._count += 1
        if self.ear is not None:
            self.ear.hear(frame)
        if self._count % SECOND_FRAMES in (0, 17, 34):
            self.session.send(EVENT)
        if self._work == "barge-in":
            self._barge_in(frame)
        elif self._work.startswith("w1"):
            if not self._count % SECOND_FRAMES:
                self._say(1.0)
        elif not self._count % (2 * SPURT_FRAMES):
            self._say(SPURT_FRAMES / SECOND_FRAMES)

    def _barge_in(self, frame: AudioFrame) -> None:
        playout = self.session.playout
        self._hush = 0 if frame.is_speech else self._hush + 1
        if frame.is_speech and playout.pending:
            playout.clear()
        elif self._hush >= HUSH_FRAMES and playout.pending < OUTPUT_RATE:
            self._say(1.0)

    def _say(self, seconds: float) -> None:
        if self._ahead:
            for _ in range(round(seconds)):
                self._position += 1
                self.session.playout.write(self._ahead[self._position % len(self._ahead)])
            return
        size = int(seconds * OUTPUT_RATE)
        if self._position + size > len(self._speech):
            self._position = 0
        self.session.playout.write(self._speech[self._position : self._position + size])
        self._position += size

    def on_played(self, position: int) -> None:
        pass

    def on_channel_open(self) -> None:
        pass

    def on_message(self, text: str) -> None:
        pass

    def on_closed(self, reason: str) -> None:
        if self.ear is not None:
            self.ear.close()

    def on_activity(self, activity: Activity) -> None:
        self._totals.asked += 1


def tone() -> Pcm:
    """Ten seconds of 440 Hz at ``OUTPUT_RATE``."""
    return (8000 * np.sin(2 * np.pi * 440 * np.arange(10 * OUTPUT_RATE) / OUTPUT_RATE)).astype(np.int16)


class OwnMedia:
    """The media engine of this project."""

    def __init__(self, work: str) -> None:
        self.totals = Totals()
        self._engine = MediaEngine(addresses=["127.0.0.1"])
        self._work = work
        # Who barges in must find the bot speaking, not between two words: a tone has no pauses.
        self._speech = tone() if work == "barge-in" else voice(OUTPUT_RATE)
        seconds = self._speech[: len(self._speech) // OUTPUT_RATE * OUTPUT_RATE].reshape(-1, OUTPUT_RATE)
        self._ahead = [encode_ahead(second) for second in seconds] if work != "w2" else []
        self._silero = Silero(Settings.load().models_dir / SILERO.name) if work == "w1-silero" else None

    async def start(self) -> None:
        if self._silero is not None:
            await self._silero.start()
        await self._engine.start()

    async def answer(self, sdp: str) -> str:
        line = Line(self.totals, self._speech, self._ahead, self._work, self._engine.sessions)
        if self._silero is not None:
            line.ear = self._silero.listen(line.on_activity)
        line.session = await self._engine.accept(parse_offer(sdp), line)
        return line.session.answer

    def stats(self) -> dict[str, Any]:
        lateness = self._engine.clock.lateness
        return self.totals.stats() | {
            "ticks": lateness.count,
            "tick_p99_ms": lateness.p99,
            "udp_overflows": self._engine.udp_overflows,
        }

    async def close(self) -> None:
        await self._engine.close()
        if self._silero is not None:
            await self._silero.aclose()


class Speech(MediaStreamTrack):
    """Recorded speech in frames of 20 ms, in real time, without end."""

    kind = "audio"

    def __init__(self, frames: list[Pcm], number: int) -> None:
        super().__init__()
        self._frames = frames
        self._position = number * SECOND_FRAMES
        self._start = 0.0
        self._sent = 0

    async def recv(self) -> av.AudioFrame:
        self._start = self._start or time.monotonic()
        await asyncio.sleep(max(0.0, self._start + self._sent * 0.02 - time.monotonic()))
        pcm = self._frames[(self._position + self._sent) % len(self._frames)]
        frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, self._sent * 960, Fraction(1, 48_000)
        self._sent += 1
        return frame


class AiortcMedia:
    """The same exchange on aiortc's peer connection."""

    def __init__(self) -> None:
        self.totals = Totals()
        speech = voice(48_000)
        self._frames = list(speech[: len(speech) // 960 * 960].reshape(-1, 960))
        self._connections: list[RTCPeerConnection] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        pass

    async def answer(self, sdp: str) -> str:
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        connection.addTrack(Speech(self._frames, len(self._connections)))
        self._connections.append(connection)
        connection.on("track", lambda track: self._tasks.append(asyncio.create_task(self._listen(track))))
        connection.on("datachannel", lambda channel: self._tasks.append(asyncio.create_task(self._tell(channel))))
        await connection.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        await connection.setLocalDescription(await connection.createAnswer())
        return str(connection.localDescription.sdp)

    async def _listen(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                await track.recv()
                self.totals.frames += 1

    async def _tell(self, channel: Any) -> None:
        while channel.readyState == "open":
            channel.send(EVENT)
            await asyncio.sleep(1 / 3)

    def stats(self) -> dict[str, Any]:
        return self.totals.stats()

    async def close(self) -> None:
        await asyncio.gather(*(connection.close() for connection in self._connections))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def serve(media: OwnMedia | AiortcMedia, announce: Callable[[int], None]) -> None:
    """Answer offers until standard input is closed."""

    async def offer(request: web.Request) -> web.Response:
        sdp = (await request.json())["sdp"]
        began = time.perf_counter()
        answer = await media.answer(sdp)
        media.totals.offer_ms.append((time.perf_counter() - began) * 1e3)
        return web.json_response({"sdp": answer, "type": "answer"})

    async def token(_: web.Request) -> web.Response:
        return web.json_response({"token": "none"})

    async def stats(_: web.Request) -> web.Response:
        return web.json_response(media.stats())

    app = web.Application()
    app.add_routes([web.get("/webrtc/token", token), web.post("/webrtc/offer", offer), web.get("/stats", stats)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    await media.start()
    gc.freeze()  # as the server does: no pass for garbage looks through all that has been imported
    announce(runner.addresses[0][1])
    closed = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, closed.set)
    await closed.wait()
    await media.close()
    await runner.cleanup()


def main() -> None:
    kind, work, cpu = sys.argv[1:4]
    if cpu != "-":
        os.sched_setaffinity(0, {int(cpu)})
    media = OwnMedia(work) if kind == "own" else AiortcMedia()
    asyncio.run(serve(media, lambda port: print(port, flush=True)))


if __name__ == "__main__":
    main()
