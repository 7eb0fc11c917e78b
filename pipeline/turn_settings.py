"""How turns are taken: our presets, and what an agent sets of protocol 7.5. Durations in ms, levels in dBFS."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from config.agent import AgentConfig
from config.turns import InterruptionConfig, Preset, TurnDetectionConfig, TurnMode, VadConfig

NATIVE_SILENCE_MS = 1500
"""Silence that ends a turn although a recogniser that knows better says nothing."""

SILENCE_MS = 700
"""Silence that ends a turn where nothing else is asked."""

LONGEST_INTERRUPT_MS = 10_000
"""So much voice always suffices: what an agent sets bounds a buffer."""


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """The defaults are the preset ``balanced``, tuned by ``make eval``."""

    mode: TurnMode = TurnMode.SMART_TURN

    # voice
    threshold: float = 0.5
    """Probability of voice from which a frame counts."""
    onset_ms: int = 80
    """Voice for which the recogniser begins to listen."""
    speech_ms: int = 80
    """Voice that begins a turn."""

    # end of turn
    pause_ms: int = 100
    """Silence that asks whether the turn is over."""
    complete_ms: int = 480
    """Silence that ends a turn that is surely complete."""
    undecided_ms: int = 1100
    """Silence that ends a turn of which nothing is known, or which is as probably complete as ``complete_from``."""
    unfinished_ms: int = 1600
    """Silence that ends a turn that surely is not complete."""
    max_silence_ms: int = 3000
    """Silence that ends any turn."""
    complete_from: float = 0.5
    """Probability from which a turn counts as complete."""
    recheck_ms: int = 0
    """How often the turn model is asked again during a silence; 0: never."""
    resume_ms: int = 100
    """Voice that takes a paused turn up again."""
    resume_level: float = -math.inf
    """How loud that voice must be."""
    eager_from: float = 0.7
    """Probability from which the answer is prepared before the turn is over; above 1: never."""
    max_turn_ms: int = 60_000
    """A turn is ended after this long, however much is still being said."""

    # interruption
    interruptible: bool = True
    interrupt_ms: int = 180
    """Loud and sure voice, within twice as long, that halts the bot."""
    clear_weight: float = 1.5
    """Voice that nobody could doubt counts so many times as much there, once echo is cancelled."""
    unsure_weight: float = 0.5
    """And voice that is loud but not sure so many times."""
    confidence: float = 0.7
    """Probability from which such voice is sure."""
    min_level: float = -55.0
    """How loud it must be."""
    above_room: float = 10.0
    """It must be louder by this much, dB, than the room was lately; what is not belongs to the room."""
    below_user: float = 18.0
    """It may be softer by this much, dB, than the user was in earlier turns; else it is somebody else."""
    min_words: int = 2
    """Recognised words that interrupt the bot."""
    soft_words: bool = False
    """However soft they are."""
    commands: bool = True
    """One word such as "stop" does, even before its voice has halted the bot."""
    filter_acknowledgements: bool = True
    """Wait for the words of a voice that halted the bot, and go on if they say so."""
    wordless_ms: int = 3000
    """So much loud voice without words is none: the bot goes on."""
    words_ms: int = 1000
    """Silence after which words are not waited for any longer."""
    guard_ms: int = 2000
    """While less than this was heard of the bot in the call, echo is not yet cancelled: 1.6 times as much voice."""
    continuation_ms: int = 2000
    """An answer that was heard for less than this is withdrawn: the user had not finished. Protocol 8.5, 8.6."""

    @classmethod
    def of(cls, agent: AgentConfig, *, native: bool = False) -> TurnSettings:
        """What an agent wants: its preset, and over it what it sets of each group.

        ``native``: the recogniser that it has says itself when a turn is over.
        """
        settings = replace(PRESETS[agent.turn_detection.preset], mode=_mode(agent, native=native))
        settings = _with_interruption(settings, agent.interruption)
        settings = _with_vad(settings, agent.vad)
        return _with_detection(settings, agent.turn_detection)


PRESETS = {
    Preset.BALANCED: TurnSettings(),
    Preset.FAST: TurnSettings(
        complete_ms=340,
        undecided_ms=900,
        unfinished_ms=1550,
        max_silence_ms=2000,
        interrupt_ms=140,
    ),
    Preset.PATIENT: TurnSettings(
        complete_ms=500,
        undecided_ms=1300,
        unfinished_ms=2100,
        max_silence_ms=5000,
        complete_from=0.55,
        interrupt_ms=300,
        clear_weight=1.0,
        eager_from=0.8,
    ),
}


def _mode(agent: AgentConfig, *, native: bool) -> TurnMode:
    """Protocol 7.3: by the recogniser, unless the agent says otherwise."""
    if agent.turn_detection.mode is not None:
        return agent.turn_detection.mode
    wish = agent.stt.options.get("turn")
    return TurnMode.NATIVE if wish == "native" or (native and wish != "smart_turn") else TurnMode.SMART_TURN


def _with_interruption(settings: TurnSettings, wanted: InterruptionConfig | None) -> TurnSettings:
    """A volume, 0 to 1, spans the 60 dB below full scale; 0 lets any voice pass."""
    if wanted is None:
        return settings
    return replace(
        settings,
        interruptible=wanted.enabled,
        interrupt_ms=min(wanted.min_duration_ms, LONGEST_INTERRUPT_MS),
        clear_weight=1.0,
        unsure_weight=0.0,
        confidence=wanted.confidence,
        min_level=_level(wanted.min_volume),
        below_user=math.inf,
        above_room=-math.inf,
        soft_words=True,
        min_words=wanted.min_words,
        commands=False,
        filter_acknowledgements=wanted.backchannel_filter,
    )


def _with_vad(settings: TurnSettings, wanted: VadConfig | None) -> TurnSettings:
    if wanted is None:
        return settings
    volume = wanted.resume_min_volume
    complete = wanted.min_silence_ms + wanted.speech_end_delay_ms
    return replace(
        settings,
        threshold=wanted.threshold,
        onset_ms=min(settings.onset_ms, wanted.min_speech_ms),
        speech_ms=wanted.min_speech_ms,
        pause_ms=wanted.min_silence_ms,
        complete_ms=complete,
        undecided_ms=max(complete, settings.undecided_ms),
        unfinished_ms=max(complete, settings.unfinished_ms),
        max_silence_ms=max(complete, settings.max_silence_ms),
        resume_ms=wanted.resume_min_ms,
        resume_level=settings.min_level if volume is None else _level(volume),
    )


def _with_detection(settings: TurnSettings, wanted: TurnDetectionConfig) -> TurnSettings:
    settings = replace(settings, recheck_ms=wanted.smart_turn_recheck_ms)
    if wanted.max_silence_seconds is not None:
        ceiling = round(wanted.max_silence_seconds * 1000)
        settings = replace(
            settings,
            pause_ms=min(settings.pause_ms, ceiling),
            max_silence_ms=ceiling,
            complete_ms=min(settings.complete_ms, ceiling),
            undecided_ms=min(settings.undecided_ms, ceiling),
            unfinished_ms=ceiling,  # on the wire, what is not complete waits for the ceiling
        )
    if wanted.smart_turn_threshold is not None:
        settings = replace(settings, complete_from=wanted.smart_turn_threshold)
    if settings.mode is TurnMode.SMART_TURN:
        return settings
    given = wanted.silence_ms if settings.mode is TurnMode.SILENCE else wanted.native_silence_ms
    usual = SILENCE_MS if settings.mode is TurnMode.SILENCE else NATIVE_SILENCE_MS
    silence = min(usual if given is None else given, settings.max_silence_ms)
    pause = min(settings.pause_ms, silence)
    return replace(settings, pause_ms=pause, complete_ms=silence, undecided_ms=silence, unfinished_ms=silence)


def _level(volume: float) -> float:
    return 60 * volume - 60 if volume else -math.inf
