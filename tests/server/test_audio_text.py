"""Files written down over HTTP: forms, shapes, refusals, limits, clients that leave, a round trip of real voices."""

from __future__ import annotations

import asyncio
import io
import json
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.audio import INPUT_RATE, Pcm
from pipeline.engine import TABLE, EngineError, SlowEngineError
from pipeline.instant import InstantStream, InstantStt
from pipeline.stt import Transcript
from server import upload
from server.audio_text import SHAPES, parse
from server.http import ApiError
from tests.audio_files import encoded, wav
from tests.server.backends import PUBLISHABLE, House, bearer, house, until
from tests.server.test_http import shape
from tests.voices import recording, said, silence
from tests.words import word_error_rate

SCRIPTED = {"stt": "instant", "llm": "instant", "tts": "instant"}
PATH = "/v1/audio/transcriptions"
TONE = (6000 * np.sin(2 * np.pi * 150 * np.arange(2 * INPUT_RATE) / INPUT_RATE)).astype(np.int16)
VOICES = wav(np.concatenate([recording("en-00.flac"), silence(1.0), recording("en-02.flac")]))


def form(data: bytes = VOICES, **fields: str) -> aiohttp.FormData:
    filled = aiohttp.FormData()
    for name, value in fields.items():
        filled.add_field(name, value)
    filled.add_field("file", io.BytesIO(data), filename="voice.wav", content_type="audio/wav")
    return filled


async def transcribe(
    server: House, data: Any, org: str = "acme", headers: Mapping[str, str] | None = None
) -> tuple[int, Mapping[str, str], str]:
    async with server.http.post(PATH, data=data, headers=bearer(org) | dict(headers or {})) as response:
        return response.status, response.headers, await response.text()


async def test_the_shapes_of_an_answer() -> None:
    async with house(**SCRIPTED) as server:
        status, headers, body = await transcribe(server, form())
        assert (status, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
        assert headers["X-Pinecall-Request-Id"].startswith("req_")
        plain = json.loads(body)
        assert (plain.keys(), plain["language"]) == ({"text", "language", "duration"}, "en")
        assert plain["text"].startswith("This is what a caller")
        assert plain["duration"] == pytest.approx(7.63, abs=0.01)
        status, _, body = await transcribe(server, form(response_format="verbose_json", language="pt_BR"))
        full = json.loads(body)
        assert (full["language"], full["model"]) == ("pt-BR", "instant")
        assert full["text"] == " ".join(segment["text"] for segment in full["segments"]) == plain["text"]
        first, second = full["segments"]
        assert (first["id"], second["id"]) == (0, 1)
        assert first["start"] < first["end"] == pytest.approx(3.6, abs=0.4)
        assert second["start"] == pytest.approx(4.5, abs=0.4)
        assert second["end"] <= full["duration"]
        status, headers, body = await transcribe(server, form(response_format="text"))
        assert (headers["Content-Type"], body) == ("text/plain; charset=utf-8", plain["text"])


async def test_a_file_may_be_the_whole_body() -> None:
    async with house(**SCRIPTED) as server:
        status, _, body = await transcribe(server, VOICES, headers={"Content-Type": "audio/wav"})
        assert (status, json.loads(body)["text"][:4]) == (200, "This")


async def test_a_file_is_known_by_its_name_whatever_the_field() -> None:
    async with house(**SCRIPTED) as server:
        recording = aiohttp.FormData()
        recording.add_field("audio", io.BytesIO(VOICES), filename="blob", content_type="audio/webm")
        status, _, body = await transcribe(server, recording)
        assert (status, json.loads(body)["text"][:4]) == (200, "This")
        both = form()
        both.add_field("audio", io.BytesIO(VOICES), filename="blob")
        assert (await transcribe(server, both))[0] == 400


async def test_nothing_is_left_of_a_file() -> None:
    async with house(**SCRIPTED) as server:
        before = set(Path(tempfile.gettempdir()).glob("voice-*"))
        for data in (VOICES, b"nonsense"):
            await transcribe(server, form(data))
        assert set(Path(tempfile.gettempdir()).glob("voice-*")) <= before


REFUSALS: list[tuple[bytes, dict[str, str], int, str]] = [
    (b"nonsense", {}, 415, "UNSUPPORTED_MEDIA"),
    (b"", {}, 415, "UNSUPPORTED_MEDIA"),
    (VOICES, {"model": "deepgram/nova-3"}, 400, "BAD_MODEL"),
    (VOICES, {"model": "instant/huge"}, 400, "BAD_MODEL"),
    (VOICES, {"language": "??"}, 400, "BAD_REQUEST"),
    (VOICES, {"response_format": "srt"}, 400, "FORMAT_UNSUPPORTED"),
    (VOICES, {"diarize": "true"}, 400, "DIARIZE_UNSUPPORTED"),
    (VOICES, {"diarize": "perhaps"}, 400, "BAD_REQUEST"),
    (VOICES, {"model": "x" * 5000}, 413, "FILE_TOO_LARGE"),
    (VOICES, {f"field-{i}": "x" for i in range(20)}, 400, "BAD_REQUEST"),
]


@pytest.mark.parametrize(("data", "fields", "status", "code"), REFUSALS)
async def test_what_cannot_be_read(data: bytes, fields: dict[str, str], status: int, code: str) -> None:
    async with (
        house(**SCRIPTED) as server,
        server.http.post(PATH, data=form(data, **fields), headers=bearer("acme")) as response,
    ):
        assert (response.status, (await shape(response))["code"]) == (status, code)


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"{}", "application/json", 415, "UNSUPPORTED_MEDIA"),
        (b"--x\r\n\r\n\r\n--x--\r\n", "multipart/form-data; boundary=x", 400, "BAD_REQUEST"),
        (b"--y\r\n", "multipart/form-data; boundary=x", 400, "BAD_REQUEST"),
        (b"", "multipart/form-data; boundary=x", 400, "BAD_REQUEST"),
        (b"--x\r\nContent-Dispo", "multipart/form-data; boundary=x", 400, "BAD_REQUEST"),
        (b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc', "multipart/form-data; boundary=x", 400, ""),
        (b"--x--", "multipart/form-data", 400, "BAD_REQUEST"),
        (b"--x--", "multipart/mixed; boundary=", 400, "BAD_REQUEST"),
    ],
)
async def test_damaged_forms(body: bytes, kind: str, status: int, code: str) -> None:
    async with house(**SCRIPTED) as server:
        headers = bearer("acme") | {"Content-Type": kind}
        async with server.http.post(PATH, data=body, headers=headers) as response:
            assert response.status == status
            assert (await shape(response))["code"] == (code or "BAD_REQUEST")


