"""What every engine shares: its error, and the set of engines that a server has."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import AsyncGenerator, Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn

from config.identity import base_language

if TYPE_CHECKING:  # worker processes import this module for its error, and need nothing else of it
    from pathlib import Path

    from config.agent import AgentConfig
    from config.settings import Settings
    from pipeline.llm import LanguageModel
    from pipeline.stt import SpeechToText
    from pipeline.tts import SpeechChunk, TextToSpeech, Voice

logger = logging.getLogger(__name__)

Kind = Literal["stt", "llm", "tts"]

THOUGHT: tuple[Kind, ...] = ("llm",)
"""What a chat needs of all kinds."""

LABELS: dict[Kind, str] = {"stt": "speech recognition", "llm": "language model", "tts": "voice"}

MAX_WARNINGS = 100
"""Warnings that are logged; what follows is told to the call alone."""


class EngineError(Exception):
    """An engine is missing, failed or was too slow. The text is fit for a person and holds no secret."""


class SlowEngineError(EngineError):
    """An engine took too long."""


TABLE: dict[Kind, dict[str, Callable[[Engines], Any]]] = {
    "stt": {
        "moonshine": lambda _: _new("pipeline.stt.moonshine:Moonshine"),
        "whisper": lambda _: _new("pipeline.stt.whisper:Whisper"),
        "instant": lambda _: _new("pipeline.instant:InstantStt"),
    },
    "llm": {
        "local": lambda own: _new(
            "pipeline.llm.local:Local", own.made("llm", "rules"), own.made("llm", "llamacpp"), own.model_languages
        ),
        "rules": lambda _: _new("pipeline.llm.rules:Rules"),
        "llamacpp": lambda own: _new("pipeline.llm.llamacpp:LlamaCpp", own.model_file),
        "instant": lambda _: _new("pipeline.instant:InstantLlm"),
    },
    "tts": {
        "hibari": lambda _: _new("pipeline.tts.hibari:Hibari"),
        "pico": lambda _: _new("pipeline.tts.pico:Pico"),
        "espeak": lambda _: _new("pipeline.tts.espeak:Espeak"),
        "instant": lambda _: _new("pipeline.instant:InstantTts"),
    },
}
"""Every engine by the name of its provider, the better one of a kind first. A new engine is a file and a line here."""

SCRIPTED = frozenset({"instant"})
"""Engines for measuring. They take nobody's place; in the settings they take the place of all that agents name."""

LANGUAGES = {
    "moonshine": frozenset({"en"}),
    "hibari": frozenset({"en"}),
    "pico": frozenset({"de", "en", "es", "fr", "it"}),
    "espeak": frozenset({"de", "en", "es", "fr", "it"}),
}
"""Base languages of the engines that know only some."""

FALLBACK_LANGUAGE = "en"
"""Of a call whose own language nobody hears or speaks."""


@dataclass(frozen=True, slots=True)
class CallEngines:
    """The engines of one call."""

    stt: SpeechToText
    llm: LanguageModel
    tts: TextToSpeech
    language: str
    """BCP-47 tag: the agent's, or that of the fallback."""
    voice: str
    """Name of a voice that ``tts`` has; empty: its own choice."""
    apology: SpeechChunk
    """A recording for when ``tts`` does not work."""
    warnings: tuple[str, ...] = ()
    """What the agent asked for and does not get, one line each for a person."""


class Outlook(NamedTuple):
    """An engine that a call would get."""

    name: str
    state: Literal["ready", "loading", "unloaded"]
    """``unloaded``: the first call that needs it loads it."""


@dataclass(slots=True, eq=False)
class _Entry:
    kind: Kind
    name: str
    engine: Any
    state: Literal["loading", "ready", "failed"] = "loading"
    detail: str = ""
    """Why it failed."""
    task: asyncio.Task[None] | None = None
    """Loads it; ``None`` until somebody needs it."""

    @property
    def trouble(self) -> str:
        """Why it does not work, or not as it should; empty when it does or is still loading."""
        return self.detail or (getattr(self.engine, "trouble", "") if self.state == "ready" else "")


