"""What the doctor finds out about the network, on real sockets and with a real coturn."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings
from media.relay import Trouble
from server import reachability
from server.finding import Finding
from tests.live import LiveServer
from tests.turn_server import SECRET, TurnServer, turn_server

LOCAL: dict[str, Any] = {"udp_addresses": ("127.0.0.1",)}


def settings(**options: Any) -> Settings:
    return Settings(**options)


@pytest.fixture(scope="module")
def coturn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TurnServer]:
    with turn_server(tmp_path_factory.mktemp("turn")) as server:
        yield server


@pytest.mark.parametrize(
    ("options", "ok", "text"),
    [
        ({"udp_addresses": ("127.0.0.1",)}, True, "media is announced on 127.0.0.1"),
        ({"udp_addresses": ("127.0.0.1",), "host": "0.0.0.0"}, False, "which only this machine reaches"),
        (
            {"udp_addresses": ("127.0.0.1",), "host": "0.0.0.0", "public_ip": ("127.0.0.1",)},
            False,
            "on 127.0.0.1, which",
        ),
        ({"udp_addresses": ("192.168.0.7",), "host": "0.0.0.0"}, True, "192.168.0.7; callers from elsewhere"),
        ({"udp_addresses": ("10.0.0.7",), "host": "::", "public_ip": ("8.8.8.8",)}, True, "on 8.8.8.8, 10.0.0.7"),
    ],
)
def test_announced_addresses(options: dict[str, Any], ok: bool, text: str) -> None:
    found = reachability._addresses(settings(**options))
    assert found.ok is ok
    assert text in found.text
    assert bool(found.fix) is not ok
    assert ("elsewhere" in found.text) == ("elsewhere" in text)


async def test_free_ports() -> None:
    found = await reachability.examine_network(settings(port=0, udp_port=0, **LOCAL))
    assert [(each.name, each.ok) for each in found] == [
        ("network", True),
        ("HTTP port", True),
        ("UDP port on 127.0.0.1", True),
        ("TURN", True),
    ]
    assert found[1].text == "a free one is taken"
    assert found[2].text.endswith("is free and can be reached")
    assert found[3].text.startswith("none")


async def test_a_port_that_another_program_has() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found, running = await reachability._http_port(settings(port=port))
    assert (found.ok, running) == (False, False)
    assert found.text == f"{port}: Address already in use"
    assert found.fix == "stop what uses it, or choose another with --port"


async def test_a_port_that_another_web_server_has() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n["engines"')
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        found, running = await reachability._http_port(settings(port=server.sockets[0].getsockname()[1]))
    assert (found.ok, running) == (False, False)


async def test_the_port_of_a_server_that_runs(tmp_path: Path) -> None:
    with LiveServer(tmp_path) as server:
        port = int(server.url.rpartition(":")[2])
        for host in ("127.0.0.1", "0.0.0.0"):
            found, running = await reachability._http_port(settings(host=host, port=port))
            assert (found.ok, running, found.text) == (True, True, f"{port} is that of a server that runs; calls: 0")


async def test_a_host_that_is_not_here() -> None:
    found, _ = await reachability._http_port(settings(host="192.0.2.7"))
    assert (found.ok, found.fix) == (False, "correct --host: it is no address of this machine")
    found, _ = await reachability._http_port(settings(host="no-such-machine.invalid"))
    assert (found.ok, found.fix) == (False, "correct --host")


def test_a_port_that_only_root_may_take() -> None:
    found = reachability._occupied(
        "HTTP port", 80, PermissionError(errno.EACCES, "Permission denied"), "--host", "--port"
    )
    assert (found.ok, found.text, found.fix) == (False, "80: Permission denied", "choose a port above 1023 with --port")


async def udp_ports(*, running: bool = False, **options: Any) -> list[Finding]:
    return await reachability._udp_ports(settings(**options), running=running)


async def test_a_udp_port_that_is_taken() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        (found,) = await udp_ports(udp_port=port, **LOCAL)
        assert (found.ok, found.fix) == (False, "stop what uses it, or choose another with --udp-port")
        (found,) = await udp_ports(udp_port=port, running=True, **LOCAL)
        assert (found.ok, found.text) == (True, f"{port} is in use, as it should be")


async def test_a_udp_address_that_is_not_here() -> None:
    (found,) = await udp_ports(udp_addresses=("192.0.2.7",), udp_port=0)
    assert (found.ok, found.fix) == (False, "correct VOICE_UDP_ADDRESSES: it is no address of this machine")


async def test_a_public_address_that_leads_here_and_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reachability, "REACH_SECONDS", 0.2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own, here, away = await udp_ports(udp_port=port, public_ip=("127.0.0.1", "127.0.0.2", "192.0.2.7"), **LOCAL)
    assert own.text == f"{port} is free and can be reached"
    assert (here.name, here.ok) == ("UDP port on 127.0.0.2", True)
    assert (away.name, away.ok, "from another network" in away.text) == ("UDP port on 192.0.2.7", True, True)


async def test_only_the_datagram_that_was_sent_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reachability, "REACH_SECONDS", 0.2)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        for each in (ours, other):
            each.setblocking(False)
            each.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        ours.sendto(b"something else", ours.getsockname())
        found = await reachability._reached("UDP", "127.0.0.1", [ours])
        assert found.ok
        assert not await reachability._arrives("127.0.0.1", port, [ours])
        monkeypatch.setattr(reachability, "_arrives", lambda *_: asyncio.sleep(0, False))
        found = await reachability._reached("UDP", "127.0.0.1", [ours])
        assert (found.ok, "firewall" in found.fix) == (False, True)


async def test_relays_that_work(coturn: TurnServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(coturn.cert))
    urls = (f"stun:127.0.0.1:{coturn.port}", *coturn.urls)
    found = await reachability._relays(settings(turn_urls=urls, turn_secret=SECRET, turn_ttl=600))
    assert [each.name for each in found] == [f"STUN {urls[0]}", *(f"TURN {url}" for url in coturn.urls)]
    assert all(each.ok for each in found), found
    assert found[0].text.startswith("sees this machine as 127.0.0.1:")
    assert found[1].text.startswith("relays at 127.0.0.1:")
    assert found[1].text.endswith("credentials are good for 600 s")


async def test_relays_that_do_not(coturn: TurnServer) -> None:
    secret = "not the one of coturn"
    elsewhere = ("turn:no-such-machine.invalid", "turn:127.0.0.1:9?transport=tcp", "turns:127.0.0.1?transport=udp")
    found = await reachability._relays(settings(turn_urls=(*coturn.urls, *elsewhere), turn_secret=secret))
    troubles: list[Trouble] = ["credentials", "credentials", "tls", "name", "network"]
    fixes = [reachability.RELAY_FIXES[trouble] for trouble in troubles]
    assert [each.fix for each in found] == [*fixes, ""]
    assert (found[-1].ok, found[-1].text) == (True, "not tried: DTLS is for browsers")
    assert secret not in str(found)
    assert ":voice" not in str(found), "the name in the credentials"


async def test_stun_alone_is_no_relay(coturn: TurnServer) -> None:
    stun, turn = await reachability._relays(settings(turn_urls=(f"stun:127.0.0.1:{coturn.port}",)))
    assert (stun.ok, turn.name, turn.text[:4]) == (True, "TURN", "none")
