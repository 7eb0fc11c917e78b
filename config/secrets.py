"""The secrets that sign tokens and the API keys: given by the operator, else made once and kept in the data folder."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from config.identity import PUBLISHABLE_PREFIX, split_api_key
from config.problem import SettingsError
from config.providers import Providers
from config.settings import Settings
from config.values import check_key, check_provider_key

logger = logging.getLogger(__name__)

FILE_NAME = "secrets.json"
_MAX_FILE = 4096
_MAX_KEY_FILE = 1 << 20


@dataclass(frozen=True, slots=True)
class Secrets:
    """``created``: the API key was made just now and is to be shown to the operator."""

    signing: tuple[str, ...]
    """Newest first: the first signs, all verify."""
    api_keys: tuple[str, ...]
    """``key`` or ``org:key``."""
    created: bool
    file: Path | None
    """Where they are kept, ``None`` when the operator gave both."""
    publishable_keys: tuple[str, ...] = ()
    """Likewise; only ever given."""

    def __repr__(self) -> str:
        return f"Secrets(created={self.created}, file={self.file})"


def load_secrets(settings: Settings) -> Secrets:
    """What the settings give, the rest from the file in ``data_dir``, which is made at the first start.

    Processes that start together get the same values. Raises ``SettingsError``.
    """
    signing = tuple(secret.get_secret_value() for secret in settings.secret)
    api_keys, publishable = given_keys(settings)
    if signing and api_keys:
        return Secrets(signing, api_keys, created=False, file=None, publishable_keys=publishable)
    path = settings.data_dir / FILE_NAME
    with _locked(path):
        created = not os.path.lexists(path)
        if created:
            _write(path, {"secret": [fresh_secret()], "api_key": [fresh_api_key()]})
        kept = _read(path)
    secret_keys = api_keys or kept["api_key"]
    return Secrets(signing or kept["secret"], secret_keys, created and not api_keys, path, publishable)


def given_keys(settings: Settings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The secret and the publishable keys that the operator gives, in the settings and in a file.

    Raises ``SettingsError``: among others for one key of two organisations, of which either could act as the other.
    """
    secret_keys = [key.get_secret_value() for key in settings.api_keys]
    publishable = [key.get_secret_value() for key in settings.publishable_keys]
    for entry in _key_file("api_keys_file", settings.api_keys_file, check_key):
        kind = publishable if split_api_key(entry)[1].startswith(PUBLISHABLE_PREFIX) else secret_keys
        kind.append(entry)
    orgs: dict[str, str] = {}
    for org, key in map(split_api_key, (*secret_keys, *publishable)):
        if orgs.setdefault(key, org) != org:
            raise SettingsError([f"a key belongs to one organisation only, and one is given to {orgs[key]} and {org}"])
    return tuple(secret_keys), tuple(publishable)


def load_providers(settings: Settings) -> Providers:
    """Who can be asked over the network. Raises ``SettingsError``."""
    keys = [key.get_secret_value() for key in settings.provider_keys]
    keys += _key_file("provider_keys_file", settings.provider_keys_file, check_provider_key)
    return Providers(keys=keys, urls=settings.provider_urls, models=settings.model_names)


def _key_file(name: str, path: Path | None, check: Callable[[str], str]) -> list[str]:
    """One key on each line; empty lines and those that begin with # do not count."""
    if path is None:
        return []
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_KEY_FILE + 1)
        lines = content.decode().splitlines()
    except OSError as error:
        raise SettingsError([f"{name} {path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"{name} {path}: is no text"]) from None
    if len(content) > _MAX_KEY_FILE:
        raise SettingsError([f"{name} {path}: is larger than {_MAX_KEY_FILE} bytes"])
    entries, problems = [], []
    for number, line in enumerate((line.strip() for line in lines), start=1):
        if line and not line.startswith("#"):
            try:
                entries.append(check(line))
            except ValueError as error:
                problems.append(f"{name} {path}, line {number}: {error}")
    if problems:
        raise SettingsError(problems)
    return entries


def rotate(data_dir: Path, name: Literal["secret", "api_key"]) -> str:
    """Put a fresh value in front of the kept one, which stays good beside it; what stood behind that is gone.

    Returns the fresh value; a server takes it up at its next start. Raises ``SettingsError``.
    """
    path = data_dir / FILE_NAME
    fresh = fresh_secret() if name == "secret" else fresh_api_key()
    with _locked(path):
        if not os.path.lexists(path):
            raise SettingsError([f"{path}: is not there yet: the first start makes it"])
        kept = _read(path)
        _write(path, {**kept, name: (fresh, kept[name][0])})
    return fresh


def fresh_secret() -> str:
    """Signs tokens."""
    return secrets.token_urlsafe(48)


def fresh_api_key() -> str:
    return f"pk_{secrets.token_urlsafe(24)}"


def fresh_publishable_key() -> str:
    return f"{PUBLISHABLE_PREFIX}{secrets.token_urlsafe(24)}"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """The folder of the file is there and closed to others; of two processes one works while the other waits."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _close_to_others(folder, path.parent)
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)
    except OSError as error:
        raise SettingsError([f"{error.filename or path}: cannot keep the secrets there: {error.strerror}"]) from None


def _close_to_others(folder: int, path: Path) -> None:
    """Who may write into the folder may replace the secret."""
    status = os.fstat(folder)
    if not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return
    if status.st_uid != os.geteuid() or status.st_mode & stat.S_ISVTX:
        raise SettingsError([f"{path}: other users may write there; expected a data_dir of the server's own"])
    os.fchmod(folder, 0o700)
    logger.warning("%s could be written by other users; its mode is 700 now", path)


def _write(path: Path, kept: Mapping[str, Sequence[str]]) -> None:
    """Write the file whole or not at all."""
    handle, name = tempfile.mkstemp(prefix=f".{FILE_NAME}.", dir=path.parent)  # O_EXCL, mode 600
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(kept, file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _read(path: Path) -> dict[str, tuple[str, ...]]:
    """``secret`` and ``api_key``, each newest first."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            raise SettingsError([f"{path}: expected a regular file"])
        if mode & 0o077:
            os.fchmod(handle, 0o600)
            logger.warning("%s could be read by other users; its mode is 600 now", path)
        content = file.read(_MAX_FILE)
    try:
        kept = json.loads(content)
        return {"secret": _values(kept["secret"], 32), "api_key": _values(kept["api_key"], 8)}
    except (ValueError, KeyError, TypeError, RecursionError):
        text = "is damaged; remove it, and the next start makes a new secret and a new API key"
        raise SettingsError([f"{path}: {text}"]) from None


def _values(kept: object, least: int) -> tuple[str, ...]:
    """One value or several, each of at least so many characters. Raises ``ValueError``."""
    values = [kept] if isinstance(kept, str) else kept
    if not isinstance(values, list) or not values:
        raise ValueError
    if not all(isinstance(value, str) and len(value) >= least for value in values):
        raise ValueError
    return tuple(values)
