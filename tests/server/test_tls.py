"""HTTPS with real certificates and real TLS clients."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from config.problem import SettingsError
from config.settings import Settings
from server import http, tls
from server.lifecycle import running
from server.tls import Certificate
from tests import certificates
from tests.certificates import Files
from tests.live import LiveServer


async def base(request: web.Request) -> web.Response:
    return http.answer({"base": http.base_url(request, public_url=None, trust_proxy=False)})


def trusting(files: Files) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(files.cert))


@asynccontextmanager
async def secured(certificate: Certificate) -> AsyncIterator[http.Listener]:
    app = http.application()
    app.router.add_get("/base", base)
    listener = http.Listener(app)
    await listener.start("127.0.0.1", 0, certificate)
    try:
        yield listener
    finally:
        await listener.close()


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return certificates.make(tmp_path)


async def test_an_answer_over_tls_names_https(files: Files) -> None:
    async with secured(Certificate(files.cert, files.key)) as listener, aiohttp.ClientSession() as session:
        url = f"https://localhost:{listener.port}/base"
        for _ in range(3):
            async with session.get(url, ssl=trusting(files)) as response:
                assert (await response.json())["base"] == f"https://localhost:{listener.port}"


async def handshake(port: int, context: ssl.SSLContext, name: str = "localhost") -> tuple[str | None, dict[str, Any]]:
    """Protocol version and certificate that a new connection gets."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    connection = writer.get_extra_info("ssl_object")
    assert connection.selected_alpn_protocol() in (None, "http/1.1")
    found = connection.version(), connection.getpeercert()
    writer.close()
    await writer.wait_closed()
    return found


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_protocols_are_refused(files: Files) -> None:
    async with secured(Certificate(files.cert, files.key)) as listener:
        assert (await handshake(listener.port, trusting(files)))[0] == "TLSv1.3"
        twelve = trusting(files)
        twelve.maximum_version = ssl.TLSVersion.TLSv1_2
        assert (await handshake(listener.port, twelve, "127.0.0.1"))[0] == "TLSv1.2"
        eleven = trusting(files)
        eleven.minimum_version = eleven.maximum_version = ssl.TLSVersion.TLSv1_1
        eleven.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises(ConnectionResetError):  # by the server: the client would have gone on
            await handshake(listener.port, eleven)


async def test_what_is_no_tls_is_dropped_without_a_traceback(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with secured(Certificate(files.cert, files.key)) as listener:
        for data in (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\x02\x00", b"", os.urandom(5000)):
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(data)
            writer.write_eof()
            async with asyncio.timeout(20):
                try:
                    while await reader.read(1000):
                        pass
                except ConnectionError:
                    pass
            writer.close()
        await handshake(listener.port, trusting(files))
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.WARNING]


async def test_silent_callers_cannot_keep_others_out(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "MAX_HANDSHAKES", 3)
    async with secured(Certificate(files.cert, files.key)) as listener:
        silent = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(20)]
        await handshake(listener.port, trusting(files))
        gone = [asyncio.create_task(reader.read()) for reader, _ in silent]
        await until(lambda: sum(task.done() for task in gone) >= 17)
        assert listener._tls is not None
        assert len(listener._tls._handshakes) <= 3
        for _, writer in silent:
            writer.close()
        await asyncio.gather(*gone, return_exceptions=True)


