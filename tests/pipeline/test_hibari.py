"""Hibari: what it says is understood, word times are true, every word appears once, and nothing makes it fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing, suppress
from pathlib import Path

import numpy as np
import pytest

from media.audio import OUTPUT_RATE, Pcm
from pipeline.engine import EngineError
from pipeline.stt.moonshine import Moonshine
from pipeline.tts import SpeechChunk
from pipeline.tts.hibari import Hibari
from pipeline.tts.phrasing import SENTENCE_PAUSE
from tests.voices import as_heard
from tests.words import word_error_rate

pytestmark = [pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]

SENTENCES = [
    "Sure, I can help you with that.",
    "Your table for two is booked for Friday evening.",
    "Seven plus five is twelve.",
    "I am sorry, I did not understand. Could you say it again, please?",
    "The nearest train station is two streets away, next to the old library.",
    "Once upon a time there was a dog who lived in a lighthouse by the sea.",
]


async def each(pieces: Iterable[str]) -> AsyncIterator[str]:
    for piece in pieces:
        yield piece


async def speak(hibari: Hibari, *pieces: str, speed: float = 1.0) -> list[SpeechChunk]:
    async with asyncio.timeout(60):
        return [c async for c in hibari.speak(each(pieces), voice="heart", language="en-US", speed=speed)]


def audio(chunks: list[SpeechChunk]) -> Pcm:
    return np.concatenate([chunk.pcm for chunk in chunks])


def text(chunks: list[SpeechChunk]) -> str:
    return " ".join(word.word for chunk in chunks for word in chunk.words)


async def understood(moonshine: Moonshine, pcm: Pcm) -> str:
    stream = moonshine.stream("en")
    try:
        stream.write(as_heard(pcm))
        stream.flush()
        async with asyncio.timeout(60):
            async for transcript in stream:
                if transcript.final:
                    return transcript.text
    finally:
        await stream.aclose()
    raise AssertionError("no final")


def check(chunks: list[SpeechChunk], said: str) -> None:
    """What holds for any speech: each word once and in order, at times that fit the audio."""
    assert text(chunks).split() == said.split()
    for chunk in chunks:
        assert chunk.pcm.dtype == np.int16
        assert chunk.words
        times = [time for word in chunk.words for time in (word.start, word.end)]
        assert times == sorted(times), chunk.words
        assert times[0] >= 0
        assert times[-1] <= len(chunk.pcm) / OUTPUT_RATE + 1e-6


async def test_what_is_said_is_understood(hibari: Hibari, moonshine: Moonshine) -> None:
    pairs = []
    for sentence in SENTENCES:
        chunks = await speak(hibari, sentence)
        check(chunks, sentence)
        pairs.append((sentence, await understood(moonshine, audio(chunks))))
    assert word_error_rate(*pairs) < 0.05, pairs


async def test_words_sound_when_they_are_said_to(hibari: Hibari, moonshine: Moonshine) -> None:
    [chunk] = await speak(hibari, "The nearest train station is behind the old library on the market square.")
    start = {word.word: int(word.start * OUTPUT_RATE) for word in chunk.words}
    cut = start["behind"]
    before, after = await understood(moonshine, chunk.pcm[:cut]), await understood(moonshine, chunk.pcm[cut:])
    assert word_error_rate(("The nearest train station is", before)) <= 0.2, before
    assert word_error_rate(("behind the old library on the market square", after)) <= 0.2, after


async def test_figures_and_signs_keep_their_words(hibari: Hibari) -> None:
    for sentence in (
        "It is 9:30 on Jan. 5th, 2026, and that costs $5.2 million or 12%!",
        "Mr. Smith and Dr. J. K. Rowling said: “No.” Then they left.",
        "[click here](http://x.y/z) and **bold** text, `code` — see www.example.com. 😀",
        "1234567890 " * 20,
    ):
        check(await speak(hibari, sentence), sentence)


async def test_the_times_of_an_abbreviation_cover_what_it_is_read_as(hibari: Hibari) -> None:
    [chunk] = await speak(hibari, "We meet at 9:30 sharp.")
    length = {word.word: word.end - word.start for word in chunk.words}
    assert length["9:30"] > 2 * length["at"]


@pytest.mark.parametrize("piece", ["🎉", "...", "—", "🎉 🎉", "*", "日本"])
async def test_what_cannot_be_spoken_is_a_short_silence(hibari: Hibari, piece: str) -> None:
    chunks = await speak(hibari, piece)
    check(chunks, piece)
    assert 0 < len(audio(chunks)) < OUTPUT_RATE


async def test_hard_text_fails_nothing(hibari: Hibari) -> None:
    for piece in ("a" * 5000, "x " * 500, "\0\a\x1b[0m", "<script>&amp;</script>", "\u202eabc\ud7ff", "'" * 300):
        check(await speak(hibari, piece), piece)
    check(await speak(hibari, "half a pair \ud83c here"), "half a pair ? here")


async def test_nothing_to_say(hibari: Hibari) -> None:
    assert await speak(hibari) == []
    assert await speak(hibari, "", "  \n\n ") == []


async def test_speech_begins_before_the_text_is_complete(hibari: Hibari) -> None:
    heard = asyncio.Event()

    async def pieces() -> AsyncIterator[str]:
        yield "This comes first,"
        await heard.wait()  # as a language model that is still writing
        yield "and this comes later."

    words = []
    async with asyncio.timeout(60):
        async for chunk in hibari.speak(pieces(), voice="", language="en"):
            heard.set()
            words += [word.word for word in chunk.words]
    assert " ".join(words) == "This comes first, and this comes later."


async def test_sentences_are_chunks_with_a_pause_between(hibari: Hibari) -> None:
    chunks = await speak(hibari, "One moment, please. I am looking.", "There it is!")
    check(chunks, "One moment, please. I am looking. There it is!")
    assert len(chunks) == 3
    loud = [np.flatnonzero(np.abs(chunk.pcm) > 100)[0] / OUTPUT_RATE for chunk in chunks]
    assert loud[0] < 0.1, "the first word is not delayed"
    assert all(SENTENCE_PAUSE <= start < SENTENCE_PAUSE + 0.15 for start in loud[1:])


async def test_borders_do_not_click(hibari: Hibari) -> None:
    for chunk in await speak(hibari, *SENTENCES):
        assert abs(int(chunk.pcm[0])) <= 2
        assert abs(int(chunk.pcm[-1])) <= 2
        assert 3000 < np.abs(chunk.pcm).max() < 32767


async def test_speed(hibari: Hibari) -> None:
    slow, normal, fast = [len(audio(await speak(hibari, SENTENCES[-1], speed=speed))) for speed in (0.8, 1.0, 1.4)]
    assert slow > 1.1 * normal
    assert normal > 1.2 * fast
    check(await speak(hibari, SENTENCES[-1], speed=100.0), SENTENCES[-1])


async def test_the_same_text_sounds_the_same(hibari: Hibari) -> None:
    first, second = await speak(hibari, SENTENCES[0]), await speak(hibari, SENTENCES[0])
    assert np.array_equal(audio(first), audio(second))


async def test_closing_cancels(hibari: Hibari) -> None:
    async with aclosing(hibari.speak(each([" ".join(SENTENCES * 100)]), voice="", language="en")) as chunks:
        await anext(chunks)
    async with asyncio.timeout(10):
        check(await speak(hibari, SENTENCES[0]), SENTENCES[0])
    assert not hibari._worker._waiting


async def test_many_speakers_at_once(hibari: Hibari) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(speak(hibari, *SENTENCES[i % 6 :])) for i in range(12)]
    for i, task in enumerate(tasks):
        check(task.result(), " ".join(SENTENCES[i % 6 :]))


async def test_refusals() -> None:
    hibari = Hibari()
    for voice, language, text in (
        ("heart", "es", "English only"),
        ("sarah", "en", "no voice 'sarah'"),
        ("", "en", "is not running"),
    ):
        with pytest.raises(EngineError, match=text):
            await anext(hibari.speak(each(["Hi."]), voice=voice, language=language))


async def test_a_killed_start_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    hibari = Hibari()
    largest = 0
    starting = asyncio.create_task(hibari.start())
    try:
        async with asyncio.timeout(60):
            while not starting.done():
                for path in tmp_path.iterdir():
                    with suppress(FileNotFoundError):
                        largest = max(largest, path.stat().st_size)
                await asyncio.sleep(0.002)
        await starting
    finally:
        await hibari.aclose()
    assert largest < 100, "the library tries the folder with a few bytes"
