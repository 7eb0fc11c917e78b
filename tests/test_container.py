"""The image and the composition: what can be known of them without an engine that runs them."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.agents import load_agents
from config.providers import PRESETS
from config.settings import Settings
from tests.live import LiveServer

ROOT = Path(__file__).parent.parent
HEALTHCHECK = ROOT / "docker" / "healthcheck.py"
PROFILES = {"turn", "tls"}


# The image -----------------------------------------------------------------------------------------------------------


def stages() -> list[list[tuple[str, str]]]:
    """The Dockerfile: for each FROM its instructions, each with its arguments."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    found: list[list[tuple[str, str]]] = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        instruction, _, arguments = line.strip().partition(" ")
        if instruction == "FROM":
            found.append([])
        if instruction:
            found[-1].append((instruction, arguments.strip()))
    return found


def arguments(instruction: str, stage: list[tuple[str, str]]) -> list[str]:
    return [text for name, text in stage if name == instruction]


def copied() -> set[str]:
    """What goes from the checkout into the image."""
    texts = [text.split() for stage in stages() for text in arguments("COPY", stage) if "--from=" not in text]
    return {source for words in texts for source in words[:-1]}


def sent(path: str) -> bool:
    """Whether .dockerignore lets a path through: the last pattern that matches decides."""
    lets = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        if line and not line.startswith("#") and fnmatch.fnmatch(path, pattern):
            lets = line.startswith("!")
    return lets


def test_what_is_copied_is_there_and_all_of_the_program_is() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert packages <= copied()
    for source in copied():
        assert (ROOT / source).exists(), source
        assert sent(source.rstrip("/")), f".dockerignore keeps {source} from the builder"
    assert not any(sent(name) for name in (".git", ".env", ".venv", "tests", "__pycache__"))


def test_everything_is_installed_from_the_lock() -> None:
    commands = [text for stage in stages() for text in arguments("RUN", stage)]
    installs = [part.strip() for text in commands for part in text.split("&&") if "pip install" in part]
    locked = [command for command in installs if "--require-hashes" in command and "runtime.lock" in command]
    assert len(locked) == 1
    assert all("--no-deps" in command for command in installs if command not in locked)


def test_the_image_runs_as_nobody_special_and_stops_when_told() -> None:
    last = stages()[-1]
    (user,) = arguments("USER", last)
    assert any(f"useradd --system --uid 10001 --no-create-home --home-dir /data {user}" in text for _, text in last)
    assert json.loads(arguments("ENTRYPOINT", last)[0]) == ["voice-server"]
    assert json.loads(arguments("CMD", last)[0]) == ["serve"]
    assert arguments("STOPSIGNAL", last) == ["SIGTERM"]
    assert not any("apt-get" in text or "pip" in text for text in arguments("RUN", last))
    settings = Settings()
    assert arguments("EXPOSE", last) == [f"{settings.port}/tcp {settings.udp_port}/udp"]


def check_health(url: str) -> subprocess.CompletedProcess[str]:
    port = url.rpartition(":")[2]
    command = [sys.executable, str(HEALTHCHECK)]
    environment = {**os.environ, "VOICE_PORT": port}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)


def test_health_is_what_the_server_says(tmp_path: Path) -> None:
    with LiveServer(tmp_path) as server:
        well = check_health(server.url)
    ended = check_health(server.url)
    assert (well.returncode, well.stdout.strip() in ("ok", "starting")) == (0, True), well
    assert ended.returncode == 1
    assert "refused" in ended.stderr
    assert "Traceback" not in ended.stderr


# The composition -----------------------------------------------------------------------------------------------------


def resolved(text: str, values: Mapping[str, str]) -> str:
    """Replace ``${NAME}``, ``${NAME:-default}`` and ``${NAME:+other}``, innermost first (Compose specification)."""

    def value(found: re.Match[str]) -> str:
        name, mark, other = found[1], found[2], found[3]
        given = values.get(name, "")
        if mark == ":-":
            return given or other
        return (other if given else "") if mark == ":+" else given

    text = text.replace("$$", "\0")
    while (changed := re.sub(r"\$\{(\w+)(?:(:[-+])([^{}]*))?\}", value, text)) != text:
        text = changed
    assert "$" not in text, text
    return text.replace("\0", "$")


