"""eSpeak: understood as far as it can be, every word once, and nothing makes it fail. The rest is as with Pico."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest

from media.audio import OUTPUT_RATE
from pipeline.engine import EngineError
from pipeline.stt.whisper import Whisper
from pipeline.tts import SpeechChunk
from pipeline.tts.espeak import VOICES, Espeak, Synthesizer
from pipeline.tts.phrasing import SENTENCE_PAUSE, voice_for
from tests.pipeline.test_pico import OTHERS, SENTENCES, audio, check, each, understood
from tests.words import word_error_rate

pytestmark = [pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]


async def speak(
    espeak: Espeak, *pieces: str, voice: str = "", language: str = "es", speed: float = 1.0
) -> list[SpeechChunk]:
    async with asyncio.timeout(60):
        return [c async for c in espeak.speak(each(pieces), voice=voice, language=language, speed=speed)]


async def test_spanish_is_mostly_understood(espeak: Espeak, whisper: Whisper) -> None:
    pairs = []
    for sentence in SENTENCES:
        chunks = await speak(espeak, sentence)
        check(chunks, sentence)
        pairs.append((sentence, await understood(whisper, audio(chunks))))
    assert word_error_rate(*pairs) < 0.5, pairs


async def test_other_languages_are_mostly_understood(espeak: Espeak, whisper: Whisper) -> None:
    """Together, and but one by itself: what a recogniser makes of seven words differs from processor to processor."""
    pairs = []
    for voice, sentence in OTHERS.items():
        chunks = await speak(espeak, sentence, voice=voice, language=voice)
        check(chunks, sentence)
        pairs.append((sentence, await understood(whisper, audio(chunks), voice)))
    assert sum(word_error_rate(pair) < 0.9 for pair in pairs) >= len(pairs) - 1, pairs
    assert word_error_rate(*pairs) < 0.5, pairs


async def test_words_keep_their_places_around_a_pause(espeak: Espeak, whisper: Whisper) -> None:
    [chunk] = await speak(espeak, "The station is very near, next to the old library.", language="en")
    cut = next(int(word.start * OUTPUT_RATE) for word in chunk.words if word.word == "next")
    before, after = [await understood(whisper, part, "en") for part in (chunk.pcm[:cut], chunk.pcm[cut:])]
    assert word_error_rate(("The station is very near", before)) <= 0.4, before
    assert word_error_rate(("next to the old library", after)) <= 0.4, after


@pytest.mark.parametrize("piece", ["🎉", "...", "—", "*", "<>", "[[", "]]"])
async def test_what_cannot_be_spoken_is_short(espeak: Espeak, piece: str) -> None:
    chunks = await speak(espeak, piece)
    check(chunks, piece)
    assert 0 < len(audio(chunks)) < 2 * OUTPUT_RATE


async def test_hard_text_fails_nothing(espeak: Espeak) -> None:
    hard = ("a" * 5000, "x " * 500, "1234567890 " * 60, "\0\a\x1b[0m", "<script>&amp;</script>", "\u202eabc", "'" * 300)
    for piece in hard:
        check(await speak(espeak, piece), piece)
    for option in ("-f /etc/passwd", "--help", "-w file.wav"):
        check(await speak(espeak, option), option)
    assert not Path("file.wav").exists()


async def test_names_of_sounds_have_no_power(espeak: Espeak) -> None:
    sounds, text = [audio(await speak(espeak, piece)) for piece in ("[[k'asa k'asa k'asa]]", "k'asa k'asa k'asa")]
    assert np.array_equal(sounds, text)


async def test_nothing_to_say(espeak: Espeak) -> None:
    assert await speak(espeak) == []
    assert await speak(espeak, "", "  \n\n ") == []


async def test_sentences_are_chunks_with_a_pause_between(espeak: Espeak) -> None:
    chunks = await speak(espeak, "Un momento, por favor. Lo miro.", "¡Aquí está!")
    check(chunks, "Un momento, por favor. Lo miro. ¡Aquí está!")
    assert len(chunks) == 3
    loud = [np.flatnonzero(np.abs(chunk.pcm) > 500)[0] / OUTPUT_RATE for chunk in chunks]
    assert loud[0] < 0.1, "the first word is not delayed"
    assert all(SENTENCE_PAUSE <= start < SENTENCE_PAUSE + 0.15 for start in loud[1:])


async def test_borders_do_not_click_and_nothing_is_clipped(espeak: Espeak) -> None:
    for chunk in await speak(espeak, *SENTENCES):
        assert abs(int(chunk.pcm[0])) <= 5
        assert abs(int(chunk.pcm[-1])) <= 5
        assert 3000 < np.abs(chunk.pcm.astype(int)).max() < 32_000


async def test_speed(espeak: Espeak) -> None:
    slow, normal, fast = [len(audio(await speak(espeak, SENTENCES[-1], speed=speed))) for speed in (0.8, 1.0, 1.4)]
    assert slow > 1.1 * normal
    assert normal > 1.2 * fast
    check(await speak(espeak, SENTENCES[-1], speed=100.0), SENTENCES[-1])


async def test_closing_cancels(espeak: Espeak) -> None:
    async with aclosing(espeak.speak(each([" ".join(SENTENCES * 100)]), voice="", language="es")) as chunks:
        await anext(chunks)
    async with asyncio.timeout(10):
        check(await speak(espeak, SENTENCES[0]), SENTENCES[0])
    assert not espeak._worker._waiting


async def test_refusals() -> None:
    espeak = Espeak()
    for voice, language, text in (
        ("", "pt-BR", "does not speak 'pt-BR'"),
        ("sarah", "es", "no voice 'sarah'"),
        ("", "es", "is not running"),
    ):
        with pytest.raises(EngineError, match=text):
            await anext(espeak.speak(each(["Hola."]), voice=voice, language=language))


async def test_the_voice_of_a_language() -> None:
    tags = ("es", "es-MX", "en-GB", "en", "de-AT", "pt", "")
    assert [voice_for(VOICES, tag) for tag in tags] == ["es-ES", "es-ES", "en-GB", "en-US", "de-DE", "", ""]
    assert all(voice_for(VOICES, voice) == voice for voice in VOICES)


async def test_without_the_program_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    espeak = Espeak()
    try:
        with pytest.raises(EngineError, match="espeak could not start: espeak-ng is not installed: `apt install"):
            await espeak.start()
    finally:
        await espeak.aclose()


@pytest.mark.parametrize(("script", "text"), [("exit 3", "CalledProcessError"), ("exec sleep 60", "TimeoutExpired")])
async def test_a_program_that_fails_or_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, text: str
) -> None:
    synthesizer = Synthesizer()
    program = tmp_path / "espeak-ng"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr("pipeline.tts.espeak.SECONDS", 0.5)
    monkeypatch.setattr(synthesizer, "_program", str(program))
    with pytest.raises(EngineError, match=f"espeak-ng failed: {text}"):
        list(synthesizer.say("Hola.", 1.0, "es-ES"))
