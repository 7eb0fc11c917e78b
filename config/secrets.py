"""The secret that signs tokens and the API keys: given by the operator, else made once and kept in the data folder."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from config.problem import SettingsError
from config.settings import Settings

logger = logging.getLogger(__name__)

FILE_NAME = "secrets.json"
_MAX_FILE = 4096


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

    def __repr__(self) -> str:
        return f"Secrets(created={self.created}, file={self.file})"


def load_secrets(settings: Settings) -> Secrets:
    """What the settings give, the rest from the file in ``data_dir``, which is made at the first start.

    Processes that start together get the same values. Raises ``SettingsError``.
    """
    signing = tuple(secret.get_secret_value() for secret in settings.secret)
    api_keys = tuple(key.get_secret_value() for key in settings.api_keys)
    if signing and api_keys:
        return Secrets(signing, api_keys, created=False, file=None)
    path = settings.data_dir / FILE_NAME
    try:
        kept_secret, kept_key, created = _kept(path)
    except OSError as error:
        raise SettingsError([f"{error.filename or path}: cannot keep the secrets there: {error.strerror}"]) from None
    return Secrets(signing or (kept_secret,), api_keys or (kept_key,), created and not api_keys, path)


def _kept(path: Path) -> tuple[str, str, bool]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _close_to_others(folder, path.parent)
        # Of two processes that start together, one makes the file while the other waits.
        fcntl.flock(folder, fcntl.LOCK_EX)
        created = False
        if not os.path.lexists(path):
            _make(path)
            created = True
        return *_read(path), created
    finally:
        os.close(folder)


def _close_to_others(folder: int, path: Path) -> None:
    """Who may write into the folder may replace the secret."""
    status = os.fstat(folder)
    if not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return
    if status.st_uid != os.geteuid() or status.st_mode & stat.S_ISVTX:
        raise SettingsError([f"{path}: other users may write there; expected a data_dir of the server's own"])
    os.fchmod(folder, 0o700)
    logger.warning("%s could be written by other users; its mode is 700 now", path)


def _make(path: Path) -> None:
    """Write the file whole or not at all."""
    made = {"secret": secrets.token_urlsafe(48), "api_key": f"pk_{secrets.token_urlsafe(24)}"}
    handle, name = tempfile.mkstemp(prefix=f".{FILE_NAME}.", dir=path.parent)  # O_EXCL, mode 600
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(made, file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _read(path: Path) -> tuple[str, str]:
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
        secret, api_key = kept["secret"], kept["api_key"]
        if not (isinstance(secret, str) and len(secret) >= 32 and isinstance(api_key, str) and len(api_key) >= 8):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        text = "is damaged; remove it, and the next start makes a new secret and a new API key"
        raise SettingsError([f"{path}: {text}"]) from None
    return secret, api_key
