from __future__ import annotations

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tokens.origin import check_pattern, origin_allowed

LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
HOSTS = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
PORTS = st.integers(1, 65535)


@pytest.mark.parametrize(
    ("pattern", "origin"),
    [
        ("https://mysite.com", "https://mysite.com"),
        ("https://mysite.com/", "https://mysite.com"),
        ("https://mysite.com:443", "https://mysite.com"),
        ("https://mysite.com", "https://mysite.com:443"),
        ("http://mysite.com:80", "http://mysite.com"),
        ("HTTPS://MySite.COM", "https://mysite.com"),
        ("https://mysite.com", "HTTPS://MYSITE.COM"),
        ("https://*.mysite.com", "https://www.mysite.com"),
        ("https://*.mysite.com", "https://a.b.mysite.com"),
        ("https://*.mysite.com:*", "https://a.mysite.com:8443"),
        ("http://localhost:*", "http://localhost"),
        ("http://localhost:*", "http://localhost:3000"),
        ("http://127.0.0.1:*", "http://127.0.0.1:5173"),
        ("http://[::1]:3000", "http://[0:0:0:0:0:0:0:1]:3000"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://*.BÜCHER.example", "https://www.xn--bcher-kva.example"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
    ],
)
def test_matches(pattern: str, origin: str) -> None:
    check_pattern(pattern)
    assert origin_allowed(origin, ["https://elsewhere.example", pattern])


@pytest.mark.parametrize(
    ("pattern", "origin"),
    [
        ("https://mysite.com", "http://mysite.com"),
        ("https://mysite.com", "https://mysite.com:8443"),
        ("https://mysite.com", "https://mysite.com.evil.example"),
        ("https://mysite.com", "https://evilmysite.com"),
        ("https://mysite.com", "https://www.mysite.com"),
        ("https://mysite.com", "https://mysite.com@evil.example"),
        ("https://mysite.com", "https://mysite.com/"),
        ("https://mysite.com", "https://mysite.com/path"),
        ("https://mysite.com", "https://mysite.com\n"),
        ("https://mysite.com", " https://mysite.com"),
        ("https://mysite.com", "https://mysite.com, https://evil.example"),
        ("https://mysite.com", "https://mysite.com."),
        ("https://*.mysite.com", "https://mysite.com"),
        ("https://*.mysite.com", "https://.mysite.com"),
        ("https://*.mysite.com", "https://*.mysite.com"),
        ("https://*.mysite.com", "https://evilmysite.com"),
        ("https://*.mysite.com", "https://a.mysite.com.evil.example"),
        ("https://*.mysite.com", "https://a.mysite.com:8443"),
        ("http://localhost:*", "https://localhost:3000"),
        ("http://localhost:*", "http://localhost.evil.example"),
        ("http://localhost:*", "http://localhost:*"),
        ("http://localhost:*", "http://localhost:0"),
        ("http://localhost:*", "http://localhost:99999"),
        ("http://localhost:*", "http://localhost:"),
        ("http://localhost:*", "http://127.0.0.1:3000"),
        ("https://*", "https://mysite.com"),
        ("https://my*.com", "https://mysite.com"),
        ("*://mysite.com", "https://mysite.com"),
        ("mysite.com", "https://mysite.com"),
        ("", "https://mysite.com"),
        ("null", "null"),
        ("*", "https://mysite.com"),
    ],
)
def test_does_not_match(pattern: str, origin: str) -> None:
    assert not origin_allowed(origin, [pattern])


@pytest.mark.parametrize("origin", [None, "", "null"])
def test_no_origin_is_never_allowed(origin: str | None) -> None:
    assert not origin_allowed(origin, ["*", "null", "http://localhost:*"], allow_any=True)


def test_the_star_needs_the_operators_switch() -> None:
    assert not origin_allowed("https://mysite.com", ["*"])
    assert origin_allowed("https://mysite.com", ["*"], allow_any=True)


@pytest.mark.parametrize(
    "pattern", ["", "mysite.com", "https://", "https://*", "https://a.*.com", "https://a/b", "null"]
)
def test_a_pattern_that_could_never_match_is_named(pattern: str) -> None:
    with pytest.raises(ValueError, match="expected an origin"):
        check_pattern(pattern)


@given(HOSTS, PORTS, st.booleans())
def test_an_origin_matches_itself_in_any_case(host: str, port: int, upper: bool) -> None:
    assume(not host.startswith("xn--"))
    origin = f"https://{host}:{port}"
    assert origin_allowed(origin.upper() if upper else origin, [origin])
    assert origin_allowed(origin, [f"https://{host}:*"])
    assert not origin_allowed(
        origin, [f"http://{host}:{port}", f"https://{host}:{port % 65535 + 1}", f"https://x{host}:*"]
    )


@given(HOSTS, HOSTS)
def test_a_wildcard_takes_sub_domains_alone(host: str, other: str) -> None:
    pattern = [f"https://*.{host}"]
    assert origin_allowed(f"https://{other}.{host}", pattern)
    assert not origin_allowed(f"https://{host}", pattern)
    assert origin_allowed(f"https://{other}", pattern) == other.endswith(f".{host}")


@given(st.text(max_size=60), st.text(max_size=60))
@example("https://ß.example", "https://[::")
@example("https://\u2028.example", "https://xn--.example")
@example("https://" + "ü" * 500, "https://\u0130.example")
def test_no_text_breaks_it(origin: str, pattern: str) -> None:
    for one in (origin, "https://" + origin):
        for other in (pattern, "https://" + pattern):
            assert origin_allowed(one, [other]) in (True, False)
