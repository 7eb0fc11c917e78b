"""Who is here: the agents that answer, the sessions that run, the seats that are left. One interface for all of it.

``Hub`` is what the routes and the control socket know; ``server.local_hub`` is the implementation for one process. The
interface is cut so that one on a Redis can follow without a change above it:

- What may have to ask others is ``async``: registering, finding agents and sessions. What a call does while it runs
  (``tell``) is not, and never waits.
- Seats are of this process: a session runs where its browser came in.
- A ``Registration`` is a value. Only its ``holder`` is alive, and that may stand for a connection of another process,
  as a ``RunningSession`` may stand for a session there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from config.agent import AgentConfig
from config.patch import Patch
from pipeline.session import Reply, Session
from server.http import ApiError
from server.registry import AgentKey, Holder, Registration


class NoSeatError(ApiError):
    """503: the server or the agent is full, or the server is about to leave (``draining``)."""

    def __init__(self, who: str, *, draining: bool = False) -> None:
        if draining:
            super().__init__(503, f"{who} is shutting down", "SERVER_DRAINING", {"Retry-After": "5"})
        else:
            super().__init__(503, f"{who} is at capacity", "SERVER_AT_CAPACITY", {"Retry-After": "5"})
        self.draining = draining


class AgentHeldError(Exception):
    """Another connection of the organisation holds the agent."""

    def __init__(self, holder: Holder) -> None:
        super().__init__("the agent is held by another connection")
        self.holder = holder


class TooManyAgentsError(Exception):
    """A connection, or all of them, may register no more agents."""

    def __init__(self, used: int, limit: int) -> None:
        super().__init__(f"{used} of {limit} agents are registered")
        self.used = used
        self.limit = limit


class NotHeldError(Exception):
    """The connection does not hold this agent (any more)."""


class Seat:
    """The right to run one session. Belongs to whoever asked for it until a session takes it, then to the session."""

    def __init__(self, runs: Callable[[str], bool] = lambda _: False) -> None:
        self.session: Session | None = None
        self._runs = runs

    def take(self, session: Session) -> None:
        """The session has begun: the seat is free again when it has ended.

        Raises ``ValueError`` when the organisation has a session of this id: some clients choose it (protocol 3.20).
        """
        if self._runs(session.id):
            raise ValueError("a session of this id is running")
        self.session = session


class RunningSession(Protocol):
    """A session as those see it who may command it."""

    @property
    def key(self) -> AgentKey: ...

    @property
    def id(self) -> str: ...

    def command(self, frame: Mapping[str, Any], reply: Reply) -> None:
        """See ``pipeline.session.Session.command``."""


class Hub(Protocol):
    """Registrations, sessions and seats. What belongs to one organisation does not exist for another."""

    @property
    def draining(self) -> bool:
        """Nobody is let in any more."""

    @property
    def taken(self) -> int:
        """Seats of calls that are not free: running calls and those about to begin."""

    @property
    def max_calls(self) -> int:
        """Seats of calls in all. Chats have their own."""

    @property
    def running(self) -> int:
        """Sessions that run here."""

    @property
    def chats(self) -> int:
        """Those of them that are typed."""

    # --- agents

    async def find(self, agent_id: str, org: str | None) -> Registration | None:
        """The agent that answers to an id in any spelling. Without an organisation, as on the public path, the id is
        ``org:slug``, or a slug that only one organisation has.
        """

    async def agents(self, org: str | None) -> list[Registration]:
        """All that are here, of one organisation or of every one."""

    async def public_id(self, registration: Registration) -> str:
        """The id by which one without a key finds it."""

    async def register(
        self, holder: Holder, agent_id: str, agent: AgentConfig, *, over: Holder | None = None
    ) -> Registration:
        """``holder`` serves this agent from now on; the sessions of the agent become its own and take up its prompt and
        tools. Replaces what ``holder`` registered under this id before, and the registration of ``over``, which did not
        answer, or of any connection that is not alive.

        Raises ``AgentHeldError`` when another one is, and ``TooManyAgentsError``.
        """

    async def configure(self, holder: Holder, agent_id: str, patch: Patch) -> None:
        """Change an agent for new sessions, and what can be changed for running ones (3.8). Raises ``NotHeldError``."""

    async def set_channel(self, holder: Holder, agent_id: str, channel: str, patch: Patch | None) -> None:
        """What lies over the agent for new sessions of a channel; ``None``: nothing. Raises ``NotHeldError``."""

    async def configure_channel(self, holder: Holder, agent_id: str, channel: str, patch: Patch) -> None:
        """Change what lies over the agent for new sessions of a channel. Raises ``NotHeldError``."""

    async def pause(self, key: AgentKey, paused: bool) -> None:
        """Whether new sessions of an agent begin paused. Those that run are told by ``command``."""

    async def release(self, holder: Holder) -> None:
        """A connection is gone. Sessions of its agents go on, those that cannot answer alone for a grace period."""

    async def kick(self, key: AgentKey) -> bool:
        """Take an agent from its holder, who is told. All its sessions end after the grace period, unless somebody
        registers it. False when nobody holds it.
        """

    # --- sessions

    def check_seat(self, key: AgentKey, channel: str = "webrtc") -> None:
        """Raise ``NoSeatError`` if no session of this channel with this agent could begin now."""

    def seat(self, registration: Registration, channel: str) -> AbstractContextManager[Seat]:
        """Reserve a seat. It is freed on leaving, unless a session has taken it. Raises ``NoSeatError``."""

    async def session(self, org: str, session_id: str) -> RunningSession | None:
        """A session of this organisation."""

    async def sessions(self, key: AgentKey) -> list[RunningSession]:
        """All sessions of an agent."""

    async def ended(self, org: str, session_id: str) -> AgentKey | None:
        """Whose a session was that ended a while ago, as far as that is remembered."""

    def tell(self, key: AgentKey, frame: Mapping[str, Any]) -> bool:
        """Send a frame to whoever holds the agent, with ``agent_id`` as he spells it. False when nobody gets it."""
