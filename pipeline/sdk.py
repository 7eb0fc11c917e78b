"""The official OpenAI SDK towards one provider: loaded late, connected early, its errors in our words."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.engine import EngineError
from pipeline.remote import Breaker, ProviderError, garbled, hung_up, status_error, tell, too_slow, unreachable

if TYPE_CHECKING:
    from openai import AsyncOpenAI

logger = logging.getLogger(__name__)

OWN_NAME = "openai"
"""The provider that the SDK is made for."""

NO_KEY = "none"
"""The SDK wants a key, a server in the house does not."""

CONNECT_SECONDS = 3.0
WARM_SECONDS = 4.0
READ_SECONDS = 30.0
"""Between two bytes. Whoever waits on the line is less patient: see ``pipeline.llm.failover``."""

IDLE_SECONDS = 240.0
"""How long a connection is kept: from one turn to the next, and longer than the SDK's 5 s."""


class Sdk:
    """One client with its pool of connections. Nothing is retried here."""

    def __init__(self, name: str, url: str, key: str) -> None:
        self.name = name
        self._url, self._key = url, key
        self._client: AsyncOpenAI | None = None
        self._starting = asyncio.Lock()
        self._first_model = ""
        self._used = -IDLE_SECONDS
        self._warming: asyncio.Task[None] | None = None

    async def client(self) -> AsyncOpenAI:
        """Importing takes a second and certificates take a while: not on the loop that plays audio."""
        self._used = asyncio.get_running_loop().time()
        async with self._starting:
            if self._client is None:
                self._client = await asyncio.to_thread(self._make)
            return self._client

    def prepare(self, breaker: Breaker) -> None:
        """Have a connection opened in the background, unless one should be there."""
        idle = asyncio.get_running_loop().time() - self._used
        if idle > IDLE_SECONDS / 2 and (self._warming is None or self._warming.done()):
            self._warming = asyncio.create_task(self.warm(breaker), name=f"warming {self.name}")

    async def warm(self, breaker: Breaker) -> None:
        """Open a connection and see whether the key is good. Never raises, but tells ``breaker`` what went wrong."""
        try:
            async with asyncio.timeout(WARM_SECONDS):
                await self._list()
            breaker.succeeded()
        except TimeoutError:
            logger.warning("%s took too long to list its models", self.name)
        except EngineError as error:
            if isinstance(error, ProviderError) and error.refused:
                breaker.failed(error)
            tell(error)

    async def usual_model(self) -> str:
        """What the provider lists first: of a server with one model that one."""
        if not self._first_model:
            await self._list()
        return self._first_model

    async def _list(self) -> None:
        client = await self.client()
        with self.errors():
            models = await client.models.list()
        self._first_model = models.data[0].id if models.data else ""

    @contextmanager
    def errors(self, lost: Callable[[str], ProviderError] = unreachable) -> Iterator[None]:
        """Raise ``ProviderError`` for whatever the SDK raises. ``lost``: what a broken connection means."""
        import httpx2
        import openai

        try:
            yield
        except openai.APIStatusError as error:
            if error.code == "insufficient_quota":  # a 429 that no patience mends
                raise status_error(self.name, 402, {}, _said(error)) from None
            raise status_error(self.name, error.status_code, error.response.headers, _said(error)) from None
        except openai.APITimeoutError:
            raise too_slow(self.name) from None
        except openai.APIConnectionError:
            raise lost(self.name) from None
        except openai.APIResponseValidationError:
            raise garbled(self.name) from None
        except openai.APIError as error:
            raise status_error(self.name, 500, {}, _said(error)) from None
        except httpx2.TimeoutException:
            raise too_slow(self.name) from None
        except httpx2.HTTPError:
            raise hung_up(self.name) from None
        except (ValueError, TypeError, AttributeError, KeyError, IndexError, openai.OpenAIError):
            # A frame that is no JSON, or JSON of another shape.
            raise garbled(self.name) from None

    def stream_error(self, error: Any) -> ProviderError:
        """What a stream tells of a failure in its middle."""
        told = error if isinstance(error, dict) else {"message": error}
        code = str(told.get("code") or "")
        status = int(code) if code.isdecimal() else 429 if "rate" in f"{code} {told.get('type')}" else 500
        return status_error(self.name, status, {}, str(told.get("message") or ""))

    async def aclose(self) -> None:
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.gather(self._warming, return_exceptions=True)
        if self._client is not None:
            await self._client.close()

    def _make(self) -> AsyncOpenAI:
        import httpx2
        import openai

        timeout = httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
        limits = httpx2.Limits(max_connections=1000, max_keepalive_connections=100, keepalive_expiry=IDLE_SECONDS)
        client = openai.AsyncOpenAI(
            api_key=self._key or NO_KEY,
            base_url=self._url,
            max_retries=0,
            timeout=timeout,
            http_client=openai.DefaultAsyncHttpxClient(timeout=timeout, limits=limits),
        )
        if self.name != OWN_NAME:
            # What the SDK finds in the environment is for OpenAI: its name, project and headers are nobody else's.
            client.organization = client.project = client.admin_api_key = None
            client._custom_headers = {}
        return client


def _said(error: Any) -> str:
    """The provider's own words."""
    body = error.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        message = inner.get("message") if isinstance(inner, dict) else inner
        return str(message or "")
    return body if isinstance(body, str) and len(body) < 300 and "<" not in body else ""
