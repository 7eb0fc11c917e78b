"""The doctor asks each provider that is set up for something, and tells how long it took or what to mend."""

from __future__ import annotations

from pathlib import Path

from config.settings import Settings
from pipeline.engine import Engines
from server.trying import try_providers
from tests.providers.elevenlabs import ElevenLabsServer, Manner
from tests.providers.openai_chat import OpenAiServer, Script
from tests.providers.sockets import SocketServer


async def test_each_provider_is_tried_for_real(tmp_path: Path) -> None:
    async with (
        OpenAiServer() as openai,
        ElevenLabsServer() as eleven,
        SocketServer("/v1/listen", header="Authorization", key="Token dg-secret") as deepgram,
    ):
        openai.scripts.append(Script("Hello", first=0.05))
        eleven.manners.append(Manner(status=429))
        settings = Settings(
            models_dir=tmp_path,
            provider_keys=[f"groq:{openai.key}", "elevenlabs:xi-wrong-secret", "deepgram:dg-wrong-secret"],
            provider_urls=[f"groq={openai.url}", f"elevenlabs={eleven.url}", f"deepgram={deepgram.url}"],
        )
        engines = Engines(settings)
        found = {finding.name: finding for finding in await try_providers(engines)}
        await engines.aclose()
    assert set(found) == {
        "groq, language model",
        "groq, speech recognition",
        "elevenlabs, voice",
        "elevenlabs, speech recognition",
        "deepgram, speech recognition",
    }
    assert found["groq, language model"].ok
    assert found["groq, language model"].text.startswith("first token after ")
    assert [message["content"] for message in openai.requests[0]["messages"]] == ["Say hello."]
    assert not found["groq, speech recognition"].ok  # there is no such route
    voice = found["elevenlabs, voice"]
    assert (voice.ok, voice.text) == (False, "elevenlabs refuses the key (403)")
    assert "ELEVENLABS_API_KEY" in voice.fix
    assert found["deepgram, speech recognition"].text == "deepgram refuses the key (401)"
    assert "secret" not in str(found)


async def test_a_voice_that_speaks(tmp_path: Path) -> None:
    async with ElevenLabsServer() as eleven:
        settings = Settings(
            models_dir=tmp_path, provider_keys=[f"elevenlabs:{eleven.key}"], provider_urls=[f"elevenlabs={eleven.url}"]
        )
        engines = Engines(settings)
        found = {finding.name: finding for finding in await try_providers(engines)}
        await engines.aclose()
    assert found["elevenlabs, voice"].ok
    assert found["elevenlabs, voice"].text.startswith("first audio after ")
