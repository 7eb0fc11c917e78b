"""Binding requests: which are answered, and where the agent then sends."""

from __future__ import annotations

from typing import Any

import pytest
from aioice import stun
from hypothesis import given
from hypothesis import strategies as st

from media.ice import MAX_PATHS, OWNED, SILENT, IceAgent, IceLite
from media.udp import Path

A, B = ("192.0.2.1", 1000), ("192.0.2.1", 2000)


class Wire:
    """A UDP socket without a wire: what is sent is kept."""

    def __init__(self) -> None:
        self.paths: dict[Any, Path] = {}
        self.sent: list[tuple[bytes, Any]] = []

    def send(self, data: bytes, remote: Any) -> bool:
        self.sent.append((data, remote))
        return True

    def release(self, path: Path) -> None:
        if self.paths.get(path.remote) is path:
            del self.paths[path.remote]


class Owner:
    def receive(self, data: bytes, path: Path, now: float) -> None:
        raise AssertionError


class Bench:
    def __init__(self) -> None:
        self.ice = IceLite()
        self.wire: Any = Wire()
        self.agent = self.ice.create(Owner())

    def check(
        self, remote: Any = A, *, now: float = 0.0, nominate: bool = False, agent: IceAgent | None = None
    ) -> None:
        self.ice.receive(request(agent or self.agent, nominate=nominate), self.wire, remote, now)

    @property
    def target(self) -> Any:
        return self.agent.selected.remote if self.agent.selected else None


def request(agent: IceAgent, *, nominate: bool = False, password: str | None = None, username: str = "") -> bytes:
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    message.attributes["USERNAME"] = username or f"{agent.ufrag}:peer"
    message.attributes["PRIORITY"] = 1
    message.attributes["ICE-CONTROLLING"] = 7
    if nominate:
        message.attributes["USE-CANDIDATE"] = None
    message.add_message_integrity((password or agent.password).encode())
    return bytes(message)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("remote", [A, ("2001:db8::9", 4711, 0, 0)])
def test_a_good_request_is_answered(bench: Bench, remote: Any) -> None:
    data = request(bench.agent)
    bench.ice.receive(data, bench.wire, remote, 1.0)
    answer, to = bench.wire.sent.pop()
    assert to == remote
    response = stun.parse_message(answer)
    assert response.message_class is stun.Class.RESPONSE
    assert response.transaction_id == data[8:20]
    assert response.attributes["XOR-MAPPED-ADDRESS"] == remote[:2]
    assert "FINGERPRINT" in response.attributes
    assert response.check_message_integrity(bench.agent.password.encode())
    assert bench.wire.paths[remote].owner is bench.agent._owner
    assert bench.agent.heard == 1.0
    assert len(answer) <= len(data)


@pytest.mark.parametrize(
    "change",
    [
        {"password": "x" * 24},
        {"username": "nobody:peer"},
        {"username": "x"},
    ],
)
def test_a_wrong_request_is_not_answered(bench: Bench, change: dict[str, str]) -> None:
    bench.ice.receive(request(bench.agent, **change), bench.wire, A, 0.0)  # type: ignore[arg-type]
    assert not bench.wire.sent
    assert not bench.wire.paths
    assert bench.agent.selected is None
    assert bench.ice.stats.refused + bench.ice.stats.unknown == 1


def test_a_request_without_integrity_is_not_answered(bench: Bench) -> None:
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    message.attributes["USERNAME"] = f"{bench.agent.ufrag}:peer"
    message.add_fingerprint()
    bench.ice.receive(bytes(message), bench.wire, A, 0.0)
    assert not bench.wire.sent
    assert bench.ice.stats.refused == 1


def test_truncated_and_damaged_requests_are_counted(bench: Bench) -> None:
    good = request(bench.agent)
    for length in range(len(good)):
        bench.ice.receive(good[:length], bench.wire, A, 0.0)
    for position in range(len(good) - 8):  # without FINGERPRINT, which integrity does not need
        damaged = bytearray(good)
        damaged[position] ^= 0x55
        bench.ice.receive(bytes(damaged), bench.wire, A, 0.0)
    assert not bench.wire.sent
    assert not bench.wire.paths


