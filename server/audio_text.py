"""``POST /v1/audio/transcriptions``: what is said in a file. Source: protocol 2.9."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from aiohttp import web

from media.audio import Pcm
from pipeline.background import Background
from pipeline.cutting import TooLongError, UnreadableError
from pipeline.engine import FALLBACK_LANGUAGE, EngineError
from pipeline.transcribing import Ears, Text, UnwantedError, transcribe
from pipeline.tts import WordTime
from server.admission import REQUEST_ID, Admission, failure, request_id
from server.catalogue import Listener, language_of, listener, tag
from server.http import ApiError, answer
from server.upload import receive

Shape = Literal["json", "verbose_json", "text"]
SHAPES: tuple[str, ...] = get_args(Shape)

LONGEST = 2 * 3600.0
"""Seconds of audio in one file."""

TRUTHS = {"true": True, "1": True, "false": False, "0": False, "": False}


@dataclass(frozen=True, slots=True)
class TextRequest:
    model: str | None
    language: str | None
    """``None``: to be found out."""
    shape: Shape


class AudioText:
    def __init__(self, admission: Admission, background: Background) -> None:
        self._admission = admission
        self._background = background

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1/audio/transcriptions", self.transcribe)]

    async def transcribe(self, request: web.Request) -> web.Response:
        """``{text, language, duration}``; ``verbose_json`` adds ``model`` and ``segments``, ``text`` is the text."""
        org = await self._admission.enter(request)
        with self._admission.place(org), tempfile.TemporaryDirectory(prefix="voice-", ignore_cleanup_errors=True) as at:
            file = Path(at, "file")
            asked = parse(await receive(request, file))
            scribe = Scribe(self._background, org, asked.model, asked.language)
            text = await scribe.read(request, file, LONGEST)
        return _shaped(text, scribe.model, asked.shape)


class Scribe:
    """Reads one file with the recogniser that is asked for, or the best one for its language."""

    def __init__(self, background: Background, org: str, model: str | None, language: str | None) -> None:
        self._background = background
        self._engines = background.engines.of(org)
        self._org = org
        self._model = model
        self._language = language or language_of(self._engines, model)
        self.model = ""
        """Who has read it."""
        if self._language or model:
            self._choose(self._language or FALLBACK_LANGUAGE)  # which may refuse before any work is done

    async def read(self, request: web.Request, file: Path, longest: float) -> Text:
        """Raises ``ApiError``."""

        def wanted() -> bool:
            here = request.transport is not None and not request.transport.is_closing()
            return here and not self._background.leaving

        try:
            return await transcribe(self._background, file, self._pick, longest=longest, wanted=wanted)
        except UnreadableError as error:
            raise ApiError(415, str(error), "UNSUPPORTED_MEDIA") from None
        except TooLongError as error:
            raise ApiError(413, str(error), "FILE_TOO_LARGE") from None
        except UnwantedError:
            if self._background.leaving:
                raise ApiError(503, "The server is shutting down", "SERVER_DRAINING", {"Retry-After": "5"}) from None
            raise ApiError(499, "The client left", "CLIENT_LEFT") from None
        except EngineError as error:
            raise failure(error) from None

    async def _pick(self, pcm: Pcm) -> Ears:
        found = self._choose(self._language or await self._detect(pcm))
        return Ears(found.engine, found.language, found.part, self._org)

    def _choose(self, language: str) -> Listener:
        found = listener(self._engines, self._model, language)
        self.model = found.model
        return found

    async def _detect(self, pcm: Pcm) -> str:
        """The language of the first utterance, by an engine that can tell languages apart."""
        able = [name for name, engine in self._engines.offers("stt").items() if hasattr(engine, "detect")]
        if not able or not len(pcm):
            return FALLBACK_LANGUAGE
        async with self._background.engine("stt", able[0], self._org) as lent, lent.turn:
            language: str = await lent.engine.detect(pcm)
            return language


def parse(fields: Mapping[str, str]) -> TextRequest:
    """Read the fields of a form. Those that are not known are ignored. Raises ``ApiError``."""
    shape = fields.get("response_format") or "json"
    if shape not in SHAPES:
        raise ApiError(400, f"response_format must be one of {', '.join(SHAPES)}", "FORMAT_UNSUPPORTED")
    if truth(fields.get("diarize", ""), "diarize"):
        raise ApiError(400, "No recogniser here tells speakers apart", "DIARIZE_UNSUPPORTED")
    language = fields.get("language")
    return TextRequest(fields.get("model") or None, tag(language) if language else None, cast(Shape, shape))


def truth(text: str, name: str) -> bool:
    """A field that is true or false. Raises ``ApiError``."""
    value = TRUTHS.get(text.strip().lower())
    if value is None:
        raise ApiError(400, f"{name} must be true or false", "BAD_REQUEST")
    return value


def worded(word: WordTime) -> dict[str, Any]:
    """A word and its seconds."""
    return {"word": word.word, "start": round(word.start, 3), "end": round(word.end, 3)}


def _shaped(text: Text, model: str, shape: Shape) -> web.Response:
    headers = {REQUEST_ID: request_id(), "Cache-Control": "no-store"}
    if shape == "text":
        return web.Response(text=text.text, headers=headers)
    body: dict[str, Any] = {"text": text.text, "language": text.language, "duration": round(text.duration, 3)}
    if shape == "verbose_json":
        body["model"] = model
        body["segments"] = [
            {"id": number, "start": round(part.start, 3), "end": round(part.end, 3), "text": part.text}
            for number, part in enumerate(text.parts)
        ]
        if words := [worded(word) for part in text.parts for word in part.words]:
            body["words"] = words
    return answer(body, headers=headers)
