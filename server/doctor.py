"""``voice-server doctor``: what would keep the server from working, and what to do about it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from config.problem import SettingsError
from config.settings import SettingRow, Settings
from media import address, opus
from pipeline import models
from pipeline.engine import TABLE, Engines
from tokens.errors import LedgerUnavailable
from tokens.ledger import RedisLedger


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``fix`` says what to do when it is not ``ok``."""

    name: str
    ok: bool
    text: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Examination:
    findings: list[Finding]
    settings: list[SettingRow]

    @property
    def ok(self) -> bool:
        return all(finding.ok for finding in self.findings)


async def examine(config_file: Path | None) -> Examination:
    """Look at everything; changes nothing."""
    try:
        settings = Settings.load(config_file)
    except SettingsError as error:
        bad = [Finding("settings", ok=False, text=text, fix="correct it") for text in error.problems]
        return Examination(bad, [])
    findings = [
        Finding("settings", ok=True, text="all keys and values are known"),
        _data_folder(settings),
        _libopus(),
        *await _engines(settings),
        *_models(settings),
        _addresses(settings),
        *_ports(settings),
    ]
    if settings.redis_url:
        findings.append(await _redis(settings.redis_url.get_secret_value()))
    return Examination(findings, settings.describe())


def print_report(examination: Examination, *, as_json: bool) -> None:
    if as_json:
        report = {
            "ok": examination.ok,
            "findings": [asdict(finding) for finding in examination.findings],
            "settings": [row._asdict() for row in examination.settings],
        }
        click.echo(json.dumps(report))
        return
    for row in examination.settings:
        click.echo(f"  {row.name:<16} {row.value or '-':<48} {row.source}")
    click.echo()
    for finding in examination.findings:
        click.echo(f"{'ok  ' if finding.ok else 'FIX '} {finding.name}: {finding.text}")
        if not finding.ok:
            click.echo(f"     {finding.fix}")


def _data_folder(settings: Settings) -> Finding:
    folder = settings.data_dir
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if os.access(nearest, os.W_OK | os.X_OK):
        return Finding("data folder", ok=True, text=str(folder))
    return Finding(
        "data folder", ok=False, text=f"{folder} cannot be written", fix="set VOICE_DATA_DIR to a folder of yours"
    )


def _libopus() -> Finding:
    try:
        opus.load()
    except opus.OpusUnavailableError as error:
        return Finding("libopus", ok=False, text="not found", fix=str(error))
    return Finding("libopus", ok=True, text="found")


async def _engines(settings: Settings) -> list[Finding]:
    """Each engine of the settings is loaded as the server would load it."""
    engines = Engines(settings)
    try:
        await engines.start()
        report = engines.status()
    finally:
        await engines.aclose()
    findings = []
    for kind, names in TABLE.items():
        wanted, status = getattr(settings, kind), report[kind]
        if wanted not in names:
            findings.append(
                Finding(kind, ok=False, text=f"there is no {wanted}", fix=f"choose one of {', '.join(names)}")
            )
        elif status["detail"]:
            findings.append(Finding(kind, ok=False, text=f"{wanted} does not work as it should", fix=status["detail"]))
        else:
            findings.append(Finding(kind, ok=True, text=f"{wanted} was loaded"))
    return findings


def _models(settings: Settings) -> Iterator[Finding]:
    absent = models.missing(settings.models_dir)
    for file in models.CATALOGUE:
        size = f"{file.name}, {file.size / 1e6:.0f} MB"
        if file in absent:
            yield Finding(f"model of {file.engine}", ok=False, text=f"{size}, is missing", fix="run voice-server setup")
        else:
            yield Finding(f"model of {file.engine}", ok=True, text=size)


def _addresses(settings: Settings) -> Finding:
    found = [*settings.public_ip, *(settings.udp_addresses or address.local_addresses())]
    if found:
        return Finding("network", ok=True, text=f"media is announced on {', '.join(found)}")
    return Finding("network", ok=False, text="no address to announce", fix="set VOICE_UDP_ADDRESSES or VOICE_PUBLIC_IP")


def _ports(settings: Settings) -> Iterator[Finding]:
    yield _port("HTTP port", settings.host, settings.port, socket.SOCK_STREAM, "--port")
    for host in settings.udp_addresses or address.local_addresses():
        yield _port(f"UDP port on {host}", host, settings.udp_port, socket.SOCK_DGRAM, "--udp-port")


def _port(name: str, host: str, port: int, kind: socket.SocketKind, flag: str) -> Finding:
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=kind)[0]
        with socket.socket(family, kind) as probe:
            if kind == socket.SOCK_STREAM:  # as the server binds it: connections that just ended do not count
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as error:
        fix = f"stop what uses it (perhaps a server that runs already), or choose another with {flag}"
        return Finding(name, ok=False, text=f"{port}: {error.strerror or error}", fix=fix)
    return Finding(name, ok=True, text=f"{port} is free" if port else "a free one is taken")


async def _redis(url: str) -> Finding:
    ledger = RedisLedger(url)
    try:
        await ledger.read("doctor")
    except LedgerUnavailable:
        return Finding("Redis", ok=False, text="does not answer", fix="start it, or correct VOICE_REDIS_URL")
    finally:
        await ledger.aclose()
    return Finding("Redis", ok=True, text="answers")
