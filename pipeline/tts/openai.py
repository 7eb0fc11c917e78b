"""Speech behind the HTTP API of OpenAI: theirs, and that of Kokoro, Speaches and others. Official SDK, ``openai``.

Source: https://platform.openai.com/docs/api-reference/audio/createSpeech
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from config.agent import VoiceConfig
from media.audio import OUTPUT_RATE
from pipeline.remote import Breaker, garbled, hung_up
from pipeline.sdk import OWN_NAME, Sdk
from pipeline.tts import SpeechChunk, Voice
from pipeline.tts.phrasing import pause_after
from pipeline.tts.script import Estimate, Script

DEFAULT_MODEL = "gpt-4o-mini-tts"
MODELS = {"kokoro": "kokoro", "speaches": "speaches-ai/Kokoro-82M-v1.0-ONNX"}
"""Of those who have others than OpenAI."""

SLOWEST, FASTEST = 0.25, 4.0

READ_BYTES = 4800
"""100 ms."""

LANGUAGES = ("en", "es", "fr", "de", "it", "pt", "nl", "pl", "sv", "tr", "ru", "cs", "ar", "zh", "ja", "hi", "ko")

VOICES = tuple(
    Voice(name, LANGUAGES, name.title())
    for name in ("alloy", "ash", "ballad", "coral", "echo", "fable", "nova", "onyx", "sage", "shimmer", "verse")
)
"""https://platform.openai.com/docs/guides/text-to-speech#voice-options"""

DEFAULT_VOICES = {"kokoro": "af_heart", "speaches": "af_heart"}


class OpenAiTts:
    """Makes a ``TextToSpeech`` for each configuration, see ``bound``. One key."""

    any_voice = True

    def __init__(self, name: str, url: str, key: str) -> None:
        self.name = name
        self.breaker = Breaker()
        self.voices = VOICES if name == OWN_NAME else ()
        self.sdk = Sdk(name, url, key)

    @property
    def trouble(self) -> str:
        return self.breaker.trouble if self.breaker.open else ""

    async def start(self) -> None:
        """Load the library and open a connection. Does not raise."""
        await self.sdk.warm(self.breaker)

    def bound(self, config: VoiceConfig, *, flash: bool = False) -> BoundVoice:
        more = {"instructions": str(config.options["instructions"])} if "instructions" in config.options else {}
        return BoundVoice(self.name, self, config.model or MODELS.get(self.name, DEFAULT_MODEL), more)

    async def speak(
        self, pieces: AsyncIterator[str], *, voice: str, language: str, speed: float = 1.0
    ) -> AsyncGenerator[SpeechChunk, None]:
        """See ``TextToSpeech``, with the usual settings."""
        async for chunk in self.bound(VoiceConfig()).speak(pieces, voice=voice, language=language, speed=speed):
            yield chunk

    async def aclose(self) -> None:
        await self.sdk.aclose()


@dataclass(slots=True)
class BoundVoice:
    """A ``TextToSpeech``: the provider with the settings of one agent. Two alike are equal."""

    name: str
    engine: OpenAiTts
    model: str
    more: Mapping[str, Any] = field(default_factory=dict)

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...

    def prepare(self, *, voice: str, language: str, speed: float = 1.0) -> None:
        """Have a connection for what is going to be said."""
        self.engine.sdk.prepare(self.engine.breaker)

    async def speak(
        self, pieces: AsyncIterator[str], *, voice: str, language: str, speed: float = 1.0
    ) -> AsyncGenerator[SpeechChunk, None]:
        """See ``TextToSpeech``. Each piece is asked for by itself; when its words sound is estimated."""
        estimate, pause = Estimate(), 0.0
        async for piece in pieces:
            script = Script()
            script.add(piece)
            if not script.left:
                continue
            if pause:
                yield SpeechChunk(np.zeros(round(pause * OUTPUT_RATE / speed), np.int16))
            estimate.begin(piece.split())
            async for pcm in self._sound(" ".join(piece.split()), voice, speed):
                words = estimate.sound(pcm)
                script.begin(len(words), 0.0, 0.0)
                yield SpeechChunk(pcm, words)
            estimate.end()
            if rest := script.rest():
                yield rest
            pause = pause_after(piece.split()[-1])

    async def _sound(self, text: str, voice: str, speed: float) -> AsyncGenerator[Any, None]:
        """PCM as it comes: 24 kHz, as the format ``pcm`` of the API is."""
        sdk = self.engine.sdk
        client = await sdk.client()
        voices = self.engine.voices
        request: dict[str, Any] = {
            "model": self.model,
            "voice": voice or DEFAULT_VOICES.get(self.name, voices[0].id if voices else "default"),
            "input": text,
            "response_format": "pcm",
            **self.more,
        }
        if speed != 1.0:
            request["speed"] = min(max(speed, SLOWEST), FASTEST)
        with sdk.errors():
            asked = client.audio.speech.with_streaming_response.create(**request)
            response = await asked.__aenter__()
        odd, sounded = b"", False
        try:
            kind = response.headers.get("content-type", "")
            if kind.startswith(("application/json", "text/")):
                raise garbled(self.name)
            with sdk.errors(hung_up):
                async for part in response.iter_bytes(READ_BYTES):
                    data = odd + part
                    even = len(data) // 2 * 2
                    odd = data[even:]
                    if even:
                        sounded = True
                        yield np.frombuffer(data[:even], "<i2")
        finally:
            await asked.__aexit__(None, None, None)
        if not sounded:
            raise garbled(self.name)
