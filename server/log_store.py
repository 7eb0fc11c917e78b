"""Where logs are kept. One interface: ``server.log_sqlite`` for one process, ``server.log_redis`` for a fleet.

A log is a list of envelopes, each with a ``seq`` that the store gives it. Numbers go on for ever, over restarts and
over what is deleted. Ephemeral envelopes get numbers too, so that a reader knows them apart, but are never kept.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from server.log_entries import with_seq, without_seq

MAX_PAGE = 1 << 20
"""Characters of one page of a log; one entry always fits."""

GAP_TAIL = '"from":0,"resume_from":0}}'
"""How the body of a ``log.gap`` ends before it is known what it stands for."""


class StoreError(Exception):
    """The store does not take or find anything just now. The text names the kind of failure and holds no content."""


class LogKey(NamedTuple):
    """Which log: a call's by its id, or an agent's by its slug. ``feed`` is none: all that an agent's calls say."""

    org: str
    kind: Literal["call", "agent", "feed"]
    name: str


@dataclass(slots=True)
class Draft:
    """What is to be appended to a log."""

    log: LogKey
    agent: str
    body: str
    """The envelope as ``server.log_entries.encode`` makes it; of a gap one that ends with ``GAP_TAIL``."""
    ts: float
    ephemeral: bool = False
    opens: bool = False
    """The session begins with it."""
    closes: bool = False
    """It is the last of its session."""
    lost: int = 0
    """Of a gap: how many numbers it stands for. Whatever had them was never stored."""

    @property
    def numbers(self) -> int:
        return self.lost or 1

    @property
    def is_kept(self) -> bool:
        """It is never given up for want of room: without it a log would have no beginning or no end."""
        return self.opens or self.closes or self.log.kind == "agent"


@dataclass(frozen=True, slots=True)
class Line:
    """An envelope that was appended."""

    log: LogKey
    agent: str
    seq: int
    body: str
    closes: bool = False
    """It was the last of its session when it was appended."""

    @property
    def text(self) -> str:
        return with_seq(self.seq, self.body)

    @property
    def unnumbered(self) -> str:
        return without_seq(self.body)


@dataclass(frozen=True, slots=True)
class LogInfo:
    agent: str
    last: int
    """The highest number given so far."""
    floor: int = 0
    """The highest number whose envelope was deleted."""
    live: bool = False
    """A session is still being written down in it."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a log holds behind a cursor."""

    info: LogInfo
    lines: Sequence[Line]
    more: bool
    """There is more behind them. If not, the reader has seen everything up to ``info.last``."""

    @property
    def end(self) -> int:
        """The cursor behind this page."""
        return self.lines[-1].seq if self.more else self.info.last


Deliver = Callable[[LogKey, Sequence[Line]], Awaitable[None]]
"""Takes what was appended to a log that is watched, in the order of its numbers. Raises nothing."""

Doubt = Callable[[], None]
"""Told that something may not have been delivered: who watches must read again."""


class LogStore(Protocol):
    """Every method may raise ``StoreError``."""

    async def start(self, deliver: Deliver, doubt: Doubt) -> None:
        """``deliver`` gets what is appended to the logs that are watched, after it is safe, and only then."""

    async def commit(self, drafts: Sequence[Draft], token: str) -> None:
        """Append them, all or none; nothing when that was done under this ``token`` and only the answer was lost."""

    async def find(self, log: LogKey) -> LogInfo | None: ...

    async def read(self, log: LogKey, after: int, limit: int) -> Page | None:
        """At most ``limit`` stored envelopes behind ``after``. Everything that was delivered before can be read."""

    async def watch(self, log: LogKey) -> None:
        """Have this log delivered from now on. Counted: as many ``unwatch`` end it."""

    async def unwatch(self, log: LogKey) -> None: ...

    def is_watched(self, log: LogKey) -> bool:
        """Whether anybody may be watching it, anywhere: else there is no use for what is ephemeral."""

    async def expire(self, now: float) -> bool:
        """Delete some of what is too old or too much; true when there is more of it. Never of a live log."""

    async def orphans(self) -> Sequence[tuple[LogKey, str]]:
        """Logs, and whose, of sessions whose server is gone; each is given to one caller only."""

    async def aclose(self) -> None: ...


def feed_of(log: LogKey, agent: str) -> LogKey:
    """Where all that the calls of an agent say can be watched."""
    return LogKey(log.org, "feed", agent)


def filled(draft: Draft, last: int) -> str:
    """The body of a draft whose numbers end at ``last``."""
    if not draft.lost:
        return draft.body
    return f'{draft.body.removesuffix(GAP_TAIL)}"from":{last - draft.lost + 1},"resume_from":{last + 1}}}}}'
