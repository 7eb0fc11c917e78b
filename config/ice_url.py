"""Addresses of STUN and TURN servers, as browsers take them (RFC 7064, RFC 7065)."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

PLAIN_PORT, TLS_PORT = 3478, 5349

_FORM = re.compile(
    r"(?P<scheme>stun|turn)(?P<secure>s?):(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:(?P<port>\d{1,5}))?"
    r"(\?transport=(?P<transport>udp|tcp))?",
    re.IGNORECASE,
)


class IceUrl(NamedTuple):
    relay: bool
    """TURN, and not STUN only."""
    secure: bool
    """TLS over TCP, DTLS over UDP."""
    host: str
    """Name, or IP address without brackets."""
    port: int
    transport: Literal["udp", "tcp"]


def parse_ice_url(text: str) -> IceUrl:
    """Raises ``ValueError`` for what a browser would refuse."""
    found = _FORM.fullmatch(text)
    relay = found is not None and found["scheme"].lower() == "turn"
    if found is None or (found["transport"] and not relay) or not 0 < int(found["port"] or 1) < 65536:
        raise ValueError("expected addresses such as turn:turn.example.org:3478?transport=udp")
    secure = bool(found["secure"])
    port = int(found["port"] or (TLS_PORT if secure else PLAIN_PORT))
    transport: Literal["udp", "tcp"] = "tcp" if (found["transport"] or "").lower() == "tcp" else "udp"
    if secure and not found["transport"]:
        transport = "tcp"
    return IceUrl(relay, secure, found["host"].strip("[]"), port, transport)
