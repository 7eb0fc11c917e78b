"""What the bot says: utterances written to the playout one after another, their events paced by its clock.

Protocol 3.11 and 4.4: announced when its first sample is sent, word by word with the audio, exactly one terminal event.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice

from media.audio import OUTPUT_RATE, Pcm
from media.playout import Playout
from pipeline.events import (
    BargeIn,
    BotFinished,
    BotInterrupted,
    BotSpeaking,
    BotWord,
    Event,
    MessageAborted,
    MessageConfirmed,
)
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


class Memory(Enum):
    """What becomes of the words of an utterance that were heard."""

    HISTORY = "history"
    """The model finds them in what was said."""
    ASIDE = "aside"
    """They count as said, but the model does not know of them."""
    NONE = "none"
    """They stand in the history already, or nowhere."""


@dataclass(slots=True, eq=False)
class Utterance:
    """One bot message. Positions are samples on the playout clock."""

    id: str
    text: str
    """What ``bot.speaking`` announces: the full text if it is known, else nothing."""
    memory: Memory
    answers_turn: bool = False
    """It is part of a reply to what the user said."""
    owed: bool = False
    """Somebody was promised a terminal event, be it announced or not."""
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
        self, playout: Playout, publish: Callable[[Event], None], remember: Callable[[Utterance, str], None]
    ) -> None:
        """``remember`` takes what was heard of an utterance, once: nothing when it counts as never said."""
        self._playout = playout
        self._publish = publish
        self._remember = remember
        self._queue: deque[Utterance] = deque()
        self._played = 0  # samples of utterances that are over, since the reply began
        self._answers_turn = False
        self._sounded = 0
        self._said = ""
        self._room = asyncio.Event()
        self._room.set()
        self._quiet = asyncio.Event()
        self._quiet.set()

    @property
    def current(self) -> Utterance | None:
        """What is being said, or is about to be."""
        return self._queue[0] if self._queue else None

    @property
    def answers_turn(self) -> bool:
        """What is being said, or was or will be in silence, replies to a turn of the user."""
        return self._queue[0].answers_turn if self._queue else self._answers_turn

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

    def begin_reply(self, *, answers_turn: bool) -> None:
        """``played_ms`` counts from here. ``answers_turn``: it is to what the user said."""
        self._played = 0
        self._answers_turn = answers_turn

    def begin(self, utterance: Utterance) -> None:
        """Queue an utterance, to be filled by ``write`` and ended by ``complete``."""
        self._queue.append(utterance)
        self._quiet.clear()

    async def take_floor(self, utterance: Utterance) -> None:
        """Begin it as soon as all others were heard; those who wait are served in their order."""
        while self._queue:
            await self._quiet.wait()
        self.begin(utterance)

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

    def refuse(self, utterance: Utterance) -> None:
        """It will never be said. Nothing happens if it was, or is just being said."""
        if not utterance.closed and utterance not in self._queue:
            utterance.closed = True
            self._drop(utterance)

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
            if not self._queue:
                self._quiet.set()

    def interrupt(self, reason: str) -> None:
        """Silence at once.

        ``reason``: ``user_spoke``, ``cancelled``, or ``continuation``, after which nothing of it counts as said.
        """
        self.advance(self._playout.played)
        position = self._playout.clear()
        self._room.set()
        dropped, self._queue = self._queue, deque()
        self._quiet.set()
        for utterance in dropped:
            utterance.closed = True
            self._said = " ".join(utterance.heard[-WORDS_AROUND:])
            if utterance.announced:
                self._cut(utterance, position, reason)
            else:
                self._drop(utterance)

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
            self._drop(utterance)
            return
        while utterance.words:
            self._say(utterance)
        text = " ".join(utterance.heard)
        self._said = " ".join(utterance.heard[-WORDS_AROUND:])
        samples = utterance.end - (utterance.start or 0)
        self._played += samples
        self._confirm(utterance, text)
        self._publish(BotFinished(message_id=utterance.id, duration_ms=samples * 1000 // OUTPUT_RATE, text=text))

    def _drop(self, utterance: Utterance) -> None:
        """Nothing of it was heard."""
        self._remember(utterance, "")
        if utterance.owed:
            self._publish(BotInterrupted(message_id=utterance.id, played_ms=0, words_spoken=0, reason="cancelled"))

    def _cut(self, utterance: Utterance, position: int, reason: str) -> None:
        if reason == "user_spoke":
            self._publish(BargeIn(cancelled_message_id=utterance.id))
        self._publish(
            BotInterrupted(
                message_id=utterance.id,
                played_ms=utterance.played(position) * 1000 // OUTPUT_RATE,
                words_spoken=len(utterance.heard),
                last_word=utterance.heard[-1] if utterance.heard else None,
                reason=reason,
            )
        )
        if reason == "continuation":
            self._remember(utterance, "")
            self._publish(MessageAborted(message_id=utterance.id, reason=reason))
        else:
            self._confirm(utterance, " ".join(utterance.heard))

    def _confirm(self, utterance: Utterance, text: str) -> None:
        self._remember(utterance, text)
        if text:
            self._publish(MessageConfirmed(message_id=utterance.id, text=text))
