"""Speech by Cartesia, over its socket: one context for each utterance, with the times of its words.

Source: https://docs.cartesia.ai/api-reference/tts/websocket, https://docs.cartesia.ai/use-the-api/tts-websocket/contexts
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from config.agent import VoiceConfig
from config.identity import base_language
from media.audio import OUTPUT_RATE
from pipeline.engine import EngineError
from pipeline.remote import Breaker, ProviderError, garbled, hung_up, status_error, tell
from pipeline.tts import SpeechChunk, Voice, WordTime
from pipeline.tts.script import Script
from pipeline.tts.spare import Spares
from pipeline.wire import Socket, Wire

logger = logging.getLogger(__name__)

VERSION = "2025-04-16"
MODEL = "sonic-3"

IDLE_SECONDS = 240.0
"""A socket without traffic is closed by the other side after five minutes."""

VOICES = (Voice("a0e99841-438c-4a64-b679-ae501e7d6091", ("en", "es", "fr", "de", "it", "pt"), "Barbershop Man"),)
"""That of the documentation's examples; there are hundreds, by id."""

SLOWEST, FASTEST = 0.6, 1.5

CONTROLS = frozenset({"emotion", "volume"})
"""Options of a voice that are passed on."""


class Cartesia:
    """Makes a ``TextToSpeech`` for each configuration, see ``bound``. One key."""

    any_voice = True
    voices = VOICES

    def __init__(self, name: str, url: str, key: str) -> None:
        self.name = name
        self.breaker = Breaker()
        self.wire = Wire(name, url, {"X-API-Key": key, "Cartesia-Version": VERSION})
        self.spares: Spares[str] = Spares(self.wire, self._open, IDLE_SECONDS)

    @property
    def trouble(self) -> str:
        return self.breaker.trouble if self.breaker.open else ""

    async def start(self) -> None:
        """Open a socket, which shows whether the key is good. Does not raise."""
        try:
            socket = await self._open("")
        except ProviderError as error:
            if error.refused:
                self.breaker.failed(error)
            tell(error)
        else:
            self.wire.leave(socket)

    def bound(self, config: VoiceConfig, *, flash: bool = False) -> BoundVoice:
        controls = {key: item for key, item in config.options.items() if key in CONTROLS}
        return BoundVoice(self.name, self, config.model or MODEL, controls)

    async def speak(
        self, pieces: AsyncIterator[str], *, voice: str, language: str, speed: float = 1.0
    ) -> AsyncGenerator[SpeechChunk, None]:
        """See ``TextToSpeech``, with the usual settings."""
        async for chunk in self.bound(VoiceConfig()).speak(pieces, voice=voice, language=language, speed=speed):
            yield chunk

    async def aclose(self) -> None:
        self.spares.clear()
        await self.wire.aclose()

    async def _open(self, _: str) -> Socket:
        return await self.wire.connect("tts/websocket", {"cartesia_version": VERSION})


@dataclass(slots=True)
class BoundVoice:
    """A ``TextToSpeech``: the provider with the settings of one agent. Two alike are equal."""

    name: str
    engine: Cartesia
    model: str
    controls: Mapping[str, Any] = field(default_factory=dict)

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...

    def prepare(self, *, voice: str, language: str, speed: float = 1.0) -> None:
        """Open a socket for what is going to be said."""
        self.engine.spares.order("")

    async def speak(
        self, pieces: AsyncIterator[str], *, voice: str, language: str, speed: float = 1.0
    ) -> AsyncGenerator[SpeechChunk, None]:
        """See ``TextToSpeech``. A socket for the next utterance is opened while this one is spoken."""
        socket = await self.engine.spares.take("")
        self.engine.spares.order("")
        request = self._request(voice, language, speed)
        script = Script()
        writer = asyncio.create_task(_write(socket, pieces, script, request), name="text for a voice")
        timed = _Timed(script)
        try:
            while True:
                message = await socket.receive()
                if message is None:
                    raise hung_up(self.name)
                if message.get("context_id") not in (None, request["context_id"]):
                    continue
                for chunk in self._chunks(message, timed):
                    yield chunk
                if message.get("type") == "done":
                    break
            if not script.complete:
                raise hung_up(self.name)
            if rest := script.rest():
                yield rest
        finally:
            writer.cancel()
            self.engine.wire.leave(socket)
            await asyncio.gather(writer, return_exceptions=True)

    def _request(self, voice: str, language: str, speed: float) -> dict[str, Any]:
        controls = dict(self.controls)
        if speed != 1.0:
            controls["speed"] = min(max(speed, SLOWEST), FASTEST)
        return {
            "model_id": self.model,
            "voice": {"mode": "id", "id": voice or VOICES[0].id},
            "language": base_language(language),
            "context_id": uuid.uuid4().hex,
            "output_format": {"container": "raw", "encoding": "pcm_s16le", "sample_rate": OUTPUT_RATE},
            "add_timestamps": True,
            **({"generation_config": controls} if controls else {}),
        }

    def _chunks(self, message: Mapping[str, Any], timed: _Timed) -> list[SpeechChunk]:
        """Raises ``ProviderError`` for a message that tells of a failure."""
        try:
            match message.get("type"):
                case "chunk":
                    return timed.sound(np.frombuffer(base64.b64decode(message["data"], validate=True), "<i2"))
                case "timestamps":
                    times = message["word_timestamps"]
                    timed.times(list(zip(times["words"], times["start"], times["end"], strict=True)))
                    return []
                case "error":
                    raise self._failure(message)
        except (ValueError, TypeError, KeyError, binascii.Error):
            raise garbled(self.name) from None
        return []

    def _failure(self, message: Mapping[str, Any]) -> ProviderError:
        said = str(message.get("message") or message.get("error") or message.get("title") or "")
        status = message.get("status_code")
        if isinstance(status, int) and status >= 400:
            return status_error(self.name, status, {}, said)
        return ProviderError(f"{self.name} does not speak", said=said)


class _Timed:
    """Sound, and the times of words since the beginning of the utterance, which may come before or after their sound.

    Times that come after theirs share the next sound.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self._due: list[tuple[float, float]] = []
        self._samples = 0

    def times(self, words: list[tuple[str, float, float]]) -> None:
        self._due += [(float(start), float(end)) for _, start, end in words]

    def sound(self, pcm: Any) -> list[SpeechChunk]:
        offset = self._samples / OUTPUT_RATE
        self._samples += len(pcm)
        until = self._samples / OUTPUT_RATE
        words: list[WordTime] = []
        while self._due and self._due[0][0] < until:
            start, end = self._due.pop(0)
            words += self._script.begin(1, max(0.0, start - offset), max(0.0, end - offset))
        return [SpeechChunk(pcm, words)]


async def _write(socket: Socket, pieces: AsyncIterator[str], script: Script, request: Mapping[str, Any]) -> None:
    """Send the pieces as they come, then the end."""
    try:
        async for piece in pieces:
            script.add(piece)
            await socket.send({**request, "transcript": f"{' '.join(piece.split())} ", "continue": True})
        script.complete = True
        await socket.send({**request, "transcript": "", "continue": False})
    except EngineError as error:  # the reader tells why
        logger.debug("%s", error)
