"""What a browser may say about the call that it asks for, and nothing else. Source: protocol 9.2, 9.4."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from config.agent import ANY_LANGUAGE, AgentConfig
from pipeline.control import CONFIGURABLE, configured

MAX_GREETING = 2000
"""Characters."""

MAX_METADATA = 4096
"""Bytes of JSON."""

MAX_DEPTH = 5


def visitor_agent(agent: AgentConfig, wire: object) -> tuple[AgentConfig, list[str]]:
    """The agent as the ``config`` of an offer asks for it, and the keys that were dropped. Never raises."""
    if not isinstance(wire, Mapping):
        return agent, []
    changed, accepted = configured(agent, {key: value for key, value in wire.items() if key in CONFIGURABLE})
    dropped = [str(key) for key in wire if key not in accepted]
    greeting = wire.get("greeting")
    if greeting is False:
        greeting = ""
    if isinstance(greeting, str) and len(greeting) <= MAX_GREETING:
        dropped.remove("greeting")
        # Built anew: a copy would take over what the agent remembers of its own greeting.
        fields = {name: getattr(changed, name) for name in AgentConfig.model_fields}
        changed = AgentConfig.model_construct(**{**fields, "greeting": {ANY_LANGUAGE: greeting} if greeting else {}})
    return changed, dropped


def visitor_metadata(wire: object) -> dict[str, Any]:
    """The browser's own metadata, or nothing when it is no object, too large or too deep."""
    if not isinstance(wire, dict) or _deeper(wire, MAX_DEPTH) or len(json.dumps(wire).encode()) > MAX_METADATA:
        return {}
    return wire


def _deeper(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
        levels -= 1
    elif isinstance(value, list):
        levels -= 1
    else:
        return False
    return levels < 0 or any(_deeper(item, levels) for item in value)
