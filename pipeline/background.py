"""Engines for what happens beside the calls: whoever asks for it over HTTP must not make a caller wait.

They are instances of their own, in processes that give way to those of the calls. Each is loaded when somebody needs it
and released when nobody has needed it for a while.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from config.agent import SttConfig, VoiceConfig
from config.identity import DEFAULT_ORG
from config.providers import Kind
from pipeline.engine import EngineError, Engines
from pipeline.worker import in_background

logger = logging.getLogger(__name__)

IDLE_SECONDS = 300.0
"""How long an engine is kept that nobody needs."""


class Background:
    """Lends engines. Belongs to one event loop."""

    def __init__(self, engines: Engines, *, idle: float = IDLE_SECONDS) -> None:
        self.engines = engines
        """Those of the calls, which know what there is."""
        self._idle = idle
        self._lent: dict[tuple[str, str], Lent] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self.leaving = False
        """The server is about to stop: long work ends where it can."""
        self._closed = False

    @asynccontextmanager
    async def engine(self, kind: Kind, name: str, org: str = DEFAULT_ORG) -> AsyncIterator[Lent]:
        """An engine by its name, loaded; a provider's with the key of the organisation, if that has one of its own.

        Raises ``EngineError`` when it cannot be loaded, ``KeyError`` when there is no such.
        """
        engines = self.engines.of(org)
        holder = engines.providers.holder(name, org)
        key = (kind, name if holder == DEFAULT_ORG else f"{holder}/{name}")
        async with self.borrow(key, lambda: engines.make(kind, name)) as lent:
            yield lent

    @asynccontextmanager
    async def borrow(self, key: tuple[str, str], make: Callable[[], Any]) -> AsyncIterator[Lent]:
        """What stands under ``key``, made and started if nothing does. It has ``start`` and ``aclose``."""
        if self._closed:
            raise EngineError("the server is shutting down")
        lent = self._lent.get(key)
        if lent is None:
            with in_background():
                lent = self._lent[key] = Lent(make())
            lent.loading = asyncio.create_task(self._load(key, lent), name=f"loading {key[1]}")
        lent.users += 1
        if lent.timer:
            lent.timer.cancel()
        try:
            await asyncio.wait({lent.loading})
            if lent.trouble or lent.loading.cancelled():
                raise EngineError(lent.trouble or "the server is shutting down")
            yield lent
        finally:
            lent.users -= 1
            if not lent.users and not self._closed:
                lent.timer = asyncio.get_running_loop().call_later(self._idle, self._release, key, lent)

    @property
    def loaded(self) -> list[str]:
        """Names of what is here."""
        return [name for _, name in self._lent]

    async def aclose(self) -> None:
        """Release them all; who still uses one gets ``EngineError``."""
        self._closed = True
        for key, lent in list(self._lent.items()):
            self._release(key, lent)
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _load(self, key: tuple[str, str], lent: Lent) -> None:
        try:
            await lent.engine.start()
        except EngineError as error:
            lent.trouble = str(error)
        except Exception:
            logger.exception("%s could not start", key[1])
            lent.trouble = f"{key[1]} could not start"
        if lent.trouble:  # the next one tries again
            self._release(key, lent)

    def _release(self, key: tuple[str, str], lent: Lent) -> None:
        if self._lent.get(key) is lent:
            del self._lent[key]
            if lent.timer:
                lent.timer.cancel()
            closing = asyncio.create_task(self._close(lent), name=f"closing {key[1]}")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _close(self, lent: Lent) -> None:
        lent.loading.cancel()
        await asyncio.gather(lent.loading, return_exceptions=True)
        await lent.engine.aclose()


class Lent:
    """An engine and who uses it."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.turn = asyncio.Lock()
        """Held while it works on something long: what is short need not wait for more than one of those."""
        self.users = 0
        self.trouble = ""
        self.loading: asyncio.Task[None]
        self.timer: asyncio.TimerHandle | None = None

    @property
    def remote(self) -> bool:
        """Whether a provider is asked over the network, who expects a voice as it is spoken."""
        return hasattr(self.engine, "breaker")

    def bound(self, config: VoiceConfig | SttConfig) -> Any:
        """The engine as a configuration wants it, if that makes a difference to it."""
        return self.engine.bound(config) if hasattr(self.engine, "bound") else self.engine
