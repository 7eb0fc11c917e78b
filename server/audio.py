"""The routes of the audio API and of dictation, put together: they share the engines beside the calls."""

from __future__ import annotations

import asyncio

from aiohttp import web

from config.settings import Settings
from pipeline.background import Background
from pipeline.engine import Engines
from server.admission import Admission
from server.audio_speech import AudioSpeech
from server.audio_stream import AudioStream
from server.audio_text import AudioText
from server.dictation import Dictations
from server.hub import Hub
from server.rate import Counter
from server.voices import Voices
from tokens.keys import ApiKeys
from tokens.minting import TokenOffice


class Audio:
    """Speech, text and voices outside of calls."""

    def __init__(
        self, settings: Settings, keys: ApiKeys, office: TokenOffice, hub: Hub, engines: Engines, *, counter: Counter
    ) -> None:
        self._background = Background(engines)
        admission = Admission(settings, keys, counter)
        self._speech = AudioSpeech(admission, self._background)
        self._stream = AudioStream(admission, self._background)
        self._dictations = Dictations(settings, office, hub, self._background, admission=admission, counter=counter)
        self._parts = (
            Voices(settings, admission, self._background, counter),
            self._speech,
            AudioText(admission, self._background),
            self._stream,
            self._dictations,
        )

    def routes(self) -> list[web.RouteDef]:
        return [route for part in self._parts for route in part.routes()]

    async def close(self) -> None:
        """The server leaves: sockets are told, files are read no further. What is soon done may end."""
        self._background.leaving = True
        await asyncio.gather(self._speech.close(), self._stream.close(), self._dictations.close())

    async def aclose(self) -> None:
        """Release the engines."""
        await self._background.aclose()
