"""A real TURN server of a test's own: Debian's coturn on free ports of loopback."""

from __future__ import annotations

import base64
import hmac
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import certificates

START_SECONDS = 15.0
SECRET = "north by northwest"


@dataclass(frozen=True)
class TurnServer:
    port: int
    """UDP and TCP."""
    tls_port: int
    cert: Path
    """What a client has to trust."""

    @property
    def urls(self) -> tuple[str, str, str]:
        return (
            f"turn:127.0.0.1:{self.port}?transport=udp",
            f"turn:127.0.0.1:{self.port}?transport=tcp",
            f"turns:localhost:{self.tls_port}?transport=tcp",
        )


def credentials(secret: str = SECRET, age: float = 0.0) -> tuple[str, str]:
    """A name and a password of one hour that were made ``age`` seconds ago (the REST scheme of coturn)."""
    name = f"{int(time.time() - age) + 3600}:test"
    return name, base64.b64encode(hmac.digest(secret.encode(), name.encode(), "sha1")).decode()


@contextmanager
def turn_server(folder: Path, *more: str) -> Iterator[TurnServer]:
    """coturn with the secret ``SECRET`` and ``more`` lines in its configuration."""
    if shutil.which("turnserver") is None:
        pytest.fail("coturn is missing. Install it with: sudo apt-get install -y coturn")
    files = certificates.make(folder)
    port, tls_port = free_ports()
    lines = [
        *("use-auth-secret", f"static-auth-secret={SECRET}", "realm=test", "fingerprint", "no-cli", "no-dtls"),
        *("listening-ip=127.0.0.1", f"listening-port={port}", f"tls-listening-port={tls_port}"),
        *(f"cert={files.cert}", f"pkey={files.key}", f"pidfile={folder / 'pid'}", f"userdb={folder / 'users'}"),
        *("log-file=stdout", "simple-log", *more),
    ]
    settings, log = folder / "turnserver.conf", folder / "turn.log"
    settings.write_text("\n".join(lines))
    with (
        log.open("wb") as output,
        subprocess.Popen(["turnserver", "-c", str(settings)], cwd=folder, stdout=output, stderr=output) as process,
    ):
        try:
            deadline = time.monotonic() + START_SECONDS
            while not (listens(port) and listens(tls_port)):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            yield TurnServer(port, tls_port, files.cert)
        finally:
            process.kill()


def free_ports() -> tuple[int, int]:
    """Two that no TCP server has; another process may take one in between, which the test then says."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
