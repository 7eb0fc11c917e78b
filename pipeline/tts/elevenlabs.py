"""Speech by ElevenLabs, over its socket that takes text as it is written and tells when each character sounds.

Source: https://elevenlabs.io/docs/api-reference/text-to-speech/v-1-text-to-speech-voice-id-stream-input
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from config.agent import VoiceConfig
from config.identity import base_language
from pipeline.engine import EngineError
from pipeline.remote import Breaker, ProviderError, garbled, hung_up, tell
from pipeline.tts import SpeechChunk, Voice
from pipeline.tts.script import Script
from pipeline.tts.spare import Spares
from pipeline.wire import Socket, Wire

logger = logging.getLogger(__name__)

FLASH, MULTILINGUAL = "eleven_flash_v2_5", "eleven_multilingual_v2"

SLOWEST, FASTEST = 0.7, 1.2

IDLE_SECONDS = 180
"""How long an open socket may wait for its text, the most that is allowed."""

SETTINGS = ("stability", "similarity_boost", "style", "use_speaker_boost")
"""Options of a voice that are passed on."""

LANGUAGES = ("en", "es", "fr", "de", "it", "pt", "nl", "pl", "sv", "tr", "ru", "cs", "ar", "zh", "ja", "hi", "ko")


def _voice(identity: str, name: str, gender: str, style: str) -> Voice:
    return Voice(identity, LANGUAGES, name, gender, style, alias=name.lower())


VOICES = (
    _voice("EXAVITQu4vr4xnSDxMaL", "Sarah", "female", "soft, approachable"),
    _voice("XB0fDUnXU5powFXDhCwa", "Charlotte", "female", "warm, Swedish accent"),
    _voice("Xb7hH8MSUJpSbSDYk0k2", "Alice", "female", "confident, British"),
    _voice("XrExE9yKIg1WjnnlVkGX", "Matilda", "female", "warm, friendly"),
    _voice("pFZP5JQG7iQjIQuC4Bku", "Lily", "female", "warm, British"),
    _voice("JBFqnCBsd6RMkjVDRZzb", "George", "male", "warm, British"),
    _voice("TX3LPaxmHKxFdv7VOQHJ", "Liam", "male", "young, articulate"),
    _voice("onwK4e9ZLuTAKqWW03F9", "Daniel", "male", "authoritative, British"),
    _voice("IKne3meq5aSn9XLyUdCD", "Charlie", "male", "casual, Australian"),
    _voice("pqHfZKP75CvOlQylNhV4", "Bill", "male", "trustworthy, American"),
    _voice("pNInz6obpgDQGcFmaJgB", "Adam", "male", "deep, professional"),
)
"""Those that every account has; the account's own are asked for at the start."""


class ElevenLabs:
    """Makes a ``TextToSpeech`` for each configuration, see ``bound``. One key."""

    any_voice = True

    def __init__(self, name: str, url: str, key: str) -> None:
        self.name = name
        self.breaker = Breaker()
        self.voices: tuple[Voice, ...] = VOICES
        self.wire = Wire(name, url, {"xi-api-key": key})
        self.spares = Spares(self.wire, self._open, IDLE_SECONDS - 10.0)

    @property
    def trouble(self) -> str:
        return self.breaker.trouble if self.breaker.open else ""

    async def start(self) -> None:
        """Learn the account's own voices, and whether the key is good. Does not raise."""
        try:
            listed = (await self.wire.get("v1/voices"))["voices"]
            own = [_voice(row["voice_id"], _first_name(row["name"]), "", "") for row in listed]
        except ProviderError as error:
            if error.refused:
                self.breaker.failed(error)
            tell(error)
        except (TypeError, KeyError, AttributeError):
            logger.warning("%s", garbled(self.name))
        else:
            known = {voice.id for voice in VOICES} | {voice.alias for voice in VOICES}
            self.voices = (*VOICES, *(voice for voice in own if not {voice.id, voice.alias} & known))

    def bound(self, config: VoiceConfig, *, flash: bool = False) -> BoundVoice:
        settings = {name: config.options[name] for name in SETTINGS if name in config.options}
        return BoundVoice(self.name, self, config.model or "", flash, settings)

    async def speak(
        self, pieces: AsyncIterator[str], *, voice: str, language: str, speed: float = 1.0
    ) -> AsyncGenerator[SpeechChunk, None]:
        """See ``TextToSpeech``, with the usual settings."""
        async for chunk in self.bound(VoiceConfig()).speak(pieces, voice=voice, language=language, speed=speed):
            yield chunk

    async def aclose(self) -> None:
        self.spares.clear()
        await self.wire.aclose()

    async def _open(self, order: Order) -> Socket:
        socket = await self.wire.connect(f"v1/text-to-speech/{order.voice}/stream-input", dict(order.query))
        await socket.send({"text": " ", "voice_settings": dict(order.settings)})
        return socket


