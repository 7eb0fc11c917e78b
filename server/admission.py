"""Who may use the audio API, how often and how much at a time, so that the calls keep their time. Protocol 2.9."""

from __future__ import annotations

import uuid
from collections import Counter as Tally
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from config.settings import Settings
from pipeline.engine import EngineError, SlowEngineError
from server.http import ApiError
from server.minting import api_key
from server.rate import Counter, RateLimit
from tokens.errors import InvalidKey
from tokens.keys import ApiKeys

SHARES = 4
"""Organisations that may have all at once that one may have."""

RETRY_SECONDS = "2"
REQUEST_ID = "X-Pinecall-Request-Id"


class Admission:
    """Counts the requests of each organisation: per minute, and at the same time."""

    def __init__(self, settings: Settings, keys: ApiKeys, counter: Counter) -> None:
        self._keys = keys
        self._limit = RateLimit(counter, "audio", settings.audio_rate, "Too many audio requests")
        self._each = settings.audio_requests
        self._busy: Tally[str] = Tally()

    def org(self, request: web.Request) -> str:
        """Whose secret key a request shows. Raises ``ApiError`` 401 and ``InvalidKey``."""
        key = api_key(request)
        if not key:
            raise ApiError(401, "An API key is required", "MISSING_KEY")
        if (org := self._keys.org_of(key)) is None:
            raise InvalidKey
        return org

    async def enter(self, request: web.Request) -> str:
        """The organisation, and one request counted. Raises like ``org``, and ``ApiError`` 429."""
        org = self.org(request)
        await self._limit.check(org)
        return org

    @contextmanager
    def place(self, org: str) -> Iterator[None]:
        """A place among those at work. Raises ``ApiError`` 429 when they are taken."""
        if self._busy[org] >= self._each:
            raise _busy(f"{self._each} audio requests of your organisation are at work already")
        if self._busy.total() >= SHARES * self._each:
            raise _busy("The server has enough audio requests at work already")
        self._busy[org] += 1
        try:
            yield
        finally:
            self._busy[org] -= 1
            if not self._busy[org]:
                del self._busy[org]

    @property
    def busy(self) -> int:
        """Requests at work."""
        return self._busy.total()


def request_id() -> str:
    """For the answer's header, and for whoever asks what became of it."""
    return f"req_{uuid.uuid4().hex}"


def failure(error: EngineError) -> ApiError:
    """What an engine could not do. Protocol 2.9."""
    if isinstance(error, SlowEngineError):
        return ApiError(504, str(error), "UPSTREAM_TIMEOUT")
    return ApiError(502, str(error), "UPSTREAM_ERROR")


def _busy(text: str) -> ApiError:
    return ApiError(429, text, "RATE_LIMITED", {"Retry-After": RETRY_SECONDS})
