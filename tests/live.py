"""A real server in its own process, for tests that go from end to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from config.providers import PRESETS

START_SECONDS = 90.0
STOP_SECONDS = 30.0


class LiveServer:
    """``voice-server serve`` on free ports, with a data folder of its own. A context manager.

    ``enter``: what to write before the command so that it runs somewhere else.
    """

    def __init__(
        self, folder: Path, *arguments: str, environment: dict[str, str] | None = None, enter: Sequence[str] = ()
    ) -> None:
        self.log = folder / "server.log"
        self.url = ""
        self._out = folder / "server.out"
        self._command = [
            *enter,
            sys.executable,
            "-m",
            "server",
            "serve",
            "--port",
            "0",
            "--udp-port",
            "0",
            "--json",
            *arguments,
        ]
        keys = {preset.variable for preset in PRESETS.values()}
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith("VOICE_") and name not in keys
        }
        self._environment = {**clean, "VOICE_DATA_DIR": str(folder / "data"), **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self.log.open("wb") as log, self._out.open("wb") as out:
            self._process = subprocess.Popen(self._command, stdout=out, stderr=log, env=self._environment)
        try:
            self.url = self._ready()["url"].rstrip("/")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if kind is None:
            assert "Traceback" not in self.log.read_text(), self.log.read_text()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def health(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/health", timeout=10) as response:
            body: dict[str, Any] = json.load(response)
        return body

    def calls(self) -> int:
        """Calls and chats that run now."""
        health = self.health()
        return int(health["calls"]) + int(health["chats"])

    def empty_after(self, seconds: float) -> float:
        """Wait until no call runs; returns how long that took, s. Fails after ``seconds``."""
        began = time.monotonic()
        while self.calls():
            assert time.monotonic() - began < seconds, f"{self.calls()} calls still run after {seconds:g} s"
            time.sleep(0.05)
        return time.monotonic() - began

    def stop(self) -> None:
        """SIGTERM, as an operator would; the process must leave by itself."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def _ready(self) -> dict[str, Any]:
        """The first line of the output, one JSON object."""
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while b"\n" not in (out := self._out.read_bytes()):
            alive = self._process.poll() is None and time.monotonic() < deadline
            assert alive, f"the server did not start: {self.log.read_text()}"
            time.sleep(0.05)
        ready: dict[str, Any] = json.loads(out.split(b"\n")[0])
        return ready
