"""Who is here: the agents that answer, the calls that run, the seats that are left."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from config.agent import AgentConfig
from config.identity import agent_slug
from server.http import ApiError

logger = logging.getLogger(__name__)

GOODBYE_SECONDS = 5.0
"""How long calls may take to end after they were hung up at shutdown."""


class LiveCall(Protocol):
    """What the hub needs of a call."""

    @property
    def id(self) -> str: ...

    def hangup(self, reason: str) -> None: ...

    async def wait_ended(self) -> None: ...


class NoSeatError(ApiError):
    """503: the server or the agent is full, or the server is about to leave (``draining``)."""

    def __init__(self, who: str, *, draining: bool = False) -> None:
        if draining:
            super().__init__(503, f"{who} is shutting down", "SERVER_DRAINING", {"Retry-After": "5"})
        else:
            super().__init__(503, f"{who} is at capacity", "SERVER_AT_CAPACITY", {"Retry-After": "5"})
        self.draining = draining


class Seat:
    """The right to run one call. Belongs to the offer until a call takes it, then to the call."""

    def __init__(self) -> None:
        self.call: LiveCall | None = None

    def take(self, call: LiveCall) -> None:
        """The call has begun: the seat is free again when it has ended."""
        self.call = call


class Hub:
    """Agents by slug, live calls and seats of one process: ``max_calls`` in all, ``agent_max_calls`` of one agent (0:
    no limit of its own). Source: protocol 9.6.

    An async context manager: on leaving, every call is hung up and awaited.
    """

    def __init__(self, agents: Iterable[AgentConfig], *, max_calls: int, agent_max_calls: int = 0) -> None:
        self.agents = {agent_slug(agent.id): agent for agent in agents}
        self.calls: dict[str, LiveCall] = {}
        self.max_calls = max_calls
        self.agent_max_calls = agent_max_calls
        self.draining = False
        self._closing = False
        self._seats: Counter[str] = Counter()  # by the slug of their agent, none of them 0
        self._watchers: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def taken(self) -> int:
        """Seats that are not free: live calls and offers in progress."""
        return self._seats.total()

    def agent(self, agent_id: str) -> AgentConfig | None:
        """The agent that answers to an id in any spelling (``My Agent`` and ``my-agent`` are one)."""
        return self.agents.get(agent_slug(agent_id))

    def check_seat(self, agent_id: str) -> None:
        """Raise ``NoSeatError`` if no call with this agent could begin now."""
        if self.draining or self.taken >= self.max_calls:
            raise NoSeatError("The server", draining=self.draining)
        if 0 < self.agent_max_calls <= self._seats[agent_slug(agent_id)]:
            raise NoSeatError(f"Agent '{agent_slug(agent_id)}'")

    @contextmanager
    def seat(self, agent_id: str) -> Iterator[Seat]:
        """Reserve a seat for an offer. It is freed on leaving, unless a call has taken it. Raises ``NoSeatError``."""
        self.check_seat(agent_id)
        agent = agent_slug(agent_id)
        self._seats[agent] += 1
        self._empty.clear()
        seat = Seat()
        try:
            yield seat
        finally:
            if seat.call is None:
                self._free(agent)
            else:
                self._watch(seat.call, agent)

    async def drain(self, seconds: float) -> None:
        """Let nobody in, wait up to ``seconds`` for the calls to end, then hang the others up."""
        self.draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            await self.hang_up_all()

    async def hang_up_all(self, seconds: float | None = None) -> None:
        """End every call with ``server_shutdown`` and wait for that, ``GOODBYE_SECONDS`` at most if nothing is said."""
        self.draining = self._closing = True
        for call in list(self.calls.values()):
            call.hangup("server_shutdown")
        try:
            async with asyncio.timeout(GOODBYE_SECONDS if seconds is None else seconds):
                await self._empty.wait()
        except TimeoutError:
            logger.warning("%d calls did not end in time", self.taken)

    async def __aenter__(self) -> Hub:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.hang_up_all()
        for watcher in list(self._watchers):
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)

    def _watch(self, call: LiveCall, agent: str) -> None:
        self.calls[call.id] = call
        if self._closing:  # its offer was let in before, the others were hung up in between
            call.hangup("server_shutdown")
        watcher = asyncio.create_task(self._attend(call, agent), name=f"seat of {call.id}")
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    async def _attend(self, call: LiveCall, agent: str) -> None:
        try:
            await call.wait_ended()
        finally:
            del self.calls[call.id]
            self._free(agent)

    def _free(self, agent: str) -> None:
        self._seats[agent] -= 1
        if not self._seats[agent]:
            del self._seats[agent]
        if not self._seats:
            self._empty.set()
