"""``voice-server doctor``: what would keep the server from working, and what to do about it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from config.agent import AgentConfig
from config.agents import load_agents
from config.problem import SettingsError
from config.providers import Target
from config.settings import SettingRow, Settings
from media import opus
from pipeline import models
from pipeline.engine import SCRIPTED, TABLE, Engines
from server.finding import Finding
from server.lifecycle import origin_problems
from server.reachability import examine_network
from server.tls import Certificate
from server.trying import try_providers
from tokens.token import LEEWAY_SECONDS

REDIS_SECONDS = 2.0


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
        *await examine_network(settings),
        _tls(settings),
        _origins(settings),
        *(await _redis(settings.redis_url.get_secret_value()) if settings.redis_url else [_clock()]),
    ]
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
    for finding in sorted(examination.findings, key=lambda finding: not finding.ok):  # what to fix stands last
        click.echo(f"{'ok  ' if finding.ok else 'FIX '} {finding.name}: {finding.text}")
        if not finding.ok:
            click.echo(f"     {finding.fix}")
    if examination.ok:
        click.echo("\nNothing to fix.")


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
    """Each engine of the settings, and of the languages of the agents, is loaded as the server would load it; each
    provider that is set up is asked for something.
    """
    try:
        engines = Engines(settings)
    except SettingsError as error:
        return [Finding("keys of providers", ok=False, text=text, fix="correct it") for text in error.problems]
    try:
        await engines.start()
        report = engines.status()
        spoken = dict.fromkeys(agent.language for agent in load_agents(settings))
        languages = [await _language(engines, language) for language in spoken]
        tried = await try_providers(engines)
    finally:
        await engines.aclose()
    findings = []
    for kind, names in TABLE.items():
        wanted, status = Target.parse(getattr(settings, kind)).provider, report[kind]
        if wanted not in names and engines.providers.lacks(kind, wanted):
            real = ", ".join(name for name in names if name not in SCRIPTED)
            text = engines.providers.absence(kind, wanted)
            findings.append(Finding(kind, ok=False, text=text, fix=f"set it up, or choose one of {real}"))
        elif status["detail"]:
            findings.append(Finding(kind, ok=False, text=f"{wanted} does not work as it should", fix=status["detail"]))
        else:
            findings.append(Finding(kind, ok=True, text=f"{wanted} was loaded"))
    return findings + languages + tried


async def _language(engines: Engines, language: str) -> Finding:
    """Whether the agents of a language are heard and answered in it."""
    agent = AgentConfig(id="doctor", language=language)
    await engines.ready(agent)
    chosen = engines.choose(agent)
    name = f"language {language}"
    if chosen.language != language:
        fix = "run make setup, or choose another language for these agents"
        return Finding(name, ok=False, text=chosen.warnings[0], fix=fix)
    return Finding(name, ok=True, text=f"{chosen.stt.name} hears it, {chosen.tts.name} speaks it")


def _models(settings: Settings) -> Iterator[Finding]:
    absent = models.missing(settings.models_dir)
    for file in models.CATALOGUE:
        size = f"{file.name}, {file.size / 1e6:.1f} MB"
        if file in absent:
            yield Finding(f"model of {file.engine}", ok=False, text=f"{size}, is missing", fix="run voice-server setup")
        else:
            yield Finding(f"model of {file.engine}", ok=True, text=size)


def _tls(settings: Settings) -> Finding:
    if settings.tls_cert is None or settings.tls_key is None:
        text = "none here: browsers give pages a microphone on localhost, or behind a proxy that speaks HTTPS"
        return Finding("TLS", ok=True, text=text)
    try:
        certificate = Certificate(settings.tls_cert, settings.tls_key)
    except SettingsError as error:
        return Finding("TLS", ok=False, text=str(error), fix="correct the file, or name another")
    text = f"from {certificate.begins:%Y-%m-%d} to {certificate.ends:%Y-%m-%d}, for {', '.join(certificate.names)}"
    if not certificate.current:
        return Finding(
            "TLS", ok=False, text=f"the certificate is not good now: {text}", fix="renew it; check the clock"
        )
    return Finding("TLS", ok=True, text=text)


def _origins(settings: Settings) -> Finding:
    agents = load_agents(settings)
    problems = origin_problems(agents)
    if not settings.allow_any_origin:
        problems += [
            f'agents.{agent.id}.allowed_origins: "*" counts only with VOICE_ALLOW_ANY_ORIGIN'
            for agent in agents
            if "*" in agent.allowed_origins
        ]
    if problems:
        return Finding("allowed origins", ok=False, text="; ".join(problems), fix="correct the patterns")
    count = sum(bool(agent.allowed_origins) for agent in agents)
    return Finding(
        "allowed origins", ok=True, text=f"{count} of {len(agents)} agents talk with pages without a secret key"
    )


def _clock() -> Finding:
    """Software from the future tells a clock that was never set."""
    if time.time() < Path(__file__).stat().st_mtime:
        return Finding("clock", ok=False, text=f"says {_now()}, which is past", fix="set it, and keep it with NTP")
    return Finding("clock", ok=True, text=f"says {_now()}")


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"


async def _redis(url: str) -> list[Finding]:
    """What tokens need of Redis: an answer, the command that spends them, and a clock like ours."""
    redis = Redis.from_url(url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS)
    try:
        await redis.getdel("voice:token:doctor")
        before = time.time()
        seconds, microseconds = await redis.time()
        after = time.time()
    except AuthenticationError as error:
        fix = "correct the user and the password in VOICE_REDIS_URL"
        return [Finding("Redis", ok=False, text=f"refuses: {error}", fix=fix)]
    except ResponseError as error:
        fix = "use Redis 6.2 or newer, with a user who may run GETDEL, TIME and EVALSHA"
        return [Finding("Redis", ok=False, text=f"refuses: {error}", fix=fix)]
    except (RedisError, OSError, ValueError):
        return [Finding("Redis", ok=False, text="does not answer", fix="start it, or correct VOICE_REDIS_URL")]
    finally:
        await redis.aclose()
    apart = abs(seconds + microseconds / 1e6 - (before + after) / 2)
    text = f"says {_now()}, {apart:.1f} s apart from that of Redis"
    # Tokens of one server are used at another: half of what they forgive is left to the other one.
    ok = apart - (after - before) / 2 <= LEEWAY_SECONDS / 2
    return [
        Finding("Redis", ok=True, text="answers"),
        Finding("clock", ok=ok, text=text, fix="" if ok else "keep the clocks of all machines with NTP"),
    ]
