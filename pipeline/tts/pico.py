"""Speech with SVOX Pico in six languages: plain, but clear and very cheap (package ``py-nanotts``, Apache-2.0)."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from itertools import accumulate, pairwise

import numpy as np

from config.identity import base_language
from media.audio import OUTPUT_RATE, Pcm
from pipeline.engine import EngineError
from pipeline.tts import SpeechChunk, phrasing
from pipeline.tts.phrasing import CLOSING, LONGEST_WORD, MARKUP, Phrase, Samples, audible, split, to_pcm, unspeakable
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

GAP, GAP_LEVEL = OUTPUT_RATE // 5, 10 ** (-36 / 20)
"""A pause within a phrase: so many samples (200 ms) without one above the level. Closed lips are quiet for less."""

VOWELS = re.compile("[aeiouyà-æè-ïò-öù-ýœ]+")
CONSONANT, FIGURE, SIGN = 0.4, 2.0, 2.0
"""How long a consonant, a figure, and a sign that is read (%, €) last, in units of a vowel. Fitted to its speech."""


class Pico:
    """A ``TextToSpeech``. All calls share one worker process; each sentence is a chunk, as soon as it is made."""

    name = "pico"

    def __init__(self) -> None:
        self._worker = Worker("pipeline.tts.pico:Synthesizer", name=self.name, queue=256)

    async def start(self) -> None:
        await self._worker.start()

    async def speak(
        self, pieces: AsyncIterator[str], *, voice: str, language: str, speed: float = 1.0
    ) -> AsyncGenerator[SpeechChunk, None]:
        """See ``TextToSpeech``. ``voice`` is one of ``VOICES``, or empty: that of the language; ``speed`` 0.5 to 2."""
        if voice and voice not in VOICES:
            raise EngineError(f"{self.name} has no voice {voice!r:.60}, only {', '.join(VOICES)}")
        name = voice or voice_for(language)
        if not name:
            raise EngineError(f"{self.name} does not speak {language!r:.60}")
        speed = min(max(speed, SLOWEST), FASTEST)
        async with aclosing(phrasing.speak(self._worker, pieces, speed, name)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def aclose(self) -> None:
        await self._worker.aclose()


def voice_for(language: str) -> str:
    """The voice of a BCP-47 tag, or the first one of its language; empty when there is none."""
    if language in VOICES:
        return language
    return next((voice for voice in VOICES if base_language(voice) == base_language(language)), "")


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
            wav = resampled(np.frombuffer(pcm, "<i2"))
            first, last = audible(wav, EDGE_LEVEL)
            if np.abs(wav[first:last]).max(initial=0) <= GAP_LEVEL:
                yield unspeakable(words)
            else:
                wav = wav[first:last]
                yield to_pcm(wav).tobytes(), times(words, wav)


def spelling(words: list[str]) -> str:
    """The words without what would be taken for markup or for the end of the text."""
    shown = (word.strip(MARKUP)[:LONGEST_WORD].translate({ord("<"): " ", ord(">"): " "}) for word in words)
    return "".join(char if char.isprintable() else " " for char in " ".join(shown))


def resampled(pcm: Pcm) -> Samples:
    """Sound at ``RATE`` as samples at ``OUTPUT_RATE``."""
    import av

    if not len(pcm):
        return np.zeros(0, np.float32)
    frame = av.AudioFrame.from_ndarray(pcm[np.newaxis], format="s16", layout="mono")
    frame.sample_rate = RATE
    resampler = av.AudioResampler("flt", "mono", OUTPUT_RATE)
    parts = [part.to_ndarray()[0] for part in (*resampler.resample(frame), *resampler.resample(None))]
    wav: Samples = np.concatenate(parts)
    return wav


def times(words: list[str], wav: Samples) -> list[tuple[str, float, float]]:
    """Estimate when each word sounds, s: as long as its letters take, between the pauses that are heard."""
    parts: list[list[str]] = [[]]
    for word in words:
        parts[-1].append(word)
        if word.rstrip(CLOSING)[-1:] in (*",;:.!?…—",) and len(words) > sum(map(len, parts)):
            parts.append([])
    pauses = gaps(wav)
    if len(pauses) != len(parts) - 1:
        parts, pauses = [words], []
    found = []
    borders = [0, *(border for pause in pauses for border in pause), len(wav)]
    for part, start, end in zip(parts, borders[::2], borders[1::2], strict=True):
        ends = list(accumulate(map(weight, part), initial=0.0))
        scale = (end - start) / (ends[-1] or 1.0)
        spans = ((start + scale * a, start + scale * b) for a, b in pairwise(ends))
        found += [(word, a / OUTPUT_RATE, b / OUTPUT_RATE) for word, (a, b) in zip(part, spans, strict=True)]
    return found


def gaps(wav: Samples) -> list[tuple[int, int]]:
    """The pauses: (first silent sample, first loud one behind)."""
    loud = np.flatnonzero(np.abs(wav) > GAP_LEVEL)
    before = np.flatnonzero(np.diff(loud) > GAP)
    return [(int(loud[i]) + 1, int(loud[i + 1])) for i in before]


def weight(word: str) -> float:
    """How long a word lasts, in vowels."""
    text = word.lower()
    vowels = VOWELS.findall(text)
    consonants = sum(map(str.isalpha, text)) - sum(map(len, vowels))
    figures = sum(map(str.isdigit, text))
    signs = sum(map("%€$£&+=°".count, text))
    return len(vowels) + CONSONANT * consonants + FIGURE * figures + SIGN * signs
