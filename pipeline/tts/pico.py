"""Speech with SVOX Pico in six languages: plain, but clear and very cheap (package ``py-nanotts``, Apache-2.0)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from importlib.util import find_spec

import numpy as np

from pipeline.tts import SpeechChunk, Voice, phrasing
from pipeline.tts.phrasing import Phrase, audible, resampled, spelling, split, to_pcm, unspeakable
from pipeline.tts.timing import GAP_LEVEL, times
from pipeline.worker import Worker

VOICES = ("en-US", "en-GB", "es-ES", "fr-FR", "de-DE", "it-IT")
"""By the tag of their language."""

RATE = 16_000
"""Samples a second that it makes."""

VOLUME = 0.4
"""Of what it makes by itself, which is clipped."""

SLOWEST, FASTEST = 0.5, 2.0

EDGE_LEVEL = -41.0
"""dBFS. It hums in its pauses, and clicks behind its sentences."""


class Pico:
    """A ``TextToSpeech``. All calls share one worker process; each sentence is a chunk, as soon as it is made."""

    name = "pico"
    voices = tuple(Voice(tag, (tag,), f"Pico {tag}", "female", "plain", "Clear and very cheap") for tag in VOICES)

    def __init__(self) -> None:
        self._worker = Worker("pipeline.tts.pico:Synthesizer", name=self.name, queue=256)

    @property
    def available(self) -> bool:
        return find_spec("py_nanotts") is not None

    async def start(self) -> None:
        await self._worker.start()

    async def speak(
        self, pieces: AsyncIterator[str], *, voice: str, language: str, speed: float = 1.0
    ) -> AsyncGenerator[SpeechChunk, None]:
        """See ``TextToSpeech``. ``voice`` is one of ``VOICES``, or empty: that of the language; ``speed`` 0.5 to 2."""
        name = phrasing.choose(self.name, VOICES, voice, language)
        speed = min(max(speed, SLOWEST), FASTEST)
        async with aclosing(phrasing.speak(self._worker, pieces, speed, name)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def aclose(self) -> None:
        await self._worker.aclose()


class Synthesizer:
    """The voices. Lives in the worker process: the library holds the GIL while it speaks."""

    def __init__(self) -> None:
        from py_nanotts import NanoTTS

        self._library = NanoTTS()
        for _ in self.say("Hola.", 1.0, "es-ES"):  # reads the files of a voice, and loads the resampler
            pass

    def say(self, text: str, speed: float, voice: str) -> Iterator[Phrase]:
        """Speak: each sentence is a phrase, or several when it is long."""
        for words in split(text):
            pcm = self._library.speak(spelling(words), voice=voice, speed=speed, volume=VOLUME)
            wav = resampled(np.frombuffer(pcm, "<i2"), RATE)
            first, last = audible(wav, EDGE_LEVEL)
            if np.abs(wav[first:last]).max(initial=0) <= GAP_LEVEL:
                yield unspeakable(words)
            else:
                wav = wav[first:last]
                yield to_pcm(wav).tobytes(), times(words, wav)
