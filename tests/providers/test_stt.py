"""Recognisers behind sockets, against servers on loopback that speak as the providers document it.

Deepgram: https://developers.deepgram.com/reference/speech-to-text/listen-streaming (``Results``, ``Finalize``,
``KeepAlive``), https://developers.deepgram.com/reference/speech-to-text/listen-flux (``TurnInfo``, ``ForceEndTurn``).
ElevenLabs: https://elevenlabs.io/docs/api-reference/speech-to-text/v-1-speech-to-text-realtime.
OpenAI: https://developers.openai.com/api/docs/guides/realtime-transcription.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from config.agent import SttConfig
from config.shortcuts import stt as parsed
from media.audio import INPUT_RATE, Pcm
from pipeline.remote import ProviderError
from pipeline.stt import Stream, Transcript, TurnGuess, socket_stream
from pipeline.stt.deepgram import Deepgram
from pipeline.stt.elevenlabs import Scribe
from pipeline.stt.openai import OpenAiStt
from tests.providers.sockets import SocketServer

FRAME = np.full(INPUT_RATE // 50, 1000, np.int16)


def config(wire: Any) -> SttConfig:
    return SttConfig(**parsed(wire))


class Hearing:
    """A stream and what it said, in order."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._results = stream.__aiter__()

    def write(self, ms: int, pcm: Pcm = FRAME) -> None:
        for _ in range(ms // 20):
            self.stream.write(pcm)

    async def next(self) -> Transcript | TurnGuess:
        async with asyncio.timeout(10):
            return await anext(self._results)

    async def text(self) -> tuple[str, bool, bool]:
        """Text, final, settled."""
        found = await self.next()
        assert isinstance(found, Transcript)
        return found.text, found.final, found.settled


# --- Deepgram Nova


@pytest.fixture
async def deepgram() -> AsyncIterator[SocketServer]:
    async with SocketServer("/v1/listen", "/v2/listen", header="Authorization", key="Token dg-key") as server:
        yield server


@pytest.fixture
async def nova(deepgram: SocketServer) -> AsyncIterator[Hearing]:
    engine = Deepgram("deepgram", deepgram.url, "dg-key")
    hearing = Hearing(engine.stream("es-MX"))
    yield hearing
    await hearing.stream.aclose()
    await engine.aclose()


def results(text: str, *, final: bool = False, finalized: bool = False, **more: Any) -> dict[str, Any]:
    best = {"transcript": text, "confidence": 0.9, "words": []}
    return {
        "type": "Results",
        "channel_index": [0, 1],
        "duration": 1.0,
        "start": 0.0,
        "is_final": final or finalized,
        "speech_final": final,
        "from_finalize": finalized,
        "channel": {"alternatives": [best]},
        **more,
    }


async def test_nova_puts_interim_and_final_results_together(deepgram: SocketServer, nova: Hearing) -> None:
    nova.write(400)
    await deepgram.heard(INPUT_RATE * 400 // 1000)
    await deepgram.say({"type": "Metadata"}, results("hola"), results("hola qué", final=True), results("tal"))
    assert [await nova.text() for _ in range(3)] == [
        ("hola", False, False),
        ("hola qué", False, False),
        ("hola qué tal", False, False),
    ]
    nova.stream.flush()
    await deepgram.told(type="Finalize")
    await deepgram.say(results("tal estás", finalized=True))
    assert await nova.text() == ("hola qué tal estás", True, False)
    await deepgram.say(results("y"))
    assert await nova.text() == ("y", False, False)


async def test_nova_is_asked_when_the_speaker_falls_silent_so_that_the_end_waits_for_nothing(
    deepgram: SocketServer, nova: Hearing
) -> None:
    nova.write(200)
    nova.stream.pause()
    await deepgram.told(type="Finalize")
    await deepgram.say(results("hola", finalized=True))
    assert await nova.text() == ("hola", False, True)
    nova.stream.flush()
    assert await nova.text() == ("hola", True, False)


async def test_nova_forgets_noise(deepgram: SocketServer, nova: Hearing) -> None:
    nova.write(200)
    await deepgram.say(results("eh"))
    assert await nova.text() == ("eh", False, False)
    nova.stream.discard()
    await deepgram.told(type="Finalize")
    await deepgram.say(results("eh bueno", finalized=True), results("hola"))
    assert await nova.text() == ("hola", False, False)


async def test_a_final_that_does_not_come_is_made_of_what_is_known(
    deepgram: SocketServer, nova: Hearing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_stream, "FINAL_SECONDS", 0.1)
    nova.write(200)
    await deepgram.say(results("hola"))
    assert await nova.text() == ("hola", False, False)
    nova.stream.flush()
    assert await nova.text() == ("hola", True, False)
    nova.stream.flush()
    with pytest.raises(ProviderError, match="deepgram took too long"):
        await nova.next()


async def test_somebody_is_still_there(deepgram: SocketServer, nova: Hearing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_stream, "IDLE_SECONDS", 0.05)
    nova.write(20)
    await deepgram.told(2, type="KeepAlive")


@pytest.mark.parametrize(
    ("wire", "language", "expected"),
    [
        ("deepgram", "es-MX", {"model": ["nova-3"], "language": ["es"]}),
        ("deepgram:nova-2:es", "en", {"model": ["nova-2"], "language": ["es"]}),
        ("deepgram/nova-3", "pt-BR", {"model": ["nova-3"], "language": ["pt-BR"]}),
        ("deepgram/nova-3", "multi", {"language": ["multi"]}),
        (
            {"provider": "deepgram", "model": "nova-3", "keyterms": ["Mara", "SunnyDental"], "smart_format": True},
            "en",
            {"keyterm": ["Mara", "SunnyDental"], "smart_format": ["true"]},
        ),
        ({"provider": "deepgram", "model": "nova-2", "keywords": "Mara:2"}, "en", {"keywords": ["Mara:2"]}),
    ],
)
async def test_what_nova_is_asked(deepgram: SocketServer, wire: Any, language: str, expected: dict[str, Any]) -> None:
    engine = Deepgram("deepgram", deepgram.url, "dg-key")
    stream = engine.bound(config(wire)).stream(language)
    await deepgram.until(lambda: deepgram.open)
    assert expected.items() <= deepgram.queries[0].items()
    assert (deepgram.paths, deepgram.queries[0]["encoding"]) == (["/v1/listen"], ["linear16"])
    await stream.aclose()
    await engine.aclose()


# --- Deepgram Flux


def turn(event: str, text: str, certain: float = 0.1) -> dict[str, Any]:
    words = [{"word": word, "confidence": 0.8} for word in text.split()]
    return {
        "type": "TurnInfo",
        "event": event,
        "turn_index": 0,
        "transcript": text,
        "words": words,
        "end_of_turn_confidence": certain,
    }


@pytest.fixture
async def flux(deepgram: SocketServer) -> AsyncIterator[Hearing]:
    engine = Deepgram("deepgram", deepgram.url, "dg-key")
    bound = engine.bound(config("deepgram/flux"))
    assert bound.native_turns
    hearing = Hearing(bound.stream("en"))
    yield hearing
    await hearing.stream.aclose()
    await engine.aclose()


async def test_flux_says_itself_when_a_turn_is_over(deepgram: SocketServer, flux: Hearing) -> None:
    flux.write(200)
    await deepgram.say(
        {"type": "Connected"},
        turn("StartOfTurn", "I need"),
        turn("Update", "I need"),
        turn("Update", "I need to cancel"),
        turn("EagerEndOfTurn", "I need to cancel", 0.55),
        turn("TurnResumed", "I need to cancel", 0.2),
        turn("Update", "I need to cancel it"),
        turn("EndOfTurn", "I need to cancel it.", 0.9),
    )
    found = [await flux.next() for _ in range(6)]
    assert [(r.text, r.settled) if isinstance(r, Transcript) else (r.probability, r.eager) for r in found] == [
        ("I need", False),
        ("I need to cancel", False),
        ("I need to cancel", True),
        (0.55, True),
        ("I need to cancel it", False),
        ("I need to cancel it.", True),
    ]
    assert await flux.next() == TurnGuess(0.9)
    flux.stream.flush()
    assert await flux.text() == ("I need to cancel it.", True, False)
    assert not [f for f in deepgram.frames if isinstance(f, dict)]  # it was not even asked


async def test_our_end_of_a_turn_is_enforced(deepgram: SocketServer, flux: Hearing) -> None:
    flux.write(200)
    await deepgram.say(turn("EndOfTurn", "Hello.", 0.8), turn("Update", "I need"))
    for _ in range(3):
        await flux.next()
    flux.stream.flush()
    await deepgram.told(type="ForceEndTurn")
    await deepgram.say(turn("EndOfTurn", "I need it.", 0.3))
    assert await flux.text() == ("Hello. I need it.", True, False)


async def test_flux_forgets_noise(deepgram: SocketServer, flux: Hearing) -> None:
    await deepgram.say(turn("Update", "uh"))
    assert await flux.text() == ("uh", False, False)
    flux.stream.discard()
    await deepgram.told(type="ForceEndTurn")
    await deepgram.say(turn("EndOfTurn", "uh well", 0.2), turn("Update", "Hello"))
    assert await flux.text() == ("Hello", False, False)


@pytest.mark.parametrize(
    ("wire", "language", "expected"),
    [
        ("flux", "en-GB", {"model": ["flux-general-en"], "eot_threshold": ["0.7"], "eager_eot_threshold": ["0.5"]}),
        ("deepgram/flux", "es", {"model": ["flux-general-multi"], "language_hint": ["es"], "eot_timeout_ms": ["1000"]}),
        ("deepgram/flux-multi", "en", {"model": ["flux-general-multi"], "language_hint": ["en"]}),
        ({"provider": "deepgram-flux", "eot_threshold": 0.8, "keyterms": ["Mara"]}, "en", {"eot_threshold": ["0.8"]}),
    ],
)
async def test_what_flux_is_asked(deepgram: SocketServer, wire: Any, language: str, expected: dict[str, Any]) -> None:
    engine = Deepgram("deepgram", deepgram.url, "dg-key")
    stream = engine.bound(config(wire)).stream(language)
    await deepgram.until(lambda: deepgram.open)
    assert expected.items() <= deepgram.queries[0].items()
    assert deepgram.paths == ["/v2/listen"]
    await stream.aclose()
    await engine.aclose()


# --- ElevenLabs Scribe


@pytest.fixture
async def eleven() -> AsyncIterator[SocketServer]:
    async with SocketServer("/v1/speech-to-text/realtime", header="xi-api-key", key="xi-key") as server:
        yield server


@pytest.fixture
async def scribe(eleven: SocketServer) -> AsyncIterator[Hearing]:
    engine = Scribe("elevenlabs", eleven.url, "xi-key")
    hearing = Hearing(engine.bound(config("elevenlabs/scribe")).stream("es-MX"))
    yield hearing
    await hearing.stream.aclose()
    await engine.aclose()


def samples(frame: dict[str, Any], key: str = "audio_base_64") -> int:
    return len(base64.b64decode(frame[key])) // 2


async def test_scribe_commits_when_our_turn_is_over(eleven: SocketServer, scribe: Hearing) -> None:
    scribe.write(420)
    chunk = await eleven.told(4, message_type="input_audio_chunk", commit=False)
    assert (samples(chunk), chunk["sample_rate"]) == (INPUT_RATE // 10, INPUT_RATE)
    assert eleven.queries[0] == {
        "model_id": ["scribe_v2_realtime"],
        "audio_format": ["pcm_16000"],
        "commit_strategy": ["manual"],
        "language_code": ["es"],
    }
    partial = {"message_type": "partial_transcript", "text": "hola"}
    await eleven.say({"message_type": "session_started", "session_id": "s"}, partial, partial)
    assert await scribe.text() == ("hola", False, False)
    scribe.stream.flush()
    assert samples(await eleven.told(message_type="input_audio_chunk", commit=True)) == INPUT_RATE * 20 // 1000
    await eleven.say({"message_type": "committed_transcript", "text": "Hola."})
    assert await scribe.text() == ("Hola.", True, False)


async def test_scribe_forgets_noise(eleven: SocketServer, scribe: Hearing) -> None:
    scribe.write(100)
    scribe.stream.discard()
    assert samples(await eleven.told(message_type="input_audio_chunk", commit=True)) == INPUT_RATE * 200 // 1000
    await eleven.say({"message_type": "committed_transcript", "text": "eh"})
    scribe.write(400)
    scribe.stream.flush()
    await eleven.told(2, message_type="input_audio_chunk", commit=True)
    await eleven.say({"message_type": "committed_transcript", "text": "Hola."})
    assert await scribe.text() == ("Hola.", True, False)


async def test_nothing_to_commit_is_no_failure(eleven: SocketServer, scribe: Hearing) -> None:
    scribe.write(100)
    scribe.stream.flush()
    await eleven.told(message_type="input_audio_chunk", commit=True)
    await eleven.say({"message_type": "insufficient_audio_activity", "error": "too little"})
    assert await scribe.text() == ("", True, False)


@pytest.mark.parametrize(
    ("kind", "retried", "refused"),
    [("quota_exceeded", False, True), ("rate_limited", True, False), ("input_error", False, False)],
)
async def test_scribe_tells_what_is_wrong(
    eleven: SocketServer, scribe: Hearing, kind: str, retried: bool, refused: bool
) -> None:
    await eleven.say({"message_type": kind, "error": "no more for sk-0123456789"})
    with pytest.raises(ProviderError, match=r"^elevenlabs does not transcribe$") as caught:
        await scribe.next()
    assert (caught.value.is_worth_a_retry, caught.value.refused) == (retried, refused)
    assert caught.value.explained == f"elevenlabs does not transcribe: {kind}: no more for …"


# --- OpenAI


@pytest.fixture
async def openai() -> AsyncIterator[SocketServer]:
    async with SocketServer("/v1/realtime", header="Authorization", key="Bearer sk-key") as server:
        yield server


@pytest.fixture
async def live(openai: SocketServer) -> AsyncIterator[Hearing]:
    engine = OpenAiStt("openai", f"{openai.url}/v1", "sk-key")
    hearing = Hearing(engine.stream("es-MX"))
    yield hearing
    await hearing.stream.aclose()
    await engine.aclose()


async def test_openai_transcribes_what_was_committed(openai: SocketServer, live: Hearing) -> None:
    session = (await openai.told(type="session.update"))["session"]
    assert (openai.queries[0], session["type"]) == ({"intent": ["transcription"]}, "transcription")
    assert session["audio"]["input"] == {
        "format": {"type": "audio/pcm", "rate": 24000},
        "transcription": {"model": "gpt-live-transcribe", "language": "es"},
        "turn_detection": None,
    }
    live.write(1000)
    await openai.told(10, type="input_audio_buffer.append")
    delta = {"type": "conversation.item.input_audio_transcription.delta", "item_id": "i1", "content_index": 0}
    await openai.say({"type": "session.created"}, {**delta, "delta": "hola "}, {**delta, "delta": "qué"})
    assert [await live.text() for _ in range(2)] == [("hola", False, False), ("hola qué", False, False)]
    live.stream.flush()
    await openai.told(type="input_audio_buffer.commit")
    appended = [f for f in openai.frames if isinstance(f, dict) and f["type"] == "input_audio_buffer.append"]
    assert sum(samples(frame, "audio") for frame in appended) == pytest.approx(24_000, abs=60)
    done = {"type": "conversation.item.input_audio_transcription.completed", "item_id": "i1"}
    await openai.say({**done, "transcript": "Hola, ¿qué tal?"})
    assert await live.text() == ("Hola, ¿qué tal?", True, False)


async def test_openai_forgets_noise(openai: SocketServer, live: Hearing) -> None:
    live.write(200)
    live.stream.discard()
    await openai.told(type="input_audio_buffer.clear")


@pytest.mark.parametrize(
    ("error", "retried", "refused"),
    [
        ({"type": "invalid_request_error", "code": "invalid_api_key", "message": "Incorrect key"}, False, True),
        ({"type": "server_error", "code": None, "message": "The server had an error"}, True, False),
    ],
)
async def test_openai_tells_what_is_wrong(
    openai: SocketServer, live: Hearing, error: dict[str, Any], retried: bool, refused: bool
) -> None:
    await openai.say({"type": "error", "error": error})
    with pytest.raises(ProviderError, match="openai does not transcribe") as caught:
        await live.next()
    assert (caught.value.is_worth_a_retry, caught.value.refused) == (retried, refused)


# --- what goes wrong alike


async def test_a_hang_up_is_told(deepgram: SocketServer, nova: Hearing) -> None:
    nova.write(100)
    await deepgram.hang_up()
    with pytest.raises(ProviderError, match="deepgram hung up in the middle"):
        await nova.next()


async def test_an_odd_message_costs_nothing_but_garbage_does(deepgram: SocketServer, nova: Hearing) -> None:
    await deepgram.say({"type": "Results"}, {"type": "Results", "channel": {"alternatives": []}}, results("hola"))
    assert await nova.text() == ("hola", False, False)
    await deepgram.say("{broken")
    with pytest.raises(ProviderError, match="something that is no answer"):
        await nova.next()


@pytest.mark.parametrize(
    ("status", "said"), [(401, "refuses the key"), (429, "asked too often"), (500, "out of order")]
)
async def test_a_refused_handshake(deepgram: SocketServer, status: int, said: str) -> None:
    deepgram.statuses.append(status)
    engine = Deepgram("deepgram", deepgram.url, "dg-key")
    hearing = Hearing(engine.stream("en"))
    hearing.write(100)
    hearing.stream.flush()
    with pytest.raises(ProviderError, match=said):
        await hearing.next()
    await hearing.stream.aclose()
    await engine.aclose()


async def test_a_refused_key_is_known_before_the_first_call(deepgram: SocketServer) -> None:
    engine = Deepgram("deepgram", deepgram.url, "wrong")
    await engine.start()
    assert engine.trouble == "deepgram refuses the key (401)"
    await engine.aclose()


async def test_what_is_said_before_the_socket_is_open_is_not_lost(deepgram: SocketServer) -> None:
    engine = Deepgram("deepgram", deepgram.url, "dg-key")
    hearing = Hearing(engine.stream("en"))
    hearing.write(500)
    assert deepgram.open == 0
    await deepgram.heard(INPUT_RATE // 2)
    await hearing.stream.aclose()
    await engine.aclose()


async def test_who_leaves_leaves_at_once(deepgram: SocketServer, nova: Hearing) -> None:
    nova.write(100)
    await deepgram.heard(INPUT_RATE // 10)
    began = time.perf_counter()
    await nova.stream.aclose()
    assert time.perf_counter() - began < 0.05
    await deepgram.until(lambda: not deepgram.open)
