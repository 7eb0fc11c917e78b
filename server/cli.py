"""The command line: ``voice-server serve | talk | loadtest | token | key | rotate | setup | doctor``."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from config.problem import SettingsError
from config.settings import Settings

LEVELS = ("debug", "info", "warning", "error")
NOISY = ("aioice", "aiortc", "asyncio")
"""Libraries that tell each packet at info level."""

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file with settings and agents.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


class Commands(click.Group):
    """Commands whose libraries are large are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), "talk", "loadtest"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "talk":
            from server.talk import talk

            return talk
        if cmd_name == "loadtest":
            from server.loadtest import loadtest

            return loadtest
        return super().get_command(ctx, cmd_name)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="voice-server", prog_name="voice-server")
def main() -> None:
    """A self-hosted WebRTC voice server: browsers talk with your agent."""


@main.command()
@click.option("--host", help="Address of HTTP.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="TCP port of HTTP, 0 for a free one.  [default: 8080]")
@click.option("--udp-port", type=int, help="UDP port of media, 0 for a free one.  [default: 40000]")
@click.option("--tls-cert", metavar="FILE", help="Certificate and chain (PEM): serve HTTPS. SIGHUP reads it again.")
@click.option("--tls-key", metavar="FILE", help="Private key of the certificate (PEM).")
@click.option("--drain", "drain_seconds", type=float, help="Seconds that calls may go on after SIGTERM.  [default: 30]")
@click.option("--log-level", type=click.Choice(LEVELS), help="[default: info]")
@click.option(
    "--engine", type=click.Choice(["instant"]), help="Scripted engines without models for all agents: to measure it."
)
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON when the server is ready.")
def serve(*, config_file: Path | None, as_json: bool, engine: str | None, **flags: Any) -> None:
    """Serve calls and the playground until SIGTERM or Ctrl-C."""
    from server import startup
    from server.lifecycle import StartError
    from server.lifecycle import serve as run

    if engine is not None:
        flags.update(dict.fromkeys(("stt", "llm", "tts"), engine))
    settings = load(config_file, **flags)
    log_to_stderr(settings.log_level)
    announce = startup.print_ready_line if as_json else startup.welcome(settings)
    try:
        asyncio.run(run(settings, announce))
    except StartError as error:
        fail(str(error), 1)
    except SettingsError as error:
        fail(str(error), 2)


@main.command()
@click.option("--agent", required=True, help="Agent to mint for.")
@click.option("--metadata", help="JSON object to seal into the token.")
@click.option("--url", default="http://localhost:8080", show_default=True, help="Base address of the server.")
@click.option("--api-key", help="Secret key; of a server on this machine it is found.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole answer.")
def token(*, agent: str, metadata: str | None, url: str, api_key: str | None, as_json: bool) -> None:
    """Mint a single-use token with a running server and print it."""
    from server.client import ClientError, mint
    from server.talk import local_key

    try:
        body = asyncio.run(mint(url, agent, metadata, api_key or local_key(url)))
    except ClientError as error:
        fail(str(error), 1)
    click.echo(json.dumps(body) if as_json else body["token"])
    if not as_json:
        click.echo(f"for agent {body['agent_id']} at {body['server']}, good for {body['expires_in']} s", err=True)


@main.command()
@click.option("--publishable", "kind", flag_value="publishable", help="A key that a web page may show.")
@click.option("--signing", "kind", flag_value="signing", help="A secret that signs tokens.")
@click.option("--org", help="Organisation that the key is of.  [default: the server's only one]")
def key(*, kind: str | None, org: str | None) -> None:
    """Make a fresh key and print it: a secret API key, unless an option says otherwise. Nothing is kept."""
    from config import secrets
    from config.identity import agent_slug

    if org is not None and (kind == "signing" or not org or org != agent_slug(org)):
        raise click.BadParameter("a name in lower case, of a key", param_hint="--org")
    make, setting = {
        None: (secrets.fresh_api_key, "add it to VOICE_API_KEYS, and keep it from browsers"),
        "publishable": (
            secrets.fresh_publishable_key,
            "add it to VOICE_PUBLISHABLE_KEYS; pages of allowed_origins only",
        ),
        "signing": (secrets.fresh_secret, "put it in front of the others in VOICE_SECRET"),
    }[kind]
    click.echo(f"{org}:{make()}" if org else make())
    click.echo(setting, err=True)


@main.command()
@click.argument("what", type=click.Choice(["secret", "api-key"]))
@config_option
def rotate(*, what: str, config_file: Path | None) -> None:
    """Replace what the server made at its first start, from its next start on.

    The one before stays good beside the new one; a second rotation ends it.
    """
    from config import secrets

    settings = load(config_file)
    try:
        if settings.secret if what == "secret" else secrets.given_keys(settings)[0]:
            fail("It is you who set it: put the result of `voice-server key` in front of the others there", 2)
        fresh = secrets.rotate(settings.data_dir, "secret" if what == "secret" else "api_key")
    except SettingsError as error:
        fail(str(error), 2)
    if what == "api-key":
        click.echo(fresh)
    click.echo("Restart the server to take it up.", err=True)


@main.command()
@config_option
def setup(*, config_file: Path | None) -> None:
    """Install and verify the models of the local engines."""
    from pipeline.engine import EngineError
    from server.startup import install_models

    settings = load(config_file)
    try:
        install_models(settings.models_dir)
    except EngineError as error:
        fail(str(error), 1)
    except KeyboardInterrupt:
        sys.exit(130)


@main.command()
@config_option
@json_option
def doctor(*, config_file: Path | None, as_json: bool) -> None:
    """Look for what would keep the server from working. Exits 1 when something must be fixed."""
    from server.doctor import examine, print_report

    examination = asyncio.run(examine(config_file))
    print_report(examination, as_json=as_json)
    sys.exit(0 if examination.ok else 1)


def load(config_file: Path | None, **flags: Any) -> Settings:
    """The settings, or the end of the process with what is wrong with them."""
    try:
        return Settings.load(config_file, **flags)
    except SettingsError as error:
        fail(str(error), 2)


def fail(message: str, code: int) -> NoReturn:
    for line in message.splitlines():
        click.echo(f"Error: {line}", err=True)
    sys.exit(code)


def log_to_stderr(level: str) -> None:
    logging.basicConfig(
        stream=sys.stderr, level=level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    if level != "debug":
        for name in NOISY:
            logging.getLogger(name).setLevel(logging.WARNING)
