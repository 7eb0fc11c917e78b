"""A text spoken over HTTP: forms, events, refusals, limits of each organisation, and clients that leave."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, suppress
from typing import Any

import aiohttp
import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import Settings
from media.audio import OUTPUT_RATE
from pipeline.engine import TABLE, EngineError, SlowEngineError
from pipeline.instant import WORD_SAID
from pipeline.tts import SpeechChunk, WordTime
from server.admission import SHARES, Admission
from server.audio_speech import FORMATS, RATES, SpeechRequest, parse
from server.http import ApiError
from server.rate import MemoryCounter
from tests.server.backends import KEYS, PUBLISHABLE, House, bearer, house, until
from tests.server.test_http import shape
from tokens.keys import ApiKeys

SCRIPTED = {"stt": "instant", "llm": "instant", "tts": "instant"}
TEXT = "One two three. Four five six."
SECONDS = 6 * WORD_SAID


async def speak(server: House, body: Any, org: str = "acme") -> tuple[int, Mapping[str, str], bytes]:
    async with server.http.post("/v1/audio/speech", json=body, headers=bearer(org)) as response:
        return response.status, response.headers, await response.read()


def events(body: bytes) -> list[dict[str, Any]]:
    """The events of an answer, whose last line is checked."""
    parts = body.decode().split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""]
    return [json.loads(part.removeprefix("data: ")) for part in parts[:-2]]


@pytest.mark.parametrize("rate", [None, 16_000, 24_000])
async def test_raw_samples_and_their_headers(rate: int | None) -> None:
    async with house(**SCRIPTED) as server:
        body = {"input": TEXT, "voice": "instant/hum"} | ({"sample_rate": rate} if rate else {})
        status, headers, sound = await speak(server, body)
        assert (status, headers["Content-Type"]) == (200, "audio/pcm")
        expected = {"X-Sample-Rate": str(rate or 16_000), "X-Channels": "1", "X-Bit-Depth": "16"}
        assert expected.items() <= dict(headers).items()
        assert headers["X-Pinecall-Characters"] == str(len(TEXT))
        assert headers["X-Pinecall-Request-Id"].startswith("req_")
        assert headers["Transfer-Encoding"] == "chunked"
        assert len(sound) / 2 / (rate or 16_000) == pytest.approx(SECONDS, abs=0.001)


@pytest.mark.parametrize(("form", "kind"), [("wav", "audio/wav"), ("mp3", "audio/mpeg")])
async def test_files(form: str, kind: str) -> None:
    async with house(**SCRIPTED) as server:
        status, headers, sound = await speak(server, {"input": TEXT, "voice": "instant", "response_format": form})
        assert (status, headers["Content-Type"]) == (200, kind)
        with av.open(io.BytesIO(sound)) as container:
            frames = list(container.decode(audio=0))
        assert str(frames[0].sample_rate) == headers["X-Sample-Rate"] == ("24000" if form == "mp3" else "16000")
        assert sum(frame.samples for frame in frames) / frames[0].sample_rate == pytest.approx(SECONDS, abs=0.15)


@pytest.mark.parametrize("form", ["pcm", "wav", "mp3"])
async def test_events_with_the_time_of_each_word(form: str) -> None:
    async with house(**SCRIPTED) as server:
        body = {"input": TEXT, "voice": "instant", "timestamps": True, "response_format": form, "sample_rate": 24000}
        status, headers, answer = await speak(server, body)
        plain = (await speak(server, {**body, "timestamps": False}))[2]
        assert (status, headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
        first, *middle, last = events(answer)
        request = headers["X-Pinecall-Request-Id"]
        assert first == {"type": "start", "request_id": request, "format": form, "sample_rate": 24000}
        assert last == {"type": "done", "characters": len(TEXT), "audio_ms": round(1000 * SECONDS)}
        words = [event for event in middle if event["type"] == "word"]
        assert [word["word"] for word in words] == TEXT.split()
        assert [(word["start"], word["end"]) for word in words] == [
            (pytest.approx(n * WORD_SAID, abs=0.001), pytest.approx((n + 1) * WORD_SAID, abs=0.001)) for n in range(6)
        ]
        assert b"".join(base64.b64decode(event["data"]) for event in middle if event["type"] == "audio") == plain
        assert all(len(event.get("data", "")) <= 65536 for event in middle)


# --- refusals


REFUSALS: list[tuple[Any, int, str]] = [
    ({}, 400, "BAD_REQUEST"),
    ({"input": "", "voice": "instant"}, 400, "BAD_REQUEST"),
    ({"input": " \n", "voice": "instant"}, 400, "BAD_REQUEST"),
    ({"input": "🎉", "voice": "instant"}, 400, "BAD_REQUEST"),
    ({"input": 1, "voice": "instant"}, 400, "BAD_REQUEST"),
    ({"input": TEXT}, 400, "BAD_REQUEST"),
    ({"input": TEXT, "voice": ["instant"]}, 400, "BAD_REQUEST"),
    ({"input": TEXT, "voice": "elevenlabs/sarah"}, 400, "BAD_VOICE"),
    ({"input": TEXT, "voice": "instant", "model": "tts-1"}, 400, "BAD_MODEL"),
    ({"input": TEXT, "voice": "instant", "language": "??"}, 400, "BAD_REQUEST"),
    ({"input": TEXT, "voice": "instant", "response_format": "opus"}, 400, "FORMAT_UNSUPPORTED"),
    ({"input": TEXT, "voice": "instant", "sample_rate": 8000}, 400, "FORMAT_UNSUPPORTED"),
    ({"input": TEXT, "voice": "instant", "sample_rate": True}, 400, "FORMAT_UNSUPPORTED"),
    ({"input": TEXT, "voice": "instant", "sample_rate": [16000]}, 400, "FORMAT_UNSUPPORTED"),
    ({"input": TEXT, "voice": "instant", "speed": 9}, 400, "BAD_REQUEST"),
    ({"input": TEXT, "voice": "instant", "speed": "1"}, 400, "BAD_REQUEST"),
    ({"input": TEXT, "voice": "instant", "timestamps": 1}, 400, "BAD_REQUEST"),
    ({"input": "x" * 5001, "voice": "instant"}, 413, "INPUT_TOO_LONG"),
    ([], 400, "BAD_JSON"),
]


@pytest.mark.parametrize(("body", "status", "code"), REFUSALS)
async def test_what_cannot_be_spoken(body: Any, status: int, code: str) -> None:
    async with (
        house(**SCRIPTED) as server,
        server.http.post("/v1/audio/speech", json=body, headers=bearer("acme")) as response,
    ):
        assert (response.status, (await shape(response))["code"]) == (status, code)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "MISSING_KEY"),
        ({"Authorization": "Bearer "}, "MISSING_KEY"),
        ({"Authorization": "Bearer pk_wrong_key"}, "INVALID_KEY"),
        ({"X-API-Key": PUBLISHABLE["acme"]}, "INVALID_KEY"),
    ],
)
async def test_only_backends_may_ask(headers: dict[str, str], code: str) -> None:
    async with house(**SCRIPTED) as server:
        for method, path in (("POST", "/v1/audio/speech"), ("GET", "/v1/audio/voices")):
            async with server.http.request(method, path, headers=headers, data=b"nonsense") as response:
                assert (response.status, (await shape(response))["code"]) == (401, code)
        async with server.http.get(f"/v1/audio/voices?api_key={KEYS['acme']}") as response:
            assert response.status == 401  # proxies write addresses into their logs


async def test_no_more_than_5000_characters_of_any_kind_fit() -> None:
    async with house(**SCRIPTED) as server:
        body = {"input": "no " * 1666 + "🎉🎉", "voice": "instant"}
        status, headers, sound = await speak(server, body)
        assert (status, headers["X-Pinecall-Characters"]) == (200, "5000")
        assert len(sound) / 32000 == pytest.approx(1666 * WORD_SAID, abs=0.3)


def plausible() -> st.SearchStrategy[dict[str, Any]]:
    odd = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=20)
        | st.lists(st.integers(), max_size=2)
    )
    return st.fixed_dictionaries(
        {},
        optional={
            "input": odd | st.just(TEXT),
            "voice": odd | st.just("instant"),
            "model": odd,
            "language": odd | st.sampled_from(["en", "pt_BR", "x"]),
            "response_format": odd | st.sampled_from(FORMATS),
            "sample_rate": odd | st.sampled_from(RATES),
            "speed": odd,
            "timestamps": odd,
            "stream_format": odd,
        },
    )


@given(plausible())
def test_any_request_is_read_or_refused(body: dict[str, Any]) -> None:
    asked: SpeechRequest | None = None
    with suppress(ApiError):  # whatever else is raised is a fault
        asked = parse(body)
    if asked is None:
        return
    assert asked.input == body["input"]
    assert asked.form in FORMATS
    assert asked.rate in RATES
    assert 0.25 <= asked.speed <= 4
    assert (asked.form, asked.timestamps) == (body.get("response_format") or "pcm", body.get("timestamps") or False)


# --- engines that wait, break and are left


class Gate:
    """Speaks a piece when it is let."""

    name = "instant"

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.asked = self.left = 0
        self.broken: EngineError | None = None
        self.pieces = 0
        self.seconds = 1.0

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...

    async def speak(
        self, pieces: AsyncIterator[str], *, voice: str, language: str, speed: float = 1.0
    ) -> AsyncIterator[SpeechChunk]:
        self.asked += 1
        try:
            async for piece in pieces:
                await self.open.wait()
                if self.broken and self.pieces:
                    raise self.broken
                self.pieces += 1
                noise = np.random.default_rng(self.pieces).integers(-9000, 9000, round(self.seconds * OUTPUT_RATE))
                yield SpeechChunk(noise.astype(np.int16), [WordTime(word, 0.0, 0.1) for word in piece.split()])
        finally:
            self.left += 1


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate = Gate()
    monkeypatch.setitem(TABLE["tts"], "instant", lambda _: gate)
    return gate


async def test_an_organisation_takes_no_place_of_another(gate: Gate) -> None:
    async with house(**SCRIPTED, audio_requests=2) as server:
        body = {"input": TEXT, "voice": "any"}
        first = [asyncio.create_task(speak(server, body, "acme")) for _ in range(2)]
        await until(lambda: gate.asked == 2)
        status, headers, answer = await speak(server, body, "acme")
        assert (status, json.loads(answer)["code"]) == (429, "RATE_LIMITED")
        assert int(headers["Retry-After"]) > 0
        first += [asyncio.create_task(speak(server, body, "globex")) for _ in range(2)]
        await until(lambda: gate.asked == 4)
        gate.open.set()
        assert [status for status, *_ in await asyncio.gather(*first)] == [200] * 4
        assert (await speak(server, body, "acme"))[0] == 200


def test_all_of_them_together_have_so_many_places() -> None:
    admission = Admission(Settings(audio_requests=2), ApiKeys([]), MemoryCounter())
    with ExitStack() as places:
        for number in range(2 * SHARES):
            places.enter_context(admission.place(f"org-{number // 2}"))
        with pytest.raises(ApiError) as refusal:
            places.enter_context(admission.place("one-more"))
        assert (refusal.value.status, refusal.value.code) == (429, "RATE_LIMITED")
        assert admission.busy == 2 * SHARES
    assert admission.busy == 0
    with admission.place("one-more"):
        pass


async def test_an_organisation_asks_so_often_in_a_minute() -> None:
    async with house(**SCRIPTED, audio_rate=2) as server:
        body = {"input": TEXT, "voice": "instant"}
        assert [(await speak(server, body))[0] for _ in range(3)] == [200, 200, 429]
        assert (await speak(server, body, "globex"))[0] == 200


@pytest.mark.parametrize("timestamps", [False, True])
async def test_a_client_that_leaves_sets_the_engine_free(gate: Gate, timestamps: bool) -> None:
    gate.open.set()
    gate.seconds = 10.0
    async with house(**SCRIPTED, audio_requests=1) as server:
        body = {"input": "One is here. " * 300, "voice": "any", "timestamps": timestamps}
        async with server.http.post("/v1/audio/speech", json=body, headers=bearer("acme")) as response:
            assert response.status == 200
            await response.content.readexactly(1000)
            assert gate.left == 0
            response.close()
        await until(lambda: gate.left == 1)
        assert gate.pieces < 100
        gate.seconds = 0.1
        assert (await speak(server, {"input": TEXT, "voice": "any"}))[0] == 200


async def test_who_reads_slowly_is_spoken_to_slowly(gate: Gate) -> None:
    gate.open.set()
    gate.seconds = 10.0
    async with house(**SCRIPTED) as server:
        body = {"input": "One is here. " * 300, "voice": "any"}
        async with server.http.post("/v1/audio/speech", json=body, headers=bearer("acme")) as response:
            await response.content.readexactly(1000)
            before = -1
            while before != gate.pieces:  # until all that buffers may hold has been spoken
                before = gate.pieces
                await asyncio.sleep(0.3)
            assert gate.pieces < 60


async def test_a_server_that_leaves_does_not_wait_for_who_reads_nothing(gate: Gate) -> None:
    gate.open.set()
    gate.seconds = 10.0
    async with house(**SCRIPTED) as server:
        body = {"input": "One is here. " * 300, "voice": "any"}
        async with server.http.post("/v1/audio/speech", json=body, headers=bearer("acme")) as response:
            began = time.monotonic()
            await server.listener.close()
            assert time.monotonic() - began < 5
            assert gate.left == 1
            with pytest.raises(aiohttp.ClientError):
                await response.read()


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(EngineError("no voice"), 502, "UPSTREAM_ERROR"), (SlowEngineError("too slow"), 504, "UPSTREAM_TIMEOUT")],
)
async def test_an_engine_that_breaks(gate: Gate, error: EngineError, status: int, code: str) -> None:
    gate.open.set()
    gate.broken = error
    async with house(**SCRIPTED) as server:
        body = {"input": TEXT, "voice": "any"}
        with pytest.raises(aiohttp.ClientError):  # the second piece breaks: what was sent is not the whole
            await speak(server, body)
        gate.pieces = 0
        async with server.http.post(
            "/v1/audio/speech", json={**body, "timestamps": True}, headers=bearer("acme")
        ) as response:
            *_, last = (await response.text()).strip().split("\n\n")
            assert json.loads(last.removeprefix("data: ")) == {"type": "error", "code": code, "error": str(error)}
        gate.pieces = 1  # now the first one breaks
        got, _, answer = await speak(server, body)
        assert (got, json.loads(answer)["code"], json.loads(answer)["detail"]) == (status, code, str(error))
        assert gate.left == gate.asked
