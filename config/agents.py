"""The agents that a server has of its own: those shipped with it and those declared in its configuration file."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from zoneinfo import ZoneInfoNotFoundError

import tzlocal

from config.agent import AgentConfig, LlmConfig
from config.settings import Settings


def load_agents(settings: Settings) -> list[AgentConfig]:
    """Shipped agents first; a declared one replaces a shipped one of the same name."""
    agents = {agent.id: agent for agent in (*_shipped(settings), *map(_answering, settings.agents))}
    return list(agents.values())


def _answering(agent: AgentConfig) -> AgentConfig:
    """An agent of the file that names no model is answered by the server's. It has no backend that could do it."""
    return agent if "llm" in agent.model_fields_set else agent.model_copy(update={"llm": LlmConfig()})


def _shipped(settings: Settings) -> list[AgentConfig]:
    agents = []
    timezone = _local_timezone()
    for file in sorted(files("config").joinpath("shipped").iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".toml"):
            continue
        wire = {"timezone": timezone, **tomllib.loads(file.read_text("utf-8"))}
        agent, problems = AgentConfig.parse(file.name.removesuffix(".toml"), wire)
        if problems:
            raise ValueError(f"{file.name}: {problems[0]}")
        # Their pattern names this machine. Once others can reach the server, anyone can claim that origin.
        if not settings.loopback or settings.trust_proxy:
            agent = agent.model_copy(update={"allowed_origins": ()})
        agents.append(agent)
    return agents


def _local_timezone() -> str:
    """This machine's IANA zone. Who asks the demo on a laptop for the time means the one on the wall."""
    try:
        return tzlocal.get_localzone_name() or "UTC"
    except (ZoneInfoNotFoundError, ValueError, OSError):  # an odd TZ or /etc/localtime
        return "UTC"
