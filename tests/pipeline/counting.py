"""How often a recogniser's decoder was asked."""

from __future__ import annotations

from typing import Any


class Counting:
    """A session that counts its passes."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.passes = 0

    def get_inputs(self) -> Any:
        return self.session.get_inputs()

    def run(self, *args: Any) -> Any:
        self.passes += 1
        return self.session.run(*args)


def count(model: Any) -> None:
    """Let ``passes`` know of this recogniser."""
    model._network._decoder = Counting(model._network._decoder)


def passes(model: Any) -> int:
    """Of the decoder since the last call."""
    counting = model._network._decoder
    found: int = counting.passes
    counting.passes = 0
    return found
