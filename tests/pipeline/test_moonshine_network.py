"""Moonshine's networks: what a draft saves, what it may not change, and what they do at the ends of what they can."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from media.audio import INPUT_RATE, Pcm
from pipeline.engine import EngineError
from pipeline.stt import moonshine
from pipeline.stt.moonshine import Recognizer
from pipeline.stt.moonshine_network import ENCODER, FILES, VOCABULARY, Vocabulary
from tests.pipeline.counting import count, passes
from tests.voices import ENGLISH, recording


@pytest.fixture(scope="module")
def recogniser() -> Recognizer:
    model = Recognizer()
    count(model)
    return model


def speech(seconds: float) -> Pcm:
    """Sentences one after the other."""
    pcm = np.concatenate([recording(name) for name in ENGLISH if "short" not in name])
    return pcm[: round(seconds * INPUT_RATE)]


@pytest.mark.models
def test_what_was_found_before_is_not_looked_for_again(recogniser: Recognizer) -> None:
    begun = recogniser.transcribe(speech(5).tobytes())
    passes(recogniser)
    alone = recogniser.transcribe(speech(6).tobytes())
    without = passes(recogniser)
    drafted = recogniser.transcribe(speech(6).tobytes(), begun.tokens)
    assert passes(recogniser) < without / 2
    assert without > len(alone.tokens)
    assert drafted.text == alone.text
    assert drafted.confidence == pytest.approx(alone.confidence, abs=0.03)


@pytest.mark.models
def test_a_whole_text_is_confirmed_in_one_pass(recogniser: Recognizer) -> None:
    pcm = recording("en-00.flac").tobytes()
    found = recogniser.transcribe(pcm)
    passes(recogniser)
    assert recogniser.transcribe(pcm, found.tokens).text == found.text
    assert passes(recogniser) == 1


@pytest.mark.models
def test_a_wrong_draft_changes_nothing(recogniser: Recognizer) -> None:
    wrong = recogniser.transcribe(recording("question-date.flac").tobytes()).tokens
    longer = list(range(1000, 1500))
    for name in ENGLISH:
        pcm = recording(name).tobytes()
        alone = recogniser.transcribe(pcm)
        for draft in (wrong, [*alone.tokens, *longer], longer):
            assert recogniser.transcribe(pcm, draft).text == alone.text, name


@pytest.mark.models
def test_as_long_as_it_is_ever_asked(recogniser: Recognizer) -> None:
    assert len(recogniser.transcribe(speech(12).tobytes()).text) > 150


@pytest.mark.models
@pytest.mark.parametrize("samples", [0, 1, 1599, 1600, 2000])
def test_as_short_as_it_can_be(recogniser: Recognizer, samples: int) -> None:
    assert len(recogniser.transcribe(speech(1)[:samples].tobytes()).tokens) <= 1


@pytest.mark.models
def test_it_never_goes_round_in_circles_for_long(recogniser: Recognizer) -> None:
    rng = np.random.default_rng(0)
    for seed in range(5):
        noise = rng.normal(0, 2000 + 1000 * seed, 2 * INPUT_RATE).astype(np.int16)
        assert len(recogniser.transcribe(noise.tobytes(), [400] * 60).tokens) <= 13


def test_tokens_that_spell(tmp_path: Path) -> None:
    spelled = [b"<unk>", b"<s>", b"</s>", "▁Tú".encode(), b"\xc3", b"\xa1", b"<<ST_0>>", "▁".encode(), b"", b"no"]
    path = tmp_path / "tokenizer.bin"
    path.write_bytes(b"".join(bytes([len(each)]) + each for each in spelled))
    vocabulary = Vocabulary(path)
    assert vocabulary.text([1, 3, 7, 4, 5, 6, 8, 9, 2]) == "Tú áno"
    assert vocabulary.text([4]) == ""  # half of a letter
    assert vocabulary.text([]) == ""


def test_a_model_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moonshine, "FOLDER", Path("assets", "elsewhere"))
    with pytest.raises(EngineError, match=r"its model is missing; .* in version 0\.1\.0 only"):
        Recognizer()
    monkeypatch.setattr(moonshine, "PACKAGE", "no_such_package")
    with pytest.raises(EngineError, match="its model is missing"):
        Recognizer()


def test_a_model_that_is_damaged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).write_bytes(b"nonsense")
    monkeypatch.setattr(moonshine, "_folder", lambda: tmp_path)
    with pytest.raises(EngineError, match=f"{ENCODER} is damaged"):
        Recognizer()
    assert (tmp_path / VOCABULARY).exists()
