"""Which web pages may talk to an agent without a key: origin patterns. Protocol 9.3.

An origin is compared in its canonical form: scheme and host in lower case, the host in its ASCII form, the default port
left out (RFC 6454, 4 and 6.2). What is no origin matches nothing, and neither does a pattern that is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv6Address
from typing import NamedTuple

import idna

MAX_ORIGIN = 512
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SHAPE = re.compile(
    r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[^\s/?#@:\[\]\\]+)(?::(\d{1,5}|\*))?", re.IGNORECASE | re.ASCII
)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


class _Origin(NamedTuple):
    scheme: str
    host: str
    port: str
    """Decimal, ``*`` in a pattern, empty for a scheme without a default port."""


def origin_allowed(origin: str | None, patterns: Iterable[str], *, allow_any: bool = False) -> bool:
    """Whether the value of an ``Origin`` header matches one of the patterns.

    Patterns: ``https://mysite.com``, ``https://*.mysite.com`` (sub-domains, not the site itself), ``http://localhost:*``
    (any port); ``*`` only with ``allow_any``. A missing or ``null`` origin is never allowed.
    """
    found = _parse(origin) if origin else None
    if found is None or "*" in found.host or found.port == "*":
        return False
    return any(_matches(found, pattern, allow_any) for pattern in patterns)


def check_pattern(pattern: str) -> None:
    """Raises ``ValueError`` with a text for a person when a pattern could never match."""
    if pattern != "*" and _parse(pattern.removesuffix("/")) is None:
        raise ValueError(
            'expected an origin such as "https://mysite.com", "https://*.mysite.com" or "http://localhost:*"'
        )


def _matches(origin: _Origin, pattern: str, allow_any: bool) -> bool:
    if pattern == "*":
        return allow_any
    wanted = _parse(pattern.removesuffix("/"))
    if wanted is None or wanted.scheme != origin.scheme or wanted.port not in ("*", origin.port):
        return False
    if wanted.host.startswith("*."):
        return origin.host.endswith(wanted.host[1:]) and origin.host != wanted.host[1:]
    return wanted.host == origin.host


def _parse(text: str) -> _Origin | None:
    shape = _SHAPE.fullmatch(text) if len(text) <= MAX_ORIGIN else None
    if shape is None:
        return None
    scheme, port = shape[1].lower(), shape[3]
    host = _host(shape[2])
    if host is None or (port not in (None, "*") and not 0 < int(port) < 65536):
        return None
    default = str(_DEFAULT_PORTS.get(scheme, ""))
    return _Origin(scheme, host, port if port == "*" else str(int(port)) if port else default)


def _host(text: str) -> str | None:
    """Canonical host, ``*.`` in front kept; ``None`` when it is none."""
    if text.startswith("["):
        try:
            return f"[{IPv6Address(text[1:-1])}]"
        except ValueError:
            return None
    wildcard, name = ("*.", text[2:]) if text.startswith("*.") else ("", text)
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode()
        except UnicodeError:
            return None
    name = name.lower()
    return wildcard + name if all(_LABEL.fullmatch(label) for label in name.split(".")) else None