class Engines:
    """The engines of a server, each loaded once and shared by all calls.

    Those of the settings and of the declared agents are loaded at the start, any other when a call first needs it.
    """

    def __init__(self, settings: Settings) -> None:
        from pipeline.apology import apology
        from pipeline.ears import Ears
        from pipeline.models import SMOLLM2

        apology("en")  # decoded now, not on the loop of running calls
        self.model_file: Path = settings.llm_file or settings.models_dir / SMOLLM2.name
        """GGUF file of the local language model."""
        self.model_languages: frozenset[str] | None = None if settings.llm_file else frozenset({"en"})
        """What that model speaks; ``None``: whatever it is asked in."""
        self.ears = Ears(settings.models_dir)
        self._voice = settings.default_voice
        self._entries: dict[tuple[Kind, str], _Entry] = {}
        self._warned: set[str] = set()
        self._closed = False
        self._listening: asyncio.Task[None] | None = None
        self._defaults: dict[Kind, str] = {}
        for kind, names in TABLE.items():
            wanted = getattr(settings, kind)
            self._defaults[kind] = wanted if wanted in names else next(iter(names))
            if wanted not in names:
                self._warn(f"{kind} = {wanted!r}: there is no such engine, {self._defaults[kind]} takes its place")
        declared = (self._gets(kind, agent) for agent in settings.agents for kind in TABLE)
        self._first = [*(self._entry(*key) for key in self._defaults.items()), *filter(None, declared)]

    async def start(self) -> None:
        """Load what is surely needed, all at once. Never raises: what fails is told by ``status`` and ``choose``."""
        self._listening = asyncio.create_task(self.ears.start(), name="loading the ears")
        await asyncio.wait({self._listening, *(self._loading(entry) for entry in self._first)})

    async def ready(self, agent: AgentConfig, kinds: Collection[Kind] = ("stt", "llm", "tts")) -> None:
        """Load what this agent gets, unless it is there. Never raises; ``choose`` tells what came of it."""
        while not self._closed:
            entries = filter(None, (self._gets(kind, agent) for kind in kinds))
            loading = {self._loading(entry) for entry in entries if entry.state == "loading"}
            if not loading:
                return
            await asyncio.wait(loading)

    async def aclose(self) -> None:
        """Release them all."""
        self._closed = True
        tasks = [task for task in (self._listening, *(entry.task for entry in self._entries.values())) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(self.ears.aclose(), *(entry.engine.aclose() for entry in self._entries.values()))

    def choose(self, agent: AgentConfig) -> CallEngines:
        """The engines that this agent asks for, as far as they are here. They may be loading; see ``ready``."""
        from pipeline.apology import apology

        warnings: list[str] = []
        language = self._language(agent)
        if language != agent.language:
            warnings.append(self._unspoken(agent))
        picked = {kind: self._pick(kind, agent, language, warnings) for kind in TABLE}
        voice = self._voice_of(picked["tts"], agent, language, warnings)
        for warning in warnings:
            self._warn(warning)
        return CallEngines(
            **picked, language=language, voice=voice, apology=apology(language), warnings=tuple(warnings)
        )

    def choose_model(self, agent: AgentConfig) -> LanguageModel:
        """The language model alone, for what is typed: in the agent's language, whoever hears and speaks it."""
        warnings: list[str] = []
        model: LanguageModel = self._pick("llm", agent, agent.language, warnings)
        for warning in warnings:
            self._warn(warning)
        return model

    def outlook(self, agent: AgentConfig) -> dict[Kind, Outlook] | None:
        """What ``choose`` would give this agent now; ``None``: not in its language. Loads nothing, warns of nothing."""
        found: dict[Kind, Outlook] = {}
        for kind in TABLE:
            entry = self._able(kind, agent, agent.language)
            if entry is None:
                return None
            found[kind] = Outlook(
                entry.name, "ready" if entry.state == "ready" else "loading" if entry.task else "unloaded"
            )
        return found

    def status(self) -> dict[str, dict[str, str]]:
        """For each kind the engine of the settings: ``{"name", "state", "detail"}``.

        ``state`` is ``loading``, ``ready`` or ``failed``; ``detail`` says what is missing, else it is empty.
        """
        report = {}
        for kind, name in self._defaults.items():
            entry = self._entries[kind, name]
            report[str(kind)] = {"name": name, "state": entry.state, "detail": entry.trouble}
        return report

    def offers(self, kind: Kind, language: str | None = None) -> dict[str, Any]:
        """The engines that can be asked for by name, the preferred one first: all that are installed and have not
        failed, or in a server that measures the scripted one alone. ``language``: those that know this tag.
        """
        first = self._defaults[kind]
        names = [first] if first in SCRIPTED else dict.fromkeys([first, *TABLE[kind]])
        entries = [self._entry(kind, name) for name in names if name not in SCRIPTED or name == first]
        return {
            entry.name: entry.engine
            for entry in entries
            if entry.state != "failed"
            and getattr(entry.engine, "available", True)
            and (language is None or _knows(entry.name, language))
        }

    def made(self, kind: Kind, name: str) -> Any:
        """The engine of this name, made when it is not there yet. Raises ``KeyError`` when there is no such."""
        return self._entry(kind, name).engine

    def _entry(self, kind: Kind, name: str) -> _Entry:
        if (kind, name) not in self._entries:
            engine = TABLE[kind][name](self)  # which may make others that it consists of
            self._entries[kind, name] = _Entry(kind, name, engine)
        return self._entries[kind, name]

    def _loading(self, entry: _Entry) -> asyncio.Task[None]:
        entry.task = entry.task or asyncio.create_task(self._load(entry), name=f"loading {entry.name}")
        return entry.task

    async def _load(self, entry: _Entry) -> None:
        try:
            await entry.engine.start()
            entry.state = "ready"
            logger.info("%s: %s is ready", LABELS[entry.kind], entry.name)
        except EngineError as error:
            entry.state, entry.detail = "failed", str(error)
            logger.warning("%s: %s", LABELS[entry.kind], error)
        except Exception:
            entry.state, entry.detail = "failed", f"{entry.name} could not start"
            logger.exception("%s: %s", LABELS[entry.kind], entry.detail)

    def _candidates(self, kind: Kind, agent: AgentConfig, language: str) -> list[str]:
        """Who could do it, best first: what the agent names, what the settings name, then any other.

        A language model is nobody's business but theirs; after them come only the rules, which cannot fail.
        """
        others = ["rules"] if kind == "llm" else [name for name in TABLE[kind] if name not in SCRIPTED]
        names = dict.fromkeys([self._wanted(agent, kind), self._defaults[kind], *others])
        return [name for name in names if name in TABLE[kind] and _knows(name, language)]

    def _wanted(self, agent: AgentConfig, kind: Kind) -> str | None:
        """The provider that the agent names."""
        part = {"stt": agent.stt, "llm": agent.llm, "tts": agent.voice}[kind]
        return part.provider if part and self._defaults[kind] not in SCRIPTED else None

    def _able(self, kind: Kind, agent: AgentConfig, language: str) -> _Entry | None:
        """The first candidate that has not failed."""
        entries = (self._entry(kind, name) for name in self._candidates(kind, agent, language))
        return next((entry for entry in entries if entry.state != "failed"), None)

    def _gets(self, kind: Kind, agent: AgentConfig) -> _Entry | None:
        return self._able(kind, agent, self._language(agent))

    def _language(self, agent: AgentConfig) -> str:
        """The agent's, if somebody hears it and somebody speaks it."""
        both = all(self._able(kind, agent, agent.language) for kind in TABLE)
        return agent.language if both or base_language(agent.language) == FALLBACK_LANGUAGE else FALLBACK_LANGUAGE

    def _unspoken(self, agent: AgentConfig) -> str:
        """Why a call is not in the language of its agent."""
        keys = ((kind, name) for kind in TABLE for name in self._candidates(kind, agent, agent.language))
        reasons = [self._entries[key].detail for key in keys if key in self._entries and self._entries[key].detail]
        reason = reasons[0] if reasons else f"nobody here hears and speaks {agent.language!r:.40}"
        return f"{reason}; the call is in English"

    def _pick(self, kind: Kind, agent: AgentConfig, language: str, warnings: list[str]) -> Any:
        wanted, candidates = self._wanted(agent, kind), self._candidates(kind, agent, language)
        wish = wanted or candidates[0]
        entry = self._able(kind, agent, language)
        if entry is None:
            return Unavailable(candidates[0], self._entries[kind, candidates[0]].detail)
        if entry.name != wish:
            if wish not in TABLE[kind]:
                reason = f"there is no {LABELS[kind]} engine {wish!r:.60} here"
            elif wish not in candidates:
                reason = f"{wish} does not know {language!r:.40}"
            else:
                reason = self._entries[kind, wish].detail
            warnings.append(f"{reason}; {entry.name} takes its place")
        if entry.trouble:
            warnings.append(entry.trouble)
        return entry.engine

    def _voice_of(self, engine: TextToSpeech, agent: AgentConfig, language: str, warnings: list[str]) -> str:
        """The voice that is asked for, by its exact name; empty when the engine may choose."""
        wish = agent.voice.voice_id or self._voice
        meant: list[Voice] = [voice for voice in getattr(engine, "voices", ()) if voice.answers_to(wish)]
        if takes_any_voice(engine):
            return meant[0].id if meant else wish
        spoken = base_language(language)
        for voice in meant:
            if spoken in map(base_language, voice.languages):
                return voice.id
        # The name of a voice means nothing to another engine than the one that was asked for.
        if agent.voice.voice_id and engine.name == (agent.voice.provider or engine.name):
            warnings.append(f"{engine.name} has no voice {wish!r:.60} for {language!r:.40}; it speaks with its own")
        return ""

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


def takes_any_voice(engine: Any) -> bool:
    """Whether a text-to-speech engine takes other names than those of its ``voices``."""
    return not getattr(engine, "voices", ()) or getattr(engine, "any_voice", False)


def _new(target: str, *args: Any) -> Any:
    """An object of the class ``"module:Class"``, imported only now."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)(*args)


def _knows(engine: str, language: str) -> bool:
    """Whether an engine takes a BCP-47 tag."""
    known = LANGUAGES.get(engine)
    return known is None or base_language(language) in known
