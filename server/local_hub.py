"""The hub of one process: everything in memory."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from config.agent import AgentConfig
from config.identity import agent_slug
from config.patch import Patch, patched
from pipeline.session import Reply, Session
from server.hub import AgentHeldError, NoSeatError, NotHeldError, RunningSession, Seat, TooManyAgentsError
from server.registry import AgentKey, Holder, Registration, Registry

logger = logging.getLogger(__name__)

GOODBYE_SECONDS = 5.0
"""How long sessions may take to end after they were hung up at shutdown."""

MAX_ENDED = 1024
"""Ended sessions whose agent is remembered."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator decides about the hub of a process. Source: protocol 3.4, 3.6, 9.6."""

    max_calls: int
    """Calls in all."""
    agent_max_calls: int = 0
    """Calls of one agent, and as many chats; 0: no limit of its own."""
    max_chats: int = 500
    """Chats in all. They take no seat of a call: somebody who types costs little, and may be silent for long."""
    max_agents: int = 1000
    """Registrations of backends in all."""
    connection_max_agents: int = 100
    grace_seconds: float = 60.0
    """How long sessions wait for a backend without which they cannot go on."""
    newest_wins: bool = False
    """Whether a connection takes an agent from another one that is alive."""


@dataclass(slots=True)
class _Running:
    """A session and whose it is."""

    session: Session
    key: AgentKey
    channel: str
    answers: bool
    """It can go on without a backend: the server writes the answers."""
    grace: asyncio.TimerHandle | None = None

    @property
    def id(self) -> str:
        return self.session.id

    def command(self, frame: Mapping[str, Any], reply: Reply) -> None:
        self.session.command(frame, reply)

    def adopt(self, registration: Registration) -> None:
        """A backend serves the agent again, or another one."""
        self.settle()
        self.session.reload(registration.agent_on(self.channel))
        self.session.attend(True)

    def orphan(self, seconds: float, *, kicked: bool = False) -> None:
        """No backend serves the agent."""
        self.session.attend(False)
        if (kicked or not self.answers) and self.grace is None:
            loop = asyncio.get_running_loop()
            self.grace = loop.call_later(seconds, self.session.hangup, "agent_disconnected")

    def settle(self) -> None:
        if self.grace is not None:
            self.grace.cancel()
            self.grace = None


