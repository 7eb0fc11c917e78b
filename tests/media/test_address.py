"""Which addresses are announced, and in which order."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.address import LOOPBACK, MAX_ADDRESSES, choose, local_addresses, parse_address, preferred_sources

LO = ("lo", ["127.0.0.1", "::1"])


def test_this_machine() -> None:
    found = local_addresses()
    assert found[-1] == LOOPBACK
    assert len(found) <= MAX_ADDRESSES
    assert found[: len(preferred_sources())] == preferred_sources()


def test_alone_with_loopback() -> None:
    assert choose([LO], []) == [LOOPBACK]


def test_the_default_route_comes_first() -> None:
    interfaces = [LO, ("wlan0", ["192.168.1.5"]), ("eth0", ["10.0.0.5", "2001:db8::5", "fe80::1"])]
    found = choose(interfaces, ["10.0.0.5", "2001:db8::5"])
    assert found == ["10.0.0.5", "2001:db8::5", "192.168.1.5", LOOPBACK]


def test_link_local_and_container_bridges_are_left_out() -> None:
    interfaces = [
        ("eth0", ["10.0.0.5", "169.254.3.4", "fe80::1"]),
        ("docker0", ["172.17.0.1"]),
        ("br-0123456789ab", ["172.18.0.1"]),
        ("veth12", ["172.19.0.1"]),
        ("cni0", ["10.42.0.1"]),
        ("virbr0", ["192.168.122.1"]),
        ("br0", ["192.168.7.1"]),  # an ordinary bridge of a machine with virtual guests
        ("tun0", ["10.8.0.2"]),
    ]
    assert choose(interfaces, []) == ["10.0.0.5", "192.168.7.1", "10.8.0.2", LOOPBACK]


def test_a_bridge_with_the_default_route_is_no_container_bridge() -> None:
    assert choose([("br-lan", ["192.168.1.1"])], ["192.168.1.1"]) == ["192.168.1.1", LOOPBACK]


ADDRESS = st.one_of(st.ip_addresses(), st.ip_addresses(network="169.254.0.0/16"), st.ip_addresses(network="fe80::/10"))


@given(
    st.lists(st.tuples(st.sampled_from(["eth0", "docker0", "wlan1"]), st.lists(ADDRESS.map(str))), max_size=8),
    st.lists(ADDRESS.map(str), max_size=3),
)
def test_any_machine(interfaces: list[tuple[str, list[str]]], preferred: list[str]) -> None:
    found = choose(interfaces, preferred)
    assert found[-1] == LOOPBACK
    assert len(found) == len(set(found)) <= MAX_ADDRESSES
    present = {address for _, addresses in interfaces for address in addresses}
    for text in found[:-1]:
        assert text in present
        assert parse_address(text) == text


@pytest.mark.parametrize("text", ["", "localhost", "0.0.0.0", "::", "224.0.0.1", "fe80::1", "169.254.1.1", "1.2.3"])
def test_what_cannot_be_announced(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_address(text)


def test_canonical_form() -> None:
    assert parse_address(" 2001:DB8:0::1 ") == "2001:db8::1"
    assert ipaddress.ip_address(parse_address("127.0.0.1")).is_loopback
