"""What the doctor finds out about the network: addresses, ports, and the relays that browsers are told of."""

from __future__ import annotations

import asyncio
import errno
import secrets
import socket
import time
from contextlib import ExitStack, suppress
from ipaddress import ip_address

import aiohttp

from config.ice_url import parse_ice_url
from config.settings import Settings
from media import address
from media.relay import ProbeError, Trouble, probe
from server.finding import Finding
from server.signalling import ice_servers

REACH_SECONDS = 1.0
"""How long a datagram to one of our own addresses may take."""

HEALTH_SECONDS = 2.0

RELAY_FIXES: dict[Trouble, str] = {
    "name": "correct the name in VOICE_TURN_URLS, or the resolver of this machine",
    "silence": "start it, or open that port on the way to it; if only this machine cannot reach it, browsers still may",
    "network": "start it, or correct VOICE_TURN_URLS",
    "tls": "give it a certificate that browsers trust, for the name in VOICE_TURN_URLS",
    "credentials": "use coturn's static-auth-secret as VOICE_TURN_SECRET, and set the clocks of both machines",
    "refusal": "look into its log",
}


async def examine_network(settings: Settings) -> list[Finding]:
    """Opens the ports for a moment, and asks the relays for a moment's service; nothing is left of it."""
    http, running = await _http_port(settings)
    return [_addresses(settings), http, *await _udp_ports(settings, running=running), *await _relays(settings)]


def _addresses(settings: Settings) -> Finding:
    found = list(dict.fromkeys([*settings.public_ip, *_local(settings)]))
    if not found:
        return Finding(
            "network", ok=False, text="no address to announce", fix="set VOICE_UDP_ADDRESSES or VOICE_PUBLIC_IP"
        )
    text = f"media is announced on {', '.join(found)}"
    if settings.loopback:
        return Finding("network", ok=True, text=text)
    if all(ip_address(each).is_loopback for each in found):
        fix = "set VOICE_PUBLIC_IP to the address under which other machines reach this one"
        return Finding("network", ok=False, text=f"{text}, which only this machine reaches", fix=fix)
    if not any(ip_address(each).is_global for each in found):
        text += "; callers from elsewhere than these networks need VOICE_PUBLIC_IP or TURN"
    return Finding("network", ok=True, text=text)


def _local(settings: Settings) -> list[str]:
    return list(settings.udp_addresses or address.local_addresses())


async def _http_port(settings: Settings) -> tuple[Finding, bool]:
    """Whether it is free, and whether a server of ours has it."""
    host, port = settings.host, settings.port
    try:
        _bound(host, port, socket.SOCK_STREAM).close()
    except OSError as error:
        calls = await _calls(settings) if error.errno == errno.EADDRINUSE else None
        if calls is None:
            return _occupied("HTTP port", port, error, "--host", "--port"), False
        return Finding("HTTP port", ok=True, text=f"{port} is that of a server that runs; calls: {calls}"), True
    return Finding("HTTP port", ok=True, text=f"{port} is free" if port else "a free one is taken"), False


