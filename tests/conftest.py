from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.redis_server import RedisServer


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
    """A developer's own ``VOICE_…`` variables do not change what is tested."""
    import os

    for name in [name for name in os.environ if name.upper().startswith("VOICE_")]:
        monkeypatch.delenv(name)
