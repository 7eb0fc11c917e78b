"""Speech by ElevenLabs, against a server that speaks its socket on loopback.

https://elevenlabs.io/docs/api-reference/text-to-speech/v-1-text-to-speech-voice-id-stream-input
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from config.agent import VoiceConfig
from media.audio import OUTPUT_RATE
from pipeline.engine import EngineError
from pipeline.remote import ProviderError
from pipeline.tts import SpeechChunk
from pipeline.tts.elevenlabs import FLASH, MULTILINGUAL, VOICES, ElevenLabs
from tests.providers.elevenlabs import CHAR_MS, KEY, ElevenLabsServer, Manner

SARAH = "EXAVITQu4vr4xnSDxMaL"


@pytest.fixture
async def server() -> AsyncIterator[ElevenLabsServer]:
    async with ElevenLabsServer() as server:
        yield server


@pytest.fixture
async def engine(server: ElevenLabsServer) -> AsyncIterator[ElevenLabs]:
    engine = ElevenLabs("elevenlabs", server.url, KEY)
    yield engine
    await engine.aclose()


async def pieces(*texts: str, wait: float = 0.0) -> AsyncIterator[str]:
    for text in texts:
        yield text
        await asyncio.sleep(wait)


async def say(engine: ElevenLabs, *texts: str, flash: bool = False, **options: Any) -> list[SpeechChunk]:
    how = {"voice": SARAH, "language": "en", "speed": 1.0}
    how |= {key: options.pop(key) for key in list(options) if key in how}
    bound = engine.bound(VoiceConfig(**options), flash=flash)
    async with aclosing(bound.speak(pieces(*texts), **how)) as chunks:  # type: ignore[arg-type]
        return [chunk async for chunk in chunks]


def words(chunks: list[SpeechChunk]) -> str:
    return " ".join(word.word for chunk in chunks for word in chunk.words)


# --- what is asked, and what comes back


async def test_text_goes_out_as_it_is_written_and_words_come_back_with_their_times(
    server: ElevenLabsServer, engine: ElevenLabs
) -> None:
    chunks = await say(engine, "Sunny Dental,", "how can I help?")
    assert words(chunks) == "Sunny Dental, how can I help?"
    sent = server.sockets[0].messages
    assert [message["text"] for message in sent] == [" ", "Sunny Dental, ", "how can I help? ", ""]
    first = chunks[0].words[0]
    assert (first.word, first.start) == ("Sunny", 0.0)
    assert first.end == pytest.approx(len("Sunny") * CHAR_MS / 1000)
    assert (
        sum(len(chunk.pcm) for chunk in chunks) == len("Sunny Dental, how can I help? ") * CHAR_MS * OUTPUT_RATE // 1000
    )


async def test_the_first_sound_does_not_wait_for_the_last_word(server: ElevenLabsServer, engine: ElevenLabs) -> None:
    async with (
        aclosing(engine.speak(pieces("Hello.", "And more.", wait=30), voice=SARAH, language="en")) as chunks,
        asyncio.timeout(5),
    ):
        assert words([await anext(chunks)]) == "Hello."


@pytest.mark.parametrize(
    ("language", "flash", "model", "expected", "code"),
    [
        ("en-US", False, None, FLASH, "en"),
        ("es", False, None, MULTILINGUAL, None),
        ("es-MX", True, None, FLASH, "es"),
        ("es", True, "eleven_turbo_v2_5", "eleven_turbo_v2_5", "es"),
        ("multi", True, None, FLASH, None),
    ],
)
async def test_the_model_by_language(
    server: ElevenLabsServer,
    engine: ElevenLabs,
    language: str,
    flash: bool,
    model: str | None,
    expected: str,
    code: str | None,
) -> None:
    """Protocol 7.2: pinned model, then ``flash`` or English, then multilingual."""
    await say(engine, "Hola.", language=language, flash=flash, model=model)
    query = server.sockets[0].query
    assert (query["model_id"], query.get("language_code")) == (expected, code)
    assert (query["output_format"], query["sync_alignment"]) == ("pcm_24000", "true")


async def test_the_settings_of_a_voice(server: ElevenLabsServer, engine: ElevenLabs) -> None:
    options = {"stability": 0.4, "style": 0.2, "emotion": "unknown to it"}
    await say(engine, "Hello.", voice="a-raw-Id", speed=3.0, options=options)
    assert server.sockets[0].voice == "a-raw-Id"
    assert server.sockets[0].messages[0]["voice_settings"] == {"stability": 0.4, "style": 0.2, "speed": 1.2}


async def test_words_without_times_come_behind_the_sound(server: ElevenLabsServer, engine: ElevenLabs) -> None:
    server.manners.append(Manner(aligned=False))
    chunks = await say(engine, "Hello there.", "How are you?")
    assert words(chunks) == words(chunks[-1:]) == "Hello there. How are you?"


async def test_the_voices_of_the_account_are_offered_beside_those_of_all(
    server: ElevenLabsServer, engine: ElevenLabs
) -> None:
    server.own_voices = [
        {"voice_id": SARAH, "name": "Sarah - Mature, Reassuring"},
        {"voice_id": "ownVoice123", "name": "Mara (cloned)"},
    ]
    await engine.start()
    assert next(voice for voice in VOICES if voice.answers_to("sarah")).id == SARAH
    assert [(voice.id, voice.alias) for voice in engine.voices[len(VOICES) :]] == [("ownVoice123", "mara")]


# --- sockets


async def test_a_socket_waits_for_the_first_word_and_for_the_next_utterance(
    server: ElevenLabsServer, engine: ElevenLabs
) -> None:
    bound = engine.bound(VoiceConfig())
    bound.prepare(voice=SARAH, language="en")
    bound.prepare(voice=SARAH, language="en")
    async with asyncio.timeout(5):
        while not server.sockets:
            await asyncio.sleep(0.01)
        await say(engine, "One.")
        while len(server.sockets) < 2:
            await asyncio.sleep(0.01)
        await say(engine, "Two.")
    assert [speech.text for speech in server.sockets[:2]] == ["One.", "Two."]


async def test_a_spare_that_was_closed_meanwhile_is_not_used(server: ElevenLabsServer, engine: ElevenLabs) -> None:
    bound = engine.bound(VoiceConfig())
    bound.prepare(voice=SARAH, language="en")
    [spare] = next(iter(engine.spares._waiting.values()))
    await (await spare).close()
    assert words(await say(engine, "One.")) == "One."


async def test_who_stops_listening_leaves_at_once(server: ElevenLabsServer, engine: ElevenLabs) -> None:
    chunks = engine.speak(pieces("Hello there.", "And much more.", wait=30), voice=SARAH, language="en")
    await anext(chunks)
    began = time.perf_counter()
    await chunks.aclose()
    assert time.perf_counter() - began < 0.05
    async with asyncio.timeout(5):
        await server.sockets[0].closed.wait()
    assert server.sockets[0].text == "Hello there."


# --- when it goes wrong


@pytest.mark.parametrize(
    ("manner", "said", "retried"),
    [
        (Manner(status=429, headers={"Retry-After": "0.5"}), "elevenlabs is asked too often (429)", True),
        (Manner(status=503), "elevenlabs is out of order (503)", True),
        (Manner(words=0, then="hang up"), "elevenlabs hung up in the middle", True),
        (Manner(words=0, then="close"), "elevenlabs hung up in the middle", True),
        (Manner(words=0, then="error"), "elevenlabs does not speak (quota_exceeded)", False),
        (Manner(words=0, then="malformed"), "elevenlabs answered with something that is no answer", False),
    ],
)
async def test_failures(server: ElevenLabsServer, engine: ElevenLabs, manner: Manner, said: str, retried: bool) -> None:
    server.manners.append(manner)
    with pytest.raises(ProviderError) as caught:
        await say(engine, "Hello.")
    assert str(caught.value).startswith(said)
    assert caught.value.is_worth_a_retry == retried
    assert words(await say(engine, "Again.")) == "Again."


async def test_what_was_said_before_it_broke_is_known(server: ElevenLabsServer, engine: ElevenLabs) -> None:
    server.manners.append(Manner(words=2, then="hang up"))
    chunks = engine.speak(pieces("One two three."), voice=SARAH, language="en")
    assert words([await anext(chunks), await anext(chunks)]) == "One two"
    with pytest.raises(EngineError, match="hung up"):
        await anext(chunks)


async def test_a_refused_key_is_known_before_the_first_word(server: ElevenLabsServer) -> None:
    engine = ElevenLabs("elevenlabs", server.url, "xi-of-somebody-else")
    await engine.start()
    assert engine.trouble == "elevenlabs refuses the key (401)"
    with pytest.raises(ProviderError, match="refuses the key") as caught:
        await say(engine, "Hello.")
    assert caught.value.refused
    await engine.aclose()


async def test_nobody_there() -> None:
    engine = ElevenLabs("elevenlabs", "http://127.0.0.1:9", KEY)
    await engine.start()
    with pytest.raises(ProviderError, match="cannot be reached"):
        await say(engine, "Hello.")
    await engine.aclose()
