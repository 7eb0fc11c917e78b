"""What a token stands for, kept in the ledger where a browser can neither read nor change it. Protocol 2.3, 9.1."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NoReturn

from tokens.errors import MetadataError
from tokens.token import Channel

MAX_METADATA = 2048
"""Bytes of JSON."""
MAX_DEPTH = 16


@dataclass(frozen=True, slots=True)
class Record:
    """Sealed at the mint, handed out once. ``agent`` and ``channel`` repeat the claims.

    ``agent`` is a slug, that of a stream several with commas between them.
    """

    org: str
    agent: str
    channel: Channel
    metadata: Mapping[str, Any] = field(default_factory=dict)
    scope: str | None = None
    """``observe``, ``participate`` or ``supervise``; ``None``: the channel's default."""
    call_id: str | None = None
    """Narrows an observer to one call."""
    origin: str | None = None
    """Of the page that asked without a key."""
    language: str | None = None
    """Of a chat: the tag that the session begins with."""

    @property
    def agents(self) -> tuple[str, ...]:
        return tuple(self.agent.split(","))

    def to_json(self) -> str:
        """Raises ``MetadataError`` when the metadata is none or too large."""
        check_metadata(self.metadata)
        return json.dumps({item.name: getattr(self, item.name) for item in fields(self)}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Record:
        """Raises ``ValueError`` for anything that ``to_json`` did not write."""
        try:
            kept = json.loads(text)
            return cls(**{**kept, "channel": Channel(kept["channel"])})
        except (TypeError, KeyError) as error:
            raise ValueError(str(error)) from None


def parse_metadata(text: str | None) -> dict[str, Any]:
    """The query parameter ``metadata``: a JSON object, or nothing. Raises ``MetadataError``."""
    if not text:
        return {}
    if len(text) > 4 * MAX_METADATA:  # spares the parser; spaces do not count below
        raise MetadataError(f"metadata is larger than {MAX_METADATA} bytes")
    try:
        metadata = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise MetadataError("metadata is not valid JSON") from None
    return check_metadata(metadata)


def check_metadata(metadata: object, *, largest: int = MAX_METADATA, deepest: int = MAX_DEPTH) -> dict[str, Any]:
    """The metadata. Raises ``MetadataError`` unless it is an object within ``largest`` bytes and ``deepest`` levels."""
    if not isinstance(metadata, Mapping):
        raise MetadataError("metadata must be a JSON object")
    if _deeper(metadata, deepest):
        raise MetadataError(f"metadata has more than {deepest} levels")
    try:
        size = len(json.dumps(metadata, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode())
    except (TypeError, ValueError):
        raise MetadataError("metadata is not valid JSON") from None
    if size > largest:
        raise MetadataError(f"metadata is larger than {largest} bytes")
    return dict(metadata)


def _deeper(value: object, levels: int) -> bool:
    if isinstance(value, Mapping):
        value = list(value.values())
    return isinstance(value, list) and (levels == 0 or any(_deeper(item, levels - 1) for item in value))


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
