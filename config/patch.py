"""Changes to an agent: what a frame sets and nothing else, so that layers of them can be laid over one another.

Precedence for a session, the last one wins: agent, channel, the browser's offer and ``configure``, the backend's
``session.configure``. Source: protocol 3.8, 7.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from config.agent import AgentConfig, LlmConfig, SttConfig, VoiceConfig
from config.problem import Problem

Patch = Mapping[str, Any]
"""Field of ``AgentConfig`` -> typed value."""

FIXED = frozenset({"id", "allowed_origins"})
"""What no patch changes: origins travel only with ``agent.create``."""

_NAMES: Mapping[type, set[str]] = {
    VoiceConfig: {"provider", "voice_id"},
    SttConfig: {"provider", "model"},
    LlmConfig: {"provider", "model"},
}
"""A part that says none of these does not choose anew, it adjusts what was chosen."""


def parse_patch(wire: object) -> tuple[Patch, list[Problem]]:
    """What a wire object in either spelling sets. Never raises; what cannot be used is left out and reported."""
    agent, problems = AgentConfig.parse("", wire)
    return {name: getattr(agent, name) for name in agent.model_fields_set - FIXED}, problems


def patched(agent: AgentConfig, *patches: Patch) -> AgentConfig:
    """The agent with the patches laid over it, later ones last."""
    for patch in patches:
        changes = {name: _laid_over(getattr(agent, name), value) for name, value in patch.items()}
        agent = agent.model_copy(update=changes)
    return agent


HOT = ("prompt", "raw_prompt", "tools", "tool_filler", "skills", "vars", "preparing")
"""What an agent that is configured anew changes for its running sessions too. Protocol 3.8."""


class LayeredAgent:
    """The agent of one session: its own configuration, the browser's wishes over it, the backend's over both."""

    def __init__(self, agent: AgentConfig) -> None:
        self._agent = agent
        self._browser: dict[str, Any] = {}
        self._session: dict[str, Any] = {}

    @property
    def current(self) -> AgentConfig:
        return patched(self._agent, self._browser, self._session)

    def reload(self, agent: AgentConfig) -> None:
        """Take over what is ``HOT``."""
        self._agent = self._agent.model_copy(update={name: getattr(agent, name) for name in HOT})

    def lay_browser(self, patch: Patch) -> None:
        self._browser |= patch

    def lay_session(self, patch: Patch) -> None:
        self._session |= {name: _laid_over(self._session.get(name), value) for name, value in patch.items()}


def _laid_over(old: Any, new: Any) -> Any:
    """``{"speed": 1.2}`` is not another voice, nor is ``{"temperature": 0}`` another model."""
    names = _NAMES.get(type(new))
    if names is None or not isinstance(old, type(new)) or names & new.model_fields_set:
        return new
    return old.model_copy(update={name: getattr(new, name) for name in new.model_fields_set})
