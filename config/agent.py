"""An agent's configuration: the wire form of protocol 7, parsed once into typed, frozen values."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, StrictStr, ValidationError

from config import shortcuts
from config.identity import agent_slug, base_language
from config.part import Flag, Natural, Number, Part, Seconds, Text
from config.problem import Problem, problems_of
from config.turns import InterruptionConfig, Preset, TurnDetectionConfig, TurnMode, VadConfig

ANY_LANGUAGE = "*"
"""Key of a greeting that was given as one text for all languages."""

MAX_TOOLS = 128
MAX_SKILLS = 32
MAX_ITEMS = 256
"""Of any list or object at the top level: a large frame full of errors costs no more than a small one."""
MAX_PROBLEMS = 32

UNSUPPORTED = frozenset({"knowledge_base"})
"""Keys of the wire that have no effect here yet; the sender is told."""

SILENT = frozenset(
    {"agent_id", "call_id", "event", "media", "memory", "mode", "ref", "request_id", "ringing", "session_id", "type"}
)
"""Keys of the wire that are not configuration, or that the protocol wants stored and ignored."""

_ALIASES = {"instructions": "prompt", "prompt_vars": "vars"}
"""At the top level: a skill has ``instructions`` of its own."""
_NO_ALIASES: Mapping[str, str] = {}
_HOISTED = {key: key for key in ("interruption", "stt", "turn_detection", "vad")} | {"tts": "voice"}
_UNSUPPORTED_CONFIG = frozenset({"analysis", "realtime", "speaker_filter"})


def _language(tag: str) -> str:
    if not re.fullmatch(r"[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8}){0,4}", tag):
        raise ValueError('expected a language tag such as "en" or "pt-BR"')
    return tag.replace("_", "-")


def _base_url(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("expected an http:// or https:// address")
    return url


Options = Annotated[dict[str, Any], AfterValidator(shortcuts.sendable)]
Language = Annotated[StrictStr, AfterValidator(_language)]


class VoiceConfig(Part):
    """Which voice speaks; what is ``None`` is the server's choice. Protocol 7.2."""

    provider: Text | None = None
    voice_id: Text | None = None
    model: Text | None = None
    speed: Annotated[Number, Field(ge=0.25, le=4)] | None = None
    """1.0 is the natural speed."""
    language: Language | None = None
    options: Options = Field(default_factory=dict)
    """What only the provider understands: ``stability``, ``style``, …"""


class SttConfig(Part):
    """Who transcribes; what is ``None`` is the server's choice. Protocol 7.3."""

    provider: Text | None = None
    model: Text | None = None
    language: Language | None = None
    options: Options = Field(default_factory=dict)


class LlmConfig(Part):
    """The model that answers. Protocol 7.4."""

    provider: Text | None = None
    """``None``: the server's default."""
    model: Text = ""
    """Empty: the provider's default."""
    enabled: Flag = True
    temperature: Annotated[Number, Field(ge=0, le=2)] = 0.7
    max_tokens: Annotated[Natural, Field(ge=1)] | None = None
    base_url: Annotated[Text, AfterValidator(_base_url)] | None = None
    prompt: Text = ""
    """Early clients send the prompt here; see ``AgentConfig.effective_prompt``."""


class SessionLimits(Part):
    """Seconds; 0 switches a limit off. Protocol 7.7."""

    max_duration_seconds: Seconds = 600
    idle_timeout_seconds: Seconds = 60
    idle_warning_seconds: Seconds = 15
    idle_grace_seconds: Seconds = 10


class PreparingConfig(Part):
    """Whether a backend is asked before each answer, and how long it may take. Protocol 3.16."""

    enabled: Flag = True
    timeout_ms: Annotated[Natural, Field(le=5000)] = 1500


