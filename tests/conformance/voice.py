"""A page in a call, as protocol.md says the public browser clients are: real media over aiortc, the events' channel."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import aiohttp
import av
import numpy as np
from aiortc import MediaStreamTrack, RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

from media.audio import Pcm
from server.peer import Mouth, Utterance
from server.recording import Recording
from tests.conformance.inbox import Frame, Inbox
from tests.conformance.phases import Phases
from tests.conformance.rules import BrowserRules

PING_SECONDS = 1.0

TokenProvider = Callable[[], Awaitable[Frame]]


class VoiceError(Exception):
    """What the page shows: ``Token: 403``, ``Offer: 401``, …"""


class VoiceSession:
    """``connect``, then talk; an async context manager. ``state`` is what the page shows, ``inbox`` the raw frames."""

    def __init__(
        self,
        agent: str,
        *,
        token_provider: TokenProvider | None = None,
        server: str = "",
        origin: str = "",
        config: Frame | None = None,
        metadata: Frame | None = None,
    ) -> None:
        self.status = "idle"
        self.state = Phases()
        self.inbox = Inbox()
        self.rules = BrowserRules()
        self.recording = Recording()
        self.call_id = ""
        self.answer = ""
        self._agent = agent
        self._token_provider = token_provider
        self._server = server.rstrip("/")
        self._headers = {"Origin": origin} if origin else {}
        self._extra = {key: value for key, value in (("config", config), ("metadata", metadata)) if value}
        self._mouth = Mouth()
        self._muted = False
        self._pc: RTCPeerConnection | None = None
        self._channel: Any = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """The steps of protocol 4.1. Raises ``VoiceError``."""
        self.status = "connecting"
        try:
            async with aiohttp.ClientSession(headers=self._headers) as http:
                await self._connect(http)
        except BaseException as error:
            await self.disconnect()
            self.status = "error" if isinstance(error, VoiceError) else self.status
            raise

    async def _connect(self, http: aiohttp.ClientSession) -> None:
        minted = await (self._token_provider() if self._token_provider else self._token(http))
        server = minted.get("server")
        if not server:
            raise VoiceError("Token response missing server URL")
        self._pc = pc = RTCPeerConnection(RTCConfiguration(iceServers=await self._ice_servers(http, server)))
        pc.on("track", self._on_track)
        pc.on("connectionstatechange", self._on_state)
        pc.addTrack(self._mouth)
        self._open(pc.createDataChannel("events", ordered=True))
        await pc.setLocalDescription(await pc.createOffer())
        offer = {"sdp": pc.localDescription.sdp, "type": "offer", "token": minted["token"], **self._extra}
        async with http.post(f"{server}/webrtc/offer", json=offer) as response:
            if response.status != 200:
                raise VoiceError(f"Offer: {response.status}")
            answer = await response.json()
        self.call_id, self.answer = answer["session_id"], answer["sdp"]
        await pc.setRemoteDescription(RTCSessionDescription(answer["sdp"], answer["type"]))
        await self.inbox.until(
            lambda: self.status != "connecting" and self._channel.readyState == "open", "a connection"
        )

    async def _token(self, http: aiohttp.ClientSession) -> Frame:
        async with http.get(f"{self._server}/webrtc/token", params={"agent_id": self._agent}) as response:
            if response.status != 200:
                raise VoiceError(f"Token: {response.status}")
            minted: Frame = await response.json()
        return minted

    async def _ice_servers(self, http: aiohttp.ClientSession, server: str) -> list[RTCIceServer]:
        """Whatever fails leaves the client with a STUN server of its own, which nobody could reach here."""
        async with http.get(f"{server}/webrtc/ice-servers") as response:
            body = await response.json()
        assert isinstance(body, dict), "a bare array is not understood: trap 7"
        listed = body.get("iceServers", body.get("ice_servers"))
        assert isinstance(listed, list)
        return [RTCIceServer(**each) for each in listed]

    # --- what a person does

    async def say(self, pcm: Pcm) -> Utterance:
        """Speak mono PCM at 48 kHz in real time, unless muted; returns when the last sample has left."""
        return await self._mouth.say(np.zeros_like(pcm) if self._muted else pcm)

    def set_muted(self, muted: bool) -> None:
        self._muted = muted
        self._act("mute" if muted else "unmute")

    def configure(self, **config: Any) -> None:
        self._act("configure", **config)

    def send_text(self, text: str) -> None:
        self._act("inject_text", text=text)

    def set_context(self, key: str, value: str | None) -> None:
        self._act("set_context", key=key, value=value)

    async def disconnect(self) -> None:
        """What ``disconnect`` and a closing page do: nothing but close the peer connection."""
        self.status = "idle"
        self.inbox.wake()
        self._mouth.stop()
        if self._pc is not None:
            await self._pc.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _act(self, action: str, **fields: Any) -> None:
        if self._channel.readyState == "open":
            self._channel.send(json.dumps({"action": action, **fields}))

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await (self._leaving or self.disconnect())
        if kind is None:
            self.rules.assert_kept()

    # --- what comes

    def _open(self, channel: Any) -> None:
        self._channel = channel
        channel.on("open", self._on_open)
        channel.on("message", self._on_message)

    def _on_open(self) -> None:
        self._run(self._ping(self._channel))
        self.inbox.wake()

    def _on_message(self, message: str | bytes) -> None:
        with contextlib.suppress(ValueError):
            frame = json.loads(message)
            self.rules.check(frame)
            self.state.take(frame)
            self.inbox.put(frame)
            if self.state.over and not self._leaving:
                self._leaving = asyncio.create_task(self.disconnect())

    def _on_state(self) -> None:
        assert self._pc is not None
        if self._pc.connectionState == "connected":
            self.status = "connected"
        elif self._pc.connectionState in ("disconnected", "failed", "closed"):
            self.status = "idle"
        self.inbox.wake()

    def _on_track(self, track: MediaStreamTrack) -> None:
        self._run(self._hear(track))

    async def _hear(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                if isinstance(frame, av.AudioFrame) and frame.pts is not None:
                    samples = frame.to_ndarray().reshape(-1, len(frame.layout.channels))[:, 0]
                    self.recording.add(frame.pts, samples.astype(np.int16), time.monotonic())

    async def _ping(self, channel: Any) -> None:
        while channel.readyState == "open":
            channel.send("ping")
            await asyncio.sleep(PING_SECONDS)

    def _run(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
