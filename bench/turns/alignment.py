"""Where words begin in a sound: by the attention of Whisper's decoder, which ``ctranslate2`` tells."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from functools import cache

import numpy as np
from ctranslate2 import StorageView
from ctranslate2.models import Whisper

from bench.turns.sounds import Sound, to_pcm
from media.audio import INPUT_RATE
from pipeline.logmel import HOP, log_mel
from pipeline.stt.whisper import packaged, text_of

START = 50_258
"""The number of the token with which a transcript begins."""

LANGUAGE = {"en": 50_259, "es": 50_262}
TRANSCRIBE, NO_TIMES = 50_359, 50_363

SHORTEST_WINDOW, MARGIN = 10 * INPUT_RATE, 3 * INPUT_RATE
"""It hears so many samples, or the sound and so much silence."""

BEAM, MOST_TOKENS = 5, 96

STEP = 2 * HOP / INPUT_RATE
"""Seconds that one place of the encoder stands for."""

SPACE = "Ġ"
"""How a token begins that begins a word."""


class Aligner:
    """A recogniser that tells when each word begins."""

    def __init__(self) -> None:
        self._model = Whisper("whisper", files=packaged(), compute_type="int8", intra_threads=1)

    def words(self, sound: Sound, language: str) -> tuple[tuple[float, str], ...]:
        """The words, and seconds from the beginning. A pause in front of a word may count as the word's."""
        pcm = to_pcm(sound)
        length = max(SHORTEST_WINDOW, len(pcm) + MARGIN)
        features = StorageView.from_array(log_mel(pcm, -(-length // HOP) * HOP)[np.newaxis])
        prompt = [START, LANGUAGE[language], TRANSCRIBE, NO_TIMES]
        [result] = self._model.generate(features, [prompt], beam_size=BEAM, max_length=MOST_TOKENS)
        tokens, numbers = result.sequences[0], result.sequences_ids[0]
        if not numbers:
            return ()
        [aligned] = self._model.align(features, prompt, [numbers], [-(-len(sound) // HOP)])
        begins: dict[int, float] = {}
        for token, place in aligned.alignments:
            begins.setdefault(token, place * STEP)
        words: list[tuple[float, list[str]]] = []
        for number, token in enumerate(tokens):
            if token.startswith(SPACE) or not words:
                words.append((begins.get(number, words[-1][0] if words else 0.0), [token]))
            else:
                words[-1][1].append(token)
        return tuple((begin, text_of(parts)) for begin, parts in words)


@cache
def aligner() -> Aligner:
    return Aligner()


def begin_of(word: int, text: str, heard: tuple[tuple[float, str], ...]) -> float | None:
    """When the word of this number begins of a ``text`` that was ``heard``; ``None`` where it or the one before was
    understood otherwise.
    """
    known, found = [_plain(each) for each in text.split()], [_plain(each) for _, each in heard]
    for block in SequenceMatcher(None, known, found, autojunk=False).get_matching_blocks():
        if block.a < word < block.a + block.size:
            return heard[block.b + word - block.a][0]
    return None


def _plain(word: str) -> str:
    return re.sub(r"\W", "", word.lower())