async def test_a_file_above_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(**SCRIPTED) as server:
        data = bytes(upload.MAX_FILE + 1)
        async with server.http.post(PATH, data=form(data), headers=bearer("acme")) as response:
            assert (response.status, (await shape(response))["code"]) == (413, "FILE_TOO_LARGE")

        async def chunked() -> AsyncIterator[bytes]:  # without a length: it shows only as it comes
            yield b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
            for _ in range(27):
                yield bytes(1 << 20)

        headers = bearer("acme") | {"Content-Type": "multipart/form-data; boundary=x"}
        async with server.http.post(PATH, data=chunked(), headers=headers) as response:
            assert (response.status, (await shape(response))["code"]) == (413, "FILE_TOO_LARGE")


async def test_a_client_that_sends_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "SILENT_SECONDS", 0.2)
    over = asyncio.Event()

    async def stalled() -> AsyncIterator[bytes]:
        yield b"RIFF"
        await over.wait()

    async with house(**SCRIPTED) as server:
        headers = bearer("acme") | {"Content-Type": "audio/wav"}
        async with server.http.post(PATH, data=stalled(), headers=headers) as response:
            assert (response.status, (await shape(response))["code"]) == (408, "REQUEST_TIMEOUT")
            over.set()


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "MISSING_KEY"),
        ({"X-API-Key": "pk_wrong"}, "INVALID_KEY"),
        ({"X-API-Key": PUBLISHABLE["acme"]}, "INVALID_KEY"),
    ],
)
async def test_only_backends_may_ask(headers: dict[str, str], code: str) -> None:
    async with house(**SCRIPTED) as server, server.http.post(PATH, data=form(), headers=headers) as response:
        assert (response.status, (await shape(response))["code"]) == (401, code)


@given(st.dictionaries(st.sampled_from(["model", "language", "diarize", "response_format", "x"]), st.text(max_size=9)))
def test_any_fields_are_read_or_refused(fields: dict[str, str]) -> None:
    try:
        asked = parse(fields)
    except ApiError:  # whatever else is raised is a fault
        return
    assert asked.shape == (fields.get("response_format") or "json")
    assert asked.shape in SHAPES
    assert asked.model == (fields.get("model") or None)


# --- engines that wait, break and are left


