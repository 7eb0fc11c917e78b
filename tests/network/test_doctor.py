"""The doctor on a machine with a firewall, behind a translated address, beside a relay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.network.lab import HOST, TURN, VOICE, Lab, laboratory
from tests.network.test_turn import TURN_SECRET, coturn

pytestmark = pytest.mark.network

FIREWALL = """
    table ip firewall {
      chain in { type filter hook input priority filter; udp dport 40000 drop; }
    }
    """


EXAMINE = """
import asyncio, dataclasses, json
from config.settings import Settings
from server.reachability import examine_network
found = asyncio.run(examine_network(Settings.load()))
print(json.dumps({finding.name: dataclasses.asdict(finding) for finding in found}))
"""


def examine(lab: Lab, **settings: str) -> dict[str, dict[str, Any]]:
    """What the doctor finds on the machine of the server. (As a whole it would load the engines, too.)"""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VOICE_")}
    given = {"VOICE_PUBLIC_IP": HOST, "VOICE_HOST": "0.0.0.0", **settings}
    command = [*lab.voice.enter, sys.executable, "-c", EXAMINE]
    done = subprocess.run(command, env=clean | given, capture_output=True, text=True, timeout=60, check=True)
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


def test_a_firewall_in_front_of_the_own_port() -> None:
    with laboratory() as lab:
        found = examine(lab)
        assert found[f"UDP port on {VOICE}"]["text"] == "40000 is free and can be reached"
        assert "could not be tried from inside" in found[f"UDP port on {HOST}"]["text"]
        lab.voice.nft(FIREWALL)
        shut = examine(lab)[f"UDP port on {VOICE}"]
        assert (shut["ok"], "firewall" in shut["fix"]) == (False, True)


def test_the_relay_of_the_composition(tmp_path: Path) -> None:
    urls = [f"turn:{TURN}:3478?transport={transport}" for transport in ("udp", "tcp")]
    with laboratory() as lab, coturn(lab, tmp_path):
        for secret, works in ((TURN_SECRET, True), ("another one", False)):
            found = examine(lab, VOICE_TURN_URLS=",".join(urls), VOICE_TURN_SECRET=secret)
            assert [found[f"TURN {url}"]["ok"] for url in urls] == [works, works], found
