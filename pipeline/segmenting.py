"""Where utterances begin and end in audio that is nobody's turn: files, and voices that are only written down."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from media.audio import FRAME_MS, INPUT_FRAME, INPUT_RATE, Pcm
from media.vad import WebRtcVad

PRE_ROLL = 300 // FRAME_MS
"""Frames of an utterance before the voice is noticed, so that no first syllable is lost."""

ONSET, WINDOW = 3, 6
"""A voice is noticed when so many of the last frames have it."""

BREATH = 200 // FRAME_MS
"""Frames of silence that a speaker makes between two phrases."""

SENTENCE = 600 // FRAME_MS
"""Frames of silence that end an utterance."""

LONG, LONGEST = 15_000 // FRAME_MS, 28_000 // FRAME_MS
"""Frames of an utterance that is to end at the next breath, and of one that ends now."""


class Mark(Enum):
    BEGIN = auto()
    PAUSE = auto()
    """Silence for a breath; the utterance may go on."""
    END = auto()


class Endpointer:
    """Follows the verdicts of a detector of voices, one for each 20 ms. No clock but theirs."""

    def __init__(self, silence: int = SENTENCE) -> None:
        """``silence`` counts frames."""
        self._silence = silence
        self._recent: deque[bool] = deque(maxlen=WINDOW)
        self._length = 0  # frames since the beginning; 0: nobody speaks
        self.quiet = 0
        """Frames since the last that had a voice."""

    @property
    def speaking(self) -> bool:
        return self._length > 0

    def hear(self, voiced: bool) -> Mark | None:
        self.quiet = 0 if voiced else self.quiet + 1
        if not self._length:
            self._recent.append(voiced)
            if sum(self._recent) < ONSET:
                return None
            self._length = 1
            return Mark.BEGIN
        self._length += 1
        if self._length >= LONGEST or self.quiet >= (self._silence if self._length < LONG else BREATH):
            self.reset()
            return Mark.END
        return Mark.PAUSE if self.quiet == BREATH else None

    def reset(self) -> None:
        """What comes next begins anew."""
        self._length = 0
        self._recent.clear()


@dataclass(frozen=True, slots=True)
class Segment:
    """An utterance with a little silence around it."""

    start: int
    """Sample, from the beginning of all audio."""
    end: int
    """One behind the last sample that belongs to the voice; ``pcm`` goes on a little."""
    pcm: Pcm


class Segmenter:
    """Cuts mono audio at ``INPUT_RATE``, which comes in pieces of any size; the size does not change the cuts."""

    def __init__(self) -> None:
        self._vad = WebRtcVad()
        self._endpointer = Endpointer()
        self._rest: Pcm = np.zeros(0, np.int16)
        self._frames: deque[Pcm] = deque(maxlen=PRE_ROLL)
        self._utterance: list[Pcm] = []
        self._heard = 0  # frames

    @property
    def samples(self) -> int:
        """All that was heard."""
        return self._heard * INPUT_FRAME + len(self._rest)

    def feed(self, pcm: Pcm) -> list[Segment]:
        """The utterances that are complete now."""
        pcm = np.concatenate([self._rest, pcm])
        whole = len(pcm) // INPUT_FRAME * INPUT_FRAME
        self._rest = pcm[whole:]
        found = (self._hear(frame) for frame in pcm[:whole].reshape(-1, INPUT_FRAME))
        return [segment for segment in found if segment]

    def finish(self) -> list[Segment]:
        """That which goes on to the end, if any."""
        return [self._segment(self._rest)] if self._endpointer.speaking else []

    def _hear(self, frame: Pcm) -> Segment | None:
        self._heard += 1
        mark = self._endpointer.hear(self._vad.is_speech(frame))
        if mark is Mark.BEGIN:
            self._utterance = [*self._frames, frame]
            self._frames.clear()
        elif mark is Mark.END:
            self._utterance.append(frame)
            return self._segment(np.zeros(0, np.int16))
        elif self._endpointer.speaking:
            self._utterance.append(frame)
        else:
            self._frames.append(frame)
        return None

    def _segment(self, rest: Pcm) -> Segment:
        pcm = np.concatenate([*self._utterance, rest])
        end = self._heard * INPUT_FRAME + len(rest)
        voiced = min(end, (self._heard - self._endpointer.quiet + BREATH // 2) * INPUT_FRAME)
        self._utterance = []
        return Segment(end - len(pcm), voiced, pcm)


def seconds(samples: int) -> float:
    return samples / INPUT_RATE
