"""Whether a STUN or TURN server does what browsers will ask of it (RFC 8489, RFC 8656)."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from contextlib import suppress
from typing import Any, Literal

from aioice import stun
from aioice.turn import TurnClientTcpProtocol, TurnClientUdpProtocol

from config.ice_url import IceUrl

PROBE_SECONDS = 3.0
GOODBYE_SECONDS = 1.0
"""How long the server may take to confirm that an allocation is given back; if it does not, it expires."""

LIFETIME = 60
"""Seconds that an allocation is asked for; few servers give less than 600."""

MAX_REASON = 80
"""Characters of a server's own words that are shown."""

Trouble = Literal["name", "silence", "network", "tls", "credentials", "refusal"]


class ProbeError(Exception):
    """The server is of no use. One line for a person, without name and password."""

    def __init__(self, trouble: Trouble, text: str) -> None:
        super().__init__(text)
        self.trouble = trouble


async def probe(
    server: IceUrl, username: str = "", password: str = "", *, seconds: float = PROBE_SECONDS
) -> tuple[str, int]:
    """The address, (host, port), that a TURN server relays for us, or from which a STUN server sees us.

    A relayed address is given back at once. Raises ``ProbeError`` after ``seconds`` at the latest. Not for DTLS.
    """
    client: _Client | None = None
    try:
        async with asyncio.timeout(seconds):
            client = await _connect(server, username, password)
            address = await (client.connect() if server.relay else _reflected(client))
    except BaseException as error:
        if client is not None:
            client.transport.abort()
        if (trouble := _trouble(error, server, client)) is None:
            raise
        raise trouble from None
    await _release(client)
    return address[0], address[1]


class _UdpClient(TurnClientUdpProtocol):
    unheard = False
    """The machine answers that nobody listens on the port; it may still be starting."""

    def datagram_received(self, data: bytes | str, addr: tuple[str, int]) -> None:
        with suppress(struct.error):  # an attribute that is too short
            super().datagram_received(data, addr)

    def error_received(self, exc: Exception) -> None:
        self.unheard = isinstance(exc, ConnectionRefusedError)


class _TcpClient(TurnClientTcpProtocol):
    unheard = False

    def datagram_received(self, data: bytes | str, addr: tuple[str, int]) -> None:
        with suppress(struct.error):
            super().datagram_received(data, addr)


_Client = _UdpClient | _TcpClient


async def _connect(server: IceUrl, username: str, password: str) -> _Client:
    loop = asyncio.get_running_loop()
    where = (server.host, server.port)
    options: dict[str, Any] = {
        "username": username or None,
        "password": password or None,
        "lifetime": LIFETIME,
        "channel_refresh_time": LIFETIME,
    }
    client: _Client
    if server.transport == "udp":
        _, client = await loop.create_datagram_endpoint(lambda: _UdpClient(where, **options), remote_addr=where)
    else:
        tls = ssl.create_default_context() if server.secure else None
        _, client = await loop.create_connection(lambda: _TcpClient(where, **options), *where, ssl=tls)
    return client


async def _reflected(client: _Client) -> tuple[str, int]:
    request = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    response, _ = await client.request(request)
    found = response.attributes.get("XOR-MAPPED-ADDRESS") or response.attributes.get("MAPPED-ADDRESS")
    if found is None:
        raise ConnectionError("the answer names no address")
    host, port = found
    return str(host), int(port)


async def _release(client: _Client) -> None:
    refreshing = client.refresh_task
    if refreshing is not None:
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(GOODBYE_SECONDS):
                await client.delete()  # which cancels it
        await asyncio.gather(refreshing, return_exceptions=True)
    client.transport.abort()


def _trouble(error: BaseException, server: IceUrl, client: _Client | None) -> ProbeError | None:
    """What an error means, ``None`` if it is none of the network."""
    match error:
        case TimeoutError() | stun.TransactionTimeout():
            if client is not None and client.unheard:
                return ProbeError("silence", f"nobody listens on {server.transport.upper()} port {server.port}")
            return ProbeError("silence", f"no answer from {server.transport.upper()} port {server.port}")
        case socket.gaierror():
            return ProbeError("name", f"there is no machine {server.host}")
        case ssl.SSLError():
            reason = getattr(error, "verify_message", "") or error.reason or "the handshake failed"
            return ProbeError("tls", f"TLS: {reason}")
        case stun.TransactionFailed():
            code, reason = error.response.attributes.get("ERROR-CODE", (0, ""))
            said = "".join(filter(str.isprintable, reason))[:MAX_REASON]
            if code == 401:
                return ProbeError("credentials", "it refuses the name and password (401)")
            return ProbeError("refusal", f"it refuses ({code} {said})")
        case OSError():
            return ProbeError("network", os.strerror(error.errno).lower() if error.errno else str(error))
    return None
