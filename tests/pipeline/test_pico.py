"""Pico: what it says in each language is understood, every word appears once, and nothing makes it fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from itertools import pairwise

import numpy as np
import pytest

from media.audio import OUTPUT_RATE, Pcm
from pipeline.engine import EngineError
from pipeline.stt.whisper import Whisper
from pipeline.tts import SpeechChunk
from pipeline.tts.phrasing import SENTENCE_PAUSE, voice_for
from pipeline.tts.pico import VOICES, Pico
from pipeline.tts.timing import times
from tests.voices import as_heard
from tests.words import word_error_rate

pytestmark = [pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]

SENTENCES = [
    "Claro, le puedo ayudar con eso ahora mismo.",
    "Su mesa para dos personas está reservada para el viernes por la noche.",
    "Lo siento, no le he entendido. ¿Podría repetirlo, por favor?",
    "La estación de tren más cercana está a dos calles, al lado de la vieja biblioteca.",
    "Érase una vez un perro que vivía en un faro junto al mar.",
]
OTHERS = {
    "en-US": "Your table for two is booked for Friday evening.",
    "en-GB": "The nearest train station is next to the old library.",
    "fr-FR": "Je voudrais réserver une table pour deux personnes.",
    "de-DE": "Der nächste Bahnhof ist neben der alten Bibliothek.",
    "it-IT": "Vorrei prenotare un tavolo per due persone.",
}


async def each(pieces: Iterable[str]) -> AsyncIterator[str]:
    for piece in pieces:
        yield piece


async def speak(
    pico: Pico, *pieces: str, voice: str = "", language: str = "es", speed: float = 1.0
) -> list[SpeechChunk]:
    async with asyncio.timeout(60):
        return [c async for c in pico.speak(each(pieces), voice=voice, language=language, speed=speed)]


def audio(chunks: list[SpeechChunk]) -> Pcm:
    return np.concatenate([chunk.pcm for chunk in chunks])


async def understood(whisper: Whisper, pcm: Pcm, language: str = "es") -> str:
    stream = whisper.stream(language)
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
    assert [word.word for chunk in chunks for word in chunk.words] == said.split()
    for chunk in chunks:
        assert chunk.pcm.dtype == np.int16
        assert chunk.words
        sounding = [time for word in chunk.words for time in (word.start, word.end)]
        assert all(a <= b + 1e-9 for a, b in pairwise(sounding)), chunk.words
        assert sounding[0] >= 0
        assert sounding[-1] <= len(chunk.pcm) / OUTPUT_RATE + 1e-6


async def test_spanish_is_understood(pico: Pico, whisper: Whisper) -> None:
    pairs = []
    for sentence in SENTENCES:
        chunks = await speak(pico, sentence)
        check(chunks, sentence)
        pairs.append((sentence, await understood(whisper, audio(chunks))))
    assert word_error_rate(*pairs) < 0.08, pairs


@pytest.mark.parametrize("voice", list(OTHERS))
async def test_other_languages_are_understood(pico: Pico, whisper: Whisper, voice: str) -> None:
    chunks = await speak(pico, OTHERS[voice], voice=voice, language=voice)
    check(chunks, OTHERS[voice])
    heard = await understood(whisper, audio(chunks), voice)
    assert word_error_rate((OTHERS[voice], heard)) < 0.25, heard


async def test_the_part_behind_a_comma_sounds_when_it_is_said_to(pico: Pico, whisper: Whisper) -> None:
    [chunk] = await speak(pico, "La estación está muy cerca, al lado de la biblioteca.")
    cut = next(int(word.start * OUTPUT_RATE) for word in chunk.words if word.word == "al")
    before, after = await understood(whisper, chunk.pcm[:cut]), await understood(whisper, chunk.pcm[cut:])
    assert word_error_rate(("La estación está muy cerca", before)) <= 0.2, before
    assert word_error_rate(("al lado de la biblioteca", after)) <= 0.2, after


async def test_figures_and_signs_keep_their_words(pico: Pico) -> None:
    for sentence in (
        "Son las 15:30 del 5 de enero de 2026, ¡y cuesta 12,50 € o un 3 %!",
        "El Sr. Pérez y la Dra. J. K. García dijeron: «No.» Luego se fueron.",
        "[aquí](http://x.y/z) y **negrita**, `código` — vea www.ejemplo.es. 😀",
        "1234567890 " * 20,
    ):
        check(await speak(pico, sentence), sentence)


@pytest.mark.parametrize("piece", ["🎉", "...", "—", "🎉 🎉", "*", "日本", "<>"])
async def test_what_cannot_be_spoken_is_a_short_silence(pico: Pico, piece: str) -> None:
    chunks = await speak(pico, piece)
    check(chunks, piece)
    assert 0 < len(audio(chunks)) < OUTPUT_RATE


async def test_hard_text_fails_nothing(pico: Pico, whisper: Whisper) -> None:
    for piece in ("a" * 5000, "x " * 500, "\0\a\x1b[0m", "<script>&amp;</script>", "\u202eabc\ud7ff", "'" * 300):
        check(await speak(pico, piece), piece)
    check(await speak(pico, "half a pair \ud83c here"), "half a pair ? here")
    heard = await understood(whisper, audio(await speak(pico, "Buenas\0tardes a todos.")))
    assert heard.startswith("Buenas tardes")


async def test_markup_has_no_power(pico: Pico) -> None:
    """The library would obey tags for speed, pitch and files."""
    plain, tagged = [audio(await speak(pico, opening + SENTENCES[-1])) for opening in ("", '<speed level="500">')]
    assert len(tagged) > len(plain), "five times as fast"


async def test_nothing_to_say(pico: Pico) -> None:
    assert await speak(pico) == []
    assert await speak(pico, "", "  \n\n ") == []


async def test_sentences_are_chunks_with_a_pause_between(pico: Pico) -> None:
    chunks = await speak(pico, "Un momento, por favor. Lo miro.", "¡Aquí está!")
    check(chunks, "Un momento, por favor. Lo miro. ¡Aquí está!")
    assert len(chunks) == 3
    loud = [np.flatnonzero(np.abs(chunk.pcm) > 500)[0] / OUTPUT_RATE for chunk in chunks]
    assert loud[0] < 0.1, "the first word is not delayed"
    assert all(SENTENCE_PAUSE <= start < SENTENCE_PAUSE + 0.15 for start in loud[1:])


async def test_borders_do_not_click_and_nothing_is_clipped(pico: Pico) -> None:
    for chunk in await speak(pico, *SENTENCES):
        assert abs(int(chunk.pcm[0])) <= 5
        assert abs(int(chunk.pcm[-1])) <= 5
        assert 3000 < np.abs(chunk.pcm.astype(int)).max() < 32_000


async def test_speed(pico: Pico) -> None:
    slow, normal, fast = [len(audio(await speak(pico, SENTENCES[-1], speed=speed))) for speed in (0.8, 1.0, 1.4)]
    assert slow > 1.1 * normal
    assert normal > 1.2 * fast
    check(await speak(pico, SENTENCES[-1], speed=100.0), SENTENCES[-1])


async def test_closing_cancels(pico: Pico) -> None:
    async with aclosing(pico.speak(each([" ".join(SENTENCES * 100)]), voice="", language="es")) as chunks:
        await anext(chunks)
    async with asyncio.timeout(10):
        check(await speak(pico, SENTENCES[0]), SENTENCES[0])
    assert not pico._worker._waiting


async def test_refusals() -> None:
    pico = Pico()
    for voice, language, text in (
        ("", "pt-BR", "does not speak 'pt-BR'"),
        ("sarah", "es", "no voice 'sarah'"),
        ("", "es", "is not running"),
    ):
        with pytest.raises(EngineError, match=text):
            await anext(pico.speak(each(["Hola."]), voice=voice, language=language))


async def test_the_voice_of_a_language() -> None:
    assert [voice_for(VOICES, tag) for tag in ("es", "es-MX", "en-GB", "en", "EN-gb", "de-AT", "pt", "")] == [
        *("es-ES", "es-ES", "en-GB", "en-US", "en-US", "de-DE", "", ""),
    ]
    assert all(voice_for(VOICES, voice) == voice for voice in VOICES)


async def test_times_without_a_sound_or_a_letter() -> None:
    assert times(["—"], np.zeros(240, np.float32)) == [("—", 0.0, 0.0)]
