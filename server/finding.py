"""What the doctor says about one thing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``fix`` says what to do when it is not ``ok``."""

    name: str
    ok: bool
    text: str
    fix: str = ""
