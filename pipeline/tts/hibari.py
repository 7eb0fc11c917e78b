"""Speech with hibari, a small English voice that runs on one core (package ``hibari-tts``, Apache-2.0)."""

from __future__ import annotations

import re
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from importlib.util import find_spec
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np

from config.identity import base_language
from media.audio import OUTPUT_RATE
from pipeline.engine import EngineError
from pipeline.tts import SpeechChunk, Voice, phrasing
from pipeline.tts.phrasing import (
    LONGEST_WORD,
    MARKUP,
    PUNCTUATION,
    Phrase,
    Samples,
    audible,
    split,
    to_pcm,
    unspeakable,
)
from pipeline.worker import Worker

VOICE = "heart"
VOICES = (Voice(VOICE, ("en-US",), "Heart", "female", "warm", "A small neural voice of one core"),)
SLOWEST, FASTEST = 0.5, 2.0

MAX_PHONEMES = 400
"""The model was trained on no longer sentences."""

FRAMES = "/Clip_output_0"
"""The tensor inside the model that holds how many frames each phoneme lasts."""


class Hibari:
    """A ``TextToSpeech``. All calls share one worker process; each sentence is a chunk, as soon as it is made."""

    name = "hibari"
    voices = VOICES

    def __init__(self) -> None:
        self._worker = Worker("pipeline.tts.hibari:Synthesizer", name=self.name, queue=256)

    @property
    def available(self) -> bool:
        return find_spec("hibari") is not None

    async def start(self) -> None:
        await self._worker.start()

    async def speak(
        self, pieces: AsyncIterator[str], *, voice: str, language: str, speed: float = 1.0
    ) -> AsyncGenerator[SpeechChunk, None]:
        """See ``TextToSpeech``. ``voice`` is "heart" or empty, ``language`` English, ``speed`` 0.5 to 2."""
        if base_language(language) != "en":
            raise EngineError(f"{self.name} speaks English only, not {language!r}")
        if voice not in ("", VOICE):
            raise EngineError(f"{self.name} has no voice {voice!r}, only {VOICE!r}")
        speed = min(max(speed, SLOWEST), FASTEST)
        async with aclosing(phrasing.speak(self._worker, pieces, speed)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def aclose(self) -> None:
        await self._worker.aclose()


class Synthesizer:
    """The model. Lives in the worker process."""

    def __init__(self) -> None:
        from hibari import Hibari as Model
        from hibari import dsp
        from hibari.voices import voice_path

        self._synth = dsp.synth
        # The length of each phoneme is no output of the model. It becomes one by protobuf's rule that messages written
        # one behind the other are merged: ModelProto.graph (field 7), GraphProto.output (12), ValueInfoProto.name (1).
        name = FRAMES.encode()
        for number in (1, 12, 7):
            name = bytes([number << 3 | 2, len(name)]) + name
        try:
            # A file without a name: it is gone even if this process is killed while it loads.
            with tempfile.TemporaryFile() as patched:
                patched.write(Path(voice_path(VOICE, download_missing=False)).read_bytes() + name)
                patched.seek(0)  # which also writes it; on macOS both descriptors share their place in it
                self._model = Model(voice=VOICE, model=f"/dev/fd/{patched.fileno()}")
        except OSError as error:
            raise EngineError(f"the voice cannot be read: {error.strerror}") from None
        for _ in self.say("Warm up, Qwyzt!", 1.0):  # the second word loads the net that spells unknown words
            pass

    def say(self, text: str, speed: float) -> Iterator[Phrase]:
        """Speak: each sentence is a phrase, or several when it is long."""
        for words in split(text):
            yield from self._chunks(words, speed)

    def _chunks(self, words: list[str], speed: float) -> Iterator[Phrase]:
        phonemes = self._phonemes(words)
        if len(phonemes) > MAX_PHONEMES and len(words) > 1:  # figures become long when they are read
            half = len(words) // 2
            yield from self._chunks(words[:half], speed)
            yield from self._chunks(words[half:], speed)
            return
        phonemes = phonemes[: 2 * MAX_PHONEMES]
        if PUNCTUATION.issuperset(phonemes):
            yield unspeakable(words)
            return
        wav, ends = self._sound(phonemes, speed)
        first, last = audible(wav)
        spans = self._spans(words, phonemes)
        times = []
        for word, (begin, end) in zip(words, spans, strict=True):
            start, stop = (min(max(t, first), last) - first for t in (ends[begin], ends[end]))
            times.append((word, start / OUTPUT_RATE, stop / OUTPUT_RATE))
        yield to_pcm(wav[first:last]).tobytes(), times

    def _phonemes(self, words: list[str]) -> str:
        text: str = self._model.g2p(" ".join(word.strip(MARKUP)[:LONGEST_WORD] or "," for word in words)) or ""
        return "".join(c for c in text if c in self._model.vocab)

    def _sound(self, phonemes: str, speed: float) -> tuple[Samples, list[int]]:
        """The waveform, and for each phoneme the sample it begins at (one more entry: where the last one ends)."""
        inputs = {
            "ids": np.asarray([self._model.ids(phonemes)], np.int64),  # a pad, the phonemes, a pad
            "speed": np.asarray([speed], np.float32),
        }
        *spectra, frames = self._model.sess.run(["lh", "theta", "ln", "lr", "phi", "f0", FRAMES], inputs)
        # A constant seed: the same text sounds the same.
        wav: Samples = self._synth(*(part[0] for part in spectra), np.random.default_rng(0))
        ends = np.cumsum(frames.reshape(-1))
        return wav, [round(end) for end in ends[:-1] * (len(wav) / ends[-1])]

    def _spans(self, words: list[str], phonemes: str) -> list[tuple[int, int]]:
        """Which phonemes belong to which word: (first, behind the last that sounds)."""
        starts = [match.start() for match in re.finditer("[^ ]+", phonemes)]
        alone = [self._phonemes([word]) for word in words]
        # A figure or an abbreviation is read as several words, an emoji as none, and a neighbour may change how many.
        counts = [len(text.split()) for text in alone]
        if sum(counts) == len(starts):
            starts.append(len(phonemes))
            firsts = [starts[i] for i in accumulate(counts[:-1], initial=0)]
        else:
            lengths = list(accumulate((len(text) + 1 for text in alone), initial=0))
            scale = len(phonemes) / lengths[-1]
            firsts = [min(starts, key=lambda s: abs(s - at)) for at in (n * scale for n in lengths[:-1])]
        spans = []
        for begin, following in pairwise([*firsts, len(phonemes)]):
            sounds = [i for i in range(begin, following) if phonemes[i] not in PUNCTUATION]
            spans.append((begin, sounds[-1] + 1 if sounds else begin))
        return spans
