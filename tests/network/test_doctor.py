"""The doctor on a machine with a firewall, behind a translated address, beside a relay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.network.lab import HOST, VOICE, Lab, laboratory

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


def examine(lab: Lab) -> dict[str, dict[str, Any]]:
    """What the doctor finds on the machine of the server. (As a whole it would load the engines, too.)"""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VOICE_")}
    given = {"VOICE_PUBLIC_IP": HOST, "VOICE_HOST": "0.0.0.0"}
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
