"""What a browser may ask of its call over the DataChannel. Protocol 4.5, 9.4."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from config.patch import parse_patch
from pipeline.desk import sound

MAX_MESSAGE = 64 * 1024
"""Characters of one message."""

MAX_TEXT = 4_000
"""Characters of an injected text; what is longer is cut."""

MAX_CONTEXT_KEY = 128
"""Characters."""

MAX_CONTEXT_VALUE = 16 * 1024
"""Bytes of UTF-8."""

MAX_CONTEXT_KEYS = 32

CONFIGURABLE = frozenset({"voice", "language", "stt", "tts", "flash"})
"""``greeting`` is on the allow-list too, but means something in the offer only."""


@dataclass(frozen=True, slots=True)
class Mute:
    on: bool


@dataclass(frozen=True, slots=True)
class InjectText:
    text: str


@dataclass(frozen=True, slots=True)
class SetContext:
    key: str
    value: str | None
    """``None`` deletes."""


@dataclass(frozen=True, slots=True)
class Configure:
    changes: Mapping[str, Any]
    """Unchecked values of ``CONFIGURABLE`` keys."""


Action = Mute | InjectText | SetContext | Configure


def parse(text: str) -> Action | None:
    """The action in a DataChannel message; ``None`` for whatever is unknown, malformed, empty or too large."""
    if len(text) > MAX_MESSAGE:
        return None
    try:
        frame = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(frame, dict):
        return None
    match frame.get("action"):
        case "mute" | "unmute" as action:
            return Mute(on=action == "mute")
        case "inject_text":
            return _inject_text(frame)
        case "set_context":
            return parse_context(frame)
        case "configure":
            return Configure({key: value for key, value in frame.items() if key in CONFIGURABLE})
        case _:
            return None


def configured(changes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A browser's changes as a patch, and those that were accepted, in the words of the browser."""
    patch, accepted = {}, {}
    for key, value in changes.items():
        name = "voice" if key == "tts" else key
        parsed, problems = parse_patch({name: value})
        if name not in parsed or any(problem.kind == "invalid" for problem in problems):
            continue
        part = parsed[name]
        # Options reach a provider unchecked: they are the backend's alone.
        patch[name] = part.model_copy(update={"options": {}}) if name in ("voice", "stt") else part
        accepted[key] = value
    return patch, accepted


def _inject_text(frame: Mapping[str, Any]) -> InjectText | None:
    text = frame.get("text")
    if not isinstance(text, str) or not (text := sound(text).strip()):
        return None
    return InjectText(text[:MAX_TEXT])


def parse_context(frame: Mapping[str, Any]) -> SetContext | None:
    """What a page shows, by ``key`` and ``value`` of a frame; ``None`` when they are malformed or too large."""
    key, value = frame.get("key"), frame.get("value")
    if not isinstance(key, str) or not 0 < len(key) <= MAX_CONTEXT_KEY:
        return None
    if value is not None:
        value = sound(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        if len(value.encode()) > MAX_CONTEXT_VALUE:
            return None
    return SetContext(sound(key), value)
