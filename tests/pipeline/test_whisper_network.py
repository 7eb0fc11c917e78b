"""Whisper's networks: that they are Whisper's, what a draft saves and may not change, and the ends of what they can."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ctranslate2 import StorageView
from ctranslate2.models import Whisper
from numpy.typing import NDArray

from bench.turns.alignment import LANGUAGE, START, TRANSCRIBE, aligner
from media.audio import INPUT_RATE, Pcm
from pipeline.engine import EngineError
from pipeline.stt.whisper import Recognizer, text_of
from pipeline.stt.whisper_network import MOST_TOKENS, _goes_round, _Text
from pipeline.stt.whisper_weights import Weights, layers, read_weights
from tests.pipeline.counting import count, passes
from tests.voices import SPANISH, recording

SENTENCES = [name for name in SPANISH if name.startswith("es-") and "short" not in name]


@pytest.fixture(scope="module")
def recogniser() -> Recognizer:
    model = Recognizer()
    count(model)
    return model


def speech(seconds: float) -> Pcm:
    """Sentences one after the other."""
    pcm = np.concatenate([recording(name) for name in SENTENCES])
    return pcm[: round(seconds * INPUT_RATE)]


@pytest.mark.models
def test_tokens_are_as_likely_as_another_implementation_says(recogniser: Recognizer) -> None:
    """CTranslate2's has weights of 8 bits, too, rounded in another way."""
    theirs: Whisper = aligner()._model
    apart = []
    for name in SENTENCES[:6]:
        features = recogniser._features(recording(name).tobytes())
        found = recogniser._network.decode(features, recogniser._languages["es"], 5.0)
        view = StorageView.from_array(features[np.newaxis])
        [aligned] = theirs.align(view, [START, LANGUAGE["es"], TRANSCRIBE], [found.tokens], [features.shape[1]])
        likely = math.fsum(map(math.log, aligned.text_token_probs)) / len(found.tokens)
        apart.append(found.likelihood - likely)
    assert max(map(abs, apart)) < 0.15, apart


@pytest.mark.models
def test_what_was_found_before_is_not_looked_for_again(recogniser: Recognizer) -> None:
    begun = recogniser.transcribe(speech(5).tobytes(), "es")
    passes(recogniser)
    alone = recogniser.transcribe(speech(6).tobytes(), "es")
    without = passes(recogniser)
    drafted = recogniser.transcribe(speech(6).tobytes(), "es", begun.tokens)
    assert passes(recogniser) < without / 2
    assert drafted.text == alone.text
    assert drafted.confidence == pytest.approx(alone.confidence, abs=0.03)


@pytest.mark.models
def test_a_whole_text_is_confirmed_in_one_pass(recogniser: Recognizer) -> None:
    pcm = recording("es-10.flac").tobytes()
    found = recogniser.transcribe(pcm, "es")
    passes(recogniser)
    assert recogniser.transcribe(pcm, "es", found.tokens).text == found.text
    assert passes(recogniser) == 1


@pytest.mark.models
def test_a_wrong_draft_changes_nothing(recogniser: Recognizer) -> None:
    wrong = recogniser.transcribe(recording("es-10.flac").tobytes(), "es").tokens
    longer = list(range(1000, 1500))
    for name in SENTENCES:
        if name == "es-10.flac":
            continue
        pcm = recording(name).tobytes()
        alone = recogniser.transcribe(pcm, "es")
        for draft in (wrong, [*alone.tokens, *longer], longer):
            assert recogniser.transcribe(pcm, "es", draft).text == alone.text, name


@pytest.mark.models
def test_as_long_as_it_is_ever_asked(recogniser: Recognizer) -> None:
    assert len(recogniser.transcribe(speech(12).tobytes(), "es").text) > 130


@pytest.mark.models
@pytest.mark.parametrize("samples", [0, 1, 159, 1600])
def test_as_short_as_it_can_be(recogniser: Recognizer, samples: int) -> None:
    assert len(recogniser.transcribe(speech(1)[:samples].tobytes(), "es").tokens) <= 4