class Gate(InstantStt):
    """Understands when it is let."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.broken: Exception | None = None
        self.asked = self.closed = 0

    def stream(self, language: str) -> GateStream:
        return GateStream(self, language)


class GateStream(InstantStream):
    def __init__(self, gate: Gate, language: str) -> None:
        super().__init__(language)
        self._gate = gate

    def flush(self) -> None:
        self._gate.asked += 1
        super().flush()

    async def __aiter__(self) -> AsyncIterator[Transcript]:
        async for result in super().__aiter__():
            if result.final:
                await self._gate.open.wait()
                if self._gate.broken:
                    raise self._gate.broken
            yield result

    async def aclose(self) -> None:
        self._gate.closed += 1
        await super().aclose()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate = Gate()
    monkeypatch.setitem(TABLE["stt"], "instant", lambda _: gate)
    return gate


async def test_an_organisation_takes_no_place_of_another(gate: Gate) -> None:
    async with house(**SCRIPTED, audio_requests=1) as server:
        ours = asyncio.create_task(transcribe(server, form()))
        await until(lambda: gate.asked == 1)
        status, headers, body = await transcribe(server, form())
        assert (status, json.loads(body)["code"], "Retry-After" in headers) == (429, "RATE_LIMITED", True)
        theirs = asyncio.create_task(transcribe(server, form(), "globex"))
        gate.open.set()
        assert [(await task)[0] for task in (ours, theirs)] == [200, 200]
        assert gate.closed == 2


async def test_one_utterance_is_at_work_at_a_time(gate: Gate) -> None:
    """So that what is short never waits for more than one."""
    async with house(**SCRIPTED) as server:
        tasks = [asyncio.create_task(transcribe(server, form(), org)) for org in ("acme", "globex", "default")]
        await until(lambda: gate.asked == 1)
        await asyncio.sleep(0.3)  # the others have come as far as they can
        assert gate.asked == 1
        gate.open.set()
        assert [(await task)[0] for task in tasks] == [200] * 3
        assert gate.asked == 6


async def test_a_client_that_leaves_sets_the_engine_free(gate: Gate) -> None:
    many = np.concatenate([part for _ in range(20) for part in (recording("en-short-00.flac"), silence(1.0))])
    async with house(**SCRIPTED, audio_requests=1) as server:
        task = asyncio.create_task(transcribe(server, form(wav(many))))
        await until(lambda: gate.asked == 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.1)  # its connection is closed before the next utterance
        gate.open.set()
        await until(lambda: gate.closed == 1)
        assert gate.asked < 5
        assert (await transcribe(server, form()))[0] == 200


async def test_a_server_that_leaves_reads_no_further(gate: Gate) -> None:
    many = np.concatenate([part for _ in range(20) for part in (recording("en-short-00.flac"), silence(1.0))])
    async with house(**SCRIPTED) as server:
        task = asyncio.create_task(transcribe(server, form(wav(many))))
        await until(lambda: gate.asked == 1)
        closing = asyncio.create_task(server.listener.close())
        await asyncio.sleep(0.1)  # the shutdown has begun
        gate.open.set()
        status, _, body = await task
        assert (status, json.loads(body)["code"]) == (503, "SERVER_DRAINING")
        await closing
        assert gate.asked < 5


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(EngineError("deaf"), 502, "UPSTREAM_ERROR"), (SlowEngineError("too slow"), 504, "UPSTREAM_TIMEOUT")],
)
async def test_an_engine_that_breaks(gate: Gate, error: EngineError, status: int, code: str) -> None:
    gate.broken = error
    gate.open.set()
    async with house(**SCRIPTED) as server:
        got, _, body = await transcribe(server, form())
        assert (got, json.loads(body)["code"], json.loads(body)["detail"]) == (status, code, str(error))
        assert gate.closed == 1


# --- real voices and real ears


async def spoken(server: House, text: str, **options: Any) -> bytes:
    body = {"input": text, "response_format": "mp3", **options}
    async with server.http.post("/v1/audio/speech", json=body, headers=bearer("acme")) as response:
        assert response.status == 200, await response.text()
        return await response.read()


SENTENCES = [
    ("hibari/heart", "en", "Please transfer me to someone in the billing department. We open at nine o'clock."),
    ("pico/es-es", "es", "Hola, quisiera reservar una mesa para dos personas. Necesito cambiar mi contraseña."),
]


@pytest.mark.models
async def test_what_is_spoken_is_understood() -> None:
    async with house() as server:
        for voice, language, text in SENTENCES:
            sound = await spoken(server, text, voice=voice)
            status, _, body = await transcribe(server, form(sound, response_format="verbose_json"))
            heard = json.loads(body)
            assert (status, heard["language"]) == (200, language)
            assert word_error_rate((text, heard["text"])) < 0.25, heard


@pytest.mark.models
async def test_a_long_recording_is_understood_by_utterances() -> None:
    """Longer than what either recogniser takes at once."""
    names = ["en-00.flac", "en-02.flac", "en-04.flac", "en-06.flac", "en-08.flac", "en-10.flac", "human-00.flac"]
    pcm: Pcm = np.concatenate([part for name in names for part in (recording(name), silence(0.8))])
    assert len(pcm) > 25 * INPUT_RATE
    async with house() as server:
        data = encoded(pcm, "webm")
        status, _, body = await transcribe(server, form(data, language="en", response_format="verbose_json"))
        heard = json.loads(body)
        assert (status, heard["model"]) == (200, "moonshine/tiny")
        assert word_error_rate((" ".join(map(said, names)), heard["text"])) < 0.12, heard
        assert len(heard["segments"]) >= len(names)
        assert [one["start"] for one in heard["segments"]] == sorted(one["start"] for one in heard["segments"])
