"""Names of agents, languages and keys in their canonical form. Source: protocol 1.4, 7.8, 9.5."""

from __future__ import annotations

import re

DEFAULT_ORG = "default"
PUBLISHABLE_PREFIX = "pk_publishable_"
"""Keys that a web page may show begin so; no secret key does. Protocol 2.3."""


def agent_slug(text: str) -> str:
    """The canonical id of an agent: ``My_Agent`` and ``my agent`` are both ``my-agent``. Empty when nothing is left."""
    slug = re.sub(r"[_\s]+", "-", text.strip().lower())
    slug = re.sub(r"[^a-z0-9-]", "", slug)
    return re.sub(r"-+", "-", slug).strip("-")


def base_language(tag: str) -> str:
    """The primary part of a BCP-47 tag, lower-case: ``pt-BR`` is ``pt``."""
    return tag.partition("-")[0].lower()


def split_api_key(entry: str) -> tuple[str, str]:
    """Organisation and key of a configured entry: ``key`` alone belongs to the default organisation, or ``org:key``."""
    org, separator, key = entry.partition(":")
    return (org, key) if separator else (DEFAULT_ORG, entry)
