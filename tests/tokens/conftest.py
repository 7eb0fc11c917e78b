from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tokens.ledger import Ledger, MemoryLedger, RedisLedger


@pytest.fixture(params=["memory", "redis"])
async def ledger(request: pytest.FixtureRequest) -> AsyncIterator[Ledger]:
    """Either ledger: what is tested with it holds for both."""
    in_memory = request.param == "memory"
    # The long time-out is for busy machines.
    made = MemoryLedger() if in_memory else RedisLedger(request.getfixturevalue("redis_url"), timeout=60)
    yield made
    await made.aclose()
