from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.identity import agent_slug, base_language, split_api_key


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("mara", "mara"),
        ("  My Agent ", "my-agent"),
        ("My__Agent \t 2", "my-agent-2"),
        ("-a--b-", "a-b"),
        ("a_-_b", "a-b"),
        ("org:mara", "orgmara"),
        ("Zoë's", "zos"),
        ("a/../b", "ab"),
        ("!!", ""),
    ],
)
def test_slug(text: str, slug: str) -> None:
    assert agent_slug(text) == slug


@given(st.text())
def test_a_slug_is_canonical(text: str) -> None:
    slug = agent_slug(text)
    assert re.fullmatch(r"([a-z0-9]+(-[a-z0-9]+)*)?", slug)
    assert agent_slug(slug) == slug
    assert agent_slug(f" {text}_") == slug


@pytest.mark.parametrize(("tag", "base"), [("pt-BR", "pt"), ("EN", "en"), ("multi", "multi"), ("", "")])
def test_base_language(tag: str, base: str) -> None:
    assert base_language(tag) == base


@pytest.mark.parametrize(
    ("entry", "expected"), [("key", ("default", "key")), ("acme:key", ("acme", "key")), ("acme:k:ey", ("acme", "k:ey"))]
)
def test_split_api_key(entry: str, expected: tuple[str, str]) -> None:
    assert split_api_key(entry) == expected
