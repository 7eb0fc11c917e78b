"""Who may mint a token for an agent. Protocol 2.3."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tokens.errors import InvalidKey, OriginNotAllowed
from tokens.keys import ApiKeys
from tokens.origin import origin_allowed


@dataclass(frozen=True, slots=True)
class Grant:
    """The right to mint. Only the holder of a secret key may seal metadata or narrow the scope."""

    org: str
    origin: str | None = None
    """Of the page, when no secret key was shown."""

    @property
    def may_seal(self) -> bool:
        return self.origin is None


def authorize_mint(
    keys: ApiKeys,
    org: str,
    agent: str,
    allowed_origins: Iterable[str],
    *,
    key: str | None,
    origin: str | None,
    allow_any: bool = False,
) -> Grant:
    """Decide in the protocol's order: a key that is shown must be good; a page must be of an allowed origin.

    ``org``: whose the agent is. For a key of another one there is no such agent, which the caller has seen to.
    ``key``: as the request carries it. Raises ``InvalidKey`` (401) or ``OriginNotAllowed`` (403).
    """
    patterns = tuple(allowed_origins)
    holder = keys.holder(key)
    if holder is None and (key is not None or not patterns):
        raise InvalidKey
    if holder is not None and holder.org != org:
        raise InvalidKey
    if holder is not None and not holder.publishable:
        return Grant(org)
    if origin is None or not origin_allowed(origin, patterns, allow_any=allow_any):
        raise OriginNotAllowed(origin, agent)
    return Grant(org, origin)
