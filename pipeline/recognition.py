"""The user's voice on its way to the recogniser: pre-roll, one stream at a time, finals that are owed, failures."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Protocol

from media.audio import FRAME_MS, INPUT_RATE, Pcm
from pipeline.engine import EngineError
from pipeline.meter import Meter
from pipeline.stt import SpeechToText, Stream, Transcript, TurnGuess

logger = logging.getLogger(__name__)

PRE_ROLL_MS = 300
"""What is heard from before the onset, so that the first syllable is not lost."""

NOTICING_MS = 200
"""How long it takes at most to notice an onset; that much is kept beside the pre-roll."""

FINAL_SECONDS = 10.0
"""How long a final transcript may take."""


class RecognitionListener(Protocol):
    def on_transcript(self, transcript: Transcript) -> None:
        """A partial, or the final that a ``flush`` asked for."""

    def on_turn_guess(self, guess: TurnGuess) -> None:
        """The recogniser thinks that the speaker is done."""

    def on_recognition_failed(self, error: EngineError) -> None:
        """What was being said is lost, and so is every final that was owed. The next ``listen`` tries anew."""


class Recognition:
    """Speech to text for one call. Every method is synchronous; results come to the listener."""

    def __init__(
        self, engine: SpeechToText, language: str, listener: RecognitionListener, meter: Meter | None = None
    ) -> None:
        self._engine = engine
        self._language = language
        self._listener = listener
        self._meter = meter or Meter()
        self._before: deque[Pcm] = deque(maxlen=(PRE_ROLL_MS + NOTICING_MS) // FRAME_MS)
        self._listening = False
        self._stale = False
        self._stream: Stream | None = None
        self._reader: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._owed: deque[asyncio.TimerHandle] = deque()

    @property
    def owed(self) -> int:
        """Finals that were asked for and have not come."""
        return len(self._owed)

    def open(self) -> None:
        """Open the stream if there is none, so that the first word does not wait for it."""
        if self._stale and not self._listening and not self._owed:
            self._drop()
        if self._stream is not None:
            return
        self._stale = False
        try:
            self._stream = self._engine.stream(self._language)
        except EngineError as error:
            self._fail(error)
            return
        self._reader = asyncio.create_task(self._read(self._stream), name="transcripts")

    def use(self, engine: SpeechToText, language: str) -> None:
        """Speak to another engine or in another language from the next ``listen`` on."""
        self._stale = self._stale or (engine, language) != (self._engine, self._language)
        self._engine, self._language = engine, language

    def write(self, pcm: Pcm) -> None:
        """One frame at ``INPUT_RATE``: for the recogniser while it listens, else kept as pre-roll."""
        if self._listening and self._stream:
            self._hear(pcm)
        else:
            self._before.append(pcm)

    def listen(self) -> None:
        """Someone may be speaking: the recogniser hears the pre-roll and all that follows."""
        self.open()
        self._listening = self._stream is not None
        while self._before and self._stream:
            self._hear(self._before.popleft())

    def _hear(self, pcm: Pcm) -> None:
        if self._stream:
            self._stream.write(pcm)
            self._meter.heard(self._engine.name, len(pcm) / INPUT_RATE)

    def pause(self) -> None:
        if self._stream:
            self._stream.pause()

    def dismiss(self) -> None:
        """It was nothing: forget what was heard since ``listen``."""
        self._listening = False
        if self._stream:
            self._stream.discard()

    def flush(self) -> bool:
        """The turn is over: a final will come, or a failure. False when there is no stream to ask."""
        self._listening = False
        if self._stream is None:
            return False
        loop = asyncio.get_running_loop()
        late = EngineError("The speech recogniser took too long")
        self._owed.append(loop.call_later(FINAL_SECONDS, self._fail, late))
        self._stream.flush()
        return True

    def forget(self) -> None:
        """Drop the pre-roll: the microphone was muted."""
        self._before.clear()

    def leave(self) -> None:
        """Nothing is reported any more."""
        self._listening = False
        self._drop()

    async def aclose(self) -> None:
        """Release the stream."""
        self.leave()
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _read(self, stream: Stream) -> None:
        error = EngineError("The speech recogniser hung up")
        try:
            async for result in stream:
                if isinstance(result, TurnGuess):
                    self._listener.on_turn_guess(result)
                    continue
                if result.final and self._owed:
                    self._owed.popleft().cancel()
                self._listener.on_transcript(result)
        except EngineError as failure:
            error = failure
        except Exception:
            logger.exception("A speech recogniser broke")
            error = EngineError("The speech recogniser broke")
        if stream is self._stream:
            self._fail(error)

    def _fail(self, error: EngineError) -> None:
        self._drop()
        self._listening = False
        self._listener.on_recognition_failed(error)

    def _drop(self) -> None:
        """Leave the present stream."""
        for timer in self._owed:
            timer.cancel()
        self._owed.clear()
        if self._stream and self._reader:
            if self._reader is not asyncio.current_task():
                self._reader.cancel()
            closing = asyncio.create_task(_close(self._stream, self._reader), name="closing a recogniser")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        self._stream = self._reader = None


async def _close(stream: Stream, reader: asyncio.Task[None]) -> None:
    await asyncio.gather(reader, return_exceptions=True)
    try:
        await stream.aclose()
    except Exception:
        logger.exception("A speech recogniser could not be closed")
