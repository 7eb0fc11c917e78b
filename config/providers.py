"""Who can be asked over the network: the providers known by name, and those that the operator gave address and key.

A key comes from the settings or from the environment, and goes nowhere but to the address of its own provider.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import urlsplit

from config.identity import DEFAULT_ORG

if TYPE_CHECKING:
    from config.agent import LlmConfig

Kind = Literal["stt", "llm", "tts"]

LABELS: dict[Kind, str] = {"stt": "speech recognition", "llm": "language model", "tts": "voice"}

LLM: frozenset[Kind] = frozenset({"llm"})
ALL: frozenset[Kind] = frozenset({"stt", "llm", "tts"})
SPEECH: frozenset[Kind] = frozenset({"stt", "tts"})


@dataclass(frozen=True, slots=True)
class Preset:
    """A provider as everybody knows it."""

    url: str
    """Base address of its API."""
    variable: str = ""
    """Environment variable that holds its key by custom; empty: it needs none."""
    kinds: frozenset[Kind] = LLM
    model: str = ""
    """Language model of agents that name none; empty: the first that it lists."""


PRESETS: Mapping[str, Preset] = {
    "openai": Preset("https://api.openai.com/v1", "OPENAI_API_KEY", ALL, "gpt-4.1-mini"),
    "anthropic": Preset("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY", LLM, "claude-haiku-4-5"),
    "cerebras": Preset("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY", LLM, "llama-3.3-70b"),
    "deepseek": Preset("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", LLM, "deepseek-chat"),
    "fireworks": Preset("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    "google": Preset(
        "https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY", LLM, "gemini-2.5-flash"
    ),
    "groq": Preset(
        "https://api.groq.com/openai/v1", "GROQ_API_KEY", frozenset({"llm", "stt"}), "llama-3.3-70b-versatile"
    ),
    "mistral": Preset("https://api.mistral.ai/v1", "MISTRAL_API_KEY", LLM, "mistral-small-latest"),
    "openrouter": Preset("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", LLM, "openrouter/auto"),
    "together": Preset("https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    "xai": Preset("https://api.x.ai/v1", "XAI_API_KEY"),
    "cartesia": Preset("https://api.cartesia.ai", "CARTESIA_API_KEY", frozenset({"tts"})),
    "deepgram": Preset("https://api.deepgram.com", "DEEPGRAM_API_KEY", frozenset({"stt"})),
    "elevenlabs": Preset("https://api.elevenlabs.io", "ELEVENLABS_API_KEY", SPEECH),
    "kokoro": Preset("http://localhost:8880/v1", "", frozenset({"tts"})),
    "llamacpp-server": Preset("http://localhost:8080/v1"),
    "lmstudio": Preset("http://localhost:1234/v1"),
    "ollama": Preset("http://localhost:11434/v1"),
    "speaches": Preset("http://localhost:8000/v1", "", SPEECH),
    "vllm": Preset("http://localhost:8000/v1"),
}
"""By name. Those without a variable run on a machine of the operator's."""

LOCAL_MODELS = frozenset({"llamacpp", "local", "rules"})
"""Language models of this machine, which are asked for by name like providers."""

HOUSE = Preset("", "", ALL)
"""A name that only the operator knows: a server that speaks OpenAI's HTTP API."""


class Target(NamedTuple):
    """A provider, and which of its models or voices; empty: its own choice."""

    provider: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Target:
        """``groq/llama-3.3-70b-versatile``, or ``groq``."""
        provider, _, name = text.partition("/")
        return cls(provider.strip().lower(), name.strip())

    def __str__(self) -> str:
        return f"{self.provider}/{self.name}" if self.name else self.provider


