"""API keys of backends. Protocol 9.5."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256

from config.identity import PUBLISHABLE_PREFIX, split_api_key


class ApiKeys:
    """The secret keys that a server knows, and whose they are. Entries: ``key`` or ``org:key``."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._orgs: list[tuple[bytes, str]] = []
        for entry in entries:
            org, key = split_api_key(entry)
            if not org or not key or key.startswith(PUBLISHABLE_PREFIX):
                raise ValueError("expected secret API keys, or org:key")
            self._orgs.append((_digest(key), org))

    def org_of(self, key: str | None) -> str | None:
        """The organisation of a secret key, ``None`` for any other text.

        Takes the same time for every key of a length: digests are compared in constant time, and all of them.
        """
        if not key:
            return None
        digest, found = _digest(key), None
        for known, org in self._orgs:
            if hmac.compare_digest(digest, known):
                found = org
        return found

    def __repr__(self) -> str:
        return f"ApiKeys({len(self._orgs)})"


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogatepass")).digest()  # a header may decode to lone surrogates