async def _calls(settings: Settings) -> int | None:
    """The calls of a server that runs already with these settings; ``None`` when something else has the port."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104  only compared
    url = f"{'https' if settings.tls_cert else 'http'}://{_written(host, settings.port)}/health"
    with suppress(aiohttp.ClientError, TimeoutError, ValueError, LookupError, TypeError):
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=HEALTH_SECONDS)) as session,
            session.get(url, ssl=False) as response,  # the certificate names another host than this address
        ):
            body = await response.json()
            return int(body["calls"]) if "engines" in body else None
    return None


async def _udp_ports(settings: Settings, *, running: bool) -> list[Finding]:
    """Each is opened as the server opens it; then a datagram is sent to each announced address."""
    findings = []
    with ExitStack() as stack:
        sockets: dict[str, socket.socket] = {}
        for host in _local(settings):
            name = f"UDP port on {host}"
            try:
                sockets[host] = stack.enter_context(_bound(host, settings.udp_port, socket.SOCK_DGRAM))
            except OSError as error:
                if running and error.errno == errno.EADDRINUSE:
                    findings.append(Finding(name, ok=True, text=f"{settings.udp_port} is in use, as it should be"))
                else:
                    findings.append(_occupied(name, settings.udp_port, error, "VOICE_UDP_ADDRESSES", "--udp-port"))
            else:
                findings.append(await _reached(name, host, [sockets[host]]))
        public = [host for host in settings.public_ip if host not in sockets] if settings.udp_port else []
        findings += [await _led_back(host, settings.udp_port, list(sockets.values())) for host in public if sockets]
    return findings


async def _reached(name: str, host: str, sockets: list[socket.socket]) -> Finding:
    port = sockets[0].getsockname()[1]
    if await _arrives(host, port, sockets):
        return Finding(name, ok=True, text=f"{port} is free and can be reached")
    fix = "let this machine's firewall pass it"
    return Finding(name, ok=False, text=f"{port} is free, but a datagram to it does not arrive", fix=fix)


async def _led_back(host: str, port: int, sockets: list[socket.socket]) -> Finding:
    """An address that is not ours: many routers do not lead what comes from inside back in."""
    name = f"UDP port on {host}"
    if await _arrives(host, port, sockets):
        return Finding(name, ok=True, text=f"{port} leads to this machine")
    return Finding(name, ok=True, text=f"{port} could not be tried from inside; call from another network to see")


async def _arrives(host: str, port: int, sockets: list[socket.socket]) -> bool:
    """Whether one of the sockets gets what is sent to an address."""
    token = secrets.token_bytes(16)
    readers = [asyncio.create_task(_until(receiver, token)) for receiver in sockets]
    try:
        with socket.socket(_family(host), socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(token, (host, port))
            done, _ = await asyncio.wait(readers, timeout=REACH_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            return bool(done)
    except OSError:  # no way there
        return False
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


async def _until(receiver: socket.socket, token: bytes) -> None:
    while await asyncio.get_running_loop().sock_recv(receiver, 2048) != token:
        pass


def _bound(host: str, port: int, kind: socket.SocketKind) -> socket.socket:
    family, _, _, _, where = socket.getaddrinfo(host, port, type=kind)[0]
    bound = socket.socket(family, kind)
    try:
        bound.setblocking(False)
        if kind == socket.SOCK_STREAM:  # as the server binds it: connections that just ended do not count
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(where)
    except BaseException:
        bound.close()
        raise
    return bound


def _occupied(name: str, port: int, error: OSError, address_setting: str, port_setting: str) -> Finding:
    fix = {
        errno.EADDRNOTAVAIL: f"correct {address_setting}: it is no address of this machine",
        errno.EACCES: f"choose a port above 1023 with {port_setting}",
    }.get(error.errno or 0, f"stop what uses it, or choose another with {port_setting}")
    if isinstance(error, socket.gaierror):
        fix = f"correct {address_setting}"
    return Finding(name, ok=False, text=f"{port}: {error.strerror or error}", fix=fix)


async def _relays(settings: Settings) -> list[Finding]:
    """Each is asked with what a browser would be told now. That ``turn:`` has a secret is checked with the settings."""
    servers = ice_servers(settings, time.time())
    asked = [(url, each.get("username", ""), each.get("credential", "")) for each in servers for url in each["urls"]]
    findings = await asyncio.gather(*(_relay(settings, *each) for each in asked))
    if not any(parse_ice_url(url).relay for url, *_ in asked):
        text = "none: callers whose network lets no UDP through get no sound"
        findings.append(Finding("TURN", ok=True, text=text))
    return findings


async def _relay(settings: Settings, url: str, username: str, credential: str) -> Finding:
    server = parse_ice_url(url)
    name = f"{'TURN' if server.relay else 'STUN'} {url}"
    if server.secure and server.transport == "udp":
        return Finding(name, ok=True, text="not tried: DTLS is for browsers")
    try:
        where = _written(*await probe(server, username, credential))
    except ProbeError as error:
        return Finding(name, ok=False, text=str(error), fix=RELAY_FIXES[error.trouble])
    if server.relay:
        return Finding(name, ok=True, text=f"relays at {where}; credentials are good for {settings.turn_ttl} s")
    return Finding(name, ok=True, text=f"sees this machine as {where}")


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _written(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
