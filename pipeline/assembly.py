"""Providers as one agent wants them, each with those who step in when it fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from config.agent import AgentConfig, SttConfig, VoiceConfig
from config.providers import Target
from pipeline.apology import apology
from pipeline.llm import LanguageModel
from pipeline.llm.failover import Candidate, LlmFailover
from pipeline.stt import SpeechToText
from pipeline.stt.failover import Candidate as Listener
from pipeline.stt.failover import SttFailover
from pipeline.tts import TextToSpeech
from pipeline.tts.failover import Candidate as Speaker
from pipeline.tts.failover import TtsFailover

Behind = Sequence[tuple[Any, Target]]
"""Engines in their order, and which model or voice of theirs."""


def language_model(engine: Any, model: str, behind: Behind, language: str) -> LanguageModel:
    others = (Candidate(other, target.name, getattr(other, "breaker", None)) for other, target in behind)
    sorry = " ".join(word.word for word in apology(language).words)
    return LlmFailover(engine.name, (Candidate(engine, model, engine.breaker), *others), sorry)


def recogniser(engine: Any, agent: AgentConfig, usual: str, behind: Behind) -> SpeechToText:
    """``usual`` is the model of agents that name none."""
    own = agent.stt if agent.stt.provider in (None, engine.name) else SttConfig()
    if own.model is None and usual:
        own = own.model_copy(update={"model": usual})
    first = Listener(engine.bound(own), engine.breaker)
    return SttFailover(engine.name, (first, *(_listener(other, target) for other, target in behind)))


def voice(engine: Any, agent: AgentConfig, behind: Behind) -> TextToSpeech:
    own = agent.voice if agent.voice.provider in (None, engine.name) else VoiceConfig()
    first = Speaker(engine.bound(own, flash=agent.flash), "", engine.breaker)
    return TtsFailover(engine.name, (first, *(_speaker(other, target) for other, target in behind)))


def _speaker(engine: Any, target: Target) -> Speaker:
    if not hasattr(engine, "bound"):
        return Speaker(engine, target.name)
    meant = [known.id for known in engine.voices if known.answers_to(target.name)]
    return Speaker(engine.bound(VoiceConfig()), meant[0] if meant else target.name, engine.breaker)


def _listener(engine: Any, target: Target) -> Listener:
    if not hasattr(engine, "bound"):
        return Listener(engine)
    return Listener(engine.bound(SttConfig(model=target.name or None)), engine.breaker)
