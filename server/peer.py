"""A synthetic caller: connects as a browser does, talks in real time, keeps what it hears. For `talk`, tests, load."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from fractions import Fraction
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import av
import numpy as np
from aioice import ice
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError

from config.identity import agent_slug, base_language
from media.audio import FRAME_MS, Pcm
from server.recording import LOUD, RATE, Recording

FRAME = RATE * FRAME_MS // 1000
FRAME_SECONDS = FRAME_MS / 1000
PING_SECONDS = 1.0
ASK_SECONDS = 5.0
MAX_EVENTS = 10_000
MAX_ANSWER = 256 * 1024

_gather = ice.get_host_addresses


def host_addresses(use_ipv4: bool, use_ipv6: bool) -> list[str]:
    """Addresses to call from; 127.0.0.1 when there is no other, which aioice alone would never gather."""
    return _gather(use_ipv4=use_ipv4, use_ipv6=use_ipv6) or ["127.0.0.1"]


ice.get_host_addresses = host_addresses  # the one place where a client of ours changes the library


class PeerError(Exception):
    """The call could not be made or broke. The text is fit for a person; ``status`` is that of an HTTP refusal."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Heard:
    """A frame from the DataChannel and when it came, seconds of ``time.monotonic()``."""

    at: float
    frame: dict[str, Any]

    @property
    def event(self) -> str:
        return str(self.frame.get("event", ""))


@dataclass(frozen=True, slots=True)
class Utterance:
    """Something that was said: when its first and its last loud frame left, seconds of ``time.monotonic()``."""

    began: float
    ended: float


