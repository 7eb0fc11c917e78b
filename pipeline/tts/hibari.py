"""Speech with hibari, a small English voice that runs on one core (package ``hibari-tts``, Apache-2.0)."""

from __future__ import annotations

import re
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from media.audio import OUTPUT_RATE, Pcm
from pipeline.engine import EngineError
from pipeline.tts import SpeechChunk, WordTime
from pipeline.worker import Worker

Samples = NDArray[np.float32]

VOICE = "heart"
SLOWEST, FASTEST = 0.5, 2.0

SENTENCE_PAUSE, CLAUSE_PAUSE, WORD_PAUSE = 0.3, 0.14, 0.05
"""Seconds of silence between two chunks, by how the first ends. The model's own are 0.4 s and more."""

UNSPEAKABLE = 0.1
"""Seconds of silence that stand for text without a sound, such as an emoji."""

LONG_CLAUSE, LONGEST = 100, 240
"""Characters: a longer sentence is spoken in several chunks, cut behind a comma or, at last, between two words."""

LONGEST_WORD = 60
"""Characters of one word that are pronounced; nobody wants to hear the rest of a token or an address."""

MAX_PHONEMES = 400
"""The model was trained on no longer sentences."""

EDGE_LEVEL = 10 ** (-60 / 20)
LEAD_IN, TAIL, FADE_IN, FADE_OUT = (OUTPUT_RATE * ms // 1000 for ms in (10, 30, 3, 10))

FRAMES = "/Clip_output_0"
"""The tensor inside the model that holds how many frames each phoneme lasts."""

CLOSING = "\"'”’)]*_"
MARKUP = "*_`#~"
TITLES = frozenset({"dr", "mr", "mrs", "ms", "prof", "st", "vs"})
PUNCTUATION = frozenset(' ,.;:!?—…"“”()')


class Hibari:
    """A ``TextToSpeech``. All calls share one worker process; each sentence is a chunk, as soon as it is made."""

    name = "hibari"

    def __init__(self) -> None:
        self._worker = Worker("pipeline.tts.hibari:Synthesizer", name=self.name, queue=256)

    async def start(self) -> None:
        await self._worker.start()

    async def speak(
        self, pieces: AsyncIterator[str], *, voice: str, language: str, speed: float = 1.0
    ) -> AsyncGenerator[SpeechChunk, None]:
        """See ``TextToSpeech``. ``voice`` is "heart" or empty, ``language`` English, ``speed`` 0.5 to 2."""
        if language.split("-", 1)[0].lower() != "en":
            raise EngineError(f"{self.name} speaks English only, not {language!r}")
        if voice not in ("", VOICE):
            raise EngineError(f"{self.name} has no voice {voice!r}, only {VOICE!r}")
        speed = min(max(speed, SLOWEST), FASTEST)
        pause, priority = 0.0, 0
        async for text in pieces:
            piece = text.encode(errors="replace").decode()  # half a surrogate pair is no text
            # The first words of one caller are more urgent than the later ones of another.
            async with aclosing(self._worker.stream("say", piece, speed, priority=priority)) as chunks:
                async for data, words in chunks:
                    lead = round(pause * OUTPUT_RATE)
                    pcm = np.concatenate([np.zeros(lead, np.int16), np.frombuffer(data, np.int16)])
                    offset = lead / OUTPUT_RATE
                    yield SpeechChunk(pcm, [WordTime(word, start + offset, end + offset) for word, start, end in words])
                    pause, priority = pause_after(words[-1][0]) / speed, 1

    async def aclose(self) -> None:
        await self._worker.aclose()


def pause_after(word: str) -> float:
    """Seconds of silence that a speaker makes behind this word."""
    last = word.rstrip(CLOSING)[-1:]
    return SENTENCE_PAUSE if last in (*".!?…",) else CLAUSE_PAUSE if last in (*",;:—–",) else WORD_PAUSE


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
            with tempfile.NamedTemporaryFile(suffix=".onnx") as patched:
                patched.write(Path(voice_path(VOICE, download_missing=False)).read_bytes() + name)
                patched.flush()
                self._model = Model(voice=VOICE, model=patched.name)
        except OSError as error:
            raise EngineError(f"the voice cannot be read: {error.strerror}") from None
        for _ in self.say("Warm up, Qwyzt!", 1.0):  # the second word loads the net that spells unknown words
            pass

    def say(self, text: str, speed: float) -> Iterator[tuple[bytes, list[tuple[str, float, float]]]]:
        """Speak: for each sentence its PCM (``OUTPUT_RATE``, int16) and (word, start, end) in seconds."""
        for words in split(text):
            yield from self._chunks(words, speed)

    def _chunks(self, words: list[str], speed: float) -> Iterator[tuple[bytes, list[tuple[str, float, float]]]]:
        phonemes = self._phonemes(words)
        if len(phonemes) > MAX_PHONEMES and len(words) > 1:  # figures become long when they are read
            half = len(words) // 2
            yield from self._chunks(words[:half], speed)
            yield from self._chunks(words[half:], speed)
            return
        phonemes = phonemes[: 2 * MAX_PHONEMES]
        if not phonemes.strip(' .,;:!?—…"“”()'):
            silence = np.zeros(int(UNSPEAKABLE * OUTPUT_RATE), np.int16)
            yield silence.tobytes(), [(word, 0.0, 0.0) for word in words]
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


def split(text: str) -> Iterator[list[str]]:
    """Cut text into the runs of words that are spoken at once: sentences, or parts of long ones."""
    for line in text.splitlines():
        words = line.split()
        run: list[str] = []
        length = 0
        for word, following in zip(words, [*words[1:], ""], strict=False):
            if run and length + len(word) > LONGEST:
                yield run
                run, length = [], 0
            run.append(word)
            length += len(word) + 1
            if ends_sentence(word, following) or (length > LONG_CLAUSE and word[-1] in ",;:—"):
                yield run
                run, length = [], 0
        if run:
            yield run


def ends_sentence(word: str, following: str) -> bool:
    """Whether a full stop is one: not in "Dr. Smith", "J. Smith", "Jan. 5th" or "approx. half"."""
    bare = word.rstrip(CLOSING)
    if not bare.endswith((".", "!", "?", "…")) or following[:1].islower():
        return False
    name = bare[:-1].lstrip("\"'“‘(").lower()
    return bare[-1] != "." or not (following[:1].isdigit() or name in TITLES or (len(name) == 1 and name != "i"))


def audible(wav: Samples) -> tuple[int, int]:
    """Samples between which there is sound, with a margin; the model pads each sentence with a fifth of a second."""
    loud = np.flatnonzero(np.abs(wav) > EDGE_LEVEL)
    if not len(loud):
        return 0, len(wav)
    return max(int(loud[0]) - LEAD_IN, 0), min(int(loud[-1]) + TAIL, len(wav))


def to_pcm(wav: Samples) -> Pcm:
    """16-bit samples, faded at both ends so that no border clicks."""
    gain = np.ones(len(wav), np.float32)
    fade_in, fade_out = min(FADE_IN, len(wav) // 2), min(FADE_OUT, len(wav) // 2)
    gain[:fade_in] = np.linspace(0, 1, fade_in, dtype=np.float32)
    gain[len(wav) - fade_out :] = np.linspace(1, 0, fade_out, dtype=np.float32)
    pcm: Pcm = (np.clip(wav * gain, -1, 1) * 32767).astype(np.int16)
    return pcm
