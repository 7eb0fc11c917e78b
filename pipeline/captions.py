"""When each written word is heard, from the times of the spoken ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from pipeline.speakable import Spoken
from pipeline.tts import WordTime


class Captions:
    """Follows a voice: what it was given to say goes in with ``expect``, the words that it timed with ``written``.

    Each written word comes out once and in order, in the chunk in which the first spoken word that stands for it
    begins; several that stand for one spoken word share its time. A voice that times fewer words than it was given
    leaves the rest to ``rest``; words beyond what was expected are ignored.
    """

    def __init__(self) -> None:
        self._due: deque[tuple[str, ...]] = deque()  # for each spoken word the written ones that begin with it

    def expect(self, clause: Spoken) -> None:
        """The voice is about to say ``clause.text``."""
        for span in clause.spans:
            begins: list[list[str]] = [[] for _ in span.spoken]
            for i, word in enumerate(span.written):
                begins[i * len(span.spoken) // len(span.written)].append(word)
            self._due.extend(map(tuple, begins))

    def written(self, spoken: Sequence[WordTime]) -> list[WordTime]:
        """The written words of one chunk, with times that do not decrease if those of ``spoken`` do not."""
        words: list[WordTime] = []
        for time in spoken[: len(self._due)]:
            begun = self._due.popleft()
            if not begun and words:  # the word before is still being said
                words[-1] = WordTime(words[-1].word, words[-1].start, max(words[-1].end, time.end))
            step = (time.end - time.start) / (len(begun) or 1)
            starts = [time.start + step * i for i in range(len(begun))]
            words += [WordTime(word, start, start + step) for word, start in zip(begun, starts, strict=True)]
        return words

    def rest(self) -> list[str]:
        """The written words that no spoken word was timed for; none of them is expected any more."""
        words = [word for begun in self._due for word in begun]
        self._due.clear()
        return words
