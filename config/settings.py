"""The server's settings: one typed object from flags, environment, a TOML file and defaults, in this order."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import platformdirs
from pydantic import Field, InstanceOf, PrivateAttr, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from config.agent import AgentConfig
from config.problem import SettingsError, did_you_mean, problems_of, shown
from config.providers import from_environment
from config.values import (
    Address,
    ApiKey,
    Chosen,
    Folder,
    Host,
    Listed,
    Name,
    Pair,
    Paired,
    PerMinute,
    Port,
    ProviderKey,
    ProviderUrl,
    PublishableKey,
    RedisUrl,
    SigningSecret,
    TurnUrl,
    WebUrl,
    listed,
)

PREFIX = "VOICE_"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
MAX_FILE = 1 << 20


class SettingRow(NamedTuple):
    """One line of ``Settings.describe``."""

    name: str
    value: str
    source: Literal["flag", "environment", "file", "default"]


class Settings(BaseSettings):
    """What the operator decides.

    ``Settings(port=0)`` takes only what it is given; ``Settings.load`` also reads the environment (``VOICE_PORT``) and
    a TOML file (``port = 8080``).
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", enable_decoding=False, env_ignore_empty=True
    )

    host: Host = Field(default="127.0.0.1", description="Address to which HTTP is bound.")
    port: Port = Field(default=8080, description="TCP port of HTTP; 0 takes a free one.")
    published_on: Name | None = Field(
        default=None, description="Address on which a container's HTTP port is published; none: it is not published."
    )
    udp_port: Port = Field(default=40000, description="UDP port of all media; 0 takes a free one.")
    tcp_port: Port | None = Field(
        default=None, description="TCP port of media (ICE-TCP) for networks without UDP, 443 at best; none: UDP only."
    )
    udp_addresses: Annotated[tuple[Address, ...], Listed] = Field(
        default=(), description="Local addresses that carry media; none: those of this machine's interfaces."
    )
    public_ip: Annotated[tuple[Address, ...], Listed] = Field(
        default=(), description="Addresses to announce before the local ones, in front of a 1:1 NAT or a container."
    )
    public_url: WebUrl | None = Field(
        default=None, description="Base address under which clients reach this server; none: that of each request."
    )
    trust_proxy: bool = Field(
        default=False, description="Believe X-Forwarded-* headers: only behind a proxy that sets them."
    )

    tls_cert: Folder | None = Field(
        default=None, description="PEM file of a certificate and its chain: HTTPS by the server itself. Read at SIGHUP."
    )
    tls_key: Folder | None = Field(default=None, description="PEM file of the private key of tls_cert.")

    api_keys: Annotated[tuple[ApiKey, ...], Listed] = Field(
        default=(), description="Secret keys of backends, each `key` or `org:key`; none: one is made, kept in data_dir."
    )
    api_keys_file: Folder | None = Field(
        default=None, description="File of more keys, secret and publishable, one on each line, likewise; # comments."
    )
    publishable_keys: Annotated[tuple[PublishableKey, ...], Listed] = Field(
        default=(), description="Keys that web pages may show, likewise; from the allowed_origins of an agent only."
    )
    secret: Annotated[tuple[SigningSecret, ...], Listed] = Field(
        default=(),
        description="Signs tokens, at least 32 characters; of several, newest first, the first signs and all verify; "
        "none: one is made and kept in data_dir.",
    )
    token_ttl: Annotated[int, Field(ge=5, le=3600)] = Field(
        default=60, description="Life of a voice or chat token, seconds."
    )
    mint_rate: PerMinute = Field(
        default=60,
        description="Tokens per minute and client address without a secret key, and as many public requests of each "
        "other kind; 0: no limit.",
    )
    agent_mint_rate: PerMinute = Field(
        default=300, description="Tokens per minute and agent without a secret key; 0: no limit."
    )
    offer_rate: PerMinute = Field(default=30, description="Offers per minute and client address; 0: no limit.")
    audio_rate: PerMinute = Field(
        default=120, description="Requests of the audio API per minute and organisation; 0: no limit."
    )
    audio_requests: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=8,
        description="Requests of the audio API that an organisation may have at work; 4 times as many in all.",
    )
    allow_any_origin: bool = Field(default=False, description='Accept "*" among the allowed_origins of an agent.')
    redis_url: RedisUrl | None = Field(
        default=None, description="Redis that holds what several processes share; none: this one alone."
    )

    turn_urls: Annotated[tuple[TurnUrl, ...], Listed] = Field(default=(), description="TURN servers for browsers.")
    turn_secret: Annotated[SecretStr, Field(min_length=1)] | None = Field(
        default=None, description="Secret shared with the TURN servers, for time-limited credentials."
    )
    turn_ttl: Annotated[int, Field(ge=60, le=86400)] = Field(
        default=3600, description="Life of TURN credentials, seconds."
    )

    data_dir: Folder = Field(
        default_factory=lambda: platformdirs.user_data_path("voice-server", appauthor=False),
        description="Folder of what the server keeps: the secret and the key that it made, and the call log.",
    )
    models_dir: Folder = Field(
        default_factory=lambda: platformdirs.user_cache_path("voice-server", appauthor=False) / "models",
        description="Folder of the model files.",
    )
    llm_file: Folder | None = Field(
        default=None, description="GGUF file of the local language model; none: the small one in models_dir."
    )
    stt: Chosen = Field(
        default="moonshine",
        description="Speech-to-text engine of agents that name none, or none here, if it knows their language; "
        "an engine, or `provider/model`.",
    )
    llm: Chosen = Field(default="local", description="Language model engine, likewise.")
    tts: Chosen = Field(default="hibari", description="Text-to-speech engine, likewise: `provider/voice`.")
    default_voice: Name = Field(default="heart", description="Voice of agents that name none, or none that is here.")

    provider_keys: Annotated[tuple[ProviderKey, ...], Listed] = Field(
        default=(),
        description="Keys of providers, each `provider:key` or `org/provider:key`; beside OPENAI_API_KEY and the like.",
    )
    provider_keys_file: Folder | None = Field(
        default=None, description="File of more of them, one on each line, likewise; # comments."
    )
    provider_urls: Annotated[tuple[ProviderUrl, ...], Paired] = Field(
        default=(),
        description="Base addresses of providers, each `name=url`, or the name alone for the usual one; "
        "a name of your own: a server that speaks OpenAI's API.",
    )
    model_names: Annotated[tuple[Pair, ...], Paired] = Field(
        default=(),
        description="Language models that others answer for, each `asked=given`: `gpt-*=ollama/qwen3:8b`; first match.",
    )
    stt_fallbacks: Annotated[tuple[Chosen, ...], Listed] = Field(
        default=(),
        description="Who transcribes when a provider fails, `provider/model`, in turn; then the local engine.",
    )
    llm_fallbacks: Annotated[tuple[Chosen, ...], Listed] = Field(default=(), description="Who answers then, likewise.")
    tts_fallbacks: Annotated[tuple[Chosen, ...], Listed] = Field(
        default=(), description="Who speaks then, `provider/voice`, likewise."
    )

    max_calls: Annotated[int, Field(ge=1, le=100_000)] = Field(default=50, description="Calls at the same time.")
    agent_max_calls: Annotated[int, Field(ge=0, le=100_000)] = Field(
        default=0, description="Calls at the same time with one agent, and chats; 0: as many as with all of them."
    )
    max_chats: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=500, description="Chats at the same time; they take no place of a call."
    )
    max_agents: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        default=1000, description="Agents that backends have registered at the same time."
    )
    connection_max_agents: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=100, description="Agents that one connection of a backend may register."
    )
    agent_grace_seconds: Annotated[float, Field(ge=0, le=86400)] = Field(
        default=60.0,
        description="How long calls that need a backend wait for it after its connection is lost, or all after a kick.",
    )
    newest_backend_wins: bool = Field(
        default=False, description="A backend takes an agent from another one that is alive; else it is refused."
    )
    chat_thread_days: Annotated[float, Field(ge=0, le=3650)] = Field(
        default=30.0,
        description="Days for which a chat can be gone on with, if its page names a thread; kept in data_dir.",
    )
    drain_seconds: Annotated[float, Field(ge=0, le=86400)] = Field(
        default=30.0, description="How long running calls may go on after SIGTERM, seconds."
    )
    call_log_days: Annotated[float, Field(gt=0, le=36500)] = Field(
        default=7.0, description="How long the log of a finished call is kept, days."
    )
    call_log_mb: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=1024, description="Size of the call log, MB; at more the oldest finished calls are deleted."
    )
    max_observers: Annotated[int, Field(ge=0, le=100_000)] = Field(
        default=500, description="Connections that watch calls and agents at the same time."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is logged."
    )

    agents: tuple[InstanceOf[AgentConfig], ...] = Field(
        default=(), description="Agents declared in the file as [agents.NAME], with the keys that a backend would send."
    )

    _sources: dict[str, Literal["flag", "environment", "file"]] = PrivateAttr(default_factory=dict)

    @field_validator("tls_key")
    @classmethod
    def _certificate_and_key(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        chain = info.data.get("tls_cert")
        if value is None and chain is not None:
            raise ValueError("required by tls_cert")
        if chain is None and value is not None:
            raise ValueError("of no use without tls_cert")
        return value

    @field_validator("turn_secret")
    @classmethod
    def _turn_needs_a_secret(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None and any(url.lower().startswith("turn") for url in info.data.get("turn_urls", ())):
            raise ValueError("required by a turn: address in turn_urls")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The other sources are read by ``load``, which knows for each value where it came from.
        return (init_settings,)

    @classmethod
    def load(cls, config_file: Path | None = None, **flags: Any) -> Settings:
        """Read all sources. A flag that is ``None`` was not given; the file may also be named by ``VOICE_CONFIG``.

        Raises ``SettingsError`` with every problem at once: the key as it was written, the value, what was expected.
        """
        problems = _unknown_variables(cls)
        if config_file is None and (named := os.environ.get(CONFIG_VARIABLE)):
            config_file = Path(named)
        written = _read_file(config_file, problems) if config_file else {}
        agents = _declared(written.pop("agents", {}), config_file, problems)
        for name in sorted(set(written) - set(cls.model_fields)):
            problems.append(f"{name} in {config_file}: unknown key{did_you_mean(name, cls.model_fields)}")
            del written[name]
        environment = EnvSettingsSource(cls)()
        environment.pop("agents", None)
        _usual_keys(written, environment)
        given = {name: value for name, value in flags.items() if value is not None}
        values: dict[str, Any] = {"agents": agents, **written, **environment, **given}
        sources: dict[str, Literal["flag", "environment", "file"]] = {
            **dict.fromkeys(written, "file"),
            **dict.fromkeys(environment, "environment"),
            **dict.fromkeys(given, "flag"),
        }
        try:
            settings = cls(**values)
        except ValidationError as error:
            raise SettingsError(problems + _in_words(error, sources, config_file)) from None
        if problems:
            raise SettingsError(problems)
        settings._sources.update(sources)
        return settings

    @property
    def loopback(self) -> bool:
        """Whether HTTP can be reached from this machine only, be it by the way of a published port."""
        host = self.published_on or self.host
        try:
            return ip_address(host.strip("[]")).is_loopback
        except ValueError:
            return host.lower() == "localhost"

    def describe(self) -> list[SettingRow]:
        """Every setting, its value (secrets are hidden) and where it comes from."""
        return [
            SettingRow(name, self._shown(name), self._sources.get(name, "default")) for name in type(self).model_fields
        ]

    def _shown(self, name: str) -> str:
        value = getattr(self, name)
        if name == "agents":
            return ", ".join(agent.id for agent in value)
        if isinstance(value, tuple):
            return ", ".join(str(item) for item in value)
        return "" if value is None else str(value)


def _usual_keys(written: Mapping[str, Any], environment: dict[str, Any]) -> None:
    """Keys that stand in the environment under the names that their providers gave them, unless others are given."""
    entries = listed(environment.get("provider_keys", written.get("provider_keys", [])))
    given = [entry for entry in entries if isinstance(entry, str) and ":" in entry] if isinstance(entries, list) else []
    if found := from_environment(os.environ, given):
        environment["provider_keys"] = [*(entries if isinstance(entries, list) else []), *found]


def _unknown_variables(cls: type[Settings]) -> list[str]:
    known = {f"{PREFIX}{name}".upper() for name in cls.model_fields if name != "agents"} | {CONFIG_VARIABLE}
    found = sorted(name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known)
    return [f"{name}: unknown variable{did_you_mean(name.upper(), known)}" for name in found]


def _read_file(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE + 1)
        if len(text) > MAX_FILE:
            raise ValueError(f"is larger than {MAX_FILE} bytes")
        return tomllib.loads(text.decode())
    except OSError as error:
        problems.append(f"{path}: cannot be read: {error.strerror}")
    except (ValueError, RecursionError) as error:
        problems.append(f"{path}: is no TOML file: {error}")
    return {}


def _declared(tables: object, path: Path | None, problems: list[str]) -> tuple[AgentConfig, ...]:
    """The agents of ``[agents.NAME]``. What a backend is merely told of stops the start here."""
    if not isinstance(tables, Mapping):
        problems.append(f"agents in {path}: expected tables [agents.NAME]")
        return ()
    agents: dict[str, AgentConfig] = {}
    for name, table in tables.items():
        agent, found = AgentConfig.parse(name, table)
        where = f"agents.{name}"
        for problem in found:
            place = f"{where}.{problem.key}" if problem.key else where
            if problem.kind == "unknown":  # its value may be a secret in the wrong place
                problems.append(f"{place} in {path}: unknown key{did_you_mean(problem.key, AgentConfig.model_fields)}")
            else:
                problems.append(f"{place} = {shown(problem.value)} in {path}: {problem.text}")
        if not agent.id or agent.id in agents:
            problems.append(f"{where} in {path}: expected a name with letters or digits that no other agent has")
        agents[agent.id] = agent
    return tuple(agents.values())


def _in_words(error: ValidationError, sources: Mapping[str, str], path: Path | None) -> list[str]:
    """One line for each error: the key as its source writes it, the value unless it is a secret, what was expected."""
    lines = []
    for place, problem in problems_of(error):
        name = str(place[0]) if place else ""
        written = {
            "flag": f"--{name.replace('_', '-')}",
            "environment": f"{PREFIX}{name.upper()}",
            "file": f"{problem.key} in {path}",
        }.get(sources.get(name, ""), name)
        field = Settings.model_fields.get(name)
        hidden = field is None or "SecretStr" in str(field.annotation)
        value = "" if hidden else f" = {shown(problem.value)}"
        lines.append(f"{written}{value}: {problem.text}")
    return lines
