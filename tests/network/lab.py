"""A small internet inside this machine: network namespaces, cables between them, address translation.

Nothing of it touches the machine's own network: every address lives in a namespace, and all of them are removed in the
end, those of a run that was killed by the next one.

    caller --- home --- host === (bridge) === voice, turn
    192.168.7.2   198.51.100.7   198.51.100.1   172.18.0.2, .3
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import pytest

PREFIX = "voicetest"
PROGRAMS = {"ip": "iproute2", "nft": "nftables", "conntrack": "conntrack", "turnserver": "coturn"}

CALLER = "192.168.7.2"
HOME = "198.51.100.7"
"""What the rest of the world sees of the caller."""
HOST = "198.51.100.1"
"""The machine that runs the containers: the only address of the server that the caller can reach."""
VOICE = "172.18.0.2"
TURN = "172.18.0.3"


@dataclass(frozen=True)
class Node:
    """One machine of the laboratory."""

    name: str

    @property
    def enter(self) -> list[str]:
        """What to write before a command so that it runs there, in the same process."""
        return ["ip", "netns", "exec", self.name]

    def run(self, *command: str, given: str | None = None) -> str:
        """Run a command to its end; gives its output. Raises ``AssertionError`` with what it complained of."""
        return _run(*self.enter, *command, given=given)

    def address(self, interface: str, address: str, gateway: str = "") -> None:
        self.run("ip", "address", "add", address, "dev", interface)
        self.run("ip", "link", "set", interface, "up")
        if gateway:
            self.run("ip", "route", "add", "default", "via", gateway)

    def forward(self) -> None:
        self.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")

    def nft(self, rules: str) -> None:
        self.run("nft", "-f", "-", given=rules)


@dataclass(frozen=True)
class Lab:
    caller: Node
    home: Node
    host: Node
    voice: Node
    turn: Node

    def map_caller(self, port: int) -> None:
        """From now on the caller's media leaves its home from this port, and what its router knew is forgotten."""
        self.home.nft(
            f"""
            add table ip nat
            add chain ip nat out {{ type nat hook postrouting priority srcnat; }}
            flush chain ip nat out
            add rule ip nat out udp dport 40000 snat to {HOME}:{port}
            add rule ip nat out oifname "wan" masquerade
            """
        )
        self.home.run("conntrack", "-F")

    def media_flows(self) -> list[str]:
        """The caller's media as its home sees it, each with the port it leaves from: ``50001``, in both directions."""
        flows = self.home.run("conntrack", "-L", "-p", "udp", "--orig-port-dst", "40000", "--reply-src", HOST)
        return [found[1] for line in flows.splitlines() if (found := re.search(r"dport=(\d+) \[ASSURED\]", line))]


@contextmanager
def laboratory() -> Iterator[Lab]:
    """Build it and take it away. Skips the test when this user may not make network namespaces."""
    _check()
    names = {node: f"{PREFIX}-{os.getpid()}-{node}" for node in ("caller", "home", "host", "voice", "turn")}
    lab = Lab(**{node: Node(name) for node, name in names.items()})
    try:
        for name in names.values():
            _run("ip", "netns", "add", name)
            Node(name).run("ip", "link", "set", "lo", "up")
        _build(lab)
        yield lab
    finally:
        for name in names.values():
            _remove(name)


def _build(lab: Lab) -> None:
    _cable(lab.caller, "eth0", lab.home, "lan")
    _cable(lab.home, "wan", lab.host, "wan")
    _cable(lab.voice, "eth0", lab.host, "voice")
    _cable(lab.turn, "eth0", lab.host, "turn")
    lab.caller.address("eth0", f"{CALLER}/24", "192.168.7.1")
    lab.home.address("lan", "192.168.7.1/24")
    lab.home.address("wan", f"{HOME}/24")
    lab.home.forward()

    lab.host.address("wan", f"{HOST}/24")
    lab.host.run("ip", "link", "add", "bridge", "type", "bridge")
    for port in ("voice", "turn"):
        lab.host.run("ip", "link", "set", port, "master", "bridge", "up")
    lab.host.address("bridge", "172.18.0.1/24")
    lab.host.forward()
    # What a container engine sets up for published ports, and nothing else comes in.
    lab.host.nft(
        f"""
        table ip published {{
          chain in {{
            type nat hook prerouting priority dstnat;
            iifname "wan" tcp dport 8080 dnat to {VOICE}
            iifname "wan" udp dport 40000 dnat to {VOICE}
            iifname "wan" udp dport 3478 dnat to {TURN}
            iifname "wan" tcp dport 3478 dnat to {TURN}
          }}
          chain through {{
            type filter hook forward priority filter; policy drop;
            ct state established,related accept
            iifname "bridge" accept
            ct status dnat accept
          }}
        }}
        """
    )
    lab.voice.address("eth0", f"{VOICE}/24", "172.18.0.1")
    lab.turn.address("eth0", f"{TURN}/24", "172.18.0.1")


def _check() -> None:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root; run the tests as root to see calls through NAT and TURN")
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        pytest.fail(f"Some programs are missing. Install them with: sudo apt-get install -y {' '.join(missing)}")
    _remove_leftovers()
    probe = f"{PREFIX}-{os.getpid()}-probe"
    try:
        _run("ip", "netns", "add", probe)
    except AssertionError as error:
        pytest.skip(f"network namespaces cannot be made here: {error}")
    _run("ip", "netns", "delete", probe)


def _remove_leftovers() -> None:
    for name in re.findall(rf"^{PREFIX}-\d+-\w+", _run("ip", "netns", "list"), re.MULTILINE):
        if not os.path.exists(f"/proc/{name.split('-')[1]}"):
            _remove(name)


def _remove(name: str) -> None:
    """A namespace that may not even have been made, with all that still runs in it."""
    inside = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False).stdout
    for process in inside.split():
        with suppress(ProcessLookupError):
            os.kill(int(process), signal.SIGKILL)
    subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _cable(one: Node, plug: str, other: Node, socket: str) -> None:
    _run("ip", "-n", one.name, "link", "add", plug, "type", "veth", "peer", "name", socket, "netns", other.name)


def _run(*command: str, given: str | None = None) -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
    return done.stdout
