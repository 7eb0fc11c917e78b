"""The kinds of values that settings have, each checked once. Errors say what was expected and show no secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from config.ice_url import parse_ice_url
from config.identity import PUBLISHABLE_PREFIX, agent_slug, split_api_key
from config.providers import PRESETS, Target, split_key, split_pair

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


def listed(value: object) -> object:
    """Environment and flags write a list with commas."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _address(value: str) -> str:
    expected = ValueError("expected IPv4 or IPv6 addresses, not the wildcard, multicast or link-local ones")
    try:
        address = ip_address(value)
    except ValueError:
        raise expected from None
    if address.is_unspecified or address.is_multicast or address.is_link_local:
        raise expected
    return str(address)


def _host(value: str) -> str:
    """What is no name at all makes the resolver raise other errors than those of a name that is not found."""
    try:
        return str(ip_address(value))
    except ValueError:
        if all(_LABEL.fullmatch(label) for label in value.removesuffix(".").split(".")):
            return value
        raise ValueError("expected an IP address or a host name") from None


def _web_url(value: str) -> str:
    parts = _url(value, ("http", "https"))
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError("expected an address without user, query and fragment")
    return value.rstrip("/")


def _turn_url(value: str) -> str:
    parse_ice_url(value)
    return value


def _redis_url(value: SecretStr) -> SecretStr:
    _url(value.get_secret_value(), ("redis", "rediss", "unix"))
    return value


def _url(value: str, schemes: tuple[str, ...]) -> Any:
    expected = ValueError(f"expected an address that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018  a bad port shows only when it is read
    except ValueError:
        raise expected from None
    if parts.scheme not in schemes or not (parts.hostname or (parts.scheme == "unix" and parts.path)):
        raise expected
    return parts


def _signing_secret(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value().encode()) < 32:
        raise ValueError("expected at least 32 characters")
    return value


def _api_key(value: SecretStr) -> SecretStr:
    org, key = split_api_key(value.get_secret_value())
    if key.startswith(PUBLISHABLE_PREFIX):
        raise ValueError(f"{PUBLISHABLE_PREFIX}… is no secret key; expected keys, or org:key")
    if len(key) < 8 or not key.isascii() or any(c.isspace() for c in key) or not _is_org(org):
        raise ValueError("expected keys of at least 8 characters, or org:key with an org in lower case")
    return value


def _publishable_key(value: SecretStr) -> SecretStr:
    org, key = split_api_key(value.get_secret_value())
    bare = key.removeprefix(PUBLISHABLE_PREFIX)
    if bare == key or len(bare) < 8 or not key.isascii() or any(c.isspace() for c in key) or not _is_org(org):
        raise ValueError(f"expected keys such as `voice-server key --publishable` makes, {PUBLISHABLE_PREFIX}…")
    return value


def check_key(entry: str) -> str:
    """An entry of a file of keys, of either kind. Raises ``ValueError`` without showing it."""
    publishable = split_api_key(entry)[1].startswith(PUBLISHABLE_PREFIX)
    (_publishable_key if publishable else _api_key)(SecretStr(entry))
    return entry


def _provider_key(value: SecretStr) -> SecretStr:
    org, _, key = split_key(value.get_secret_value())
    if not key.isascii() or any(c.isspace() for c in key) or not _is_org(org):
        raise ValueError("expected provider:key, or org/provider:key with an org in lower case")
    return value


def _provider_url(value: str) -> str:
    """A name alone stands for the usual address."""
    usual = PRESETS.get(value.strip().lower())
    name, url = (value.strip(), usual.url) if usual else split_pair(value)
    return f"{name.lower()}={_web_url(url)}"


def _pair(value: str) -> str:
    return "=".join(split_pair(value))


def _target(value: str) -> str:
    return str(Target.parse(value))


def _paired(value: object) -> object:
    """A file may write a table where the environment writes ``name=value``."""
    return [f"{name}={item}" for name, item in value.items()] if isinstance(value, Mapping) else listed(value)


def check_provider_key(entry: str) -> str:
    """An entry of a file of keys of providers. Raises ``ValueError`` without showing it."""
    _provider_key(SecretStr(entry))
    return entry


def _is_org(text: str) -> bool:
    return bool(text) and text == agent_slug(text)


def _folder(value: Path) -> Path:
    return value.expanduser().absolute()


Host = Annotated[str, AfterValidator(_host)]
Port = Annotated[int, Field(ge=0, le=65535)]
Address = Annotated[str, AfterValidator(_address)]
WebUrl = Annotated[str, AfterValidator(_web_url)]
TurnUrl = Annotated[str, AfterValidator(_turn_url)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
ApiKey = Annotated[SecretStr, AfterValidator(_api_key)]
PublishableKey = Annotated[SecretStr, AfterValidator(_publishable_key)]
ProviderKey = Annotated[SecretStr, AfterValidator(_provider_key)]
ProviderUrl = Annotated[str, AfterValidator(_provider_url)]
Pair = Annotated[str, AfterValidator(_pair)]
Chosen = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_target)]
SigningSecret = Annotated[SecretStr, AfterValidator(_signing_secret)]
PerMinute = Annotated[int, Field(ge=0, le=1_000_000)]
Folder = Annotated[Path, AfterValidator(_folder)]
Listed = BeforeValidator(listed)
Paired = BeforeValidator(_paired)
Name = Annotated[str, Field(min_length=1, max_length=64)]
