"""A program beside the tests, and what it prints."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.conformance.inbox import SECONDS


class Program:
    """An async context manager: killed at the end, if it has not left by itself."""

    def __init__(self, *command: str, **environment: str) -> None:
        self.lines: list[str] = []
        self._command = command
        clean = {name: value for name, value in os.environ.items() if not name.startswith("VOICE_")}
        self._environment = {**clean, "PYTHONUNBUFFERED": "1", **environment}
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.signal(signal.SIGKILL)
        await self.ended()

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            assert self._process is not None
            self._process.send_signal(number)

    async def line(self, text: str) -> str:
        """The next line that it prints with this text in it."""
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(SECONDS):
            while raw := await self._process.stdout.readline():
                self.lines.append(raw.decode().rstrip())
                if text in self.lines[-1]:
                    return self.lines[-1]
        raise AssertionError(f"it never said {text!r}, but {self.lines}")

    async def ended(self) -> int:
        """Its exit code, when it has left."""
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(SECONDS):
            self.lines += (await self._process.stdout.read()).decode().splitlines()
            return await self._process.wait()


def free_port() -> int:
    """A TCP port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
