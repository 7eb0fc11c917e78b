"""What is wrong with a configuration, in words for a person."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

from pydantic import ValidationError

_SHOULD = re.compile(r"^\w+ should (?:be|have) ")


@dataclass(frozen=True, slots=True)
class Problem:
    """One key that could not be used; every other key was.

    ``kind`` tells the caller what to do (protocol 7.1): ``unknown`` keys are logged, ``invalid`` ones are also reported
    to the sender, ``unsupported`` ones are right but without effect here. The value is not part of the text, since a
    backend's values do not belong into a log.
    """

    key: str
    """Dotted path: ``interruption.min_words``, ``tools[2].name``."""
    kind: Literal["unknown", "invalid", "unsupported"]
    text: str
    value: Any = None

    def __post_init__(self) -> None:
        # The key came from outside and goes into logs and frames.
        key = "".join(
            character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in self.key[:80]
        )
        object.__setattr__(self, "key", key)

    def __str__(self) -> str:
        return f"{self.key}: {self.text}"


class SettingsError(Exception):
    """The configuration cannot be used. The text has one line for each problem and holds no secret."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


def problems_of(error: ValidationError) -> list[tuple[tuple[str | int, ...], Problem]]:
    """Each error of a validation with the path to the place where it stands."""
    found = []
    for detail in error.errors(include_url=False, include_context=False):
        path = detail["loc"]
        if detail["type"] == "extra_forbidden":
            found.append((path, Problem(dotted(path), "unknown", "unknown key", detail["input"])))
        else:
            text = _SHOULD.sub("expected ", detail["msg"]).removeprefix("Value error, ").replace("valid tuple", "list")
            found.append((path, Problem(dotted(path), "invalid", text, detail["input"])))
    return found


def dotted(path: Iterable[str | int]) -> str:
    """``("tools", 2, "name")`` is ``tools[2].name``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"; did you mean port?"``, or nothing when no known name is near."""
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def shown(value: Any) -> str:
    """A value in a message: its literal form, shortened."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
