"""What the local voices share: text is cut into phrases, each is spoken at once, trimmed, and followed by a pause."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator
from contextlib import aclosing

import numpy as np
from numpy.typing import NDArray

from config.identity import base_language
from media.audio import OUTPUT_RATE, Pcm
from pipeline.engine import EngineError
from pipeline.tts import SpeechChunk, WordTime
from pipeline.worker import Worker

Samples = NDArray[np.float32]
"""-1 to 1, at ``OUTPUT_RATE``."""

Phrase = tuple[bytes, list[tuple[str, float, float]]]
"""PCM (int16 at ``OUTPUT_RATE``) and (word, start, end) in seconds, of what was spoken at once."""

SENTENCE_PAUSE, CLAUSE_PAUSE, WORD_PAUSE = 0.3, 0.14, 0.05
"""Seconds of silence between two chunks, by how the first ends. Those of the models are longer."""

UNSPEAKABLE = 0.1
"""Seconds of silence that stand for text without a sound, such as an emoji."""

LONG_CLAUSE, LONGEST = 100, 240
"""Characters: a longer sentence is spoken in several chunks, cut behind a comma or, at last, between two words."""

LONGEST_WORD = 60
"""Characters of one word that are pronounced; nobody wants to hear the rest of a token or an address."""

EDGE_LEVEL = -60.0
"""dBFS. What is quieter is silence in front of or behind a phrase."""

LEAD_IN, TAIL, FADE_IN, FADE_OUT = (OUTPUT_RATE * ms // 1000 for ms in (10, 30, 3, 10))

CLOSING = "\"'”’»)]*_"
MARKUP = "*_`#~"
PUNCTUATION = frozenset(' ,.;:!?—…"“”()')
TITLES = frozenset(
    {"dr", "mr", "mrs", "ms", "prof", "st", "vs"}  # English, Spanish, French and Italian, German
    | {"dra", "núm", "pág", "sr", "sra", "srta", "ud", "uds", "avv", "dott", "mme", "sig", "bzw", "ca", "hr", "nr"}
)


async def speak(
    worker: Worker, pieces: AsyncIterator[str], speed: float, *options: object
) -> AsyncGenerator[SpeechChunk, None]:
    """Speak pieces of text as they come, with pauses between the phrases.

    The worker's method ``say`` gets a piece, the speed and the options, and yields one ``Phrase`` after another.
    """
    pause, priority = 0.0, 0
    async for text in pieces:
        piece = text.encode(errors="replace").decode()  # half a surrogate pair is no text
        # The first words of one caller are more urgent than the later ones of another.
        async with aclosing(worker.stream("say", piece, speed, *options, priority=priority)) as phrases:
            async for data, words in phrases:
                lead = round(pause * OUTPUT_RATE)
                pcm = np.concatenate([np.zeros(lead, np.int16), np.frombuffer(data, np.int16)])
                offset = lead / OUTPUT_RATE
                yield SpeechChunk(pcm, [WordTime(word, start + offset, end + offset) for word, start, end in words])
                pause, priority = pause_after(words[-1][0]) / speed, 1


def choose(engine: str, voices: Collection[str], wish: str, language: str) -> str:
    """The name of the voice that is wished for, or that of the language. Raises ``EngineError`` when there is none."""
    if wish and wish not in voices:
        raise EngineError(f"{engine} has no voice {wish!r:.60}, only {', '.join(voices)}")
    name = wish or voice_for(voices, language)
    if not name:
        raise EngineError(f"{engine} does not speak {language!r:.60}")
    return name


def voice_for(voices: Collection[str], language: str) -> str:
    """Of voices that are named by their tags that of a BCP-47 tag, or the first one of its language; empty: none."""
    if language in voices:
        return language
    return next((voice for voice in voices if base_language(voice) == base_language(language)), "")


def pause_after(word: str) -> float:
    """Seconds of silence that a speaker makes behind this word."""
    last = word.rstrip(CLOSING)[-1:]
    return SENTENCE_PAUSE if last in (*".!?…",) else CLAUSE_PAUSE if last in (*",;:—–",) else WORD_PAUSE


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
    name = bare[:-1].lstrip("\"'“‘«(¿¡").lower()
    return bare[-1] != "." or not (following[:1].isdigit() or name in TITLES or (len(name) == 1 and name != "i"))


def spelling(words: list[str]) -> str:
    """The words without what would be taken for markup or for the end of the text."""
    shown = (word.strip(MARKUP)[:LONGEST_WORD].translate({ord("<"): " ", ord(">"): " "}) for word in words)
    return "".join(char if char.isprintable() else " " for char in " ".join(shown))


def resampled(pcm: Pcm, rate: int) -> Samples:
    """Sound at ``rate`` Hz as samples at ``OUTPUT_RATE``."""
    import av

    if not len(pcm):
        return np.zeros(0, np.float32)
    frame = av.AudioFrame.from_ndarray(pcm[np.newaxis], format="s16", layout="mono")
    frame.sample_rate = rate
    resampler = av.AudioResampler("flt", "mono", OUTPUT_RATE)
    parts = [part.to_ndarray()[0] for part in (*resampler.resample(frame), *resampler.resample(None))]
    wav: Samples = np.concatenate(parts)
    return wav


def audible(wav: Samples, level: float = EDGE_LEVEL) -> tuple[int, int]:
    """Samples between which there is sound louder than ``level`` (dBFS), with a margin. All, when there is none."""
    loud = np.flatnonzero(np.abs(wav) > 10 ** (level / 20))
    if not len(loud):
        return 0, len(wav)
    return max(int(loud[0]) - LEAD_IN, 0), min(int(loud[-1]) + TAIL, len(wav))


def unspeakable(words: list[str]) -> Phrase:
    """What stands for words without a sound."""
    return bytes(2 * int(UNSPEAKABLE * OUTPUT_RATE)), [(word, 0.0, 0.0) for word in words]


def to_pcm(wav: Samples) -> Pcm:
    """16-bit samples, faded at both ends so that no border clicks."""
    gain = np.ones(len(wav), np.float32)
    fade_in, fade_out = min(FADE_IN, len(wav) // 2), min(FADE_OUT, len(wav) // 2)
    gain[:fade_in] = np.linspace(0, 1, fade_in, dtype=np.float32)
    gain[len(wav) - fade_out :] = np.linspace(1, 0, fade_out, dtype=np.float32)
    pcm: Pcm = (np.clip(wav * gain, -1, 1) * 32767).astype(np.int16)
    return pcm