class SkillConfig(Part):
    """Instructions and tools that a conversation takes up when they are needed. Protocol 3.15."""

    name: Annotated[Text, Field(min_length=1, max_length=64)]
    description: Text = ""
    instructions: Text = ""
    tools: tuple[dict[str, Any], ...] = ()
    """As those of the agent."""
    activation: Literal["model", "manual", "always"] = "model"


class AgentConfig(Part):
    """One agent. The names are those of the wire in snake_case, the defaults those of protocol 7.1."""

    id: str
    """The slug; see ``config.identity.agent_slug``."""
    language: Language = "en"
    """BCP-47 tag, or ``multi``."""
    voice: VoiceConfig = VoiceConfig()
    flash: Flag = False
    stt: SttConfig = SttConfig()
    llm: LlmConfig | None = None
    """``None``: the backend writes the answers itself."""
    interruption: InterruptionConfig | None = None
    """``None``: the agent sets nothing, the server's own preset applies."""
    vad: VadConfig | None = None
    turn_detection: TurnDetectionConfig = TurnDetectionConfig()
    prompt: Text = ""
    vars: dict[Text, Text] = Field(default_factory=dict)
    raw_prompt: Flag = False
    greeting: dict[Text, Text] = Field(default_factory=dict)
    """By language tag; a text for all languages stands under ``ANY_LANGUAGE``. See ``greeting_for``."""
    greeting_in_chat: Flag = False
    timezone: Text = "UTC"
    """IANA name, known to this machine."""
    tools: tuple[dict[str, Any], ...] = ()
    """Functions in chat-completions form: ``{"type": "function", "function": {name, description, parameters}}``."""
    tool_filler: dict[Text, Text] = Field(default_factory=dict)
    """Ours: what is said while a tool takes long, like ``greeting`` by language; empty: nothing."""
    skills: tuple[SkillConfig, ...] = ()
    preparing: PreparingConfig | None = None
    """``None``: the agent says nothing of it; see ``pipeline.barrier``."""
    session_limits: SessionLimits = SessionLimits()
    allowed_origins: tuple[Text, ...] = ()
    """Patterns of protocol 9.3; empty: tokens need a key."""

    @classmethod
    def parse(cls, agent_id: str, wire: object) -> tuple[AgentConfig, list[Problem]]:
        """The agent that any JSON value describes. Never raises: a key that cannot be used is left out and reported.

        At most ``MAX_PROBLEMS`` are reported.
        """
        problems: list[Problem] = []
        slug = agent_slug(agent_id)
        values: Any = _canonical(wire, problems)
        try:
            config = cls(id=slug, **values)
        except ValidationError as error:
            found = problems_of(error)
            problems += [problem for _, problem in found]
            config = cls(id=slug, **_without(values, [_place(values, path) for path, _ in found]))
        return config, problems[:MAX_PROBLEMS]

    @property
    def generates(self) -> bool:
        """Whether the server's language model answers, rather than the backend."""
        return self.llm is not None and self.llm.enabled

    @property
    def effective_prompt(self) -> str:
        """The top-level prompt, else the one inside ``llm``."""
        return self.prompt or (self.llm.prompt if self.llm else "")

    def greeting_for(self, language: str) -> str | None:
        """By full tag, base tag, ``en``, then whatever comes first. Protocol 7.8."""
        return text_for(self.greeting, language)


def text_for(texts_by_tag: Mapping[str, str], language: str) -> str | None:
    """The text of a language: by full tag, base tag, ``en``, then whatever comes first; ``None`` when all are empty."""
    texts = {tag.lower(): text for tag, text in texts_by_tag.items() if text.strip()}
    for tag in (language.lower(), base_language(language), "en"):
        if tag in texts:
            return texts[tag]
    return next(iter(texts.values()), None)


