"""What the server sees of a conversation between an agent and one person, be it spoken or typed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from config.agent import AgentConfig

Reply = Callable[[dict[str, Any]], None]
"""Takes a frame for whoever sent a command: ``event`` and its fields, without the id of the agent."""


class Session(Protocol):
    """A voice call or a chat. All methods are called on the event loop; none but ``wait_ended`` waits."""

    @property
    def id(self) -> str:
        """The call id of protocol 1.4."""

    def command(self, frame: Mapping[str, Any], reply: Reply) -> None:
        """What a backend asks of this session: a frame of protocol 3.8 (``session.configure``) or 3.12 to 3.18.

        ``frame`` is any JSON object whose ``event`` names such a command. Never raises: a frame that cannot be used is
        answered with an ``error`` frame, or by the command's own answer where something waits for that.
        """

    def reload(self, agent: AgentConfig) -> None:
        """The agent was configured anew: prompt, tools, skills and variables count from the next turn (3.8)."""

    def attend(self, present: bool) -> None:
        """A backend serves this agent from now on, or none does. Before the first call none does."""

    def hangup(self, reason: str) -> None:
        """End it. Protocol 3.9 lists the reasons."""

    async def wait_ended(self) -> None:
        """Until the last event was published and everything is released."""
