"""The scripted engines keep the contracts of real ones, and take nobody's place unless they are asked to."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from config.agent import AgentConfig
from config.settings import Settings
from media.audio import INPUT_FRAME, OUTPUT_RATE
from pipeline.engine import SCRIPTED, TABLE, Engines
from pipeline.instant import SAID, InstantLlm, InstantStream, InstantStt, InstantTts
from pipeline.llm import GenerateOptions, TextDelta
from pipeline.stt import Transcript
from tests.voices import recording, silence

VOICE = recording("human-00.flac")[: 100 * INPUT_FRAME]


async def heard(stream: InstantStream) -> list[Transcript]:
    """All that was told, once the stream is closed."""
    await stream.aclose()
    return [transcript async for transcript in stream]


async def test_words_come_while_somebody_speaks_and_one_final_for_each_flush() -> None:
    stream = InstantStt().stream("en")
    for start in range(0, len(VOICE), INPUT_FRAME):
        stream.write(VOICE[start : start + INPUT_FRAME])
    stream.pause()
    stream.flush()
    stream.write(silence(2))
    stream.flush()
    *partials, settled, first, second = await heard(stream)
    assert len(partials) >= 3
    for before, after in itertools.pairwise(partials):
        assert after.text.startswith(before.text)
    assert not any(each.final or each.settled for each in partials)
    assert (settled.settled, settled.text) == (True, partials[-1].text)
    assert (first.final, first.text) == (True, f"{settled.text}.")
    assert (second.final, second.text) == (True, "")


async def test_what_is_discarded_is_not_answered() -> None:
    stream = InstantStt().stream("es")
    stream.write(VOICE)
    stream.discard()
    stream.flush()
    *_, final = await heard(stream)
    assert (final.final, final.text, final.language) == (True, "", "es")


async def test_every_word_of_the_answer_sounds_once() -> None:
    deltas = [delta async for delta in InstantLlm().generate([], [], GenerateOptions())]
    texts = [delta.text for delta in deltas if isinstance(delta, TextDelta)]
    assert "".join(texts) == SAID

    async def pieces() -> AsyncIterator[str]:
        yield SAID[:26]
        yield "  "
        yield SAID[26:]

    chunks = [chunk async for chunk in InstantTts().speak(pieces(), voice="", language="en")]
    assert " ".join(timed.word for chunk in chunks for timed in chunk.words).split() == SAID.split()
    for chunk in chunks:
        assert chunk.words[-1].end == pytest.approx(len(chunk.pcm) / OUTPUT_RATE)
        assert np.abs(chunk.pcm).max() > 3000


def test_they_take_the_place_of_all_others_when_the_settings_say_so(tmp_path: Path) -> None:
    settings = Settings(models_dir=tmp_path, stt="instant", llm="instant", tts="instant")
    agent = AgentConfig.parse("a", {"llm": "rules", "voice": "hibari/heart", "language": "es"})[0]
    chosen = Engines(settings).choose(agent)
    assert (chosen.stt.name, chosen.llm.name, chosen.tts.name) == ("instant",) * 3
    assert chosen.language == "es"
    assert not chosen.warnings


def test_an_agent_may_name_one_and_else_nobody_gets_them(tmp_path: Path) -> None:
    engines = Engines(Settings(models_dir=tmp_path))
    agent = AgentConfig.parse("a", {"voice": {"provider": "instant"}})[0]
    assert engines.choose(agent).tts.name == "instant"
    unknown = AgentConfig.parse("b", {"language": "ja"})[0]  # nobody knows it, and nobody else speaks everything
    chosen = engines.choose(unknown)
    assert {chosen.stt.name, chosen.llm.name, chosen.tts.name}.isdisjoint(SCRIPTED)
    assert chosen.language == "en"
    assert all(name in makers for makers in TABLE.values() for name in SCRIPTED)
