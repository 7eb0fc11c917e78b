"""How an agent wants turns taken: the keys of protocol 7.5, with the defaults that they have on the wire."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from config.part import Flag, Natural, Part, Seconds, Share


class Preset(StrEnum):
    """Values that were tuned together (ours): what is not set by an agent follows one of these."""

    FAST = "fast"
    BALANCED = "balanced"
    PATIENT = "patient"


class TurnMode(StrEnum):
    """Who says that a turn is over."""

    SMART_TURN = "smart_turn"
    """Silence asks, the turn model and the words answer."""
    NATIVE = "native"
    """The recogniser."""
    SILENCE = "silence"
    """Silence alone."""


class VadConfig(Part):
    threshold: Share = 0.5
    """Probability of voice from which a frame counts."""
    min_speech_ms: Natural = 250
    """Voice that begins a turn."""
    min_silence_ms: Natural = 350
    """Silence that asks whether the turn is over."""
    speech_end_delay_ms: Natural = 300
    """Further silence before a turn that sounds complete is over."""
    resume_min_ms: Natural = 200
    """Voice that takes a paused turn up again."""
    resume_min_volume: Share | None = None
    """``None``: the interruption's."""


class TurnDetectionConfig(Part):
    mode: TurnMode | None = None
    """``None``: as the recogniser suggests."""
    preset: Preset = Preset.BALANCED
    smart_turn_threshold: Share | None = None
    """Probability from which a turn counts as complete; wire default 0.5."""
    smart_turn_recheck_ms: Natural = 0
    """How often the turn model is asked again during a silence; 0: never."""
    max_silence_seconds: Annotated[Seconds, Field(le=60)] | None = None
    """Silence that ends any turn; wire default 3.0."""
    silence_ms: Natural | None = None
    """The silence of ``TurnMode.SILENCE``."""
    native_silence_ms: Natural | None = None
    """Silence that ends a turn although the recogniser of ``TurnMode.NATIVE`` says nothing."""


class InterruptionConfig(Part):
    """When speech stops the bot."""

    enabled: Flag = True
    min_duration_ms: Natural = 300
    confidence: Share = 0.7
    min_volume: Share = 0.35
    """0 switches the test of loudness off."""
    min_words: Natural = 2
    backchannel_filter: Flag = True
