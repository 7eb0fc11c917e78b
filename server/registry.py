"""Who is registered: agents by organisation and slug, each as it was registered, with its holder. Source: protocol 9.5.

Plain data without I/O; ``server.hub`` says what registering means for the calls of an agent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from config.agent import AgentConfig
from config.identity import DEFAULT_ORG, agent_slug
from config.patch import Patch, patched


class AgentKey(NamedTuple):
    """What tells agents apart: ids are unique within an organisation only."""

    org: str
    slug: str


class Holder(Protocol):
    """A backend's connection, as far as its registrations are concerned."""

    @property
    def id(self) -> str: ...

    @property
    def org(self) -> str: ...

    @property
    def alive(self) -> bool:
        """It is open, and something came from it within the liveness window. Protocol 3.2."""

    def send(self, frame: Mapping[str, Any]) -> bool:
        """Queue a frame; never waits. False when it is lost because the connection ends."""

    async def probe(self) -> bool:
        """Whether it answers a ping now."""


@dataclass(frozen=True, slots=True)
class Registration:
    """One agent that is here."""

    key: AgentKey
    id: str
    """As its backend spells it, and is answered."""
    agent: AgentConfig
    channels: Mapping[str, Patch] = field(default_factory=dict)
    """What ``channel.add`` sets for new sessions of ``webrtc`` or ``chat``. Protocol 3.7."""
    holder: Holder | None = None
    """``None``: declared by the operator, no backend serves it."""
    paused: bool = False
    """``session.pause`` of the whole agent: new sessions begin paused. Protocol 3.18."""

    def agent_on(self, channel: str) -> AgentConfig:
        """The configuration of a new session of this channel."""
        return patched(self.agent, self.channels.get(channel, {}))


class Registry:
    """Agents declared by the operator, who is the default organisation, and over them those that backends hold.

    A backend may take over the id of a declared agent; that comes back when the backend leaves.
    """

    def __init__(self, declared: Iterable[AgentConfig] = ()) -> None:
        keyed = ((AgentKey(DEFAULT_ORG, agent.id), agent) for agent in declared)
        self._declared = {key: Registration(key, agent.id, agent) for key, agent in keyed}
        self._held: dict[AgentKey, Registration] = {}
        self._orgs: defaultdict[str, set[str]] = defaultdict(set)  # by slug, for both of them
        for key in self._declared:
            self._orgs[key.slug].add(key.org)

    @property
    def held(self) -> int:
        """Registrations of backends."""
        return len(self._held)

    def get(self, key: AgentKey) -> Registration | None:
        return self._held.get(key) or self._declared.get(key)

    def find(self, agent_id: str, org: str) -> Registration | None:
        """The agent of an organisation, in any spelling: ``My Agent``, ``my-agent``, ``org:my-agent``."""
        before, colon, name = agent_id.partition(":")
        if colon and agent_slug(before) == org and (found := self.get(AgentKey(org, agent_slug(name)))):
            return found
        return self.get(AgentKey(org, agent_slug(agent_id)))

    def find_public(self, agent_id: str) -> Registration | None:
        """The agent that a page means, which shows no key: ``org:slug``, or a slug that only one organisation has.

        An agent that lets no page in does not make the slug of another organisation's ambiguous.
        """
        before, colon, name = agent_id.partition(":")
        if colon and (found := self.get(AgentKey(agent_slug(before), agent_slug(name)))):
            return found
        slug = agent_slug(agent_id)
        found_all = [self.get(AgentKey(org, slug)) for org in self._orgs.get(slug, ())]
        candidates = [registration for registration in found_all if registration]
        if len(candidates) > 1:
            candidates = [registration for registration in candidates if registration.agent.allowed_origins]
        return candidates[0] if len(candidates) == 1 else None

    def public_id(self, registration: Registration) -> str:
        """The shortest id under which ``find_public`` finds it."""
        key = registration.key
        return key.slug if self.find_public(key.slug) == registration else f"{key.org}:{key.slug}"

    def all(self, org: str | None = None) -> list[Registration]:
        """Of one organisation or of all, declared ones first."""
        both = {**self._declared, **self._held}
        return [registration for key, registration in both.items() if org in (None, key.org)]

    def of(self, holder: Holder) -> list[Registration]:
        return [registration for registration in self._held.values() if registration.holder is holder]

    def put(self, registration: Registration) -> None:
        """A backend's registration, in place of the one that was there."""
        self._held[registration.key] = registration
        self._orgs[registration.key.slug].add(registration.key.org)

    def drop(self, key: AgentKey) -> None:
        """A backend's registration ends. A declared agent of the same key is there again."""
        del self._held[key]
        if key not in self._declared:
            self._orgs[key.slug].discard(key.org)
            if not self._orgs[key.slug]:
                del self._orgs[key.slug]