@dataclass(frozen=True, slots=True)
class Order:
    """What is fixed when a socket is opened."""

    voice: str
    query: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, Any], ...]


@dataclass(slots=True)
class BoundVoice:
    """A ``TextToSpeech``: the provider with the settings of one agent. Two alike are equal."""

    name: str
    engine: ElevenLabs
    model: str
    flash: bool
    settings: Mapping[str, Any] = field(default_factory=dict)

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...

    def prepare(self, *, voice: str, language: str, speed: float = 1.0) -> None:
        """Open a socket for what is going to be said."""
        self.engine.spares.order(self._order(voice, language, speed))

    async def speak(
        self, pieces: AsyncIterator[str], *, voice: str, language: str, speed: float = 1.0
    ) -> AsyncGenerator[SpeechChunk, None]:
        """See ``TextToSpeech``. A socket for the next utterance is opened while this one is spoken."""
        order = self._order(voice, language, speed)
        socket = await self.engine.spares.take(order)
        self.engine.spares.order(order)
        script = Script()
        writer = asyncio.create_task(_write(socket, pieces, script), name="text for a voice")
        try:
            while True:
                message = await socket.receive(self._meaning)
                if message is None:
                    raise hung_up(self.name)
                if chunk := self._chunk(message, script):
                    yield chunk
                if message.get("isFinal"):
                    break
            if not script.complete:
                raise hung_up(self.name)
            if rest := script.rest():
                yield rest
        finally:
            writer.cancel()
            self.engine.wire.leave(socket)
            await asyncio.gather(writer, return_exceptions=True)

    def _order(self, voice: str, language: str, speed: float) -> Order:
        base = base_language(language)
        model = self.model or (FLASH if self.flash or base == "en" else MULTILINGUAL)
        query = {
            "model_id": model,
            "output_format": "pcm_24000",
            "sync_alignment": "true",
            "auto_mode": "true",
            "inactivity_timeout": str(IDLE_SECONDS),
        }
        if model.endswith("_v2_5") and re.fullmatch("[a-z]{2}", base):
            query["language_code"] = base  # other models refuse it
        settings = dict(self.settings)
        if speed != 1.0:
            settings["speed"] = min(max(speed, SLOWEST), FASTEST)
        identity = voice or self.engine.voices[0].id
        return Order(identity, tuple(query.items()), tuple(sorted(settings.items())))

    def _chunk(self, message: Mapping[str, Any], script: Script) -> SpeechChunk | None:
        """The sound of a message. Raises ``ProviderError`` for one that tells of a failure."""
        if "audio" not in message and (said := message.get("message") or message.get("error")):
            raise self._failure(str(message.get("error") or ""), str(said))
        if not (audio := message.get("audio")):
            return None
        try:
            pcm = np.frombuffer(base64.b64decode(audio, validate=True), "<i2")
            words = script.align(*_times(message.get("alignment") or message.get("normalizedAlignment")))
        except (ValueError, TypeError, KeyError, binascii.Error):
            raise garbled(self.name) from None
        return SpeechChunk(pcm, words)

    def _meaning(self, code: int, reason: str) -> ProviderError:
        return self._failure(reason, reason) if reason else hung_up(self.name)

    def _failure(self, kind: str, said: str) -> ProviderError:
        refused = any(word in kind for word in ("api_key", "quota", "unauthorized", "subscription"))
        busy = any(word in kind for word in ("busy", "too_many", "concurren", "rate", "timeout"))
        kind = f" ({kind})" if re.fullmatch("[a-z_]{1,40}", kind) else ""
        return ProviderError(f"{self.name} does not speak{kind}", refused=refused, passing=busy, said=said)


async def _write(socket: Socket, pieces: AsyncIterator[str], script: Script) -> None:
    """Send the pieces as they come, then the end."""
    try:
        async for piece in pieces:
            script.add(piece)
            await socket.send({"text": f"{' '.join(piece.split())} "})
        script.complete = True
        await socket.send({"text": ""})
    except EngineError as error:  # the reader tells why
        logger.debug("%s", error)


def _times(alignment: Mapping[str, Any] | None) -> tuple[list[str], list[float], list[float]]:
    """Characters, and when each begins and ends, s."""
    if not alignment:
        return [], [], []
    starts = [ms / 1000 for ms in alignment["charStartTimesMs"]]
    durations = alignment.get("charDurationsMs", alignment.get("charsDurationsMs")) or [0] * len(starts)
    return alignment["chars"], starts, [start + ms / 1000 for start, ms in zip(starts, durations, strict=True)]


def _first_name(name: str) -> str:
    """``Sarah - Mature, Reassuring`` is called Sarah."""
    return re.split(r" [-–(]", name, maxsplit=1)[0].strip() or name
