"""What a browser may say about the call that it asks for, and nothing else. Source: protocol 9.2, 9.4."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from config.agent import ANY_LANGUAGE, AgentConfig
from config.patch import patched
from pipeline.control import CONFIGURABLE, configured
from tokens.errors import MetadataError
from tokens.record import check_metadata

MAX_GREETING = 2000
"""Characters."""

MAX_METADATA = 4096
"""Bytes of JSON."""

MAX_DEPTH = 5

_BRACES = str.maketrans("", "", "{}")


def visitor_agent(agent: AgentConfig, wire: object) -> tuple[AgentConfig, list[str]]:
    """The agent as the ``config`` of an offer asks for it, and the keys that were dropped. Never raises."""
    if not isinstance(wire, Mapping):
        return agent, []
    patch, accepted = configured({key: value for key, value in wire.items() if key in CONFIGURABLE})
    changed = patched(agent, patch)
    dropped = [str(key) for key in wire if key not in accepted]
    greeting = wire.get("greeting")
    if greeting is False:
        greeting = ""
    if isinstance(greeting, str) and len(greeting) <= MAX_GREETING:
        dropped.remove("greeting")
        # It is read out and shown: "{{name}}" would tell the visitor the agent's variables.
        greeting = greeting.translate(_BRACES)
        changed = changed.model_copy(update={"greeting": {ANY_LANGUAGE: greeting} if greeting else {}})
    return changed, dropped


def visitor_metadata(wire: object) -> dict[str, Any]:
    """The browser's own metadata, or nothing when it is no object, too large or too deep."""
    try:
        return check_metadata(wire, largest=MAX_METADATA, deepest=MAX_DEPTH)
    except MetadataError:
        return {}
