"""The system prompt: template variables and what is added to the agent's own words. Source: protocol 3.17."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal
from zoneinfo import ZoneInfo

Clock = Callable[[], datetime]
"""Returns the present as an aware ``datetime``."""

VOICE_STYLE = (
    "You are speaking with someone on a voice call. Answer in one or two short sentences of plain spoken language, "
    "without lists, markup, code or emoji."
)
CHAT_STYLE = "You are writing in a chat. Keep answers short; light Markdown is fine."

STYLES = {"voice": VOICE_STYLE, "chat": CHAT_STYLE}

_NOTHING: Mapping[str, str] = MappingProxyType({})
_VARIABLE = re.compile(r"\{\{\s*([^\s{}]+)\s*\}\}")


def utc_now() -> datetime:
    """The clock of a running server."""
    return datetime.now(UTC)


def local_time(now: datetime, timezone: str) -> datetime:
    """``now`` in the IANA time zone; in UTC when this machine does not know the zone."""
    try:
        return now.astimezone(ZoneInfo(timezone))
    except (KeyError, ValueError, OSError):
        return now.astimezone(UTC)


def builtin_variables(now: datetime, timezone: str) -> dict[str, str]:
    """The variables every agent has, in its time zone.

    ``date`` YYYY-MM-DD, ``time`` HH:MM, ``day`` the weekday in English, ``datetime`` both with a space, ``timestamp``
    ISO 8601 with the offset, ``date_block`` a sentence with all of it; ``RAG_CONTEXT`` and ``MEMORY`` are empty.
    """
    here = local_time(now, timezone)
    date, time, day = f"{here:%Y-%m-%d}", f"{here:%H:%M}", here.strftime("%A")
    return {
        "date": date,
        "time": time,
        "day": day,
        "datetime": f"{date} {time}",
        "timestamp": here.isoformat(timespec="seconds"),
        "date_block": f"Today is {day}, {date}. The time is {time} ({here.tzname()}).",
        "RAG_CONTEXT": "",
        "MEMORY": "",
    }


def render(template: str, *layers: Mapping[str, str]) -> str:
    """``template`` with each ``{{name}}`` replaced from the first layer that has it; unknown names become nothing.

    Values are taken literally: a ``{{name}}`` inside one is not replaced again.
    """

    def value(match: re.Match[str]) -> str:
        return next((layer[match[1]] for layer in layers if match[1] in layer), "")

    return _VARIABLE.sub(value, template)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTemplate:
    """What a call knows that belongs in front of the conversation."""

    prompt: str
    timezone: str = "UTC"
    agent_variables: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    call_variables: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    """Set during the call; they beat the agent's."""
    context: Sequence[str] = ()
    """Blocks added during the call."""
    ui_context: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    """What the page shows, by key."""
    channel: Literal["voice", "chat"] = "voice"
    raw: bool = False
    """Without guidance on style."""

    def render(self, text: str, now: datetime) -> str:
        """Any text of the agent (the prompt, a greeting) with its variables replaced."""
        return render(text, self.call_variables, self.agent_variables, builtin_variables(now, self.timezone))

    def system_prompt(self, now: datetime) -> str:
        """The whole prompt; empty when there is nothing to say. ``now`` is aware."""
        parts = [self.render(self.prompt, now), *self.context]
        if self.ui_context:
            parts += ["## UI Context", *(f"### {key}\n{value}" for key, value in self.ui_context.items())]
        if not self.raw:
            parts.append(STYLES[self.channel])
        return "\n\n".join(stripped for part in parts if (stripped := part.strip()))
