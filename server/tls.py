"""HTTPS by the server itself: the certificate and its renewal, and handshakes that cannot pile up."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
import weakref
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from cryptography import x509

from config.problem import SettingsError

logger = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 10.0
CLOSE_SECONDS = 2.0
MAX_HANDSHAKES = 256
"""At once; asyncio holds 256 KiB for each. When one more comes, the oldest is given up: honest ones take no time."""

PAUSE_SECONDS = 1.0
"""After the system had no socket left to give."""

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_MAX_FILE = 1 << 20


class Certificate:
    """A certificate chain and its key, in PEM files that may be replaced while the server runs."""

    def __init__(self, chain: Path, key: Path) -> None:
        """Reads the files. Raises ``SettingsError`` that says which of them is wrong and why."""
        self._files = chain, key
        self._load()

    def _load(self) -> None:
        chain, key = self._files
        leaf = _leaf(_read("tls_cert", chain), chain)
        _read("tls_key", key)
        self.context = _context(chain, key)
        """For new connections; those that are open keep theirs."""
        self.names = _names(leaf)
        """Host names and addresses that it is good for."""
        self.begins: datetime = leaf.not_valid_before_utc
        self.ends: datetime = leaf.not_valid_after_utc

    def reload(self) -> None:
        """Take up renewed files. Raises ``SettingsError``; then the certificate in use stays."""
        self._load()

    @property
    def current(self) -> bool:
        """Whether it is good now."""
        return self.begins <= datetime.now(UTC) <= self.ends


class TlsPort:
    """A listening TCP port behind which everything is TLS. ``connect`` makes the protocol of one connection."""

    def __init__(self, connect: Callable[[], asyncio.Protocol], certificate: Certificate) -> None:
        self._connect = connect
        self._certificate = certificate
        self._acceptors: list[asyncio.Task[NoReturn]] = []
        self._handshakes: OrderedDict[asyncio.Task[None], None] = OrderedDict()
        self._transports: weakref.WeakSet[asyncio.BaseTransport] = weakref.WeakSet()
        self.sockets: list[socket.socket] = []

    async def open(self, host: str, port: int) -> None:
        """Bind every address of ``host`` and listen; port 0 picks a free one. Raises ``OSError``."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, address in dict.fromkeys((entry[0], entry[4]) for entry in found):
                listening = socket.create_server(address, family=family, backlog=100)
                listening.setblocking(False)
                self.sockets.append(listening)
        except BaseException:
            await self.close()
            raise
        self._acceptors = [loop.create_task(self._accept(listening)) for listening in self.sockets]

    async def close(self) -> None:
        """Stop listening and shaking hands; open connections stay."""
        tasks = [*self._acceptors, *self._handshakes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for listening in self.sockets:
            listening.close()

    def abort(self) -> None:
        """Drop the connections that wait for the other side's farewell."""
        for transport in list(self._transports):
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()

    async def _accept(self, listening: socket.socket) -> NoReturn:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listening)
            except OSError as error:  # else the caller has gone already: accept(2)
                if error.errno in _EXHAUSTED:
                    logger.warning("no connection can be accepted: %s", error.strerror)
                    await asyncio.sleep(PAUSE_SECONDS)
                continue
            if len(self._handshakes) >= MAX_HANDSHAKES:
                oldest, _ = self._handshakes.popitem(last=False)
                oldest.cancel()
                await asyncio.gather(oldest, return_exceptions=True)
            task = loop.create_task(self._shake(connection))
            self._handshakes[task] = None
            task.add_done_callback(lambda done: self._handshakes.pop(done, None))

    async def _shake(self, connection: socket.socket) -> None:
        try:
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                self._connect,
                connection,
                ssl=self._certificate.context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=CLOSE_SECONDS,
            )
        except OSError as error:  # plain HTTP, an old protocol, silence: asyncio has closed the socket
            logger.debug("no TLS handshake: %s", error)
        else:
            self._transports.add(transport)


def _read(name: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE)
    except OSError as error:
        raise SettingsError([f"{name} = {str(path)!r}: cannot be read: {error.strerror}"]) from None


def _leaf(pem: bytes, path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(pem)[0]
    except ValueError:
        raise SettingsError([f"tls_cert = {str(path)!r}: expected certificates in PEM"]) from None


def _context(chain: Path, key: Path) -> ssl.SSLContext:
    where = f"tls_key = {str(key)!r}"

    def no_password() -> NoReturn:  # asking for it would stop a server that nobody watches
        raise SettingsError([f"{where}: is locked with a password; expected a key without one"])

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(chain, key, password=no_password)
    except ssl.SSLError as error:
        texts = {"KEY_VALUES_MISMATCH": "does not belong to the certificate in tls_cert"}
        reason = f" ({error.reason.lower().replace('_', ' ')})" if error.reason else ""
        text = texts.get(error.reason or "", f"expected the private key of tls_cert in PEM{reason}")
        raise SettingsError([f"{where}: {text}"]) from None
    return context


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return (
        *found.get_values_for_type(x509.DNSName),
        *(str(address) for address in found.get_values_for_type(x509.IPAddress)),
    )
