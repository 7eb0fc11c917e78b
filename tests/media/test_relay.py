"""Probing STUN and TURN servers: a real coturn, and others that behave badly."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from aioice import stun
from hypothesis import given
from hypothesis import strategies as st

from config.ice_url import IceUrl, parse_ice_url
from media import relay
from media.relay import ProbeError, probe
from tests.turn_server import SECRET, TurnServer, credentials, turn_server


@pytest.fixture(scope="module")
def coturn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TurnServer]:
    with turn_server(tmp_path_factory.mktemp("turn")) as server:
        yield server


async def ask(url: str, secret: str = SECRET, *, age: float = 0.0) -> tuple[str, int]:
    async with asyncio.timeout(30):
        return await probe(parse_ice_url(url), *credentials(secret, age), seconds=20)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["udp", "tcp", "tls"])
async def test_an_address_is_relayed_and_given_back(
    coturn: TurnServer, which: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(coturn.cert))
    host, port = await ask(coturn.urls[which])
    assert host == "127.0.0.1"
    async with asyncio.timeout(30):
        while not is_free(host, port):
            await asyncio.sleep(0.05)
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


def is_free(host: str, port: int) -> bool:
    """Whether nobody has this UDP port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taker:
        try:
            taker.bind((host, port))
        except OSError:
            return False
    return True


@pytest.mark.parametrize("which", [0, 1])
async def test_credentials_that_are_wrong_or_too_old(coturn: TurnServer, which: int) -> None:
    for secret, age in (("another secret", 0.0), (SECRET, 86400.0)):
        with pytest.raises(ProbeError, match="refuses the name and password") as refusal:
            await ask(coturn.urls[which], secret, age=age)
        assert refusal.value.trouble == "credentials"


async def test_a_certificate_that_nobody_trusts(coturn: TurnServer) -> None:
    with pytest.raises(ProbeError, match="TLS: self-signed certificate") as refusal:
        await ask(coturn.urls[2])
    assert refusal.value.trouble == "tls"


async def test_our_address_as_it_is_seen(coturn: TurnServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(coturn.cert))
    for url in (f"stun:127.0.0.1:{coturn.port}", f"stuns:localhost:{coturn.tls_port}"):
        host, port = await ask(url)
        assert host == "127.0.0.1"
        assert port > 0


async def test_a_full_server_says_so(tmp_path: Path) -> None:
    with turn_server(tmp_path, "total-quota=1", "user-quota=1") as server:
        url = parse_ice_url(server.urls[0])
        name, password = credentials()
        taken = await relay._connect(url, name, password)
        try:
            await taken.connect()
            with pytest.raises(ProbeError, match="it refuses \\(486") as refusal:
                await probe(url, name, password, seconds=20)
            assert refusal.value.trouble == "refusal"
        finally:
            await relay._release(taken)


async def refused(server: IceUrl, seconds: float = 0.2) -> ProbeError:
    with pytest.raises(ProbeError) as refusal:
        await probe(server, "name", "word", seconds=seconds)
    return refusal.value


async def test_nobody_there() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        error = await refused(parse_ice_url(f"turn:127.0.0.1:{port}"))
        assert (error.trouble, str(error)) == ("silence", f"no answer from UDP port {port}")
    error = await refused(parse_ice_url(f"turn:127.0.0.1:{port}"))
    assert (error.trouble, str(error)) == ("silence", f"nobody listens on UDP port {port}")
    error = await refused(parse_ice_url(f"turn:127.0.0.1:{port}?transport=tcp"), seconds=20)
    assert (error.trouble, str(error)) == ("network", "connection refused")
    error = await refused(parse_ice_url("turn:no-such-machine.invalid"), seconds=20)
    assert (error.trouble, str(error)) == ("name", "there is no machine no-such-machine.invalid")


class Stranger(asyncio.DatagramProtocol):
    """Answers each datagram in its own way."""

    def __init__(self, reply: Callable[[bytes], bytes]) -> None:
        self.reply = reply

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(self.reply(data), addr)


def deny(code: int, reason: str) -> Callable[[bytes], bytes]:
    def reply(data: bytes) -> bytes:
        asked = stun.parse_message(data)
        return bytes(
            stun.Message(asked.message_method, stun.Class.ERROR, asked.transaction_id, {"ERROR-CODE": (code, reason)})
        )

    return reply


def agree(data: bytes) -> bytes:
    """Success that tells no address."""
    asked = stun.parse_message(data)
    return bytes(stun.Message(asked.message_method, stun.Class.RESPONSE, asked.transaction_id))


def cripple(data: bytes) -> bytes:
    """Success with an attribute of a lifetime that is too short."""
    attribute = struct.pack("!HH", 0x000D, 0)
    return struct.pack("!HH", 0x0103, len(attribute)) + data[4:20] + attribute


@pytest.mark.parametrize(
    ("scheme", "reply", "trouble", "text"),
    [
        ("turn", deny(403, "Forbidden\x1b[31m" + "x" * 200), "refusal", "it refuses (403 Forbidden[31mxxxxxx"),
        ("turn", deny(401, "no realm"), "credentials", "it refuses the name and password (401)"),
        ("turn", agree, "network", "TURN allocation response is missing"),
        ("stun", agree, "network", "the answer names no address"),
        ("turn", cripple, "silence", "no answer"),
        ("turn", bytes, "silence", "no answer"),
        ("turn", lambda data: data, "silence", "no answer"),
        ("stun", lambda _: b"", "silence", "no answer"),
    ],
)
async def test_strangers(
    scheme: str, reply: Callable[[bytes], bytes], trouble: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Stranger(reply), local_addr=("127.0.0.1", 0))
    try:
        port = transport.get_extra_info("sockname")[1]
        error = await refused(parse_ice_url(f"{scheme}:127.0.0.1:{port}"), 0.3 if trouble == "silence" else 20)
    finally:
        transport.close()
    assert (error.trouble, text in str(error), len(str(error)) < 120) == (trouble, True, True), error
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_web_server_is_no_turn_server(caplog: pytest.LogCaptureFixture) -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 3)
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        error = await refused(parse_ice_url(f"turn:127.0.0.1:{port}?transport=tcp"))
        assert error.trouble == "silence"
        error = await refused(parse_ice_url(f"turns:127.0.0.1:{port}"), seconds=20)
        assert error.trouble == "tls"
    assert not [record for record in caplog.records if record.exc_info]


@given(st.binary(max_size=100), st.booleans())
def test_no_datagram_fails_the_client(data: bytes, honest: bool) -> None:
    if honest:  # as far as the header goes, so that the attributes are read
        data = struct.pack("!HHI12s", 0x0103, len(data), stun.COOKIE, bytes(12)) + data
    relay._UdpClient(("127.0.0.1", 9), "name", "word", 60, 60).datagram_received(data, ("127.0.0.1", 9))
