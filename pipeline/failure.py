"""What goes wrong with an engine of any kind, and what stands in the place of one that cannot be had."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, NoReturn


class EngineError(Exception):
    """An engine is missing, failed or was too slow. The text is fit for a person and holds no secret."""


class SlowEngineError(EngineError):
    """An engine took too long."""


class Unavailable:
    """Stands where an engine of any kind could not be loaded: whatever is asked of it raises ``EngineError``."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self._reason = reason

    async def start(self) -> None:
        self._refuse()

    def stream(self, language: str) -> NoReturn:
        self._refuse()

    def generate(self, *_: Any) -> AsyncGenerator[Any, None]:
        return self._iterate()

    def speak(self, *_: Any, **__: Any) -> AsyncGenerator[Any, None]:
        return self._iterate()

    async def aclose(self) -> None:
        """There is nothing to release."""

    async def _iterate(self) -> AsyncGenerator[Any, None]:
        values: list[Any] = []
        for value in values:  # what makes this a generator
            yield value
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise EngineError(self._reason)
