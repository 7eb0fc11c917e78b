"""Who may mint a token for an agent. Protocol 2.3."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from config.identity import DEFAULT_ORG
from tokens.errors import InvalidKey, OriginNotAllowed
from tokens.keys import ApiKeys
from tokens.origin import origin_allowed


@dataclass(frozen=True, slots=True)
class Grant:
    """The right to mint. Only the holder of a key may seal metadata or narrow the scope."""

    org: str
    origin: str | None = None
    """Of the page, when no key was shown."""

    @property
    def may_seal(self) -> bool:
        return self.origin is None


def authorize_mint(
    keys: ApiKeys,
    agent: str,
    allowed_origins: Iterable[str],
    *,
    key: str | None,
    origin: str | None,
    allow_any: bool = False,
) -> Grant:
    """Decide in the protocol's order: a key that is shown must be good; without one the agent must allow the origin.

    ``key``: as the request carries it. Raises ``InvalidKey`` (401) or ``OriginNotAllowed`` (403).
    """
    if key is not None:
        org = keys.org_of(key)
        if org is None:
            raise InvalidKey
        return Grant(org)
    patterns = tuple(allowed_origins)
    if not patterns:
        raise InvalidKey
    if origin is None or not origin_allowed(origin, patterns, allow_any=allow_any):
        raise OriginNotAllowed(origin, agent)
    return Grant(DEFAULT_ORG, origin)
