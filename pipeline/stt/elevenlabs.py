"""Speech recognition by ElevenLabs: Scribe, over its realtime socket, committed when our turn is over.

Source: https://elevenlabs.io/docs/api-reference/speech-to-text/v-1-speech-to-text-realtime
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from config.agent import SttConfig
from config.identity import base_language
from media.audio import INPUT_RATE, Pcm
from pipeline.remote import Breaker, ProviderError, tell
from pipeline.stt import Stream, Transcript
from pipeline.stt.bound import BoundStt
from pipeline.stt.socket_stream import Message, Result, SocketStream
from pipeline.wire import HEARTBEAT_SECONDS, Wire

MODEL = "scribe_v2_realtime"
NAMES = {"scribe": MODEL, "scribe_v2": MODEL, "realtime": MODEL}

CHUNK = INPUT_RATE // 10
"""Samples in a message: 100 ms."""

LEAST = INPUT_RATE * 3 // 10
"""Samples below which a commit is refused."""

REFUSALS = frozenset({"auth_error", "quota_exceeded", "unaccepted_terms"})
PASSING = frozenset({"rate_limited", "queue_overflow", "resource_exhausted", "session_time_limit_exceeded"})
HARMLESS = frozenset({"commit_throttled", "insufficient_audio_activity"})
"""Errors that only mean that there was nothing to commit."""


class Scribe:
    """Makes a ``SpeechToText`` for each configuration, see ``bound``. One key."""

    def __init__(self, name: str, url: str, key: str) -> None:
        self.name = name
        self.breaker = Breaker()
        self.wire = Wire(name, url, {"xi-api-key": key})

    @property
    def trouble(self) -> str:
        return self.breaker.trouble if self.breaker.open else ""

    async def start(self) -> None:
        """See whether the key is good. Does not raise."""
        try:
            await self.wire.get("v1/models")
        except ProviderError as error:
            if error.refused:
                self.breaker.failed(error)
            tell(error)

    def bound(self, config: SttConfig) -> BoundStt:
        return BoundStt(self.name, self, config)

    def stream(self, language: str) -> Stream:
        """See ``SpeechToText``, with the usual settings."""
        return self.open(language, SttConfig())

    def open(self, language: str, config: SttConfig) -> Stream:
        """See ``Configurable``."""
        model, tag = config.model or MODEL, base_language(config.language or language)
        query = {
            "model_id": NAMES.get(model, model),
            "audio_format": f"pcm_{INPUT_RATE}",
            "commit_strategy": "manual",
            **({} if tag == "multi" else {"language_code": tag}),
        }
        connect = partial(self.wire.connect, "v1/speech-to-text/realtime", query, heartbeat=HEARTBEAT_SECONDS)
        return SocketStream(self.wire, connect, Dialect(self.name, None if tag == "multi" else tag))

    async def aclose(self) -> None:
        await self.wire.aclose()


@dataclass(slots=True)
class Dialect:
    """See ``socket_stream.Dialect``. A commit is answered with the text of all audio since the one before."""

    name: str
    language: str | None
    text: str = ""
    heard: int = 0
    """Samples since the last commit."""
    waiting: list[Pcm] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """What each commit that was not answered was for: ``flush`` or ``discard``."""

    def hello(self) -> list[Message]:
        return []

    def audio(self, pcm: Pcm) -> list[Message]:
        self.waiting.append(pcm)
        self.heard += len(pcm)
        return [self._chunk()] if sum(map(len, self.waiting)) >= CHUNK else []

    def pause(self) -> list[Message]:
        return [self._chunk()] if self.waiting else []

    def flush(self) -> list[Message]:
        return self._commit("flush")

    def discard(self) -> list[Message]:
        self.text = ""
        return self._commit("discard") if self.heard else []

    def idle(self) -> list[Message]:
        return []

    @property
    def settled(self) -> bool:
        return False

    def read(self, message: Mapping[str, Any]) -> list[Result]:
        match message.get("message_type"):
            case "partial_transcript" if "discard" not in self.asked:
                text = str(message["text"]).strip()
                changed, self.text = text != self.text, text
                return [Transcript(text, False, language=self.language)] if changed and not self.asked else []
            case "committed_transcript":
                return self._committed(str(message["text"]).strip())
            case kind if kind in HARMLESS:
                return self._committed(self.text)
            case kind if isinstance(kind, str) and "error" in message:
                passing = kind in PASSING or kind in ("error", "transcriber_error")
                raise ProviderError(
                    f"{self.name} does not transcribe",
                    refused=kind in REFUSALS,
                    passing=passing,
                    said=f"{kind}: {message['error']}",
                )
        return []

    def final(self) -> Transcript:
        found = Transcript(self.text, True, language=self.language)
        self.text = ""
        return found

    def _committed(self, text: str) -> list[Result]:
        why = self.asked.pop(0) if self.asked else ""
        if why != "flush":
            return []
        self.text = text or self.text
        return [self.final()]

    def _commit(self, why: str) -> list[Message]:
        self.asked.append(why)
        if (missing := LEAST - self.heard) > 0:
            self.waiting.append(np.zeros(missing, np.int16))
        self.heard = 0
        return [self._chunk(commit=True)]

    def _chunk(self, *, commit: bool = False) -> Message:
        pcm = np.concatenate([*self.waiting, np.zeros(0, np.int16)])
        self.waiting = []
        audio = base64.b64encode(pcm.astype("<i2", copy=False).tobytes()).decode()
        return {
            "message_type": "input_audio_chunk",
            "audio_base_64": audio,
            "commit": commit,
            "sample_rate": INPUT_RATE,
        }
