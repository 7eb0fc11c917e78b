"""What every engine shares: its error, and the set of engines that a server has."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn

if TYPE_CHECKING:  # worker processes import this module for its error, and need nothing else of it
    from pathlib import Path

    from config.agent import AgentConfig
    from config.settings import Settings
    from pipeline.llm import LanguageModel
    from pipeline.stt import SpeechToText
    from pipeline.tts import SpeechChunk, TextToSpeech

logger = logging.getLogger(__name__)

Kind = Literal["stt", "llm", "tts"]

LABELS: dict[Kind, str] = {"stt": "speech recognition", "llm": "language model", "tts": "voice"}

MAX_WARNINGS = 100
"""Warnings that are logged; what follows is told to the call alone."""


class EngineError(Exception):
    """An engine is missing, failed or was too slow. The text is fit for a person and holds no secret."""


TABLE: dict[Kind, dict[str, Callable[[Engines], Any]]] = {
    "stt": {
        "moonshine": lambda _: _new("pipeline.stt.moonshine:Moonshine"),
    },
    "llm": {
        "local": lambda own: _new("pipeline.llm.local:Local", own.made("llm", "rules"), own.made("llm", "llamacpp")),
        "rules": lambda _: _new("pipeline.llm.rules:Rules"),
        "llamacpp": lambda own: _new("pipeline.llm.llamacpp:LlamaCpp", own.model_file),
    },
    "tts": {
        "hibari": lambda _: _new("pipeline.tts.hibari:Hibari"),
    },
}
"""Every engine by the name of its provider, the local one of a kind first. A new engine is a file and a line here."""

VOICES = {"hibari": frozenset({"heart"})}
"""Names of voices, for the engines that have few."""


@dataclass(frozen=True, slots=True)
class CallEngines:
    """The engines of one call."""

    stt: SpeechToText
    llm: LanguageModel
    tts: TextToSpeech
    voice: str
    """Name of a voice that ``tts`` has; empty: its own choice."""
    apology: SpeechChunk
    """A recording for when ``tts`` does not work."""
    warnings: tuple[str, ...] = ()
    """What the agent asked for and does not get, one line each for a person."""


@dataclass(slots=True)
class _Entry:
    engine: Any
    state: Literal["loading", "ready", "failed"] = "loading"
    detail: str = ""
    """Why it failed."""

    @property
    def trouble(self) -> str:
        """Why it does not work, or not as it should; empty when it does or is still loading."""
        return self.detail or (getattr(self.engine, "trouble", "") if self.state == "ready" else "")


class Engines:
    """The engines of a server, each loaded once and shared by all calls.

    There are those that the settings and the declared agents name; who asks for another gets the one of the settings.
    """

    def __init__(self, settings: Settings) -> None:
        from pipeline.apology import apology
        from pipeline.models import SMOLLM2

        apology("en")  # decoded now, not on the loop of running calls
        self.model_file: Path = settings.llm_file or settings.models_dir / SMOLLM2.name
        """GGUF file of the local language model."""
        self._voice = settings.default_voice
        self._entries: dict[tuple[Kind, str], _Entry] = {}
        self._warned: set[str] = set()
        self._loaded = asyncio.Event()
        self._defaults: dict[Kind, str] = {}
        for kind, names in TABLE.items():
            wanted = getattr(settings, kind)
            self._defaults[kind] = wanted if wanted in names else next(iter(names))
            if wanted not in names:
                self._warn(f"{kind} = {wanted!r}: there is no such engine, {self._defaults[kind]} takes its place")
            declared = {_wanted(agent, kind) for agent in settings.agents}
            for name in names:
                if name == self._defaults[kind] or name in declared:
                    self.made(kind, name)
        self.made("llm", "rules")

    async def start(self) -> None:
        """Load every engine, all at once. Never raises: what fails is told by ``status`` and by whoever needs it."""
        await asyncio.gather(*(self._load(kind, name) for kind, name in self._entries))
        self._loaded.set()

    async def loaded(self) -> None:
        """Until ``start`` has done what it can."""
        await self._loaded.wait()

    async def aclose(self) -> None:
        """Release them all."""
        await asyncio.gather(*(entry.engine.aclose() for entry in self._entries.values()))

    def choose(self, agent: AgentConfig) -> CallEngines:
        """The engines that this agent asks for, as far as they are here."""
        from pipeline.apology import apology

        warnings: list[str] = []
        picked = {kind: self._pick(kind, _wanted(agent, kind), warnings) for kind in TABLE}
        voice = agent.voice.voice_id or self._voice
        known = VOICES.get(picked["tts"].name)
        if known is not None and voice not in known:
            if agent.voice.voice_id:
                warnings.append(f"{picked['tts'].name} has no voice {voice!r:.60}; it speaks with its own")
            voice = ""
        for warning in warnings:
            self._warn(warning)
        return CallEngines(**picked, voice=voice, apology=apology(agent.language), warnings=tuple(warnings))

    def status(self) -> dict[str, dict[str, str]]:
        """For each kind the engine of the settings: ``{"name", "state", "detail"}``.

        ``state`` is ``loading``, ``ready`` or ``failed``; ``detail`` says what is missing, else it is empty.
        """
        report = {}
        for kind, name in self._defaults.items():
            entry = self._entries[kind, name]
            report[str(kind)] = {"name": name, "state": entry.state, "detail": entry.trouble}
        return report

    def made(self, kind: Kind, name: str) -> Any:
        """The engine of this name, made when it is not there yet. Raises ``KeyError`` when there is no such."""
        if (kind, name) not in self._entries:
            engine = TABLE[kind][name](self)  # which may make others that it consists of
            self._entries[kind, name] = _Entry(engine)
        return self._entries[kind, name].engine

    async def _load(self, kind: Kind, name: str) -> None:
        entry = self._entries[kind, name]
        try:
            await entry.engine.start()
            entry.state = "ready"
            logger.info("%s: %s is ready", LABELS[kind], name)
        except EngineError as error:
            entry.state, entry.detail = "failed", str(error)
            logger.warning("%s: %s", LABELS[kind], error)

    def _pick(self, kind: Kind, wanted: str | None, warnings: list[str]) -> Any:
        """The engine that is wanted, else the one of the settings, else the rules, which cannot fail."""
        default = self._defaults[kind]
        names = [wanted or default, default, *(["rules"] if kind == "llm" else [])]
        for name in names:
            entry = self._entries.get((kind, name))
            if entry and entry.state != "failed":
                if name != names[0]:
                    first = self._entries.get((kind, names[0]))
                    reason = first.detail if first else f"there is no {LABELS[kind]} engine {names[0]!r:.60} here"
                    warnings.append(f"{reason}; {name} takes its place")
                if entry.trouble:
                    warnings.append(entry.trouble)
                return entry.engine
        return Unavailable(default, self._entries[kind, default].detail)

    def _warn(self, warning: str) -> None:
        """Once for each text, however many calls it concerns."""
        if warning not in self._warned and len(self._warned) < MAX_WARNINGS:
            self._warned.add(warning)
            logger.warning("%s", warning)


class Unavailable:
    """Stands where an engine of any kind could not be loaded: whatever is asked of it raises ``EngineError``."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self._reason = reason

    async def start(self) -> None:
        self._refuse()

    def stream(self, language: str) -> NoReturn:
        self._refuse()

    def generate(self, *_: Any) -> AsyncGenerator[Any, None]:
        return self._iterate()

    def speak(self, *_: Any, **__: Any) -> AsyncGenerator[Any, None]:
        return self._iterate()

    async def aclose(self) -> None:
        """There is nothing to release."""

    async def _iterate(self) -> AsyncGenerator[Any, None]:
        values: list[Any] = []
        for value in values:  # what makes this a generator
            yield value
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise EngineError(self._reason)


def _new(target: str, *args: Any) -> Any:
    """An object of the class ``"module:Class"``, imported only now."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)(*args)


def _wanted(agent: AgentConfig, kind: Kind) -> str | None:
    """The provider that the agent names."""
    part = {"stt": agent.stt, "llm": agent.llm, "tts": agent.voice}[kind]
    return part.provider if part else None
