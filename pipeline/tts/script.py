"""What a voice was given to say, word by word: which of it has sounded, and which is still to come."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from media.audio import OUTPUT_RATE, Pcm
from pipeline.tts import SpeechChunk, WordTime
from pipeline.tts.timing import weight

USUAL_PACE = 0.11
"""Seconds of a vowel, see ``pipeline.tts.timing``; until a voice has shown its own."""

SILENCE = OUTPUT_RATE // 100
"""Samples that carry words which no sound was timed for."""


class Script:
    """Words go in as they are given to a voice, and come out once each, in order, with the sound in which they
    begin.
    """

    def __init__(self) -> None:
        self._words: list[str] = []
        self._begun = 0
        self.complete = False
        """Nothing will be added."""
        self._inside = False  # of a word, whose characters go on in the next chunk

    def add(self, text: str) -> None:
        self._words += text.split()

    @property
    def left(self) -> int:
        """Words that have not begun."""
        return len(self._words) - self._begun

    def align(self, chars: Sequence[str], starts: Sequence[float], ends: Sequence[float]) -> list[WordTime]:
        """Words that begin in a chunk, from the times of its characters, s. Words are what stands between spaces."""
        found: list[WordTime] = []
        for char, start, end in zip(chars, starts, ends, strict=False):
            if char.isspace():
                self._inside = False
            elif self._inside and found:
                found[-1] = WordTime(found[-1].word, found[-1].start, max(end, found[-1].end))
            elif not self._inside:
                self._inside = True
                found += self.begin(1, start, end)
        return found

    def begin(self, count: int, start: float, end: float) -> list[WordTime]:
        """The next words, which share this time."""
        words = self._words[self._begun : self._begun + count]
        self._begun += len(words)
        step = (end - start) / (len(words) or 1)
        return [WordTime(word, start + i * step, start + (i + 1) * step) for i, word in enumerate(words)]

    def rest(self) -> SpeechChunk | None:
        """What no sound was timed for, in a moment of silence behind everything."""
        if not self.left:
            return None
        return SpeechChunk(np.zeros(SILENCE, np.int16), self.begin(self.left, 0.0, SILENCE / OUTPUT_RATE))


class Estimate:
    """When words sound that come without times, while the sound is still on its way: as long as their letters take.

    Corrects its pace by the length that each clause turned out to have.
    """

    def __init__(self) -> None:
        self.pace = USUAL_PACE
        self._words: list[str] = []
        self._ends: list[float] = []
        self._done = 0
        self._samples = 0

    def begin(self, words: Sequence[str]) -> None:
        """The next clause."""
        self._words, self._done, self._samples = list(words), 0, 0
        weights = [max(weight(word), 1.0) for word in words]
        self._ends = [sum(weights[: i + 1]) for i in range(len(weights))]

    def sound(self, pcm: Pcm) -> list[WordTime]:
        """The words that begin in the next part of it, in seconds from its first sample."""
        offset = self._samples / OUTPUT_RATE
        self._samples += len(pcm)
        until, words = self._samples / OUTPUT_RATE, []
        while self._done < len(self._words) and (start := self._start(self._done)) < until:
            words.append(WordTime(self._words[self._done], start - offset, self._ends[self._done] * self.pace - offset))
            self._done += 1
        return words

    def end(self) -> list[str]:
        """The clause is over: the words that should have come later."""
        if self._samples and self._ends:
            measured = self._samples / OUTPUT_RATE / self._ends[-1]
            self.pace = 0.5 * self.pace + 0.5 * measured
        return self._words[self._done :]

    def _start(self, i: int) -> float:
        return self._ends[i - 1] * self.pace if i else 0.0
