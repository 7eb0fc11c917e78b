"""Calls from a network that lets nothing out but TURN: a real coturn, run as ``docker-compose.yml`` runs it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from config.settings import Settings
from server.signalling import ice_servers
from tests.live import LiveServer
from tests.network.caller import KEY, calling
from tests.network.lab import CALLER, HOME, HOST, TURN, VOICE, Lab, laboratory

pytestmark = [pytest.mark.network, pytest.mark.models]

SCRIPT = Path(__file__).parent.parent.parent / "docker" / "turn.sh"
TURN_SECRET = "a secret of the laboratory"
SETTINGS = {"turn_urls": f"turn:{HOST}:3478?transport=udp", "turn_secret": TURN_SECRET}
START_SECONDS = 15.0


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    settings = {f"VOICE_{name.upper()}": value for name, value in SETTINGS.items()} | {"VOICE_API_KEYS": KEY}
    ports = ("--host", "0.0.0.0", "--port", "8080", "--udp-port", "40000")
    with laboratory() as lab, coturn(lab, tmp_path_factory.mktemp("turn")):
        lab.map_caller(50001)
        lab.home.nft(
            """
            table ip firewall {
              chain out {
                type filter hook forward priority filter;
                iifname "lan" meta l4proto udp udp dport != 3478 drop
              }
            }
            """
        )
        folder = tmp_path_factory.mktemp("server")
        with LiveServer(folder, *ports, environment=settings, enter=lab.voice.enter):
            yield lab


@contextmanager
def coturn(lab: Lab, folder: Path) -> Iterator[None]:
    log = folder / "turn.log"
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(folder), "TURN_SECRET": TURN_SECRET, "TURN_PEER": VOICE}
    command = [*lab.turn.enter, "sh", str(SCRIPT)]
    with log.open("wb") as output, subprocess.Popen(command, env=environment, stdout=output, stderr=output) as process:
        try:
            deadline = time.monotonic() + START_SECONDS
            while f"{TURN}:3478" not in lab.turn.run("ss", "-Hlntu"):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            yield
        finally:
            process.kill()


async def test_a_call_that_can_only_be_relayed(lab: Lab) -> None:
    async with calling(lab) as call:
        answer = await call.answer()
    assert "twelve" in answer
    assert lab.media_flows() == []
    assert "[ASSURED]" in lab.home.run("conntrack", "-L", "-p", "udp", "--orig-src", CALLER, "--orig-port-dst", "3478")


@pytest.mark.parametrize("peer", ["172.18.0.1", HOME, "127.0.0.1"])
def test_the_relay_leads_to_nobody_but_the_server(lab: Lab, peer: str) -> None:
    assert "403" in relay(lab, peer)


def test_credentials_that_have_expired_open_nothing(lab: Lab) -> None:
    old = Settings(**SETTINGS).turn_ttl + 60
    assert "Cannot complete Allocation" in relay(lab, VOICE, age=old)
    assert "Cannot complete Allocation" not in relay(lab, VOICE)


def relay(lab: Lab, peer: str, *, age: float = 0.0) -> str:
    """What coturn's own client says when it sends to ``peer``, with credentials that were made ``age`` seconds ago."""
    (server,) = ice_servers(Settings(**SETTINGS), time.time() - age)
    sending = ["turnutils_uclient", "-n", "1", "-m", "1", "-c", "-e", peer, "-r", "40000"]
    command = [*lab.caller.enter, "timeout", "2", *sending, "-u", server["username"], "-w", server["credential"], HOST]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout + done.stderr