class Providers:
    """What the operator has set up. Entries are as in the settings of the same names."""

    def __init__(self, *, keys: Iterable[str] = (), urls: Iterable[str] = (), models: Iterable[str] = ()) -> None:
        self._keys = {(org, name): key for org, name, key in map(split_key, keys)}
        self._urls = dict(map(split_pair, urls))
        self._models = dict(map(split_pair, models))

    def preset(self, name: str) -> Preset | None:
        """Of a provider that exists, be it set up or not."""
        return PRESETS.get(name) or (HOUSE if name in self._urls else None)

    def known(self, kind: Kind) -> list[str]:
        """Those who could do this, be they set up or not."""
        names = dict.fromkeys([*PRESETS, *self._urls])
        return [name for name in names if (preset := self.preset(name)) and kind in preset.kinds]

    def set_up(self, kind: Kind, org: str = DEFAULT_ORG) -> list[str]:
        """Those who can do this for an organisation, and have a key or an address from the operator."""
        return [name for name in self.known(kind) if self.lacks(kind, name, org) is None]

    def lacks(self, kind: Kind, name: str, org: str = DEFAULT_ORG) -> str | None:
        """Why a provider cannot be asked; ``None``: it can."""
        preset = self.preset(name)
        if preset is None or kind not in preset.kinds:
            return "it is not known here"
        if name in self._urls or self.key(name, org):
            return None
        # A backend that only names a server of the house must not reach it, nor anything else at its usual port.
        return f"{preset.variable} is not set" if preset.variable else "VOICE_PROVIDER_URLS does not name it"

    def url(self, name: str) -> str:
        """Where it answers, without a slash at the end. Raises ``KeyError`` when there is no such provider."""
        return self._urls.get(name) or PRESETS[name].url

    def key(self, name: str, org: str = DEFAULT_ORG) -> str:
        """That of the organisation, else that of the server; empty: none."""
        return self._keys.get((org, name)) or self._keys.get((DEFAULT_ORG, name), "")

    def holder(self, name: str, org: str) -> str:
        """The organisation whose key ``key`` gives."""
        return org if (org, name) in self._keys else DEFAULT_ORG

    def at(self, url: str) -> str | None:
        """The provider of this address, if it is one of the operator's."""
        wanted = url.rstrip("/")
        return next((name for name, address in self._urls.items() if address == wanted), None) or next(
            (name for name, preset in PRESETS.items() if preset.url == wanted and preset.variable), None
        )

    def absence(self, kind: Kind, name: str, org: str = DEFAULT_ORG) -> str:
        """Why there is no such engine here, for a person."""
        if "://" in name:
            return f"{urlsplit(name).hostname} is no provider of this server's"
        if name in self.known(kind):
            return f"{name} is not set up: {self.lacks(kind, name, org)}"
        return f"there is no {LABELS[kind]} engine {name!r:.60} here"

    def wanted(self, llm: LlmConfig | None) -> Target:
        """Who answers for the model that an agent names. An address is only another way to name a provider: a backend
        must not have this server ask whatever it likes, nor see a key that is not its own.
        """
        if llm is None:
            return Target("", "")
        if llm.base_url is not None:
            return Target(self.at(llm.base_url) or llm.base_url, llm.model)
        return self.model(Target(llm.provider or "", llm.model))

    def model(self, asked: Target) -> Target:
        """Who really answers for a language model: ``gpt-5.4-nano`` may be a model of the house."""
        for pattern, given in self._models.items():
            if any(fnmatchcase(text, pattern) for text in (str(asked), asked.name)):
                target = Target.parse(given)
                known = target.provider in LOCAL_MODELS or self.preset(target.provider)
                return target if known else Target(asked.provider, given)
        return asked


def split_key(entry: str) -> tuple[str, str, str]:
    """Organisation, provider and key of ``provider:key`` or ``org/provider:key``. Raises ``ValueError``."""
    who, separator, key = entry.partition(":")
    org, slash, name = who.rpartition("/")
    if not (separator and key and name) or (slash and not org):
        raise ValueError("expected provider:key, or org/provider:key")
    return org or DEFAULT_ORG, name.lower(), key


def split_pair(entry: str) -> tuple[str, str]:
    """Both sides of ``name=value``. Raises ``ValueError``."""
    name, separator, value = (part.strip() for part in entry.partition("="))
    if not (name and separator and value):
        raise ValueError("expected name=value")
    return name, value


def from_environment(environment: Mapping[str, str], keys: Iterable[str]) -> list[str]:
    """Entries for the keys that stand under their usual names, of the providers that ``keys`` has none of."""
    given = {name for org, name, _ in map(split_key, keys) if org == DEFAULT_ORG}
    found = []
    for name, preset in PRESETS.items():
        key = environment.get(preset.variable, "").strip() if preset.variable else ""
        if key and name not in given:
            found.append(f"{name}:{key}")
    return found
