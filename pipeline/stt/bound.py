"""A provider's recogniser as one agent configures it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from config.agent import SttConfig
from pipeline.stt import Stream


class Configurable(Protocol):
    """A provider that recognises in as many ways as there are configurations."""

    name: str

    def open(self, language: str, config: SttConfig) -> Stream:
        """A stream in the configuration's language, else in this one (BCP-47)."""


@dataclass(slots=True)
class BoundStt:
    """A ``SpeechToText``: the provider with the settings of one agent. Two alike are equal."""

    name: str
    engine: Configurable
    config: SttConfig
    native_turns: bool = False
    """The provider says itself when a turn is over."""

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...

    def stream(self, language: str) -> Stream:
        """See ``SpeechToText``."""
        return self.engine.open(language, self.config)
