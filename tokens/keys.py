"""API keys: the secret ones of backends, and those that a page may show. Protocol 2.3, 9.5."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from config.identity import PUBLISHABLE_PREFIX, split_api_key


@dataclass(frozen=True, slots=True)
class Holder:
    """Who shows a key: an organisation, or a page of it when the key is ``publishable``."""

    org: str
    publishable: bool = False


class ApiKeys:
    """The keys that a server knows, and whose they are. Entries: ``key`` or ``org:key``."""

    def __init__(self, entries: Iterable[str], publishable: Iterable[str] = ()) -> None:
        self._holders: list[tuple[bytes, Holder]] = []
        for entries_of_kind, is_publishable in ((entries, False), (publishable, True)):
            for entry in entries_of_kind:
                org, key = split_api_key(entry)
                if not org or not key or key.startswith(PUBLISHABLE_PREFIX) is not is_publishable:
                    raise ValueError("expected secret API keys and publishable ones, each key or org:key")
                self._holders.append((_digest(key), Holder(org, is_publishable)))

    def holder(self, key: str | None) -> Holder | None:
        """Whose key this is, ``None`` for any other text.

        Takes the same time for every key of a length: digests are compared in constant time, and all of them.
        """
        if not key:
            return None
        digest, found = _digest(key), None
        for known, holder in self._holders:
            if hmac.compare_digest(digest, known):
                found = holder
        return found

    def org_of(self, key: str | None) -> str | None:
        """The organisation of a secret key, else ``None``: a publishable one opens nothing but the mint."""
        holder = self.holder(key)
        return None if holder is None or holder.publishable else holder.org

    def __repr__(self) -> str:
        return f"ApiKeys({len(self._holders)})"


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogatepass")).digest()  # a header may decode to lone surrogates
