"""What the bot says: utterances written to the playout one after another, their events paced by its clock.

Protocol 3.11 and 4.4: announced when its first sample is sent, word by word with the audio, exactly one terminal event.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from media.audio import OUTPUT_RATE, Pcm
from media.playout import Playout
from pipeline.events import BotFinished, BotInterrupted, BotSpeaking, BotWord, Event, MessageConfirmed
from pipeline.tts import SpeechChunk

WORDS_AROUND = 12
"""Words before and behind the present place in which an echo is looked for."""

AHEAD = 20 * OUTPUT_RATE
"""Samples synthesised ahead of the clock before the writer has to wait."""


@dataclass(frozen=True, slots=True)
class _TimedWord:
    word: str
    begin: int
    """Position of its first sample."""
    end: int


@dataclass(slots=True, eq=False)
class Utterance:
    """One bot message. Positions are samples on the playout clock."""

    id: str
    text: str
    """What ``bot.speaking`` announces: the full text if it is known, else nothing."""
    remember: bool
    """What was heard of it goes into the history."""
    on_first_sound: Callable[[], None] | None = None
    """It has audio, which is not sent yet."""
    on_first_packet: Callable[[], None] | None = None
    start: int | None = None
    end: int = 0
    announced: bool = False
    complete: bool = False
    closed: bool = False
    """Its terminal event was published, or it was dropped unannounced: nothing is written any more."""
    words: deque[_TimedWord] = field(default_factory=deque)
    """Not heard yet."""
    heard: list[str] = field(default_factory=list)

    @property
    def has_audio(self) -> bool:
        return self.start is not None

    def played(self, position: int) -> int:
        """Samples of it that were sent."""
        return max(0, min(position, self.end) - self.start) if self.start is not None else 0


class Speaking:
    """Owns the playout of one call. Utterances are written in the order in which they began."""

    def __init__(
        self, playout: Playout, publish: Callable[[Event], None], remember: Callable[[str, str], None]
    ) -> None:
        """``remember`` takes the id of a message and what was heard of it."""
        self._playout = playout
        self._publish = publish
        self._remember = remember
        self._queue: deque[Utterance] = deque()
        self._played = 0  # samples of utterances that are over, since the reply began
        self._sounded = 0
        self._said = ""
        self._room = asyncio.Event()
        self._room.set()

    @property
    def active(self) -> bool:
        """Something is being said or about to be."""
        return bool(self._queue)

    @property
    def audible(self) -> bool:
        return any(utterance.announced for utterance in self._queue)

    @property
    def played_ms(self) -> int:
        """How much of the present reply was heard, over all its utterances."""
        current = sum(utterance.played(self._playout.played) for utterance in self._queue)
        return (self._played + current) * 1000 // OUTPUT_RATE

    @property
    def left_ms(self) -> int:
        """How much waits to be heard."""
        return self._playout.pending * 1000 // OUTPUT_RATE

    def begin_reply(self) -> None:
        """``played_ms`` counts from here."""
        self._played = 0

    def begin(self, utterance: Utterance) -> None:
        """Queue an utterance, to be filled by ``write`` and ended by ``complete``."""
        self._queue.append(utterance)

    def write(self, utterance: Utterance, chunk: SpeechChunk) -> None:
        """Say a piece. Ignored once the utterance was interrupted."""
        if utterance.closed:
            return
        base = self._playout.written
        end = self._playout.write(chunk.pcm)
        for timed in chunk.words:
            begin = min(base + round(timed.start * OUTPUT_RATE), max(base, end - 1))
            utterance.words.append(_TimedWord(timed.word, begin, base + round(timed.end * OUTPUT_RATE)))
        if end > base:
            if utterance.start is None:
                utterance.start = base
                if utterance.on_first_sound:
                    utterance.on_first_sound()
            utterance.end = end
        if self._playout.pending > AHEAD:
            self._room.clear()

    def complete(self, utterance: Utterance) -> None:
        """Nothing follows: it is finished when its last sample was sent, at once if it never had one."""
        utterance.complete = True
        self.advance(self._playout.played)

    async def room(self) -> None:
        """Wait until less than ``AHEAD`` is waiting to be heard."""
        await self._room.wait()

    def advance(self, position: int) -> None:
        """The playout clock moved to ``position``: publish what became audible."""
        if self._playout.pending <= AHEAD:
            self._room.set()
        while self._queue:
            head = self._queue[0]
            self._announce(head, position)
            if head.announced:
                while head.words and head.words[0].begin < position:
                    self._say(head)
            if not head.complete or (head.has_audio and position < head.end):
                return
            self._queue.popleft()
            self._finish(head)

    def interrupt(self, reason: str) -> None:
        """Silence at once.

        ``reason``: ``user_spoke``, ``cancelled``, or ``continuation``, after which nothing of it counts as said.
        """
        self.advance(self._playout.played)
        position = self._playout.clear()
        self._room.set()
        dropped, self._queue = self._queue, deque()
        for utterance in dropped:
            utterance.closed = True
            self._said = " ".join(utterance.heard[-WORDS_AROUND:])
            if utterance.announced:
                self._cut(utterance, position, reason)

    def duck(self) -> None:
        """Lower the voice: the user may be speaking."""
        self._playout.duck()

    def pause(self) -> None:
        """Say nothing until ``resume`` or ``interrupt``, and lose nothing."""
        self._playout.pause()

    def resume(self) -> None:
        """Go on in full voice where it was."""
        self._playout.resume()

    def sounding(self) -> Pcm | None:
        """The frame at ``OUTPUT_RATE`` that was sent last, if that was since the last time; else ``None``."""
        before, self._sounded = self._sounded, self._playout.played
        return self._playout.last if self._sounded != before else None

    def saying(self) -> str:
        """The words around the present place; in silence the last ones."""
        if not self._queue:
            return self._said
        head = self._queue[0]
        ahead = (timed.word for timed in islice(head.words, WORDS_AROUND))
        return " ".join([*head.heard[-WORDS_AROUND:], *ahead])

    def _announce(self, utterance: Utterance, position: int) -> None:
        if utterance.announced or utterance.start is None or position <= utterance.start:
            return
        utterance.announced = True
        self._publish(BotSpeaking(message_id=utterance.id, text=utterance.text))
        if utterance.on_first_packet:
            utterance.on_first_packet()

    def _say(self, utterance: Utterance) -> None:
        timed = utterance.words.popleft()
        start = utterance.start or 0
        self._publish(
            BotWord(
                message_id=utterance.id,
                word=timed.word,
                word_index=len(utterance.heard),
                start_time=round((timed.begin - start) / OUTPUT_RATE, 3),
                end_time=round((max(timed.begin, timed.end) - start) / OUTPUT_RATE, 3),
            )
        )
        utterance.heard.append(timed.word)

    def _finish(self, utterance: Utterance) -> None:
        utterance.closed = True
        if not utterance.announced:
            return
        while utterance.words:
            self._say(utterance)
        text = " ".join(utterance.heard)
        self._said = " ".join(utterance.heard[-WORDS_AROUND:])
        samples = utterance.end - (utterance.start or 0)
        self._played += samples
        self._confirm(utterance, text)
        self._publish(BotFinished(message_id=utterance.id, duration_ms=samples * 1000 // OUTPUT_RATE, text=text))

    def _cut(self, utterance: Utterance, position: int, reason: str) -> None:
        self._publish(
            BotInterrupted(
                message_id=utterance.id,
                played_ms=utterance.played(position) * 1000 // OUTPUT_RATE,
                words_spoken=len(utterance.heard),
                last_word=utterance.heard[-1] if utterance.heard else None,
                reason=reason,
            )
        )
        if reason != "continuation":
            self._confirm(utterance, " ".join(utterance.heard))

    def _confirm(self, utterance: Utterance, text: str) -> None:
        if not text:
            return
        if utterance.remember:
            self._remember(utterance.id, text)
        self._publish(MessageConfirmed(message_id=utterance.id, text=text))
