"""Speech recognition by Deepgram: Nova, which transcribes, and Flux, which also says when a turn is over.

Source: https://developers.deepgram.com/reference/speech-to-text/listen-streaming, .../listen-flux,
https://developers.deepgram.com/docs/finalize, .../audio-keep-alive, .../flux/state, .../flux/force-end-turn
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from config.agent import SttConfig
from config.identity import base_language
from media.audio import INPUT_RATE, Pcm
from pipeline.remote import Breaker, ProviderError, tell
from pipeline.stt import Stream, Transcript, TurnGuess
from pipeline.stt.bound import BoundStt
from pipeline.stt.socket_stream import Message, Result, SocketStream
from pipeline.tts import WordTime
from pipeline.wire import HEARTBEAT_SECONDS, Wire

MODEL = "nova-3"
FLUX_ENGLISH, FLUX_MANY = "flux-general-en", "flux-general-multi"
FLUX = {"flux-en": FLUX_ENGLISH, "flux-multi": FLUX_MANY}
FLUX_LANGUAGES = frozenset({"de", "en", "es", "fr", "hi", "it", "ja", "nl", "pt", "ru"})

REGIONS = frozenset(
    {"de-CH", "en-AU", "en-GB", "en-IN", "en-NZ", "en-US", "es-419", "fr-CA", "ko-KR", "nl-BE", "pt-BR", "pt-PT"}
    | {"zh-CN", "zh-HK", "zh-TW"}
)
"""Full tags that Nova takes; of all others the base tag."""

NOVA_OPTIONS = {"smart_format": "smart_format", "punctuate": "punctuate", "endpointing_ms": "endpointing"}
FLUX_OPTIONS = {"eot_threshold": 0.7, "eager_eot_threshold": 0.5, "eot_timeout_ms": 1000}
"""With their defaults, protocol 7.5."""

SILENCE = bytes(2 * INPUT_RATE // 50)


class Deepgram:
    """Makes a ``SpeechToText`` for each configuration, see ``bound``. One key."""

    def __init__(self, name: str, url: str, key: str) -> None:
        self.name = name
        self.breaker = Breaker()
        self.wire = Wire(name, url, {"Authorization": f"Token {key}"})

    @property
    def trouble(self) -> str:
        return self.breaker.trouble if self.breaker.open else ""

    async def start(self) -> None:
        """See whether the key is good. Does not raise."""
        try:
            await self.wire.get("v1/projects")
        except ProviderError as error:
            if error.refused:
                self.breaker.failed(error)
            tell(error)

    def bound(self, config: SttConfig) -> BoundStt:
        return BoundStt(self.name, self, config, native_turns=_is_flux(config))

    def stream(self, language: str) -> Stream:
        """See ``SpeechToText``, with the usual settings."""
        return self.open(language, SttConfig())

    def open(self, language: str, config: SttConfig) -> Stream:
        """See ``Configurable``."""
        tag, query = config.language or language, _Query(config)
        if _is_flux(config):
            connect = partial(self.wire.connect, "v2/listen", query.flux(tag), heartbeat=HEARTBEAT_SECONDS)
            return SocketStream(self.wire, connect, Flux(self.name))
        connect = partial(self.wire.connect, "v1/listen", query.nova(tag), heartbeat=HEARTBEAT_SECONDS)
        return SocketStream(self.wire, connect, Nova(self.name))

    async def aclose(self) -> None:
        await self.wire.aclose()


def _is_flux(config: SttConfig) -> bool:
    return (config.model or MODEL).startswith("flux")


@dataclass(frozen=True, slots=True)
class _Query:
    """What a socket is asked for, in the words of either address."""

    config: SttConfig

    def nova(self, tag: str) -> list[tuple[str, str]]:
        model, options = self.config.model or MODEL, self.config.options
        query = {
            "model": model,
            "language": tag if tag in REGIONS or tag == "multi" else base_language(tag),
            "interim_results": "true",
            "punctuate": "true",
            "smart_format": "false",
            "endpointing": "300",
            **{name: _text(options[key]) for key, name in NOVA_OPTIONS.items() if key in options},
        }
        return [*_audio(query), *_terms(options, "keyterm" if model.startswith("nova-3") else "keywords")]

    def flux(self, tag: str) -> list[tuple[str, str]]:
        options, base = self.config.options, base_language(tag)
        wanted = self.config.model or ""
        model = FLUX.get(wanted, wanted)
        if model == "flux":
            model = FLUX_ENGLISH if base == "en" else FLUX_MANY
        query = {"model": model, **{key: _text(options.get(key, usual)) for key, usual in FLUX_OPTIONS.items()}}
        hint = str(options.get("language_hint") or base)
        if model == FLUX_MANY and hint in FLUX_LANGUAGES:
            query["language_hint"] = hint
        return [*_audio(query), *_terms(options, "keyterm")]


@dataclass(slots=True)
class Nova:
    """A ``Dialect``: interim results that grow, and final ones for stretches of speech, which are put together."""

    name: str
    final_parts: list[str] = field(default_factory=list)
    words: list[WordTime] = field(default_factory=list)
    interim: str = ""
    confidence: float = 1.0
    language: str | None = None
    asked: list[str] = field(default_factory=list)
    """What each ``Finalize`` that was not answered was for: ``pause``, ``flush`` or ``discard``."""
    settled: bool = False

    def hello(self) -> list[Message]:
        return []

    def audio(self, pcm: Pcm) -> list[Message]:
        return [pcm.astype("<i2", copy=False).tobytes()]

    def pause(self) -> list[Message]:
        self.settled = False
        return self._finalize("pause")

    def flush(self) -> list[Message]:
        return self._finalize("flush")

    def discard(self) -> list[Message]:
        self._forget()
        return self._finalize("discard")

    def idle(self) -> list[Message]:
        return [{"type": "KeepAlive"}]

    def read(self, message: Mapping[str, Any]) -> list[Result]:
        if message.get("type") == "Error":
            raise _failure(self.name, message)
        if message.get("type") != "Results":
            return []
        finalized = self.asked.pop(0) if message.get("from_finalize") and self.asked else ""
        if "discard" in (finalized, *self.asked):
            return []  # of what is forgotten
        best = message["channel"]["alternatives"][0]
        text = str(best["transcript"]).strip()
        before = self._text()
        if message.get("is_final"):
            self.final_parts += [text] if text else []
            self.words += map(_word, best.get("words") or [])
            self.interim = ""
        else:
            self.interim = text
        if text:
            self.confidence = float(best.get("confidence", 1.0))
            self.language = next(iter(best.get("languages") or []), self.language)
        if finalized == "flush":
            return [self.final()]
        self.settled = (self.settled or finalized == "pause") and not (text and not finalized)
        if finalized == "pause" or self._text() != before:
            return [Transcript(self._text(), False, self.confidence, self.language, settled=finalized == "pause")]
        return []

    def final(self) -> Transcript:
        whole = not self.interim
        found = Transcript(self._text(), True, self.confidence, self.language, words=tuple(self.words) if whole else ())
        self._forget()
        return found

    def _finalize(self, why: str) -> list[Message]:
        self.asked.append(why)
        return [{"type": "Finalize"}]

    def _text(self) -> str:
        return " ".join(filter(None, (*self.final_parts, self.interim)))

    def _forget(self) -> None:
        self.final_parts, self.words, self.interim, self.settled = [], [], "", False


def _word(told: Mapping[str, Any]) -> WordTime:
    return WordTime(str(told.get("punctuated_word") or told["word"]), float(told["start"]), float(told["end"]))


@dataclass(slots=True)
class Flux:
    """A ``Dialect``: turns with their own beginning and end. Ours may hold several of them, or a part of one."""

    name: str
    ended: list[str] = field(default_factory=list)
    """Texts of its turns since the last final."""
    current: str = ""
    confidence: float = 1.0
    language: str | None = None
    unwanted: int = 0
    """Turns whose end is still to come and that are forgotten."""
    flushing: bool = False

    def hello(self) -> list[Message]:
        return []

    def audio(self, pcm: Pcm) -> list[Message]:
        return [pcm.astype("<i2", copy=False).tobytes()]

    def pause(self) -> list[Message]:
        return []

    def flush(self) -> list[Message]:
        self.flushing = True
        return [{"type": "ForceEndTurn"}]

    def discard(self) -> list[Message]:
        ongoing = bool(self.current)
        self._forget()
        if not ongoing:
            return []
        self.unwanted += 1
        return [{"type": "ForceEndTurn"}]

    def idle(self) -> list[Message]:
        return [SILENCE]

    @property
    def settled(self) -> bool:
        return bool(self.ended) and not self.current

    def read(self, message: Mapping[str, Any]) -> list[Result]:
        if message.get("type") == "Error":
            raise _failure(self.name, message)
        if message.get("type") != "TurnInfo":
            return []
        event, text = message["event"], str(message["transcript"]).strip()
        if self.unwanted:
            self.unwanted -= event == "EndOfTurn"
            return []
        certain = float(message.get("end_of_turn_confidence", 1.0))
        if words := message.get("words"):
            self.confidence = float(np.mean([word.get("confidence", 1.0) for word in words]))
        self.language = next(iter(message.get("languages") or []), self.language)
        if event == "EndOfTurn":
            self.ended += [text] if text else []
            self.current = ""
            if self.flushing:
                return [self.final()]
            return [self._partial(settled=True), TurnGuess(certain)]
        changed, self.current = text != self.current, text
        if event == "EagerEndOfTurn":
            return [self._partial(settled=True), TurnGuess(certain, eager=True)]
        return [self._partial()] if changed else []

    def final(self) -> Transcript:
        found = Transcript(self._text(), True, self.confidence, self.language)
        self._forget()
        return found

    def _partial(self, *, settled: bool = False) -> Transcript:
        return Transcript(self._text(), False, self.confidence, self.language, settled=settled)

    def _text(self) -> str:
        return " ".join(filter(None, (*self.ended, self.current)))

    def _forget(self) -> None:
        self.ended, self.current, self.flushing = [], "", False


def _failure(name: str, message: Mapping[str, Any]) -> ProviderError:
    said = str(message.get("description") or message.get("message") or message.get("code") or "")
    return ProviderError(f"{name} does not transcribe", passing=True, said=said)


def _audio(query: Mapping[str, str]) -> list[tuple[str, str]]:
    return [*query.items(), ("encoding", "linear16"), ("sample_rate", str(INPUT_RATE))]


def _terms(options: Mapping[str, Any], name: str) -> list[tuple[str, str]]:
    given = options.get("keyterms") or options.get("keywords") or []
    terms = given if isinstance(given, list) else [given]
    return [(name, str(term)) for term in terms[:100]]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
