"""What every engine shares: its error, and the set of engines that a server has."""

from __future__ import annotations

import asyncio
import copy
import importlib
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from config.identity import DEFAULT_ORG, base_language
from config.providers import LABELS, Kind, Target
from pipeline.failure import EngineError as EngineError  # noqa: PLC0414
from pipeline.failure import SlowEngineError as SlowEngineError  # noqa: PLC0414
from pipeline.failure import Unavailable as Unavailable  # noqa: PLC0414

if TYPE_CHECKING:  # worker processes import this module for its error, and need nothing else of it
    from pathlib import Path

    from config.agent import AgentConfig
    from config.settings import Settings
    from pipeline.llm import LanguageModel
    from pipeline.stt import SpeechToText
    from pipeline.tts import SpeechChunk, TextToSpeech, Voice

logger = logging.getLogger(__name__)

THOUGHT: tuple[Kind, ...] = ("llm",)
"""What a chat needs of all kinds."""

MAX_WARNINGS = 100
"""Warnings that are logged; what follows is told to the call alone."""


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

REMOTE: dict[Kind, dict[str, str]] = {
    "stt": {"deepgram": "pipeline.stt.deepgram:Deepgram", "elevenlabs": "pipeline.stt.elevenlabs:Scribe"},
    "llm": {},
    "tts": {"cartesia": "pipeline.tts.cartesia:Cartesia", "elevenlabs": "pipeline.tts.elevenlabs:ElevenLabs"},
}
"""The classes of those who are asked over the network, made of name, address and key. A new one is a line here too."""

