"""Flux says itself when a turn is over: who has it takes turns so, unless the agent says otherwise. Protocol 7.3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config.agent import AgentConfig
from config.settings import Settings
from config.turns import TurnMode
from pipeline.engine import Engines
from pipeline.turn_settings import TurnSettings

KEYS = ["deepgram:dg-1"]


@pytest.mark.parametrize(
    ("wire", "keys", "mode"),
    [
        ({"stt": "flux"}, KEYS, TurnMode.NATIVE),
        ({"stt": "deepgram/flux-multi", "language": "es"}, KEYS, TurnMode.NATIVE),
        ({"stt": {"provider": "deepgram-flux", "eot_threshold": 0.8}}, KEYS, TurnMode.NATIVE),
        ({"stt": {"provider": "deepgram-flux", "turn": "smart_turn"}}, KEYS, TurnMode.SMART_TURN),
        ({"stt": "flux", "turn_detection": "silence"}, KEYS, TurnMode.SILENCE),
        ({"stt": "deepgram/nova-3"}, KEYS, TurnMode.SMART_TURN),
        ({"stt": "flux"}, [], TurnMode.SMART_TURN),  # the recogniser of this machine steps in, which does not know
        ({}, KEYS, TurnMode.SMART_TURN),
    ],
)
def test_who_says_that_a_turn_is_over(tmp_path: Path, wire: dict[str, Any], keys: list[str], mode: TurnMode) -> None:
    agent, problems = AgentConfig.parse("demo", wire)
    assert not problems
    stt = Engines(Settings(models_dir=tmp_path, provider_keys=keys)).choose(agent).stt
    assert TurnSettings.of(agent, native=getattr(stt, "native_turns", False)).mode is mode


def test_a_model_of_the_settings_counts_too(tmp_path: Path) -> None:
    agent, _ = AgentConfig.parse("demo", {})
    settings = Settings(models_dir=tmp_path, provider_keys=KEYS, stt="deepgram/flux")
    assert getattr(Engines(settings).choose(agent).stt, "native_turns", False)
