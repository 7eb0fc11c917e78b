"""The command line as an operator uses it: real processes, real signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from config.secrets import load_secrets
from config.settings import Settings
from server.cli import main
from server.peer import Peer, PeerError
from tests.live import LiveServer
from tests.redis_server import RedisServer

SECONDS = 90.0


def run(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VOICE_")}
    return subprocess.run(
        [sys.executable, "-m", "server", *arguments],
        env={**clean, "VOICE_DATA_DIR": str(folder / "data"), **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def process_of(server: LiveServer) -> subprocess.Popen[bytes]:
    assert server._process is not None
    return server._process


def ended(server: LiveServer, seconds: float = SECONDS) -> int:
    return process_of(server).wait(seconds)


def test_help_names_every_command() -> None:
    got = CliRunner().invoke(main, ["--help"])
    assert got.exit_code == 0
    for command in ("serve", "talk", "token", "key", "rotate", "setup", "doctor"):
        assert command in got.output
        assert CliRunner().invoke(main, [command, "--help"]).exit_code == 0


def test_version(tmp_path: Path) -> None:
    assert run("--version", folder=tmp_path).stdout.startswith("voice-server, version ")


def test_one_ready_line_and_a_clean_end(tmp_path: Path) -> None:
    with LiveServer(tmp_path) as server:
        assert server.health()["calls"] == 0
        os.kill(server.pid, signal.SIGTERM)
        assert ended(server) == 0
    [line] = (tmp_path / "server.out").read_text().splitlines()
    ready = json.loads(line)
    assert ready["event"] == "ready"
    assert ready["url"].startswith("http://localhost:")
    assert ready["udp_port"] > 0
    assert ready["agents"] == ["demo", "mara"]


def test_the_welcome_says_where_to_click_and_shows_a_new_key_once(tmp_path: Path) -> None:
    keys = []
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-m", "server", "serve", "--port", "0", "--udp-port", "0"],
            env={**os.environ, "VOICE_DATA_DIR": str(tmp_path / "data")},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        lines: list[str] = []
        while "Ctrl-C" not in "".join(lines[-1:]):
            lines.append(process.stdout.readline())
            assert lines[-1], "the server ended before it was ready"
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0
        process.stdout.close()
        assert "Playground  http://localhost:" in "".join(lines)
        keys += [line for line in lines if "API key" in line]
    assert "pk_" in keys[0]
    assert "pk_" not in keys[1]
    assert str(tmp_path / "data") in keys[1]
    [kept] = (tmp_path / "data").glob("*.json")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_a_port_in_use_is_one_line_and_exit_1(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        got = run("serve", "--port", port, "--udp-port", "0", "--json", folder=tmp_path)
    assert got.returncode == 1
    assert got.stdout == ""
    assert got.stderr.splitlines()[-1] == f"Error: 127.0.0.1 port {port} is in use; choose another with --port"
    assert "Traceback" not in got.stderr


def test_a_udp_port_in_use_too(tmp_path: Path) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        where = {"VOICE_UDP_ADDRESSES": "127.0.0.1"}
        got = run("serve", "--port", "0", "--udp-port", port, "--json", folder=tmp_path, **where)
    assert got.returncode == 1
    assert port in got.stderr.splitlines()[-1]
    assert "Traceback" not in got.stderr


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"VOICE_PORTT": "1"}, "VOICE_PORTT"),
        ({"VOICE_MAX_CALLS": "many"}, "VOICE_MAX_CALLS"),
        ({"VOICE_SECRET": "too short to be secret"}, "VOICE_SECRET"),
    ],
)
@pytest.mark.parametrize("command", ["serve", "setup"])
def test_bad_settings_exit_2_with_their_names(command: str, environment: dict[str, str], text: str) -> None:
    got = CliRunner(env=environment).invoke(main, [command])
    assert got.exit_code == 2
    assert text in got.stderr
    assert "too short" not in got.stderr


def test_a_folder_that_cannot_be_used_exits_2(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    got = run("serve", "--port", "0", "--udp-port", "0", folder=tmp_path)
    assert got.returncode == 2
    assert "Traceback" not in got.stderr


def test_an_origin_that_could_never_match_exits_2(tmp_path: Path) -> None:
    file = tmp_path / "voice.toml"
    file.write_text('[agents.mara]\nallowed_origins = ["mysite.com"]\n')
    got = run("serve", "--port", "0", "--udp-port", "0", "--config", str(file), folder=tmp_path)
    assert got.returncode == 2
    assert "agents.mara.allowed_origins = 'mysite.com': expected an origin" in got.stderr


async def connected(server: LiveServer) -> Peer:
    peer = Peer(server.url, "demo", origin="http://localhost:1")
    await peer.connect(SECONDS)
    return peer


async def until_refused(url: str) -> PeerError:
    """The refusal of a new call, as soon as there is one."""
    async with asyncio.timeout(SECONDS):
        while True:
            peer = Peer(url, "demo", origin="http://localhost:1")
            try:
                await peer.connect(SECONDS)
            except PeerError as error:
                return error
            finally:
                await peer.close()


def test_sigterm_lets_the_call_end_and_nobody_in(tmp_path: Path) -> None:
    async def scene(server: LiveServer) -> None:
        async with await connected(server) as peer:
            os.kill(server.pid, signal.SIGTERM)
            refusal = await until_refused(server.url)
            assert refusal.status == 503
            assert process_of(server).poll() is None
            assert "session.timeout" not in [heard.event for heard in peer.events]
        await asyncio.to_thread(ended, server)

    with LiveServer(tmp_path, "--drain", "600") as server:
        asyncio.run(scene(server))
        assert ended(server) == 0


async def reasons(peer: Peer) -> list[Any]:
    """Why the server ended the call, frame by frame."""
    ending: list[Any] = []
    try:
        while (heard := await peer.next_event(SECONDS)) is not None:
            if heard.event in ("call.ended", "session.ended", "session.timeout"):
                ending.append((heard.event, heard.frame["reason"]))
    except PeerError:
        return ending
    return ending


GOODBYE = [(event, "server_shutdown") for event in ("call.ended", "session.ended", "session.timeout")]


def test_after_the_drain_the_browser_is_told(tmp_path: Path) -> None:
    async def scene(server: LiveServer) -> None:
        async with await connected(server) as peer:
            os.kill(server.pid, signal.SIGTERM)
            assert await reasons(peer) == GOODBYE

    with LiveServer(tmp_path, "--drain", "0.2") as server:
        asyncio.run(scene(server))
        assert ended(server) == 0


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    async def scene(server: LiveServer) -> None:
        async with await connected(server) as peer:
            os.kill(server.pid, signal.SIGTERM)
            await until_refused(server.url)
            os.kill(server.pid, signal.SIGTERM)
            assert await reasons(peer) == GOODBYE

    with LiveServer(tmp_path, "--drain", "600") as server:
        asyncio.run(scene(server))
        assert ended(server) == 0


def test_token_mints_with_the_kept_key(tmp_path: Path) -> None:
    runner = CliRunner(env={"VOICE_DATA_DIR": str(tmp_path / "data")})
    with LiveServer(tmp_path) as server:
        command = ["token", "--url", server.url, "--agent"]
        got = runner.invoke(main, [*command, "Demo", "--metadata", '{"user": 1}', "--json"])
        assert got.exit_code == 0, got.stderr
        body = json.loads(got.stdout)
        assert body["token"].startswith("wrtc_")
        assert body["agent_id"] == "demo"
        assert runner.invoke(main, [*command, "demo"]).stdout.startswith("wrtc_")
        got = runner.invoke(main, [*command, "demo", "--api-key", "wrong"])
        assert (got.exit_code, got.stdout) == (1, "")
        assert got.stderr == "Error: Invalid API key (status 401)\n"
        assert "Agent 'nobody' is not online" in runner.invoke(main, [*command, "nobody"]).stderr
    got = runner.invoke(main, [*command, "demo"])
    assert got.exit_code == 1
    assert "does not answer" in got.stderr


def test_key_makes_keys_that_the_server_takes(tmp_path: Path) -> None:
    runner = CliRunner()
    made = {kind: runner.invoke(main, ["key", *kind]) for kind in ((), ("--publishable",), ("--signing",))}
    assert all(got.exit_code == 0 for got in made.values())
    api_key, publishable, signing = (got.stdout.strip() for got in made.values())
    assert publishable.startswith("pk_publishable_")
    assert "VOICE_PUBLISHABLE_KEYS" in made["--publishable",].stderr
    assert "VOICE_SECRET" in made["--signing",].stderr
    assert runner.invoke(main, ["key", "--publishable", "--org", "acme"]).stdout.startswith("acme:pk_publishable_")
    assert runner.invoke(main, ["key", "--org", "My Org"]).exit_code == 2
    assert runner.invoke(main, ["key", "--signing", "--org", "acme"]).exit_code == 2
    environment = {
        "VOICE_API_KEYS": api_key,
        "VOICE_PUBLISHABLE_KEYS": publishable,
        "VOICE_SECRET": f"{signing},{'s' * 40}",
    }
    with LiveServer(tmp_path, "--log-level", "debug", environment=environment) as server:
        address = f"{server.url}/webrtc/token?agent_id=demo&api_key={publishable}"
        origin = {"Origin": "http://localhost:3000"}
        with urllib.request.urlopen(urllib.request.Request(address, headers=origin), timeout=30) as response:
            assert json.load(response)["token"].startswith("wrtc_")
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(address, timeout=30)
        assert runner.invoke(main, ["token", "--agent", "demo", "--url", server.url, "--api-key", api_key]).stdout
        server.stop()
        log = server.log.read_text()
    assert "GET /webrtc/token 200" in log
    for hidden in (api_key, publishable, signing):
        assert hidden not in log


def test_rotate_replaces_what_was_made_at_the_first_start(tmp_path: Path) -> None:
    runner = CliRunner(env={"VOICE_DATA_DIR": str(tmp_path / "data")})
    got = runner.invoke(main, ["rotate", "secret"])
    assert (got.exit_code, "is not there yet" in got.stderr) == (2, True)
    first = load_secrets(Settings(data_dir=tmp_path / "data"))
    got = runner.invoke(main, ["rotate", "secret"])
    assert (got.exit_code, got.stdout) == (0, "")  # nobody needs to see it
    got = runner.invoke(main, ["rotate", "api-key"])
    second = load_secrets(Settings(data_dir=tmp_path / "data"))
    assert second.api_keys == (got.stdout.strip(), first.api_keys[0])
    assert second.signing[1] == first.signing[0]
    got = CliRunner(env={"VOICE_SECRET": "s" * 40}).invoke(main, ["rotate", "secret"])
    assert (got.exit_code, got.stdout) == (2, "")


def findings(got: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {finding["name"]: finding for finding in json.loads(got.stdout)["findings"]}


def test_doctor_looks_at_everything(tmp_path: Path, redis_url: str) -> None:
    environment = {"VOICE_PORT": "0", "VOICE_UDP_PORT": "0", "VOICE_REDIS_URL": redis_url}
    got = run("doctor", "--json", folder=tmp_path, **environment)
    report = json.loads(got.stdout)
    assert got.returncode == (0 if report["ok"] else 1)
    found = findings(got)
    for name in (
        "settings",
        "data folder",
        "libopus",
        "stt",
        "llm",
        "tts",
        "language en",
        "language es",
        "network",
        "HTTP port",
        "TURN",
        "TLS",
        "allowed origins",
        "Redis",
    ):
        assert found[name]["ok"], found[name]
    port = next(row for row in report["settings"] if row["name"] == "port")
    assert port == {"name": "port", "value": "0", "source": "environment"}
    assert not (tmp_path / "data").exists()


def test_doctor_says_what_to_fix(tmp_path: Path, own_redis: RedisServer) -> None:
    own_redis.kill()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environment = {
            "VOICE_PORT": str(taken.getsockname()[1]),
            "VOICE_UDP_PORT": "0",
            "VOICE_REDIS_URL": own_redis.url,
            "VOICE_MODELS_DIR": str(tmp_path / "models"),
        }
        got = run("doctor", "--json", folder=tmp_path, **environment)
        told = run("doctor", folder=tmp_path, **environment)
    assert (got.returncode, told.returncode) == (1, 1)
    bad = {name: finding for name, finding in findings(got).items() if not finding["ok"]}
    assert {"HTTP port", "Redis", "model of llamacpp"} <= set(bad)
    assert all(finding["fix"] for finding in bad.values())
    assert "FIX  Redis: does not answer" in told.stdout
    assert "run voice-server setup" in told.stdout


def test_doctor_reports_bad_settings(tmp_path: Path) -> None:
    got = run("doctor", "--json", folder=tmp_path, VOICE_PORTT="1")
    assert got.returncode == 1
    assert "VOICE_PORTT" in findings(got)["settings"]["text"]


def test_nothing_secret_is_logged(tmp_path: Path) -> None:
    key, secret = "pk_of_the_operator", "x" * 40
    environment = {"VOICE_API_KEYS": key, "VOICE_SECRET": secret}
    with LiveServer(tmp_path, "--log-level", "debug", environment=environment) as server:
        arguments = ["--agent", "demo", "--url", server.url, "--api-key", key, "--metadata", '{"user": "confidential"}']
        got = CliRunner().invoke(main, ["token", *arguments])
        assert got.exit_code == 0, got.stderr
        server.stop()
        log = server.log.read_text()
    for hidden in (key, secret, "confidential", got.stdout.strip()):
        assert hidden not in log
    assert "GET /webrtc/token 200" in log


def test_the_drain_does_not_wait_for_nobody(tmp_path: Path) -> None:
    with LiveServer(tmp_path, "--drain", "600") as server:
        began = time.monotonic()
        os.kill(server.pid, signal.SIGTERM)
        assert ended(server) == 0
        assert time.monotonic() - began < 60
