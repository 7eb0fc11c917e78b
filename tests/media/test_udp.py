"""One port on several addresses, and who gets what arrives there."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from media.udp import BATCH, Path, UdpPort, UdpSocket
from tests.media.peers import readers, until

LOOPBACKS = ["127.0.0.1", "127.0.0.2"]


class Owner:
    def __init__(self) -> None:
        self.got: list[bytes] = []

    def receive(self, data: bytes, path: Path, now: float) -> None:
        self.got.append(data)


class Stun:
    def __init__(self) -> None:
        self.got: list[tuple[bytes, str]] = []

    def __call__(self, data: bytes, local: UdpSocket, remote: tuple[object, ...], now: float) -> None:
        self.got.append((data, local.address))


@contextmanager
def client(address: str = "127.0.0.1") -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind((address, 0))
        yield made


async def test_one_port_number_on_all_addresses(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    watched = readers()
    port = UdpPort(0, Stun())
    port.open(LOOPBACKS)
    assert port.port > 0
    assert port.addresses == LOOPBACKS
    assert readers() == watched + 2
    assert all(f"{each} port {port.port}, receive buffer" in caplog.text for each in LOOPBACKS)
    port.close()
    assert readers() == watched


async def test_a_fixed_port_that_is_taken_is_named() -> None:
    with client() as other:
        taken = other.getsockname()[1]
        port = UdpPort(taken, Stun())
        with pytest.raises(OSError, match=f"udp port {taken} of 127.0.0.2, 127.0.0.1"):
            port.open(["127.0.0.2", "127.0.0.1"])
        assert port.addresses == []


async def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(OSError, match=r"udp port any of 203\.0\.113\.9"):
        UdpPort(0, Stun()).open(["203.0.113.9"])


async def test_an_address_that_is_not_ready_does_not_stop_the_start(caplog: pytest.LogCaptureFixture) -> None:
    port = UdpPort(0, Stun())
    port.open(["203.0.113.9", "127.0.0.1"], strict=False)
    assert port.addresses == ["127.0.0.1"]
    assert "no media on udp 203.0.113.9" in caplog.text
    port.close()
    with pytest.raises(OSError, match=r"203\.0\.113\.9"):
        UdpPort(0, Stun()).open(["203.0.113.9"], strict=False)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
async def test_overflows_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("media.udp.RECEIVE_BUFFER", 4096)
    port = UdpPort(0, Stun())
    port.open(LOOPBACKS)
    assert port.overflows() == 0
    with client() as sender:
        for _ in range(100):  # the loop does not run meanwhile
            sender.sendto(b"\xff" * 100, ("127.0.0.1", port.port))
    lost = port.overflows()
    assert lost > 0
    await until(lambda: port.stats.received == 100 - lost)
    port.close()


async def test_addresses_come_and_go(caplog: pytest.LogCaptureFixture) -> None:
    port = UdpPort(0, Stun())
    port.open(["127.0.0.1"])
    assert port.refresh(["127.0.0.2", "127.0.0.1"]) == ["127.0.0.2", "127.0.0.1"]
    assert port.refresh(["127.0.0.2", "203.0.113.9"]) == ["127.0.0.2"]  # one is gone, one cannot be bound
    assert "no media on udp 203.0.113.9" in caplog.text
    assert port.addresses == ["127.0.0.2"]
    port.close()


async def test_datagrams_are_sorted_by_their_first_byte() -> None:
    stun, owner = Stun(), Owner()
    port = UdpPort(0, stun)
    port.open(LOOPBACKS)
    local = port._sockets["127.0.0.1"]
    with client() as known, client() as stranger:
        local.paths[known.getsockname()] = Path(local, known.getsockname(), owner, 0.0)
        for first in range(256):
            known.sendto(bytes([first]), ("127.0.0.1", port.port))
            stranger.sendto(bytes([first]), ("127.0.0.1", port.port))
        known.sendto(b"", ("127.0.0.1", port.port))
        known.sendto(b"\x80", ("127.0.0.2", port.port))  # the same peer, but not by this path
        await until(lambda: port.stats.received == 514)
    assert [data[0] for data in owner.got] == [*range(20, 64), *range(128, 192)]
    assert sorted(data[0] for data, _ in stun.got) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert {address for _, address in stun.got} == {"127.0.0.1"}
    assert port.stats.strangers == 514 - 108 - 8
    port.close()


async def test_a_flood_is_read_in_portions() -> None:
    port = UdpPort(0, Stun())
    port.open(["127.0.0.1"])
    with client() as sender:
        for _ in range(BATCH + 1):
            sender.sendto(b"\xff", ("127.0.0.1", port.port))
        port._sockets["127.0.0.1"].read()
        assert port.stats.received == BATCH
        await until(lambda: port.stats.received == BATCH + 1)
    port.close()


async def test_sending_never_waits_and_never_raises() -> None:
    port = UdpPort(0, Stun())
    port.open(["127.0.0.1"])
    local = port._sockets["127.0.0.1"]
    with client() as peer:
        assert local.send(b"x", peer.getsockname())
        assert peer.recv(10) == b"x"
        assert not local.send(b"x" * 70_000, peer.getsockname())  # larger than any datagram
        port.close()
        assert not local.send(b"x", peer.getsockname())
    assert port.stats.sent == 1
    assert port.stats.send_dropped >= 1