def _canonical(wire: object, problems: list[Problem]) -> dict[str, Any]:
    """The wire's keys under one spelling each, short forms resolved; keys that cannot be are reported and left out."""
    if not isinstance(wire, Mapping):
        problems.append(Problem("", "invalid", "expected an object", wire))
        return {}
    values = _spelled(wire, _ALIASES)
    nested = values.pop("config", {})
    if isinstance(nested, Mapping):
        values = _hoisted(nested, problems) | values
    else:
        problems.append(Problem("config", "invalid", "expected an object", nested))
    known: dict[str, Any] = {}
    for key, value in values.items():
        if key in UNSUPPORTED:
            problems.append(Problem(key, "unsupported", "has no effect on this server", value))
        elif key not in AgentConfig.model_fields or key == "id":
            if key not in SILENT and len(problems) < MAX_PROBLEMS:
                problems.append(Problem(key, "unknown", "unknown key", value))
        elif isinstance(value, Mapping | list) and len(value) > MAX_ITEMS:
            problems.append(Problem(key, "invalid", f"expected at most {MAX_ITEMS} entries"))
        else:
            try:
                known[key] = _RESOLVE[key](value, problems) if key in _RESOLVE else value
            except ValueError as error:
                problems.append(Problem(key, "invalid", str(error), value))
    return known


def _spelled(wire: Mapping[Any, Any], aliases: Mapping[str, str] = _NO_ALIASES) -> dict[str, Any]:
    """One spelling for each key: snake_case, aliases resolved. ``null`` means that a key is not set."""
    values: dict[str, Any] = {}
    for key, value in wire.items():
        name = shortcuts.snake(str(key))
        name = aliases.get(name, name)
        if value is not None and (name not in values or name == key):  # the canonical spelling wins
            values[name] = value
    return values


def _hoisted(nested: Mapping[Any, Any], problems: list[Problem]) -> dict[str, Any]:
    """The parts of ``config`` (protocol 7.6) under their top-level names."""
    values = {}
    for key, value in _spelled(nested).items():
        if key in _HOISTED:
            values[_HOISTED[key]] = value
        elif key in _UNSUPPORTED_CONFIG:
            problems.append(Problem(f"config.{key}", "unsupported", "has no effect on this server", value))
        elif len(problems) < MAX_PROBLEMS:
            problems.append(Problem(f"config.{key}", "unknown", "unknown key", value))
    return values


def _llm(value: object, problems: list[Problem]) -> dict[str, Any] | None:
    if value in (False, ""):
        return None
    found = shortcuts.llm(value)
    if "realtime" in str(found.get("model", "")):
        text = "speech-to-speech models are not supported; the server's own model answers"
        problems.append(Problem("llm.model", "unsupported", text, found["model"]))
        found |= {"provider": None, "model": ""}
    return found


def _vars(value: object, problems: list[Problem]) -> object:
    if not isinstance(value, Mapping):
        return value
    numbers = {key: item for key, item in value.items() if isinstance(item, int | float) and not isinstance(item, bool)}
    return {**value, **{key: _digits(item) for key, item in numbers.items()}}


def _digits(number: float) -> str:
    """As JavaScript would print it: a whole number without a fraction."""
    return str(int(number)) if isinstance(number, float) and number.is_integer() and abs(number) < 1e15 else str(number)


def _greeting(value: object, problems: list[Problem]) -> object:
    if isinstance(value, str):
        return {ANY_LANGUAGE: value}
    if isinstance(value, Mapping) and isinstance(value.get("text"), str):
        return {ANY_LANGUAGE: value["text"]}
    return value


def _interruption(value: object, problems: list[Problem]) -> object:
    if isinstance(value, bool):
        return None if value else {"enabled": False}
    found = _keys(value, problems)
    if isinstance(found, dict):
        found.pop("energy_threshold_db", None)  # of early clients; our loudness is no absolute level
    return found


def _turn_detection(value: object, problems: list[Problem]) -> object:
    """A mode (early clients), a preset (ours), or an object."""
    if isinstance(value, str) and value in list(TurnMode):
        return {"mode": value}
    if isinstance(value, str) and value in list(Preset):
        return {"preset": value}
    if isinstance(value, str):
        raise ValueError(f"expected one of {', '.join([*TurnMode, *Preset])}")
    return _keys(value, problems)