@given(st.binary(max_size=200), st.integers(0, 40))
def test_random_bytes_raise_nothing(tail: bytes, attribute: int) -> None:
    bench = Bench()
    header = b"\x00\x01" + len(tail).to_bytes(2, "big") + stun.COOKIE.to_bytes(4, "big") + bytes(12)
    known = sorted(stun.ATTRIBUTES_BY_TYPE)[attribute % len(stun.ATTRIBUTES_BY_TYPE)]
    one = known.to_bytes(2, "big") + len(tail).to_bytes(2, "big") + tail + bytes(-len(tail) % 4)
    framed = header[:2] + len(one).to_bytes(2, "big") + header[4:] + one
    for data in (tail, header + tail, framed):
        bench.ice.receive(data, bench.wire, A, 0.0)
    assert not bench.wire.sent


def test_the_first_validated_path_is_used_until_one_is_nominated(bench: Bench) -> None:
    assert not bench.agent.send(b"early")
    bench.check(A)
    bench.check(B)
    assert bench.target == A
    bench.check(B, nominate=True)
    assert bench.target == B
    bench.check(A)
    assert bench.target == B
    bench.check(A, nominate=True)
    assert bench.target == A
    assert bench.agent.send(b"data")
    assert bench.wire.sent[-1] == (b"data", A)


def test_audio_moves_the_path_only_when_the_old_one_is_silent(bench: Bench) -> None:
    bench.check(A, now=0.0, nominate=True)
    bench.check(B, now=0.0)
    bench.agent.authenticated(bench.wire.paths[A], 1.0)
    bench.agent.authenticated(bench.wire.paths[B], 1.0 + SILENT / 2)
    assert bench.target == A
    bench.agent.authenticated(bench.wire.paths[B], 1.0 + SILENT)
    assert bench.target == B
    assert bench.agent.heard == 1.0 + SILENT


def test_a_check_alone_never_moves_the_path(bench: Bench) -> None:
    """Firefox repeats checks on every pair it gathered; they say nothing about where it listens."""
    bench.check(A, now=0.0, nominate=True)
    bench.check(B, now=60.0)
    assert bench.target == A


def test_paths_are_bounded_and_the_one_in_use_stays(bench: Bench) -> None:
    bench.check(A, now=0.0, nominate=True)
    for port in range(1, 5 * MAX_PATHS):
        bench.check(("192.0.2.1", 5000 + port), now=float(port))
    assert len(bench.agent.paths) == len(bench.wire.paths) == MAX_PATHS
    assert bench.target == A
    assert A in bench.wire.paths


def test_a_path_in_use_cannot_be_claimed_by_another_call(bench: Bench) -> None:
    bench.check(A, now=0.0)
    thief = bench.ice.create(Owner())
    bench.check(A, now=OWNED / 2, agent=thief)
    assert bench.wire.paths[A].owner is bench.agent._owner
    assert thief.selected is None
    assert bench.ice.stats.refused == 1
    bench.check(A, now=OWNED, agent=thief)  # the old one is gone: a browser used its port again
    assert bench.wire.paths[A].owner is thief._owner
    bench.agent.close()
    assert bench.wire.paths[A].owner is thief._owner


def test_close_leaves_nothing(bench: Bench) -> None:
    bench.check(A)
    bench.check(B)
    bench.agent.close()
    assert not bench.wire.paths
    assert len(bench.ice) == 0
    assert not bench.agent.send(b"late")
    bench.check(A)
    assert not bench.wire.paths


def test_credentials_differ_and_are_long_enough() -> None:
    ice = IceLite()
    agents = [ice.create(Owner()) for _ in range(50)]
    assert len({agent.ufrag for agent in agents}) == 50
    assert all(len(agent.ufrag) >= 4 and len(agent.password) >= 22 for agent in agents)
