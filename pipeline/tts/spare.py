"""Sockets that are open before they are needed, so that no sentence pays for a handshake."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from pipeline.engine import EngineError
from pipeline.wire import Socket, Wire

K = TypeVar("K", bound=Hashable)


class Spares(Generic[K]):
    """Sockets by what they were opened for. Each is used once, or closed when nobody wanted it for ``life`` seconds."""

    def __init__(self, wire: Wire, make: Callable[[K], Awaitable[Socket]], life: float) -> None:
        self._wire = wire
        self._make = make
        self._life = life
        self._waiting: dict[K, list[asyncio.Task[Socket]]] = defaultdict(list)

    def order(self, key: K) -> None:
        """Open one in the background, unless one is there."""
        if not self._waiting[key]:
            task = asyncio.create_task(self._open(key), name="opening a spare socket")
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # told to whoever takes it
            self._waiting[key].append(task)

    async def take(self, key: K) -> Socket:
        """One that is open, or about to be; else a new one. Raises ``EngineError``."""
        while tasks := self._waiting[key]:
            task = tasks.pop(0)
            try:
                socket = await task
            except EngineError:
                break  # what is wrong shows at once
            if not socket.closed:
                return socket
        return await self._make(key)

    def clear(self) -> None:
        """Close them all."""
        for tasks in self._waiting.values():
            for task in tasks:
                self._drop(task)
        self._waiting.clear()

    async def _open(self, key: K) -> Socket:
        socket = await self._make(key)
        asyncio.get_running_loop().call_later(self._life, self._expire, key, asyncio.current_task())
        return socket

    def _expire(self, key: K, task: asyncio.Task[Socket] | None) -> None:
        if task and task in self._waiting[key]:
            self._waiting[key].remove(task)
            self._drop(task)

    def _drop(self, task: asyncio.Task[Socket]) -> None:
        if not task.done():
            task.cancel()
        elif not task.cancelled() and task.exception() is None:
            self._wire.leave(task.result())
