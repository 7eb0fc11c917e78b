"""WebSockets to providers: opened with a limit, their failures in our words, left without waiting for a good-bye."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
from yarl import URL

from pipeline.remote import ProviderError, garbled, hung_up, status_error, too_slow, unreachable

CONNECT_SECONDS = 3.0
CLOSE_SECONDS = 2.0
MAX_MESSAGE = 8 << 20
HEARTBEAT_SECONDS = 10.0
"""A provider that answers no ping for so long is gone."""


class Wire:
    """The sockets of one engine. Belongs to one event loop."""

    def __init__(self, name: str, url: str, headers: Mapping[str, str]) -> None:
        """``url`` is the base address, http or https; ``headers`` hold the key."""
        self.name = name
        self._url, self._headers = URL(url), dict(headers)
        self._session: aiohttp.ClientSession | None = None
        self._closing: set[asyncio.Task[Any]] = set()

    async def connect(
        self, path: str, query: Mapping[str, str] | list[tuple[str, str]], *, heartbeat: float | None = None
    ) -> Socket:
        """Open a socket. Who reads it all the time may ask for a ``heartbeat``. Raises ``ProviderError``."""
        url = (self._url / path.lstrip("/")).with_query(query)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                socket = await self._http().ws_connect(
                    url,
                    headers=self._headers,
                    max_msg_size=MAX_MESSAGE,
                    heartbeat=heartbeat,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
                )
        except TimeoutError:
            raise too_slow(self.name) from None
        except aiohttp.WSServerHandshakeError as error:
            raise status_error(self.name, error.status, error.headers or {}) from None
        except (aiohttp.ClientError, OSError):
            raise unreachable(self.name) from None
        return Socket(self.name, socket)

    async def get(self, path: str) -> Any:
        """A JSON answer. Raises ``ProviderError``."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                async with self._http().get(self._url / path.lstrip("/"), headers=self._headers) as response:
                    if response.status != 200:
                        raise status_error(self.name, response.status, response.headers)
                    return await response.json()
        except TimeoutError:
            raise too_slow(self.name) from None
        except (aiohttp.ContentTypeError, ValueError):
            raise garbled(self.name) from None
        except (aiohttp.ClientError, OSError):
            raise unreachable(self.name) from None

    def leave(self, socket: Socket) -> None:
        """Close a socket; nobody waits for the other side to agree."""
        task = asyncio.create_task(socket.close(), name=f"closing {self.name}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        await asyncio.gather(*self._closing, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(trust_env=True, connector=aiohttp.TCPConnector(limit=0))
        return self._session


class Socket:
    """One connection. JSON text and binary frames."""

    def __init__(self, name: str, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._name = name
        self._socket = socket

    @property
    def closed(self) -> bool:
        return self._socket.closed

    async def send(self, message: Mapping[str, Any] | bytes) -> None:
        """Raises ``ProviderError``."""
        try:
            if isinstance(message, bytes):
                await self._socket.send_bytes(message)
            else:
                await self._socket.send_str(json.dumps(message))
        except (aiohttp.ClientError, ConnectionError, RuntimeError):
            raise hung_up(self._name) from None

    async def receive(self, meaning: Callable[[int, str], ProviderError] | None = None) -> dict[str, Any] | None:
        """The next message; ``None``: the other side closed in good order. Raises ``ProviderError``.

        ``meaning`` explains a close code and reason that are no good order.
        """
        message = await self._socket.receive()
        match message.type:
            case aiohttp.WSMsgType.TEXT:
                try:
                    value = json.loads(message.data)
                except ValueError:
                    value = None
                if not isinstance(value, dict):
                    raise garbled(self._name)
                return value
            case aiohttp.WSMsgType.CLOSE if message.data in (1000, 1001, 1005, None):
                return None
            case aiohttp.WSMsgType.CLOSE if meaning is not None:
                raise meaning(message.data, message.extra or "")
            case aiohttp.WSMsgType.BINARY:
                raise garbled(self._name)
        raise hung_up(self._name)

    async def close(self) -> None:
        await self._socket.close()
