"""ICE-lite (RFC 8445 section 2.5): answer the browser's binding requests, and remember where it can be reached."""

from __future__ import annotations

import logging
import secrets
import string
import struct
from dataclasses import dataclass
from ipaddress import ip_address

from aioice import stun

from media.udp import Local, Path, PathOwner, Remote

logger = logging.getLogger(__name__)

MAX_PATHS = 16
"""Validated addresses kept per agent; a browser has a handful of pairs."""

SILENT = 0.5
"""A path quiet for this long may lose its place to one that brings authenticated audio, s."""

OWNED = 2.0
"""A path heard from within this time cannot be claimed by another agent, s: else a peer that forges a source address
could take another call's path."""

_BINDING_REQUEST = b"\x00\x01"
_COOKIE = struct.pack("!I", stun.COOKIE)
_ALPHABET = string.ascii_letters + string.digits


@dataclass(slots=True)
class IceStats:
    """Binding requests since the start."""

    answered: int = 0
    malformed: int = 0
    unknown: int = 0
    """For a user name nobody has: mostly sessions that ended."""
    refused: int = 0
    """Wrong integrity, or a path that belongs to another call."""


class IceLite:
    """All agents of the process, by user-name fragment."""

    def __init__(self) -> None:
        self.stats = IceStats()
        self._agents: dict[str, IceAgent] = {}

    def __len__(self) -> int:
        return len(self._agents)

    def create(self, owner: PathOwner) -> IceAgent:
        """A new agent with its own credentials, whose paths deliver to ``owner``; it lives until ``close()``."""
        agent = IceAgent(self, owner)
        self._agents[agent.ufrag] = agent
        return agent

    def discard(self, agent: IceAgent) -> None:
        self._agents.pop(agent.ufrag, None)

    def receive(self, data: bytes, local: Local, remote: Remote, now: float) -> None:
        """One datagram that looks like STUN. Only binding requests of a known agent with good integrity are answered:
        an error answer would tell strangers that somebody is here.
        """
        if data[:2] != _BINDING_REQUEST or data[4:8] != _COOKIE:
            self.stats.malformed += 1
            return
        try:
            request = stun.parse_message(data)
        except (ValueError, struct.error):
            self.stats.malformed += 1
            return
        agent = self._agents.get(request.attributes.get("USERNAME", "").partition(":")[0])
        if agent is None:
            self.stats.unknown += 1
        elif agent.answer(request, local, remote, now):
            self.stats.answered += 1
        else:
            self.stats.refused += 1


class IceAgent:
    """One session's end: its credentials, the addresses that passed a check, and the one to send to."""

    def __init__(self, registry: IceLite, owner: PathOwner) -> None:
        self.ufrag = _token(8)
        self.password = _token(24)
        self.heard: float | None = None
        """When an authenticated datagram last came, s; ``None`` before the first."""
        self._registry = registry
        self._owner = owner
        self._paths: dict[tuple[Local, Remote], Path] = {}
        self._selected: Path | None = None

    @property
    def selected(self) -> Path | None:
        """Where to send: the last nominated path, or the first that passed a check (see ``authenticated``)."""
        return self._selected

    @property
    def paths(self) -> list[Path]:
        return list(self._paths.values())

    def answer(self, request: stun.Message, local: Local, remote: Remote, now: float) -> bool:
        """Answer a binding request and validate its path (RFC 8445 section 7.3); ``False`` when it is not ours."""
        if not request.check_message_integrity(self.password.encode()):
            return False
        path = self._validate(local, remote, now)
        if path is None:
            return False
        if self._selected is None or "USE-CANDIDATE" in request.attributes:
            self._selected = path
        response = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, transaction_id=request.transaction_id)
        response.attributes["XOR-MAPPED-ADDRESS"] = (str(ip_address(remote[0])), remote[1])
        response.add_message_integrity(self.password.encode())
        path.send(bytes(response))
        return True

    def authenticated(self, path: Path, now: float) -> None:
        """An SRTP or SRTCP packet of the peer came on this path.

        It also moves the sending path when the old one is silent: consent checks carry no nomination in Firefox, so
        after a NAT rebinding only the audio tells where the browser is.
        """
        self.heard = path.heard = now
        selected = self._selected
        if path is not selected and (selected is None or now - selected.heard >= SILENT):
            self._selected = path

    def send(self, data: bytes) -> bool:
        """Send a datagram to the peer; ``False`` when it was dropped."""
        return self._selected is not None and self._selected.send(data)

    def close(self) -> None:
        """Forget the credentials and all paths."""
        self._registry.discard(self)
        for path in self._paths.values():
            path.socket.release(path)
        self._paths.clear()
        self._selected = None

    def _validate(self, local: Local, remote: Remote, now: float) -> Path | None:
        key = (local, remote)
        path = self._paths.get(key)
        routed = local.paths.get(remote)
        if routed is not None and routed is not path and now - routed.heard < OWNED:
            return None
        if path is None:
            if len(self._paths) >= MAX_PATHS:
                self._evict()
            path = self._paths[key] = Path(local, remote, self._owner, now)
        local.paths[remote] = path
        self.heard = path.heard = now
        return path

    def _evict(self) -> None:
        oldest = min((path for path in self._paths.values() if path is not self._selected), key=lambda path: path.heard)
        del self._paths[oldest.socket, oldest.remote]
        oldest.socket.release(oldest)


def _token(length: int) -> str:
    """Random ``ice-char``s: 24 of them are 142 bits (RFC 8445 section 5.3 asks for 128)."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
