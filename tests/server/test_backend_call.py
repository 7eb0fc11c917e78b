"""A real call as its backend hears of it."""

from __future__ import annotations

import asyncio
from typing import Any

from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack

from tests.server.backends import SECONDS, Backend, House, house


async def call(server: House, **metadata: str) -> tuple[RTCPeerConnection, str]:
    """A browser's call with ``mara``, connected: the peer and the call's id."""
    pc = RTCPeerConnection()
    pc.addTrack(AudioStreamTrack())
    pc.createDataChannel("events")
    await pc.setLocalDescription(await pc.createOffer())
    _, body = await server.token("acme", "mara", metadata='{"userId": "u_1"}')
    offer = {"sdp": pc.localDescription.sdp, "type": "offer", "token": body["token"], "metadata": metadata}
    async with server.http.post("/webrtc/offer", json=offer) as response:
        answer = await response.json()
    await pc.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))
    return pc, answer["session_id"]


async def heard(backend: Backend, last: str) -> list[dict[str, Any]]:
    async with asyncio.timeout(SECONDS):
        frames = [await backend.next()]
        while frames[-1]["event"] != last:
            frames.append(await backend.next())
    return frames


async def test_the_backend_hears_of_its_call_from_the_first_event_to_the_last() -> None:
    async with house() as server, server.backend("acme") as backend, server.backend("globex") as other:
        await backend.create("Mara")
        await other.create("mara")
        pc, call_id = await call(server, userId="forged", page="/cart")
        started = (await heard(backend, "call.started"))[0]
        assert started["event"] == "call.started", "nothing comes before it"
        assert {
            "agent_id": "Mara",
            "call_id": call_id,
            "session_id": call_id,
            "from": "webrtc",
            "to": "webrtc",
            "direction": "inbound",
            "transport": "webrtc",
            "metadata": {"userId": "u_1", "page": "/cart"},
            "language": "en",
            "seq": 1,
        }.items() <= started.items()
        server.hub.calls[call_id].hangup("hangup")
        ended = await heard(backend, "call.ended")
        assert all(frame["agent_id"] == "Mara" and frame["call_id"] == call_id for frame in ended)
        assert (ended[-1]["reason"], ended[-1]["direction"]) == ("hangup", "inbound")
        assert not {"session.timeout", "session.started", "session.ended"} & {frame["event"] for frame in ended}
        await pc.close()
        await backend.quiet()
        await other.quiet()


async def test_a_backend_that_comes_back_during_a_call_is_not_told_of_a_second_beginning() -> None:
    async with house() as server:
        async with server.backend("acme") as backend:
            await backend.create("mara")
            pc, call_id = await call(server)
            await heard(backend, "call.started")
        async with server.backend("acme") as backend:
            await backend.create("mara")
            server.hub.calls[call_id].hangup("hangup")
            frames = await heard(backend, "call.ended")
            assert "call.started" not in [frame["event"] for frame in frames]
            await backend.quiet()
        await pc.close()
