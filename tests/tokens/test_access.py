from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokens.access import Grant, authorize_mint
from tokens.errors import InvalidKey, OriginNotAllowed
from tokens.keys import ApiKeys, Holder

PUBLISHABLE = "pk_publishable_default"
KEYS = ApiKeys(["pk_default_key", "acme:sk_acme_key"], [PUBLISHABLE, "acme:pk_publishable_acme"])
LOCAL = ["http://localhost:*"]


def test_a_key_names_its_organisation() -> None:
    assert KEYS.org_of("pk_default_key") == "default"
    assert KEYS.org_of("sk_acme_key") == "acme"


@pytest.mark.parametrize(
    "key",
    [None, "", "pk_default_ke", "pk_default_key ", "acme:sk_acme_key", "PK_DEFAULT_KEY", "\ud800", "pk_publishable_"],
)
def test_any_other_text_is_no_key(key: str | None) -> None:
    assert KEYS.org_of(key) is None
    assert KEYS.holder(key) is None


def test_a_publishable_key_names_its_organisation_and_is_no_secret_key() -> None:
    assert KEYS.holder("pk_publishable_acme") == Holder("acme", publishable=True)
    assert KEYS.holder("sk_acme_key") == Holder("acme")
    assert KEYS.org_of("pk_publishable_acme") is None


@given(st.text())
def test_no_text_breaks_the_look_up(key: str) -> None:
    assert KEYS.org_of(key) is None
    assert ApiKeys([f"org:x{key}"]).org_of(f"x{key}") == "org"


@pytest.mark.parametrize("entry", ["", "org:", ":key", "pk_publishable_1", "org:pk_publishable_1"])
def test_entries_that_are_no_secret_keys_are_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="expected secret API keys"):
        ApiKeys([entry])


@pytest.mark.parametrize("entry", ["", "org:", ":pk_publishable_1", "pk_1", "org:pk_1"])
def test_entries_that_are_no_publishable_keys_are_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="and publishable ones"):
        ApiKeys([], [entry])


def test_keys_do_not_show_in_a_log() -> None:
    assert "key" not in repr(KEYS).lower().replace("apikeys", "")


def test_a_good_key_may_seal_whatever_the_origin() -> None:
    grant = authorize_mint(KEYS, "acme", "mara", (), key="sk_acme_key", origin="https://evil.example")
    assert grant == Grant("acme")
    assert grant.may_seal


def test_a_bad_key_is_refused_even_from_a_good_origin() -> None:
    for key in ("wrong", "", "pk_publishable_1"):
        with pytest.raises(InvalidKey, match=r"^Invalid API key$"):
            authorize_mint(KEYS, "default", "mara", LOCAL, key=key, origin="http://localhost:3000")


def test_an_agent_without_origins_needs_a_key() -> None:
    with pytest.raises(InvalidKey):
        authorize_mint(KEYS, "default", "mara", (), key=None, origin="http://localhost:3000")


def test_an_allowed_page_may_not_seal() -> None:
    grant = authorize_mint(KEYS, "default", "mara", LOCAL, key=None, origin="http://localhost:3000")
    assert grant == Grant("default", "http://localhost:3000")
    assert not grant.may_seal


def test_a_page_with_a_publishable_key_may_not_seal_either() -> None:
    grant = authorize_mint(KEYS, "acme", "mara", LOCAL, key="pk_publishable_acme", origin="http://localhost:3000")
    assert grant == Grant("acme", "http://localhost:3000")
    assert not grant.may_seal


@pytest.mark.parametrize("origin", [None, "null", "https://evil.example"])
@pytest.mark.parametrize("patterns", [LOCAL, []])
def test_a_publishable_key_opens_nothing_without_the_right_origin(origin: str | None, patterns: list[str]) -> None:
    with pytest.raises(OriginNotAllowed):
        authorize_mint(KEYS, "default", "mara", patterns, key=PUBLISHABLE, origin=origin)


def test_a_publishable_key_needs_an_agent_that_allows_origins() -> None:
    with pytest.raises(OriginNotAllowed, match=r"^Origin http://localhost:3000 is not allowed for agent 'mara'$"):
        authorize_mint(KEYS, "default", "mara", (), key=PUBLISHABLE, origin="http://localhost:3000")


def test_another_page_is_told_so() -> None:
    with pytest.raises(OriginNotAllowed) as caught:
        authorize_mint(KEYS, "default", "mara", LOCAL, key=None, origin="https://evil.example")
    assert str(caught.value) == "Origin https://evil.example is not allowed for agent 'mara'"
    assert caught.value.code == "ORIGIN_NOT_ALLOWED"


def test_no_origin_is_no_page() -> None:
    with pytest.raises(OriginNotAllowed, match=r"^Origin null is not allowed"):
        authorize_mint(KEYS, "default", "mara", LOCAL, key=None, origin=None)


def test_an_origin_in_the_text_is_short_and_printable() -> None:
    with pytest.raises(OriginNotAllowed) as caught:
        authorize_mint(KEYS, "default", "mara", LOCAL, key=None, origin="https://\n\x1b[31m" + "x" * 5000)
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()
