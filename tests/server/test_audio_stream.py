"""A backend streams a voice: frames, rates, refusals, limits, who comes too fast, who leaves, and real ears."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.audio import INPUT_RATE, OUTPUT_RATE, Pcm
from media.encoding import Resampler
from pipeline.engine import EngineError, SlowEngineError
from server.audio_stream import ENCODINGS, RATES, parse
from server.http import ApiError
from server.voice_socket import MULAW, Ear
from tests.server.backends import PUBLISHABLE, SECONDS, House, bearer, house, until
from tests.server.test_audio_text import SCRIPTED, Gate, gate
from tests.voices import recording, said, silence
from tests.words import word_error_rate

__all__ = ["gate"]

PATH = "/v1/audio/transcriptions/stream"
VOICES = np.concatenate([recording("en-00.flac"), silence(1.0), recording("en-02.flac"), silence(0.3)])

Frame = dict[str, Any]


class Stream:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, pcm: Pcm, size: int = 1600) -> None:
        for start in range(0, len(pcm), size):
            await self.socket.send_bytes(pcm[start : start + size].astype("<i2").tobytes())

    async def send(self, kind: str) -> None:
        await self.socket.send_str(json.dumps({"type": kind}))

    async def next(self) -> Frame:
        async with asyncio.timeout(SECONDS):
            message = await self.socket.receive()
        assert message.type is aiohttp.WSMsgType.TEXT, (message, self.socket.close_code)
        frame = json.loads(message.data)
        assert isinstance(frame, dict)
        return frame

    async def rest(self) -> list[Frame]:
        """All frames until the server closes."""
        async with asyncio.timeout(4 * SECONDS):
            return [json.loads(message.data) async for message in self.socket]


@asynccontextmanager
async def streaming(server: House, query: str = "", org: str = "acme") -> AsyncIterator[Stream]:
    async with server.http.ws_connect(f"{PATH}?{query}", headers=bearer(org)) as socket:
        yield Stream(socket)


def texts(frames: list[Frame], kind: str = "final") -> list[str]:
    return [frame["text"] for frame in frames if frame["type"] == kind]


async def test_the_frames_of_a_stream() -> None:
    async with house(**SCRIPTED) as server, streaming(server, "language=es-MX") as stream:
        ready = await stream.next()
        identity = ready["request_id"]
        assert identity.startswith("req_")
        assert ready == {
            "type": "ready",
            "request_id": identity,
            "model": "instant",
            "language": "es-MX",
            "sample_rate": 16000,
            "encoding": "linear16",
            "diarize": False,
        }
        await stream.say(VOICES)
        await stream.send("stop")
        frames = await stream.rest()
        assert stream.socket.close_code == 1000
        assert frames[-1] == {
            "type": "done",
            "request_id": identity,
            "audio_seconds": round(len(VOICES) / INPUT_RATE, 3),
            "billed_minutes": 0,
        }
        finals = [frame for frame in frames if frame["type"] == "final"]
        assert len(finals) == 2
        assert {frame["language"] for frame in finals} == {"es-MX"}
        assert finals[0]["start"] == pytest.approx(0.0, abs=0.3)
        assert finals[0]["end"] == pytest.approx(len(recording("en-00.flac")) / INPUT_RATE, abs=0.4)
        assert finals[1]["start"] == pytest.approx(finals[0]["end"] + 1.0, abs=0.6)
        partials = texts(frames, "partial")
        assert len(partials) > 4
        assert partials[0].split()[0] == "This"


async def test_finalize_commits_what_was_said_so_far() -> None:
    async with house(**SCRIPTED) as server, streaming(server) as stream:
        await stream.say(VOICES[: 2 * INPUT_RATE])
        await stream.send("finalize")
        frames = [await stream.next()]
        while frames[-1]["type"] != "final":
            frames.append(await stream.next())
        await stream.send("finalize")  # of nothing: no answer
        await stream.send("stop")
        assert [frame["type"] for frame in await stream.rest()] == ["done"]


@pytest.mark.parametrize("rate", RATES)
async def test_every_rate_is_heard_alike(rate: int) -> None:
    async with house(**SCRIPTED) as server, streaming(server, f"sample_rate={rate}") as stream:
        voice = Resampler(INPUT_RATE, rate).feed(VOICES)
        await stream.say(voice, size=777)
        await stream.send("stop")
        frames = await stream.rest()
        assert frames[0]["sample_rate"] == rate
        assert len(texts(frames)) == 2
        assert frames[-1]["audio_seconds"] == pytest.approx(len(VOICES) / INPUT_RATE, abs=0.05)


async def test_telephones() -> None:
    assert [int(MULAW[code]) for code in (0x00, 0x80, 0x7F, 0xFF, 0x8F, 0x0F)] == [-32124, 32124, 0, 0, 16764, -16764]
    codes = np.argsort(np.argsort(MULAW, kind="stable"), kind="stable")  # nearest code of each sample
    ordered = np.sort(MULAW)
    voice = Resampler(INPUT_RATE, 8000).feed(VOICES)
    nearest = np.clip(np.searchsorted(ordered, voice), 0, 255)
    data = np.argsort(codes)[nearest].astype(np.uint8).tobytes()
    async with house(**SCRIPTED) as server, streaming(server, "sample_rate=8000&encoding=mulaw") as stream:
        for start in range(0, len(data), 800):
            await stream.socket.send_bytes(data[start : start + 800])
        await stream.send("stop")
        assert len(texts(await stream.rest())) == 2


def test_a_sample_may_be_cut_between_two_frames() -> None:
    data = recording("en-00.flac").astype("<i2").tobytes()
    ear = Ear()
    assert b"".join(ear.hear(data[i : i + 333]).astype("<i2").tobytes() for i in range(0, len(data), 333)) == data


REFUSALS: list[tuple[str, dict[str, str], str]] = [
    ("", {}, "MISSING_KEY"),
    ("", {"X-API-Key": "pk_wrong"}, "INVALID_KEY"),
    ("", {"X-API-Key": PUBLISHABLE["acme"]}, "INVALID_KEY"),
    ("model=deepgram/nova-3", bearer("acme"), "BAD_MODEL"),
    ("sample_rate=44100", bearer("acme"), "BAD_REQUEST"),
    ("encoding=opus", bearer("acme"), "BAD_REQUEST"),
    ("language=%3F", bearer("acme"), "BAD_REQUEST"),
    ("diarize=true", bearer("acme"), "DIARIZE_UNSUPPORTED"),
]


@pytest.mark.parametrize(("query", "headers", "code"), REFUSALS)
async def test_who_is_refused_is_told_why(query: str, headers: dict[str, str], code: str) -> None:
    async with house(**SCRIPTED) as server, server.http.ws_connect(f"{PATH}?{query}", headers=headers) as socket:
        [frame] = await Stream(socket).rest()
        assert (frame["type"], frame["code"], socket.close_code) == ("error", code, 1008)
        assert frame["error"]


@given(
    st.dictionaries(st.sampled_from(["model", "language", "diarize", "sample_rate", "encoding"]), st.text(max_size=9))
)
def test_any_query_is_read_or_refused(query: dict[str, str]) -> None:
    try:
        asked = parse(query)
    except ApiError:  # whatever else is raised is a fault
        return
    assert asked.rate in RATES
    assert asked.encoding in ENCODINGS


async def test_any_frames_are_borne() -> None:
    async with house(**SCRIPTED) as server, streaming(server) as stream:
        for text in ("", "{", "[]", "null", '{"type": 1}', '{"type": "sto"}', '{"event": "stop"}', "[" * 9999, "\x00"):
            await stream.socket.send_str(text)
        for data in (b"", b"\x00", b"\xff" * 99_999):
            await stream.socket.send_bytes(data)
        await stream.send("stop")
        assert (await stream.rest())[-1]["type"] == "done"


@pytest.mark.parametrize(
    ("error", "code"), [(EngineError("deaf"), "UPSTREAM_ERROR"), (SlowEngineError("slow"), "UPSTREAM_TIMEOUT")]
)
async def test_an_engine_that_breaks(gate: Gate, error: EngineError, code: str) -> None:
    gate.broken = error
    gate.open.set()
    async with house(**SCRIPTED) as server, streaming(server) as stream:
        await stream.say(VOICES)
        *_, last = await stream.rest()
        assert last == {"type": "error", "code": code, "error": str(error)}
        assert stream.socket.close_code == 1011


async def test_an_organisation_takes_no_place_of_another_and_leaves_its_own(gate: Gate) -> None:
    async with house(**SCRIPTED, audio_requests=1) as server:
        async with streaming(server) as ours:
            assert (await ours.next())["type"] == "ready"
            async with streaming(server) as second:
                assert (await second.next())["code"] == "RATE_LIMITED"
            async with streaming(server, org="globex") as theirs:
                assert (await theirs.next())["type"] == "ready"
            await ours.say(VOICES)
            await until(lambda: gate.asked == 1)
        await until(lambda: gate.closed == 2)  # though the last words had not been understood
        async with streaming(server) as again:
            assert (await again.next())["type"] == "ready"


async def test_who_sends_faster_than_is_understood_is_made_to_wait(gate: Gate) -> None:
    """Else a recogniser that holds a minute at most would forget the rest."""
    many = np.concatenate([VOICES, silence(1.0)] * 60)
    async with house(**SCRIPTED) as server, streaming(server) as stream:
        saying = asyncio.create_task(stream.say(many, size=16_000))
        await until(lambda: gate.asked == 2)
        await asyncio.sleep(0.5)  # time enough to hear it all
        assert gate.asked == 2
        gate.open.set()
        await saying
        await stream.send("stop")
        frames = await stream.rest()
        assert len(texts(frames)) == 120
        assert frames[-1]["audio_seconds"] == pytest.approx(len(many) / INPUT_RATE, abs=0.01)


async def test_the_server_that_leaves_says_so() -> None:
    async with house(**SCRIPTED) as server, streaming(server) as stream:
        await stream.next()
        reading = asyncio.create_task(stream.rest())
        await server.listener.close()
        assert await reading == []
        assert stream.socket.close_code == 1001


@pytest.mark.models
@pytest.mark.parametrize(
    ("language", "names"),
    [("en", ["en-00.flac", "en-08.flac", "human-00.flac"]), ("es", ["es-00.flac", "es-04.flac", "es-08.flac"])],
)
async def test_real_ears_hear_a_stream_that_comes_at_once(language: str, names: list[str]) -> None:
    pcm = np.concatenate([part for name in names for part in (recording(name), silence(1.0))])
    voice = Resampler(INPUT_RATE, OUTPUT_RATE).feed(pcm)
    async with house() as server, streaming(server, f"language={language}&sample_rate={OUTPUT_RATE}") as stream:
        await stream.say(voice, size=24_000)
        await stream.send("stop")
        frames = await stream.rest()
        heard = " ".join(texts(frames))
        assert word_error_rate((" ".join(map(said, names)), heard)) < 0.2, heard
        assert frames[-1]["type"] == "done"
