"""Addresses of STUN and TURN servers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.ice_url import IceUrl, parse_ice_url
from config.settings import Settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("stun:stun.example.org", IceUrl(False, False, "stun.example.org", 3478, "udp")),
        ("STUN:192.0.2.7:19302", IceUrl(False, False, "192.0.2.7", 19302, "udp")),
        ("stuns:stun.example.org", IceUrl(False, True, "stun.example.org", 5349, "tcp")),
        ("turn:turn.example.org", IceUrl(True, False, "turn.example.org", 3478, "udp")),
        ("turn:turn.example.org:80?transport=TCP", IceUrl(True, False, "turn.example.org", 80, "tcp")),
        ("turn:[2001:db8::7]:3478?transport=udp", IceUrl(True, False, "2001:db8::7", 3478, "udp")),
        ("turns:turn.example.org:443", IceUrl(True, True, "turn.example.org", 443, "tcp")),
        ("turns:turn.example.org?transport=udp", IceUrl(True, True, "turn.example.org", 5349, "udp")),
    ],
)
def test_addresses(text: str, expected: IceUrl) -> None:
    assert parse_ice_url(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "turn:", "turn://turn.example.org", "http://turn.example.org", "turn.example.org:3478"),
        *("turn:host:0", "turn:host:65536", "turn:host:port", "turn:2001:db8::7", "turn:user:word@host", "turn:a b"),
        *("turn:host?transport=sctp", "stun:host?transport=udp", "turn:host?", "turn:host\n"),
    ],
)
def test_what_a_browser_would_refuse(text: str) -> None:
    with pytest.raises(ValueError, match="expected addresses such as turn:"):
        parse_ice_url(text)
    with pytest.raises(ValueError, match="expected addresses such as turn:"):
        Settings(turn_urls=(text,))


@given(
    st.sampled_from(["stun", "stuns", "turn", "turns"]),
    st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,30}[a-z0-9])?", fullmatch=True),
    st.integers(1, 65535),
)
def test_every_name_and_port(scheme: str, host: str, port: int) -> None:
    found = parse_ice_url(f"{scheme}:{host}:{port}")
    assert (found.host, found.port, found.relay, found.secure) == (host, port, scheme[0] == "t", scheme[-1] == "s")


@given(st.text(max_size=60))
def test_anything_is_parsed_or_refused(text: str) -> None:
    try:
        found = parse_ice_url(f"turn:{text}")
    except ValueError:
        return
    assert found.host
    assert 0 < found.port < 65536