class LocalHub:
    """Implements ``server.hub.Hub``.

    An async context manager: on leaving, every session is hung up and awaited.
    """

    def __init__(self, declared: Iterable[AgentConfig], limits: Limits) -> None:
        self.registry = Registry(declared)
        self._limits = limits
        self._draining = False
        self._closing = False
        self._running: dict[tuple[str, str], _Running] = {}  # by organisation and session id
        self._ended: OrderedDict[tuple[str, str], AgentKey] = OrderedDict()
        self._seats: dict[str, Counter[AgentKey]] = {"webrtc": Counter(), "chat": Counter()}  # none of them 0
        self._watchers: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def draining(self) -> bool:
        return self._draining

    @property
    def max_calls(self) -> int:
        return self._limits.max_calls

    @property
    def taken(self) -> int:
        return self._seats["webrtc"].total()

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def chats(self) -> int:
        return sum(running.channel == "chat" for running in self._running.values())

    @property
    def calls(self) -> dict[str, Session]:
        """The sessions by id, whosever they are."""
        return {running.id: running.session for running in self._running.values()}

    # --- agents

    async def find(self, agent_id: str, org: str | None) -> Registration | None:
        return self.registry.find_public(agent_id) if org is None else self.registry.find(agent_id, org)

    async def agents(self, org: str | None) -> list[Registration]:
        return self.registry.all(org)

    async def public_id(self, registration: Registration) -> str:
        return self.registry.public_id(registration)

    async def register(
        self, holder: Holder, agent_id: str, agent: AgentConfig, *, over: Holder | None = None
    ) -> Registration:
        key = AgentKey(holder.org, agent.id)
        before = self.registry.get(key)
        other = before.holder if before else None
        displaced = other is not None and other is not holder and other is not over and other.alive
        if other is not None and displaced and not self._limits.newest_wins:
            raise AgentHeldError(other)
        self._check_room(holder, new=other is None, mine=other is holder)
        if before is not None and other not in (None, holder):
            logger.info("agent %s of %s has another connection now", key.slug, key.org)
            if displaced:
                _tell_displaced(before, "replaced")
        registration = Registration(key, agent_id, agent, holder=holder)
        self.registry.put(registration)
        for running in self._of(key):
            running.adopt(registration)
        return registration

    async def configure(self, holder: Holder, agent_id: str, patch: Patch) -> None:
        registration = self._held(holder, agent_id)
        registration = replace(registration, agent=patched(registration.agent, patch))
        self.registry.put(registration)
        for running in self._of(registration.key):
            running.session.reload(registration.agent_on(running.channel))

    async def set_channel(self, holder: Holder, agent_id: str, channel: str, patch: Patch | None) -> None:
        registration = self._held(holder, agent_id)
        others = {name: laid for name, laid in registration.channels.items() if name != channel}
        self.registry.put(replace(registration, channels=others if patch is None else {**others, channel: patch}))

    async def configure_channel(self, holder: Holder, agent_id: str, channel: str, patch: Patch) -> None:
        before = self._held(holder, agent_id).channels.get(channel, {})
        merged = patched(AgentConfig(id=""), before, patch)
        both = {name: getattr(merged, name) for name in {*before, *patch}}
        await self.set_channel(holder, agent_id, channel, both)

    async def pause(self, key: AgentKey, paused: bool) -> None:
        registration = self.registry.get(key)
        if registration is not None and registration.holder is not None:
            self.registry.put(replace(registration, paused=paused))

    async def release(self, holder: Holder) -> None:
        for registration in self.registry.of(holder):
            self._drop(registration)

    async def kick(self, key: AgentKey) -> bool:
        registration = self.registry.get(key)
        if registration is None or registration.holder is None:
            return False
        _tell_displaced(registration, "kicked")
        self._drop(registration, kicked=True)
        return True

    # --- sessions

    def check_seat(self, key: AgentKey, channel: str = "webrtc") -> None:
        most = self._limits.max_chats if channel == "chat" else self._limits.max_calls
        if self._draining or self._seats[channel].total() >= most:
            raise NoSeatError("The server", draining=self._draining)
        if 0 < self._limits.agent_max_calls <= self._seats[channel][key]:
            raise NoSeatError(f"Agent '{key.slug}'")

    @contextmanager
    def seat(self, registration: Registration, channel: str) -> Iterator[Seat]:
        key = registration.key
        self.check_seat(key, channel)
        self._seats[channel][key] += 1
        self._empty.clear()
        seat = Seat(lambda session_id: (key.org, session_id) in self._running)
        try:
            yield seat
        finally:
            if seat.session is None:
                self._free(key, channel)
            else:
                self._watch(seat.session, registration, channel)

    async def session(self, org: str, session_id: str) -> RunningSession | None:
        return self._running.get((org, session_id))

    async def sessions(self, key: AgentKey) -> list[RunningSession]:
        return list(self._of(key))

    async def ended(self, org: str, session_id: str) -> AgentKey | None:
        return self._ended.get((org, session_id))

    def tell(self, key: AgentKey, frame: Mapping[str, Any]) -> bool:
        registration = self.registry.get(key)
        if registration is None or registration.holder is None:
            return False
        return registration.holder.send({"event": frame["event"], "agent_id": registration.id, **frame})

    # --- the end

    async def drain(self, seconds: float) -> None:
        """Let nobody in, wait up to ``seconds`` for the sessions to end, then hang the others up."""
        self._draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            await self.hang_up_all()

    async def hang_up_all(self, seconds: float | None = None) -> None:
        """End all with ``server_shutdown`` and wait for that, ``GOODBYE_SECONDS`` at most if nothing is said."""
        self._draining = self._closing = True
        for running in list(self._running.values()):
            running.session.hangup("server_shutdown")
        try:
            async with asyncio.timeout(GOODBYE_SECONDS if seconds is None else seconds):
                await self._empty.wait()
        except TimeoutError:
            logger.warning("%d sessions did not end in time", self.running)

    async def __aenter__(self) -> LocalHub:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.hang_up_all()
        for watcher in list(self._watchers):
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)

    # --- inside

    def _held(self, holder: Holder, agent_id: str) -> Registration:
        registration = self.registry.get(AgentKey(holder.org, agent_slug(agent_id)))
        if registration is None or registration.holder is not holder:
            raise NotHeldError
        return registration

    def _check_room(self, holder: Holder, *, new: bool, mine: bool) -> None:
        if new and self.registry.held >= self._limits.max_agents:
            raise TooManyAgentsError(self.registry.held, self._limits.max_agents)
        used = len(self.registry.of(holder))
        if not mine and used >= self._limits.connection_max_agents:
            raise TooManyAgentsError(used, self._limits.connection_max_agents)

    def _drop(self, registration: Registration, *, kicked: bool = False) -> None:
        self.registry.drop(registration.key)
        for running in self._of(registration.key):
            running.orphan(self._limits.grace_seconds, kicked=kicked)

    def _of(self, key: AgentKey) -> list[_Running]:
        return [running for running in self._running.values() if running.key == key]

    def _watch(self, session: Session, registration: Registration, channel: str) -> None:
        key = registration.key
        running = _Running(session, key, channel, registration.agent_on(channel).generates)
        self._running[key.org, session.id] = running
        watcher = asyncio.create_task(self._attend(running), name=f"seat of {session.id}")
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)
        if self._closing:  # its offer was let in before, the others were hung up in between
            session.hangup("server_shutdown")
        now = self.registry.get(key)
        if now is not None and now.holder is not None:
            session.attend(True)
            if now.paused:
                session.command({"event": "session.pause", "session_id": session.id}, _unread)
        elif registration.holder is not None:  # it left while the offer was answered
            running.orphan(self._limits.grace_seconds)

    async def _attend(self, running: _Running) -> None:
        place = running.key.org, running.id
        try:
            await running.session.wait_ended()
        finally:
            running.settle()
            del self._running[place]
            self._ended[place] = running.key
            if len(self._ended) > MAX_ENDED:
                self._ended.popitem(last=False)
            self._free(running.key, running.channel)

    def _free(self, key: AgentKey, channel: str) -> None:
        seats = self._seats[channel]
        seats[key] -= 1
        if not seats[key]:
            del seats[key]
        if not any(self._seats.values()):
            self._empty.set()


def _tell_displaced(registration: Registration, reason: str) -> None:
    """Protocol 3.5."""
    if registration.holder is not None:
        registration.holder.send({"event": "agent.displaced", "agent_id": registration.id, "reason": reason})


def _unread(_: Mapping[str, Any]) -> None:
    """Takes the answer to what nobody asked for."""
