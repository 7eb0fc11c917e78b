"""Which of this machine's addresses a browser may reach, best first."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence

import ifaddr

MAX_ADDRESSES = 6
"""Addresses announced. Each one a browser cannot reach delays the one it can."""

LOOPBACK = "127.0.0.1"

_CONTAINER_BRIDGE = re.compile(
    r"(docker|br-|veth|cni|virbr|vnet|podman|nerdctl|flannel|cali|weave|kube|cbr|lxc|lxd|incus)"
)


def parse_address(text: str) -> str:
    """The canonical form of an IP address that can be announced.

    Raises ``ValueError`` for a name, a wildcard, a multicast or a link-local address.
    """
    address = ipaddress.ip_address(text.strip())
    if address.is_unspecified or address.is_multicast or address.is_link_local:
        raise ValueError(f"{text!r} cannot be announced: give the address of one interface")
    return str(address)


def local_addresses() -> list[str]:
    """The addresses to announce now, by route preference; loopback last, or alone when there is nothing else."""
    interfaces = [(adapter.name, [_text(ip.ip) for ip in adapter.ips]) for adapter in ifaddr.get_adapters()]
    return choose(interfaces, preferred_sources())


def choose(interfaces: Iterable[tuple[str, Sequence[str]]], preferred: Sequence[str]) -> list[str]:
    """Order and cut the addresses of all interfaces, given as (name, addresses).

    Those of the default route come first, whatever their interface is called.
    """
    interfaces = list(interfaces)
    present = {address for _, addresses in interfaces for address in addresses}
    usable = [
        address
        for name, addresses in interfaces
        if not _CONTAINER_BRIDGE.match(name)
        for address in addresses
        if _announceable(address)
    ]
    first = [address for address in preferred if address in present and _announceable(address)]
    rest = sorted(usable, key=lambda address: ":" in address)  # IPv4 before IPv6, else as the system lists them
    chosen = list(dict.fromkeys([*first, *rest]))[: MAX_ADDRESSES - 1]
    return [*chosen, LOOPBACK]


def preferred_sources() -> list[str]:
    """Source addresses the system would use towards the internet, IPv4 then IPv6. Nothing is sent."""
    found = []
    for family, elsewhere in ((socket.AF_INET, "203.0.113.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((elsewhere, 9))  # a route look-up only
                found.append(str(probe.getsockname()[0]))
        except OSError:  # no route, or no such family
            continue
    return found


def _announceable(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified)


def _text(ip: str | tuple[str, int, int]) -> str:
    return ip if isinstance(ip, str) else ip[0]