def services(**values: str) -> dict[str, Any]:
    """The services of docker-compose.yml with these values in .env."""

    def fill(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: fill(value) for key, value in node.items()}
        if isinstance(node, list):
            return [fill(value) for value in node]
        return resolved(node, values) if isinstance(node, str) else node

    found: dict[str, Any] = fill(yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"])
    return found


def load(monkeypatch: pytest.MonkeyPatch, **values: str) -> Settings:
    """The settings of the server in its container: .env first, and on top of it what the service says."""
    for name, value in {**values, **services(**values)["voice"]["environment"]}.items():
        monkeypatch.setenv(name, str(value))
    return Settings.load()


def check_schema(path: Path) -> subprocess.CompletedProcess[str]:
    """Against the schema of the Compose specification, which the checker carries along."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_composition_keeps_the_specification(tmp_path: Path) -> None:
    good = check_schema(ROOT / "docker-compose.yml")
    assert good.returncode == 0, good.stdout + good.stderr
    spoilt = tmp_path / "docker-compose.yml"
    spoilt.write_text((ROOT / "docker-compose.yml").read_text().replace("healthcheck:", "health_check:"))
    bad = check_schema(spoilt)
    assert bad.returncode == 1
    assert "health_check" in bad.stdout


def test_the_composition_is_whole() -> None:
    composition = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert set(composition) == {"services", "volumes"}
    assert {service["profiles"][0] for service in services().values() if "profiles" in service} == PROFILES
    mounted = set()
    for name, service in services().items():
        assert {"restart", "image"} <= set(service), name
        for other, needs in service.get("depends_on", {}).items():
            assert needs["condition"] == "service_healthy"
            assert "healthcheck" in services()[other] or "build" in services()[other]
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            if source.startswith("."):
                assert (ROOT / source).is_file(), source
            else:
                mounted.add(source)
    assert mounted == set(composition["volumes"])


def test_with_nothing_set_only_this_machine_can_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = [port for service in services().values() if "profiles" not in service for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:8080:8080/tcp", "127.0.0.1:40000:40000/udp"]
    settings = load(monkeypatch)
    assert (settings.port, settings.udp_port, settings.public_ip) == (8080, 40000, ("127.0.0.1",))
    assert not settings.trust_proxy
    assert load_agents(settings)[0].allowed_origins


@pytest.mark.parametrize("address", ["0.0.0.0", "192.0.2.7", "[::]"])
def test_a_server_that_others_can_reach_closes_the_demo(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address of the port mapping and the one that the server judges by are the same."""
    settings = load(monkeypatch, VOICE_PUBLISHED_ON=address)
    assert services(VOICE_PUBLISHED_ON=address)["voice"]["ports"][0] == f"{address}:8080:8080/tcp"
    assert load_agents(settings)[0].allowed_origins == ()


def test_ports_are_the_same_inside_and_out(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"VOICE_PORT": "9000", "VOICE_UDP_PORT": "41000", "MEDIA_PUBLISHED_ON": "0.0.0.0"}
    assert services(**values)["voice"]["ports"] == ["127.0.0.1:9000:9000/tcp", "0.0.0.0:41000:41000/udp"]
    settings = load(monkeypatch, **values)
    assert (settings.port, settings.udp_port) == (9000, 41000)


def test_a_domain_puts_the_server_behind_its_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, DOMAIN="voice.example.org")
    assert (settings.public_url, settings.trust_proxy) == ("https://voice.example.org", True)
    assert load_agents(settings)[0].allowed_origins == ()
    assert services()["tls"]["command"][0].endswith("--to voice:8080")


def test_the_relay_shares_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"VOICE_TURN_SECRET": "a shared secret", "VOICE_TURN_URLS": "turn:192.0.2.7:3478"}
    settings = load(monkeypatch, **values)
    assert settings.turn_secret is not None
    assert services(**values)["turn"]["environment"]["TURN_SECRET"] == settings.turn_secret.get_secret_value()


def test_every_variable_is_in_the_example() -> None:
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    named = set(re.findall(r"^#(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)) - {"COMPOSE_PROFILES"}
    settings = {f"VOICE_{name.upper()}" for name in Settings.model_fields}
    assert used - settings <= named
    assert named <= used | settings | {preset.variable for preset in PRESETS.values()}
