"""Speech with eSpeak NG, for where Pico does not install: it sounds like a machine (program ``espeak-ng``, GPL-3).

A program of its own that is run once for each sentence; nothing is linked with it.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing

import numpy as np

from pipeline.engine import EngineError
from pipeline.tts import SpeechChunk, Voice, phrasing
from pipeline.tts.phrasing import Phrase, Samples, audible, resampled, spelling, split, to_pcm, unspeakable
from pipeline.tts.timing import GAP_LEVEL, times
from pipeline.worker import Worker

PROGRAM = "espeak-ng"

VOICES = {"en-US": "en-us", "en-GB": "en-gb", "es-ES": "es", "fr-FR": "fr-fr", "de-DE": "de", "it-IT": "it"}
"""What they are called here, and by the program."""

WORDS_PER_MINUTE = 140
"""At speed 1. Faster, recognisers understand much less of its Spanish."""

AMPLITUDE = 80
"""Of 200, at which nothing is clipped."""
SLOWEST, FASTEST = 0.5, 2.0

SECONDS = 10.0
"""What one sentence may take; it takes some hundredths."""

HEADER = 44
"""Bytes in front of the samples. The lengths in it are wrong, since it is written before them."""


class Espeak:
    """A ``TextToSpeech``. All calls share one worker process; each sentence is a chunk, as soon as it is made."""

    name = "espeak"
    voices = tuple(Voice(tag, (tag,), f"eSpeak {tag}", "male", "robotic", "Sounds like a machine") for tag in VOICES)

    def __init__(self) -> None:
        self._worker = Worker("pipeline.tts.espeak:Synthesizer", name=self.name, queue=256)

    @property
    def available(self) -> bool:
        return shutil.which(PROGRAM) is not None

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
    """Runs the program. Lives in the worker process, which waits for it and prepares the sound."""

    def __init__(self) -> None:
        found = shutil.which(PROGRAM)
        if found is None:
            raise EngineError(f"{PROGRAM} is not installed: `apt install espeak-ng` or `brew install espeak-ng`")
        self._program = found
        for _ in self.say("Hola.", 1.0, "es-ES"):  # reads the files of a voice, and loads the resampler
            pass

    def say(self, text: str, speed: float, voice: str) -> Iterator[Phrase]:
        """Speak: each sentence is a phrase, or several when it is long."""
        for words in split(text):
            wav = self._speech(spelling(words).translate({ord("["): " ", ord("]"): " "}), speed, voice)
            first, last = audible(wav)
            if np.abs(wav[first:last]).max(initial=0) <= GAP_LEVEL:
                yield unspeakable(words)
            else:
                wav = wav[first:last]
                yield to_pcm(wav).tobytes(), times(words, wav)

    def _speech(self, text: str, speed: float, voice: str) -> Samples:
        """One run of the program. It would take what stands in double brackets for names of sounds."""
        options = [
            "-v",
            VOICES[voice],
            "-s",
            str(round(WORDS_PER_MINUTE * speed)),
            "-a",
            str(AMPLITUDE),
            "-b",
            "1",
            "-z",
        ]
        command = [self._program, *options, "--stdin", "--stdout"]
        try:
            done = subprocess.run(  # noqa: S603  no shell, and the text is no argument
                command, input=text.encode(), capture_output=True, timeout=SECONDS, check=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise EngineError(f"{PROGRAM} failed: {type(error).__name__}") from None
        sound = done.stdout[HEADER : len(done.stdout) // 2 * 2]
        return resampled(np.frombuffer(sound, "<i2"), int.from_bytes(done.stdout[24:28], "little"))
