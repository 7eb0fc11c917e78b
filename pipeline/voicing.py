"""From text to sound: pieces of an utterance through the voice to the playout, and an apology when that fails."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from media.audio import OUTPUT_RATE
from pipeline.captions import Captions
from pipeline.clauses import ClauseSplitter, clauses
from pipeline.engine import EngineError
from pipeline.events import CallError, Event
from pipeline.generation import closing
from pipeline.meter import Meter
from pipeline.speakable import Spoken, spoken
from pipeline.speaking import Memory, Speaking, Utterance
from pipeline.tts import SpeechChunk, TextToSpeech

AUDIO_SECONDS = 10.0
"""How long a voice may take over a clause."""


@dataclass(frozen=True, slots=True)
class Voice:
    """Who speaks, and the recording that stands in when they cannot."""

    engine: TextToSpeech
    name: str
    language: str
    speed: float
    apology: SpeechChunk


class Voicing:
    """The voice of one call. Utterances that are said at the same time wait for one another."""

    def __init__(
        self, speaking: Speaking, publish: Callable[[Event], None], voice: Voice, meter: Meter | None = None
    ) -> None:
        self.voice = voice
        """Whoever speaks the next utterance."""
        self._speaking = speaking
        self._meter = meter or Meter()
        self._publish = publish
        self._loop = asyncio.get_running_loop()

    async def pieces(self, text: AsyncIterator[str]) -> AsyncGenerator[Spoken, None]:
        """What can be spoken of a text that is still being written, clause by clause."""
        async with closing(clauses(text)) as parts:
            async for part in parts:
                if piece := spoken(part, self.voice.language):
                    yield piece

    async def recite(self, utterance: Utterance) -> None:
        """Say a text that is known in full; apologise if that cannot be."""
        splitter = ClauseSplitter()
        pieces = [spoken(clause, self.voice.language) for clause in splitter.feed(utterance.text) + splitter.flush()]
        await self.tell(utterance, _each(list(filter(None, pieces))))

    async def tell(self, utterance: Utterance, pieces: AsyncIterator[Spoken]) -> None:
        """Say the pieces as they come; apologise if that cannot be."""
        if error := await self.say(utterance, pieces):
            self._publish(CallError(error=str(error), code="TTS_FAILED"))
            await self.apologise(voice_works=False)

    async def say(
        self, utterance: Utterance, pieces: AsyncIterator[Spoken], confirmed: asyncio.Event | None = None
    ) -> EngineError | None:
        """Say the pieces as they come, but nothing before it is ``confirmed`` and before others have been heard.

        Returns what went wrong. The voice's time runs only while it has something to speak.
        """
        voice, captions = self.voice, Captions()
        said = False

        async def timed(limit: asyncio.Timeout) -> AsyncGenerator[str, None]:
            nonlocal said
            while True:
                limit.reschedule(None)  # what the voice waits for now is not its own fault
                piece = await anext(pieces, None)
                limit.reschedule(self._loop.time() + AUDIO_SECONDS)
                if piece is None:
                    return
                said = True
                captions.expect(piece)
                self._meter.said(voice.engine.name, characters=len(piece.text), seconds=0.0)
                yield piece.text

        begun = False
        try:
            async with asyncio.timeout(None) as limit, closing(pieces), closing(timed(limit)) as words:
                sound = voice.engine.speak(words, voice=voice.name, language=voice.language, speed=voice.speed)
                async with closing(sound) as chunks:
                    async for chunk in chunks:
                        limit.reschedule(None)
                        seconds = len(chunk.pcm) / OUTPUT_RATE
                        self._meter.said(voice.engine.name, characters=0, seconds=seconds)
                        if not begun:
                            if confirmed:
                                await confirmed.wait()
                            await self._speaking.take_floor(utterance)
                            begun = True
                        self._speaking.write(utterance, SpeechChunk(chunk.pcm, captions.written(chunk.words)))
                        await self._speaking.room()
                        limit.reschedule(self._loop.time() + AUDIO_SECONDS)
        except TimeoutError:
            return EngineError("The voice took too long")
        except EngineError as error:
            return error
        finally:
            if begun:
                self._speaking.complete(utterance)
            else:
                self._speaking.refuse(utterance)
        return EngineError("The voice made no sound") if said and not utterance.has_audio else None

    async def apologise(self, *, voice_works: bool) -> None:
        """Say sorry: with the voice if that works, else with a recording of another."""
        recording = self.voice.apology
        text = " ".join(word.word for word in recording.words)
        answers_turn = self._speaking.answers_turn
        utterance = new_utterance(text, Memory.NONE, answers_turn=answers_turn)
        if voice_works:
            await self.say(utterance, _each([spoken(text, self.voice.language)]))
        if not utterance.has_audio:
            utterance = new_utterance(text, Memory.NONE, answers_turn=answers_turn)
            await self._speaking.take_floor(utterance)
            self._speaking.write(utterance, recording)
            self._speaking.complete(utterance)


def new_utterance(text: str, memory: Memory, *, answers_turn: bool = False) -> Utterance:
    """With an id of its own."""
    return Utterance(new_id(), text, memory, answers_turn)


def new_id() -> str:
    """For a message of the bot. Protocol 1.4."""
    return f"msg_{uuid.uuid4().hex}"


async def _each(pieces: Sequence[Spoken]) -> AsyncGenerator[Spoken, None]:
    for piece in pieces:
        yield piece