COMPATIBLE: dict[Kind, str] = {
    "stt": "pipeline.stt.openai:OpenAiStt",
    "llm": "pipeline.llm.openai:OpenAiLlm",
    "tts": "pipeline.tts.openai:OpenAiTts",
}
"""Those of all others: they speak OpenAI's HTTP API."""

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
        from config.secrets import load_providers
        from pipeline.apology import apology
        from pipeline.ears import Ears
        from pipeline.models import SMOLLM2

        apology("en")  # decoded now, not on the loop of running calls
        self.model_file: Path = settings.llm_file or settings.models_dir / SMOLLM2.name
        """GGUF file of the local language model."""
        self.model_languages: frozenset[str] | None = None if settings.llm_file else frozenset({"en"})
        """What that model speaks; ``None``: whatever it is asked in."""
        self.ears = Ears(settings.models_dir)
        self.providers = load_providers(settings)
        self._org = DEFAULT_ORG
        self._entries: dict[tuple[Kind, str], _Entry] = {}
        self._warned: set[str] = set()
        self._closed = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None
        self._defaults: dict[Kind, str] = {}
        self._default_names: dict[Kind, str] = {}
        self._fallbacks: dict[Kind, list[Target]] = {}
        for kind, names in TABLE.items():
            wanted = Target.parse(getattr(settings, kind))
            self._defaults[kind] = wanted.provider if self._has(kind, wanted.provider) else next(iter(names))
            self._default_names[kind] = wanted.name
            self._fallbacks[kind] = [Target.parse(text) for text in getattr(settings, f"{kind}_fallbacks")]
            for one in (wanted, *self._fallbacks[kind]):
                if not self._has(kind, one.provider):
                    place = f"; {self._defaults[kind]} takes its place" if one is wanted else ""
                    self._warn(f"{kind} = {one!s:.60}: {self.providers.absence(kind, one.provider, self._org)}{place}")
        named = "default_voice" in settings.model_fields_set or self._defaults["tts"] in TABLE["tts"]
        self._voice = self._default_names["tts"] or (settings.default_voice if named else "")
        declared = (self._gets(kind, agent) for agent in settings.agents for kind in TABLE)
        self._first = [*(self._entry(*key) for key in self._defaults.items()), *filter(None, declared)]

    def of(self, org: str) -> Self:
        """The same engines, but where an organisation has a key of its own those of this key."""
        if org == self._org:
            return self
        view = copy.copy(self)  # which shares what is loaded
        view._org = org
        return view

    async def start(self) -> None:
        """Load what is surely needed, all at once. Never raises: what fails is told by ``status`` and ``choose``."""
        self._listening = asyncio.create_task(self.ears.start(), name="loading the ears")
        await asyncio.wait({self._listening, *(self._loading(entry) for entry in self._first)})

    async def ready(self, agent: AgentConfig, kinds: Collection[Kind] = ("stt", "llm", "tts")) -> None:
        """Load what this agent gets, unless it is there. Never raises; ``choose`` tells what came of it."""
        while not self._closed.is_set():
            entries = list(filter(None, (self._gets(kind, agent) for kind in kinds)))
            for entry in entries:
                for behind, _ in self._behind(entry, self._language(agent)):
                    self._loading(behind)  # nobody waits for those who may have to step in
            loading = {self._loading(entry) for entry in entries if entry.state == "loading"}
            if not loading:
                return
            await asyncio.wait(loading)

    async def verify(self, agent: AgentConfig) -> list[str]:
        """Reach the providers that this agent would get, and tell what is wrong with them."""
        entries = filter(None, (self._gets(kind, agent) for kind in TABLE))
        remote = [entry for entry in entries if entry.name not in TABLE[entry.kind]]
        if remote:
            await asyncio.wait({self._loading(entry) for entry in remote})
        return [entry.trouble for entry in remote if entry.trouble]

    async def aclose(self) -> None:
        """Release them all."""
        self._closed.set()
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
        picked = {kind: self._assembled(kind, engine, agent, language) for kind, engine in picked.items()}
        for warning in warnings:
            self._warn(warning)
        return CallEngines(
            **picked, language=language, voice=voice, apology=apology(language), warnings=tuple(warnings)
        )

    def choose_model(self, agent: AgentConfig) -> LanguageModel:
        """The language model alone, for what is typed: in the agent's language, whoever hears and speaks it."""
        warnings: list[str] = []
        engine = self._pick("llm", agent, agent.language, warnings)
        model: LanguageModel = self._assembled("llm", engine, agent, agent.language)
        for warning in warnings:
            self._warn(warning)
        return model

    async def hearing(self, agent: AgentConfig) -> SpeechToText:
        """The recogniser alone, loaded, for what is only written down: in the agent's language, whoever speaks it.

        Raises ``EngineError``.
        """
        while not self._closed.is_set():
            entry = self._able("stt", agent, agent.language)
            if entry is None:
                raise EngineError(f"nobody here understands {agent.language!r:.40}")
            if entry.state == "ready":
                ears: SpeechToText = self._assembled("stt", entry.engine, agent, agent.language)
                return ears
            await asyncio.wait({self._loading(entry)})
        raise EngineError("the server is shutting down")

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
        names = [first] if first in SCRIPTED else [first, *TABLE[kind], *self.providers.set_up(kind, self._org)]
        entries = [self._entry(kind, name) for name in dict.fromkeys(names) if name not in SCRIPTED or name == first]
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

    def make(self, kind: Kind, name: str) -> Any:
        """One more engine of this name. Raises ``KeyError`` when there is no such."""
        if name in TABLE[kind]:
            return TABLE[kind][name](self)  # which may make others that it consists of
        url, key = self.providers.url(name), self.providers.key(name, self._org)
        preset = self.providers.preset(name)
        more = (preset.model,) if preset and kind == "llm" else ()
        return _new(REMOTE[kind].get(name, COMPATIBLE[kind]), name, url, key, *more)

    def _entry(self, kind: Kind, name: str) -> _Entry:
        org = DEFAULT_ORG if name in TABLE[kind] else self.providers.holder(name, self._org)
        key = (kind, name if org == DEFAULT_ORG else f"{org}/{name}")
        if key not in self._entries:
            self._entries[key] = _Entry(kind, name, self.make(kind, name))
        return self._entries[key]

    def _has(self, kind: Kind, name: str) -> bool:
        return name in TABLE[kind] or self.providers.lacks(kind, name, self._org) is None

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
        spare = [target.provider for target in self._fallbacks[kind]]
        names = dict.fromkeys([self._wanted(agent, kind), self._defaults[kind], *spare, *others])
        return [name for name in names if name and self._has(kind, name) and _knows(name, language)]

    def _wanted(self, agent: AgentConfig, kind: Kind) -> str | None:
        """The provider that the agent names."""
        part = {"stt": agent.stt, "llm": agent.llm, "tts": agent.voice}[kind]
        if part is None or self._defaults[kind] in SCRIPTED:
            return None
        return self.providers.wanted(agent.llm).provider if kind == "llm" else part.provider

    def _behind(self, entry: _Entry, language: str) -> list[tuple[_Entry, Target]]:
        """Who steps in when a provider fails: those of the settings, at last an engine of this machine."""
        kind = entry.kind
        if entry.name in TABLE[kind]:
            return []
        own = [self._defaults[kind], *(["local"] if kind == "llm" else TABLE[kind])]
        last = [name for name in own if name in TABLE[kind] and name not in SCRIPTED and _knows(name, language)]
        targets = [*self._fallbacks[kind], *(Target(name, "") for name in last)]
        found: dict[str, tuple[_Entry, Target]] = {}
        for target in targets:
            if target.provider != entry.name and self._has(kind, target.provider):
                behind = self._entry(kind, target.provider)
                if behind.state != "failed" and not (target.provider in TABLE[kind] and TABLE[kind].keys() & found):
                    found.setdefault(str(target), (behind, target))
        return list(found.values())

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
            return Unavailable(candidates[0], self._entry(kind, candidates[0]).detail)
        if entry.name != wish:
            if not self._has(kind, wish):
                reason = self.providers.absence(kind, wish, self._org)
            elif wish not in candidates:
                reason = f"{wish} does not know {language!r:.40}"
            else:
                reason = self._entry(kind, wish).detail
            warnings.append(f"{reason}; {entry.name} takes its place")
        if entry.trouble:
            warnings.append(entry.trouble)
        return entry.engine

    def _assembled(self, kind: Kind, engine: Any, agent: AgentConfig, language: str) -> Any:
        """The engine as this agent wants it, with those who step in behind it."""
        if engine.name in TABLE[kind] or not hasattr(engine, "breaker"):
            return engine
        from pipeline import assembly

        first = self._entry(kind, engine.name)
        behind = [(entry.engine, target) for entry, target in self._behind(first, language)]
        if kind == "llm":
            return assembly.language_model(engine, self._model_name(agent, engine.name), behind, language)
        if kind == "tts":
            return assembly.voice(engine, agent, behind)
        usual = self._default_names["stt"] if engine.name == self._defaults["stt"] else ""
        return assembly.recogniser(engine, agent, usual, behind)

    def _model_name(self, agent: AgentConfig, engine: str) -> str:
        """Of a provider's models the one that the agent wants; empty: its usual one."""
        wanted = self.providers.wanted(agent.llm)
        if wanted.provider == engine:
            return wanted.name
        return self._default_names["llm"] if engine == self._defaults["llm"] else ""

    def _voice_of(self, engine: TextToSpeech, agent: AgentConfig, language: str, warnings: list[str]) -> str:
        """The voice that is asked for, by its exact name; empty when the engine may choose."""
        wish = agent.voice.voice_id or self._voice
        meant: list[Voice] = [voice for voice in getattr(engine, "voices", ()) if voice.answers_to(wish)]
        if takes_any_voice(engine):
            speaker = (agent.voice.provider if agent.voice.voice_id else None) or self._defaults["tts"]
            return meant[0].id if meant else wish if speaker == engine.name else ""
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