@pytest.mark.models
def test_it_never_goes_round_in_circles_for_long(recogniser: Recognizer) -> None:
    rng = np.random.default_rng(0)
    for seed in range(3):
        noise = rng.normal(0, 2000 + 1000 * seed, 2 * INPUT_RATE).astype(np.int16)
        passes(recogniser)
        recogniser.transcribe(noise.tobytes(), "es", [400] * 300)
        assert passes(recogniser) <= MOST_TOKENS / 2


@pytest.mark.models
def test_a_draft_that_goes_round_in_circles_is_left(recogniser: Recognizer) -> None:
    """Whisper is sure of each word that it repeats, in 1.5 s of silence, too."""
    pcm = recording("es-10.flac").tobytes()
    alone = recogniser.transcribe(pcm, "es")
    assert recogniser.transcribe(pcm, "es", [*alone.tokens, *alone.tokens]).text == alone.text


@pytest.mark.parametrize(
    ("text", "goes"),
    [
        ("No, no, no, no, no", False),
        ("No, no, no, no, no, no", True),
        ("4-7-0-0-0-0", False),
        ("4-7-0-0-0-0-0", True),
        ("Son 1000000 euros", False),
        ("¿Cuánto cuesta el grande y cuánto cuesta el", False),
        ("Más de lo que alguien en dos segundos diga, y aún más", True),
        ("", False),
    ],
)
def test_what_goes_round_in_circles(text: str, goes: bool) -> None:
    assert _goes_round(_Text(0.0, [], text.encode()), most=50) is goes


@pytest.mark.models
def test_a_short_question_is_heard_though_the_network_doubts_that_it_is_speech(recogniser: Recognizer) -> None:
    assert recogniser.transcribe(recording("question-es-sum.flac").tobytes(), "es").text.endswith("7 más 5")


@pytest.mark.models
def test_the_language_is_heard(recogniser: Recognizer) -> None:
    assert [recogniser.detect(recording(name).tobytes()) for name in ("es-10.flac", "en-00.flac")] == ["es", "en"]


def test_letters_of_several_bytes() -> None:
    assert text_of(["ĠTÃº", "Ġest", "Ã¡s"]) == "Tú estás"
    assert text_of(["Ã"]) == ""  # half of a letter
    assert text_of([]) == ""


def packed(arrays: dict[str, NDArray[Any]], version: int = 6) -> bytes:
    numbers = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}

    def name(text: str) -> bytes:
        return struct.pack("<H", len(text.encode()) + 1) + text.encode() + b"\0"

    content = struct.pack("<I", version) + name("WhisperSpec") + struct.pack("<II", 3, len(arrays))
    for key, array in arrays.items():
        content += name(key) + struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        content += struct.pack("<BI", numbers[array.dtype.name], array.nbytes) + array.tobytes()
    return content


def some_weights() -> Weights:
    return {
        "encoder/layer_0/ffn/linear_0/bias": np.arange(6, dtype=np.float16).reshape(2, 3),
        "encoder/layer_10/ffn/linear_0/bias": np.zeros(0, np.float32),
        "decoder/número": np.array(7, np.int16),
    }


def test_weights_are_read() -> None:
    written = some_weights()
    read = read_weights(packed(written))
    assert list(read) == list(written)
    for name, array in written.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype
    assert layers(read, "encoder") == 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[:-1],
        lambda content: content[:40],
        lambda content: b"",
        lambda content: packed(some_weights(), version=7),
        lambda content: content.replace(b"\x04\x0c\0\0\0", b"\x09\x0c\0\0\0"),
        lambda content: content.replace(b"n\xc3\xba", b"n\xff\xff"),
    ],
)
def test_damaged_weights(spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(EngineError, match="its model is damaged"):
        read_weights(spoil(packed(some_weights())))
