"""Sentences whose figures the voices read wrong by themselves are understood when they are given words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from pipeline.speakable import speakable
from pipeline.stt import SpeechToText
from pipeline.stt.moonshine import Moonshine
from pipeline.stt.whisper import Whisper
from pipeline.tts import TextToSpeech
from pipeline.tts.hibari import Hibari
from pipeline.tts.pico import Pico
from tests.voices import as_heard, silence

pytestmark = [pytest.mark.models, pytest.mark.asyncio(loop_scope="module")]


async def heard(voice: TextToSpeech, ears: SpeechToText, text: str, language: str) -> str:
    """What a listener writes down, in lower case."""

    async def pieces() -> AsyncIterator[str]:
        yield speakable(text, language)

    async with asyncio.timeout(60):
        chunks = [chunk.pcm async for chunk in voice.speak(pieces(), voice="", language=language)]
        stream = ears.stream(language)
        try:
            stream.write(np.concatenate([as_heard(np.concatenate(chunks)), silence(0.25)]))
            stream.flush()
            async for transcript in stream:
                if transcript.final:
                    return transcript.text.lower()
        finally:
            await stream.aclose()
    raise AssertionError("no final")


@pytest.mark.parametrize(
    ("text", "understood"),
    [
        ("We use version 3.11.2 of it.", "3.11.2"),
        ("We open at 9am-5pm on weekdays.", "to 5 p"),
        ("See https://www.example.com/help for more.", "example.com"),
        ("Use the URL, **e.g.** this one.", "for example"),
        ("It costs $12.50 today.", "$12.50"),
    ],
)
async def test_english(hibari: Hibari, moonshine: Moonshine, text: str, understood: str) -> None:
    assert understood in await heard(hibari, moonshine, text, "en-US")


@pytest.mark.parametrize(
    ("text", "understood"),
    [
        ("Usamos la versión 3.11.2 del programa.", "3.11.2"),
        ("El Dr. García vive en la C/ Mayor núm. 5.", "la calle mayor número 5"),
        ("La Sra. López vive en EE. UU.", "estados unidos"),
        ("Añada 2½ tazas de harina.", "dos y medio"),
        ("Está a 5 km, unos 3-5 minutos.", "a 5 minutos"),
    ],
)
async def test_spanish(pico: Pico, whisper: Whisper, text: str, understood: str) -> None:
    assert understood in await heard(pico, whisper, text, "es-ES")
