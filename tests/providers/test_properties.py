"""Whatever a provider sends, a call goes on: it is understood, left out, or a failure that is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine import EngineError
from pipeline.llm.openai import _Answer
from pipeline.remote import harmless, retry_after, status_error
from pipeline.stt import deepgram, elevenlabs, openai
from pipeline.stt.socket_stream import Dialect
from pipeline.tts.script import Script

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
TRANSCRIPTION = "conversation.item.input_audio_transcription"
KINDS = st.sampled_from(
    [
        *("Results", "TurnInfo", "Error", "EndOfTurn", "partial_transcript", "committed_transcript", "auth_error"),
        *(f"{TRANSCRIPTION}.{end}" for end in ("delta", "completed", "failed")),
    ]
)
MESSAGES = st.dictionaries(
    st.sampled_from(
        [
            "type",
            "message_type",
            "event",
            "transcript",
            "words",
            "channel",
            "is_final",
            "from_finalize",
            "text",
            "error",
            "item_id",
            "delta",
            "end_of_turn_confidence",
            "languages",
        ]
    ),
    JSON | KINDS | st.just({"alternatives": [{"transcript": "hola"}]}),
    max_size=6,
)


@pytest.mark.parametrize(
    "make",
    [
        lambda: deepgram.Nova("x"),
        lambda: deepgram.Flux("x"),
        lambda: elevenlabs.Dialect("x", "es"),
        lambda: openai.Dialect("x", "model", "es"),
    ],
)
@given(messages=st.lists(MESSAGES, max_size=5), flushes=st.lists(st.booleans(), max_size=5))
def test_any_message_of_a_recogniser(
    make: Callable[[], Dialect], messages: list[dict[str, Any]], flushes: list[bool]
) -> None:
    dialect = make()
    for message, flush in zip(messages, [*flushes, *[False] * 5], strict=False):
        if flush:
            dialect.flush()
        try:
            for result in dialect.read(message):
                assert result is not None
        except (EngineError, LookupError, TypeError, ValueError, AttributeError):
            pass
    assert isinstance(dialect.final().text, str)


@given(chunks=st.lists(st.dictionaries(st.sampled_from(["choices", "usage", "id"]), JSON, max_size=3), max_size=4))
def test_any_chunk_of_an_answer(chunks: list[dict[str, Any]]) -> None:
    answer = _Answer("x")
    for chunk in chunks:
        try:
            answer.read(chunk)
        except (ValueError, TypeError, AttributeError, KeyError, IndexError):  # what ``Sdk.errors`` takes for garbled
            return


@given(text=st.text(max_size=300))
def test_no_word_of_a_provider_is_long_or_has_lines(text: str) -> None:
    assert len(harmless(text)) <= 200
    assert "\n" not in harmless(text)


@given(value=st.text(max_size=30), status=st.integers(100, 999))
def test_any_header_and_status(value: str, status: int) -> None:
    wait = retry_after({"retry-after": value})
    assert wait is None or wait >= 0
    assert str(status_error("x", status, {"retry-after": value})).startswith("x ")


@given(
    pieces=st.lists(st.text("ab. ", max_size=12), max_size=4),
    chunks=st.lists(st.text("ab. ", max_size=8), max_size=6),
)
def test_every_word_comes_once_whatever_the_alignment_says(pieces: list[str], chunks: list[str]) -> None:
    script = Script()
    for piece in pieces:
        script.add(piece)
    words = []
    for chunk in chunks:
        starts = [0.1 * i for i in range(len(chunk))]
        words += script.align(list(chunk), starts, [start + 0.1 for start in starts])
    rest = script.rest()
    words += rest.words if rest else []
    assert [word.word for word in words] == " ".join(pieces).split()