def _keys(value: object, problems: list[Problem]) -> object:
    return _spelled(value) if isinstance(value, Mapping) else value


def _timezone(value: object, problems: list[Problem]) -> object:
    if isinstance(value, str):
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError('unknown time zone, UTC is used; expected a name such as "Europe/Madrid"') from None
    return value


def _tools(value: object, problems: list[Problem], place: str = "tools") -> tuple[dict[str, Any], ...]:
    if not isinstance(value, list | tuple) or len(value) > MAX_TOOLS:
        raise ValueError(f"expected a list of at most {MAX_TOOLS} functions")
    tools: dict[str, dict[str, Any]] = {}
    for position, item in enumerate(value):
        try:
            tool = shortcuts.tool(item)
            if (name := tool["function"]["name"]) in tools:
                raise ValueError(f"a second function named {name}")
        except ValueError as error:
            problems.append(Problem(f"{place}[{position}]", "invalid", str(error), item))
        else:
            tools[name] = tool
    return tuple(tools.values())


def _preparing(value: object, problems: list[Problem]) -> object:
    return {"enabled": value} if isinstance(value, bool) else _keys(value, problems)


def _skills(value: object, problems: list[Problem]) -> list[Any]:
    if not isinstance(value, list | tuple) or len(value) > MAX_SKILLS:
        raise ValueError(f"expected a list of at most {MAX_SKILLS} skills")
    skills: dict[str, dict[str, Any]] = {}
    for position, item in enumerate(value):
        place = f"skills[{position}]"
        if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
            problems.append(Problem(place, "invalid", "expected an object with a name", item))
            continue
        skill = {key: part for key, part in _spelled(item).items() if key in SkillConfig.model_fields}
        try:
            skill["tools"] = _tools(skill.get("tools", ()), problems, f"{place}.tools")
            SkillConfig(**skill)
            if skill["name"] in skills:
                raise ValueError(f"a second skill named {skill['name']}")
        except ValidationError as error:
            problems += [
                Problem(f"{place}.{found.key}", "invalid", found.text, found.value) for _, found in problems_of(error)
            ]
        except ValueError as error:
            problems.append(Problem(place, "invalid", str(error), item))
        else:
            skills[skill["name"]] = skill
    return list(skills.values())


_RESOLVE: dict[str, Callable[[Any, list[Problem]], Any]] = {
    "voice": lambda value, _: shortcuts.voice(value),
    "stt": lambda value, _: shortcuts.stt(value),
    "llm": _llm,
    "vars": _vars,
    "greeting": _greeting,
    "interruption": _interruption,
    "vad": _keys,
    "turn_detection": _turn_detection,
    "session_limits": _keys,
    "timezone": _timezone,
    "tools": _tools,
    "tool_filler": _greeting,
    "skills": _skills,
    "preparing": _preparing,
}


def _place(values: Any, path: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """As much of ``path`` as exists in ``values``; an error may go on with a missing key or with ``[key]``."""
    for depth, key in enumerate(path):
        try:
            values = values[key]
        except (KeyError, IndexError, TypeError):
            return path[:depth]
    return path


def _without(values: Any, places: Sequence[tuple[str | int, ...]]) -> Any:
    """A copy of ``values`` without what stands at ``places``, which all exist."""
    inner: dict[str | int, list[tuple[str | int, ...]]] = defaultdict(list)
    for first, *rest in places:
        inner[first].append(tuple(rest))
    items = values.items() if isinstance(values, Mapping) else enumerate(values)
    kept = {
        key: _without(value, inner[key]) if key in inner else value
        for key, value in items
        if () not in inner.get(key, ())
    }
    return kept if isinstance(values, Mapping) else list(kept.values())