async def test_a_caller_that_never_shakes_hands_is_given_up(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE_SECONDS", 0.05)
    async with secured(Certificate(files.cert, files.key)) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        writer.close()


async def test_without_file_descriptors_it_waits(
    files: Files, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tls, "PAUSE_SECONDS", 0.01)
    loop = asyncio.get_running_loop()
    accept, failures = loop.sock_accept, [OSError(24, "Too many open files"), OSError(103, "aborted")]

    async def failing(listening: socket.socket) -> Any:
        if failures:
            raise failures.pop(0)
        return await accept(listening)

    monkeypatch.setattr(loop, "sock_accept", failing)
    async with secured(Certificate(files.cert, files.key)) as listener:
        await handshake(listener.port, trusting(files))
    assert [record.getMessage() for record in caplog.records] == ["no connection can be accepted: Too many open files"]


async def test_connections_are_bounded(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 2)
    async with secured(Certificate(files.cert, files.key)) as listener:
        port, trust = listener.port, trusting(files)
        kept = [await asyncio.open_connection("localhost", port, ssl=trust) for _ in range(2)]
        reader, writer = await asyncio.open_connection("localhost", port, ssl=trust)
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        for _, each in [*kept, (reader, writer)]:
            each.close()
            await each.wait_closed()


async def test_a_port_that_is_taken(files: Files) -> None:
    certificate = Certificate(files.cert, files.key)
    async with secured(certificate) as listener:
        second = http.Listener(http.application())
        with pytest.raises(OSError, match="Address already in use"):
            await second.start("127.0.0.1", listener.port, certificate)
        await second.close()


async def test_open_connections_do_not_hold_up_the_end(files: Files) -> None:
    listener = http.Listener(http.application())
    await listener.start("127.0.0.1", 0, Certificate(files.cert, files.key))
    with socket.create_connection(("127.0.0.1", listener.port)) as plain:
        _, silent = await asyncio.open_connection("127.0.0.1", listener.port)
        kept = await asyncio.to_thread(trusting(files).wrap_socket, plain, server_hostname="localhost")
        began = time.monotonic()
        await listener.close()
        assert time.monotonic() - began < 20
        kept.close()
        silent.close()


# The files.


async def test_a_renewed_certificate_is_taken_up(files: Files, tmp_path: Path) -> None:
    certificate = Certificate(files.cert, files.key)
    async with secured(certificate) as listener:
        _, before = await handshake(listener.port, trusting(files))
        reader, writer = await asyncio.open_connection("localhost", listener.port, ssl=trusting(files))
        certificates.make(tmp_path, days=300, name="two")
        certificate.reload()
        _, after = await handshake(listener.port, trusting(files))
        writer.write(b"GET /base HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200")  # what was open goes on
        writer.close()
        await writer.wait_closed()
    assert before["subject"] != after["subject"] == ((("commonName", "two"),),)
    assert certificate.ends.timestamp() == ssl.cert_time_to_seconds(after["notAfter"])


def folder_in_place_of(file: Path) -> None:
    file.unlink()
    file.mkdir()


BAD: dict[str, tuple[Callable[[Files], object], str]] = {
    "no certificate": (lambda files: files.cert.unlink(), "tls_cert = '.*cert.pem': cannot be read: No such file"),
    "no key": (lambda files: files.key.unlink(), "tls_key = '.*key.pem': cannot be read: No such file"),
    "a folder": (lambda files: folder_in_place_of(files.key), "tls_key = .* cannot be read: Is a directory"),
    "nonsense": (lambda files: files.cert.write_text("hello"), "tls_cert = .* expected certificates in PEM"),
    "an empty file": (lambda files: files.cert.write_text(""), "tls_cert = .* expected certificates in PEM"),
    "bytes": (lambda files: files.cert.write_bytes(os.urandom(1000)), "tls_cert = .* expected certificates in PEM"),
    "a key in place of the certificate": (
        lambda files: files.cert.write_bytes(files.key.read_bytes()),
        "tls_cert = .* expected certificates in PEM",
    ),
    "a certificate in place of the key": (
        lambda files: files.key.write_bytes(files.cert.read_bytes()),
        "tls_key = .* expected the private key of tls_cert in PEM",
    ),
    "nonsense as a key": (lambda files: files.key.write_text("hello"), "tls_key = .* expected the private key"),
    "the key of another": (
        lambda files: files.key.write_bytes(certificates.make(files.key.parent / "other").key.read_bytes()),
        "tls_key = .* does not belong to the certificate in tls_cert",
    ),
    "a locked key": (
        lambda files: certificates.make(files.key.parent, password=b"hunter2"),
        "tls_key = .* is locked with a password",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_files_are_told_and_never_taken_up(name: str, files: Files) -> None:
    spoil, text = BAD[name]
    certificate = Certificate(files.cert, files.key)
    trust = trusting(files)
    async with secured(certificate) as listener:
        spoil(files)
        with pytest.raises(SettingsError, match=text):
            Certificate(files.cert, files.key)
        with pytest.raises(SettingsError, match=text) as caught:
            certificate.reload()
        assert "hunter2" not in str(caught.value)
        _, got = await handshake(listener.port, trust)
    assert got["subject"] == ((("commonName", "one"),),)


def test_what_a_certificate_tells(tmp_path: Path) -> None:
    good = certificates.make(tmp_path / "good")
    assert Certificate(good.cert, good.key).current
    assert Certificate(good.cert, good.key).names == ("localhost", "127.0.0.1")
    for days, since in ((-0.5, 1), (30, -1)):
        files = certificates.make(tmp_path / "bad", days=days, since=since)
        assert not Certificate(files.cert, files.key).current


# The server.


async def test_a_server_with_wrong_files_does_not_start(files: Files, tmp_path: Path) -> None:
    files.key.write_text("hello")
    settings = Settings(tls_cert=files.cert, tls_key=files.key, data_dir=tmp_path / "data", port=0, udp_port=0)
    with pytest.raises(SettingsError, match="tls_key"):
        async with running(settings):
            pass


def test_serve_speaks_https_and_renews_at_sighup(files: Files, tmp_path: Path) -> None:
    flags = ["--tls-cert", str(files.cert), "--tls-key", str(files.key)]

    def get(server: LiveServer, path: str, **headers: str) -> dict[str, Any]:
        request = urllib.request.Request(server.url + path, headers=headers)
        with urllib.request.urlopen(request, timeout=30, context=trusting(files)) as response:
            body: dict[str, Any] = json.load(response)
        return body

    with LiveServer(tmp_path, *flags) as server:
        command = [sys.executable, "-m", "server", "token", "--agent", "demo", "--url", server.url]
        trust = {**os.environ, "VOICE_DATA_DIR": str(tmp_path / "data"), "SSL_CERT_FILE": str(files.cert)}
        token = subprocess.run(command, env=trust, capture_output=True, text=True, timeout=60, check=True)
        assert token.stdout.startswith("wrtc_")
        assert re.fullmatch(r"https://localhost:\d+", server.url)
        assert "version" in get(server, "/health")
        minted = get(server, "/webrtc/token?agent_id=demo", Origin=server.url)
        assert minted["server"] == server.url
        certificates.make(tmp_path, name="two")
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            get(server, "/health")
        os.kill(server.pid, signal.SIGHUP)
        deadline = time.monotonic() + 30
        while "was read again" not in server.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert "version" in get(server, "/health")
        files.key.write_text("hello")
        os.kill(server.pid, signal.SIGHUP)
        while "the certificate in use stays: tls_key" not in server.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert "version" in get(server, "/health")