class Mouth(MediaStreamTrack):
    """A track that speaks what it is given, one frame each 20 ms of the monotonic clock, and silence in between."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._queue: deque[Pcm] = deque()
        self._said: deque[tuple[int, asyncio.Future[float]]] = deque()  # frame index to tell about
        self._start = 0.0
        self._sent = 0

    async def recv(self) -> av.AudioFrame:
        """The next frame: mono, ``RATE``. Raises ``MediaStreamError`` when the track was stopped."""
        if self.readyState != "live":
            raise MediaStreamError
        self._start = self._start or time.monotonic()
        delay = self._start + self._sent * FRAME_SECONDS - time.monotonic()
        if delay > 0:
            await asyncio.sleep(delay)
        pcm = self._queue.popleft() if self._queue else np.zeros(FRAME, np.int16)
        frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, self._sent * FRAME, Fraction(1, RATE)
        self._sent += 1
        while self._said and self._said[0][0] <= self._sent:
            _, told = self._said.popleft()
            if not told.done():
                told.set_result(time.monotonic())
        return frame

    async def say(self, pcm: Pcm) -> Utterance:
        """Speak mono PCM at ``RATE`` after what is already waiting; returns when its last sample left.

        Raises ``PeerError`` when the track stops before.
        """
        frames = np.pad(pcm, (0, -len(pcm) % FRAME)).reshape(-1, FRAME)
        first = self._sent + len(self._queue)
        loud = np.flatnonzero(np.sqrt(np.mean(frames.astype(np.float64) ** 2, axis=1)) > LOUD)
        onset, last = (int(loud[0]), int(loud[-1])) if len(loud) else (0, len(frames) - 1)
        self._queue.extend(frames)
        moments = [self._moment(first + onset + 1), self._moment(first + last + 1), self._moment(first + len(frames))]
        began, ended, _ = await asyncio.gather(*moments)
        return Utterance(began, ended)

    def _moment(self, frames_sent: int) -> asyncio.Future[float]:
        told: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._said.append((frames_sent, told))
        return told

    def stop(self) -> None:
        for _, told in self._said:
            if not told.done():
                told.set_exception(PeerError("The call ended before everything was said"))
        self._said.clear()
        super().stop()


class Peer:
    """One call to one agent. ``connect``, then talk and read ``next_event``; ``close`` releases everything.

    ``origin`` is sent as a page's would be; with an ``api_key`` none is needed.
    """

    def __init__(self, url: str, agent: str, *, api_key: str = "", origin: str = "") -> None:
        self.url = url.rstrip("/")
        self.agent = agent
        self.events: list[Heard] = []
        self.recording = Recording()
        self.session_id = ""
        self.offered_at = 0.0
        self.answered_at = 0.0
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {"Origin": origin or origin_of(url)}
        self._mouth = Mouth()
        self._pc: RTCPeerConnection | None = None
        self._channel: RTCDataChannel | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._read = 0
        self._news = asyncio.Event()
        self._over = ""

    async def connect(self, seconds: float = 30.0) -> None:
        """Mint a token, offer, wait until audio flows and the DataChannel is open. Raises ``PeerError``."""
        try:
            async with asyncio.timeout(seconds):
                await self._connect()
        except TimeoutError:
            raise PeerError(f"No connection within {seconds:g} s") from None
        except aiohttp.ClientError as error:
            raise PeerError(f"{self.url} does not answer: {error}") from None

    async def _connect(self) -> None:
        async with aiohttp.ClientSession(self.url, headers=self._headers) as http:
            minted = await json_answer(http.get("/webrtc/token", params={"agent_id": self.agent}), "No token")
            ice = await json_answer(http.get("/webrtc/ice-servers"), "No ICE servers")
            servers = [RTCIceServer(**server) for server in ice.get("iceServers", [])]
            self._pc = pc = RTCPeerConnection(RTCConfiguration(iceServers=servers))
            opened = asyncio.Event()
            self._listen(pc, opened)
            pc.addTrack(self._mouth)
            self._open_channel(pc.createDataChannel("events", ordered=True), opened)
            await pc.setLocalDescription(await pc.createOffer())
            self.offered_at = time.monotonic()
            offer = {"sdp": pc.localDescription.sdp, "type": "offer", "token": minted["token"]}
            answer = await json_answer(http.post("/webrtc/offer", json=offer), "The call was refused")
            self.answered_at = time.monotonic()
        self.session_id = str(answer.get("session_id", ""))
        await pc.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))
        await opened.wait()
        if self._over:
            raise PeerError(self._over)

    def _listen(self, pc: RTCPeerConnection, opened: asyncio.Event) -> None:
        @pc.on("track")
        def on_track(track: MediaStreamTrack) -> None:
            self._run(self._hear(track))

        @pc.on("connectionstatechange")
        def on_state() -> None:
            if pc.connectionState in ("failed", "closed"):
                self._end(f"The connection is {pc.connectionState}")
                opened.set()

    def _open_channel(self, channel: RTCDataChannel, opened: asyncio.Event) -> None:
        self._channel = channel

        @channel.on("open")
        def on_open() -> None:
            opened.set()
            self._run(self._ping(channel))

        @channel.on("message")
        def on_message(message: str | bytes) -> None:
            try:
                frame = json.loads(message)
            except ValueError:
                return
            if isinstance(frame, dict) and len(self.events) < MAX_EVENTS:
                self.events.append(Heard(time.monotonic(), frame))
                self._news.set()

        @channel.on("close")
        def on_close() -> None:
            self._end("The server closed the call")

    async def loading(self) -> bool:
        """Whether the server still loads what hears and speaks the agent's language; false when it does not tell."""
        limit = aiohttp.ClientTimeout(total=ASK_SECONDS)
        try:
            async with aiohttp.ClientSession(self.url, headers=self._headers, timeout=limit) as http:
                told = await json_answer(http.get("/webrtc/agents"), "No agents")
            [agent] = [each for each in told["agents"] if each["agent"] == agent_slug(self.agent)]
            spoken = base_language(agent["language"])
            return [each["state"] for each in agent["languages"] if each["language"] == spoken] == ["loading"]
        except (aiohttp.ClientError, TimeoutError, PeerError, ValueError, LookupError, TypeError):
            return False

    async def say(self, pcm: Pcm) -> Utterance:
        """Speak mono PCM at ``RATE`` in real time; returns when the last sample left. Raises ``PeerError``."""
        return await self._mouth.say(pcm)

    def act(self, action: str, **fields: Any) -> None:
        """Send an action (protocol 4.5). Raises ``PeerError`` when the channel is not open."""
        if self._channel is None or self._channel.readyState != "open":
            raise PeerError(self._over or "The DataChannel is not open")
        self._channel.send(json.dumps({"action": action, **fields}))

    async def next_event(self, seconds: float) -> Heard | None:
        """The next frame in order, ``None`` after ``seconds`` without one. Raises ``PeerError`` when the call ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._read == len(self.events) and not self._over:
                    self._news.clear()
                    await self._news.wait()
        if self._read < len(self.events):
            self._read += 1
            return self.events[self._read - 1]
        if self._over:
            raise PeerError(self._over)
        return None

    async def __aenter__(self) -> Peer:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up as a closing page does, and release everything."""
        self._over = self._over or "The call was closed"
        self._mouth.stop()
        if self._pc is not None:
            await self._pc.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _hear(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                if not isinstance(frame, av.AudioFrame) or frame.pts is None:
                    continue
                samples = frame.to_ndarray().reshape(-1, len(frame.layout.channels))[:, 0]
                self.recording.add(frame.pts, samples.astype(np.int16), time.monotonic())

    async def _ping(self, channel: RTCDataChannel) -> None:
        while channel.readyState == "open":
            channel.send("ping")
            await asyncio.sleep(PING_SECONDS)

    def _end(self, reason: str) -> None:
        self._over = self._over or reason
        self._news.set()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def origin_of(url: str) -> str:
    """The origin of a page at ``url``."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


async def json_answer(request: Any, failure: str) -> dict[str, Any]:
    """The JSON object of a bounded answer with status 200. Raises ``PeerError`` that begins with ``failure``."""
    async with request as response:
        raw = b""
        async for chunk in response.content.iter_chunked(MAX_ANSWER):
            raw += chunk
            if len(raw) > MAX_ANSWER:
                raise PeerError(f"{failure}: the answer is larger than {MAX_ANSWER // 1024} KiB")
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise PeerError(f"{failure}: status {response.status} and no JSON object")
        if response.status != 200:
            raise PeerError(f"{failure}: {body.get('detail') or response.status}", response.status)
        return body
