"""Speech recognition behind the API of OpenAI: over its realtime socket, or over HTTP, which many servers speak.

Source: https://developers.openai.com/api/docs/guides/realtime-transcription,
https://platform.openai.com/docs/api-reference/audio/createTranscription
"""

from __future__ import annotations

import base64
import io
import sys
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import av
import numpy as np

from config.agent import SttConfig
from config.identity import base_language
from media.audio import INPUT_RATE, OUTPUT_RATE, Pcm
from pipeline.remote import Breaker, ProviderError, garbled
from pipeline.sdk import OWN_NAME, Sdk
from pipeline.stt import Stream, Transcript
from pipeline.stt.bound import BoundStt
from pipeline.stt.redecoding import Heard, RedecodingStream
from pipeline.stt.socket_stream import Message, Result, SocketStream
from pipeline.wire import HEARTBEAT_SECONDS, Wire

MODEL = "gpt-live-transcribe"
MODELS = {
    "groq": "whisper-large-v3-turbo",
    "speaches": "Systran/faster-distil-whisper-small.en",
    "house": "whisper-1",
}
"""Of those who have others than OpenAI; a server that only the operator knows is of the ``house``."""

CHUNK = INPUT_RATE // 10
"""Samples in a message of the socket: 100 ms."""

NEVER = sys.maxsize
"""Samples between two partials: each would be a request of its own."""


class OpenAiStt:
    """Makes a ``SpeechToText`` for each configuration, see ``bound``. One key."""

    def __init__(self, name: str, url: str, key: str) -> None:
        self.name = name
        self.breaker = Breaker()
        self.sdk = Sdk(name, url, key)
        self.wire = Wire(name, url, {"Authorization": f"Bearer {key}"})

    @property
    def trouble(self) -> str:
        return self.breaker.trouble if self.breaker.open else ""

    async def start(self) -> None:
        """Load the library and open a connection. Does not raise."""
        await self.sdk.warm(self.breaker)

    def bound(self, config: SttConfig) -> BoundStt:
        return BoundStt(self.name, self, config)

    def stream(self, language: str) -> Stream:
        """See ``SpeechToText``, with the usual settings."""
        return self.open(language, SttConfig())

    def open(self, language: str, config: SttConfig) -> Stream:
        """See ``Configurable``. Whisper hears whole recordings; the newer models of OpenAI's have a socket."""
        tag = base_language(config.language or language)
        own = self.name == OWN_NAME
        usual = MODEL if own else MODELS.get(self.name, MODELS["house"])
        model = config.model or usual
        if own and not model.startswith("whisper"):
            query = {"intent": "transcription"}
            connect = partial(self.wire.connect, "realtime", query, heartbeat=HEARTBEAT_SECONDS)
            return SocketStream(self.wire, connect, Dialect(self.name, model, None if tag == "multi" else tag))
        prompt = str(config.options.get("prompt") or "")
        return RedecodingStream(partial(self._transcribe, model, tag, prompt), tag, partial_every=NEVER)

    async def aclose(self) -> None:
        await self.wire.aclose()
        await self.sdk.aclose()

    async def _transcribe(self, model: str, tag: str, prompt: str, pcm: bytes, _: int, _draft: Sequence[int]) -> Heard:
        """The text of a recording, over HTTP."""
        client = await self.sdk.client()
        more: dict[str, Any] = {} if tag == "multi" else {"language": tag}
        if prompt:
            more["prompt"] = prompt
        with self.sdk.errors():
            result = await client.audio.transcriptions.create(
                model=model, file=("speech.wav", _wav(pcm), "audio/wav"), response_format="json", **more
            )
        if not isinstance(text := getattr(result, "text", None), str):
            raise garbled(self.name)
        self.breaker.succeeded()
        return Heard(text.strip())


@dataclass(slots=True)
class Dialect:
    """See ``socket_stream.Dialect``. What was appended since the last commit is an item, transcribed as one."""

    name: str
    model: str
    language: str | None
    text: str = ""
    heard: int = 0
    """Samples since the last commit."""
    waiting: list[Pcm] = field(default_factory=list)
    items: dict[str, str] = field(default_factory=dict)
    """Texts so far of items that are not complete."""
    upsampler: av.AudioResampler = field(
        default_factory=lambda: av.AudioResampler("s16", "mono", OUTPUT_RATE), compare=False
    )

    def hello(self) -> list[Message]:
        transcription = {"model": self.model, **({"language": self.language} if self.language else {})}
        given = {
            "format": {"type": "audio/pcm", "rate": OUTPUT_RATE},
            "transcription": transcription,
            "turn_detection": None,
        }
        return [{"type": "session.update", "session": {"type": "transcription", "audio": {"input": given}}}]

    def audio(self, pcm: Pcm) -> list[Message]:
        self.waiting.append(pcm)
        self.heard += len(pcm)
        return [self._append()] if sum(map(len, self.waiting)) >= CHUNK else []

    def pause(self) -> list[Message]:
        return [self._append()] if self.waiting else []

    def flush(self) -> list[Message]:
        if self.heard < CHUNK:  # a shorter commit is refused
            self.waiting.append(np.zeros(CHUNK - self.heard, np.int16))
        self.heard = 0
        return [self._append(), {"type": "input_audio_buffer.commit"}]

    def discard(self) -> list[Message]:
        self.waiting, self.heard, self.text = [], 0, ""
        self.items.clear()
        return [{"type": "input_audio_buffer.clear"}]

    def idle(self) -> list[Message]:
        return []

    @property
    def settled(self) -> bool:
        return False

    def read(self, message: Mapping[str, Any]) -> list[Result]:
        match message.get("type"):
            case "conversation.item.input_audio_transcription.delta":
                item = message["item_id"]
                self.items[item] = self.items.get(item, "") + str(message["delta"])
                self.text = self.items[item].strip()
                return [Transcript(self.text, False, language=self.language)] if self.text else []
            case "conversation.item.input_audio_transcription.completed":
                self.items.pop(message["item_id"], None)
                self.text = str(message["transcript"]).strip()
                return [self.final()]
            case "conversation.item.input_audio_transcription.failed" | "error":
                raise self._failure(message["error"])
        return []

    def final(self) -> Transcript:
        found = Transcript(self.text, True, language=self.language)
        self.text = ""
        return found

    def _append(self) -> Message:
        pcm = np.concatenate(self.waiting) if self.waiting else np.zeros(0, np.int16)
        self.waiting = []
        return {"type": "input_audio_buffer.append", "audio": base64.b64encode(self._faster(pcm)).decode()}

    def _faster(self, pcm: Pcm) -> bytes:
        """At the only rate that the other side takes."""
        if not len(pcm):
            return b""
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm[np.newaxis]), format="s16", layout="mono")
        frame.sample_rate = INPUT_RATE
        return b"".join(
            part.to_ndarray().astype("<i2", copy=False).tobytes() for part in self.upsampler.resample(frame)
        )

    def _failure(self, error: Mapping[str, Any]) -> ProviderError:
        kind = f"{error.get('type')} {error.get('code')}"
        refused = any(word in kind for word in ("api_key", "quota", "authentication", "permission"))
        return ProviderError(
            f"{self.name} does not transcribe",
            said=str(error.get("message", "")),
            refused=refused,
            passing=not refused and "invalid" not in kind,
        )


def _wav(pcm: bytes) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(INPUT_RATE)
        sound.writeframes(pcm)
    return file.getvalue()
