"""What all tests share: a real Redis, an environment without settings, property tests that do not watch the clock."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from config.providers import PRESETS
from tests.redis_server import RedisServer

settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


@pytest.fixture(scope="session")
def _redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_url(_redis_server: RedisServer) -> str:
    """Address of a real Redis that the whole session shares. Use keys of your own."""
    return _redis_server.url


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A real Redis of this test alone, which may kill it and start it again."""
    with RedisServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own ``VOICE_…`` variables, and keys of providers, do not change what is tested."""
    keys = {preset.variable for preset in PRESETS.values()}
    for name in [name for name in os.environ if name.upper().startswith("VOICE_") or name in keys]:
        monkeypatch.delenv(name)
