"""Small engines that run in real worker processes."""

from __future__ import annotations

import ctypes
import importlib
import os
import resource
import time
from collections.abc import Iterator

from pipeline.engine import EngineError


class Echo:
    def __init__(self, greeting: str = "") -> None:
        self.greeting = greeting
        self.calls: list[str] = []

    def echo(self, value: object) -> object:
        self.calls.append(str(value)[:20])
        return value

    def size(self, value: bytes) -> int:
        return len(value)

    def log(self) -> list[str]:
        return self.calls

    def count(self, limit: int) -> Iterator[int]:
        try:
            yield from range(limit)
        finally:
            self.calls.append("closed")

    def zeros(self, count: int) -> bytes:
        return bytes(count)

    def wait(self, path: str) -> str:
        """Busy until the file exists."""
        deadline = time.monotonic() + 60
        while not os.path.exists(path) and time.monotonic() < deadline:
            time.sleep(0.001)
        return path

    def spin(self, seconds: float) -> None:
        """Hold the interpreter lock."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass

    def quarrel(self, secret: str) -> None:
        raise ValueError(secret)

    def refuse(self) -> None:
        raise EngineError("too tired")

    def crash(self) -> None:
        ctypes.string_at(0)

    def world(self) -> dict[str, object]:
        """What this process got from its parent."""
        files = []
        for fd in os.listdir("/proc/self/fd"):
            try:
                files.append(os.readlink(f"/proc/self/fd/{fd}"))
            except OSError:  # the folder itself
                continue
        return {
            "environment": dict(os.environ),
            "files": sorted(files),
            "nice": os.nice(0),
            "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        }


class NoLibrary:
    def __init__(self) -> None:
        importlib.import_module("a_library_that_is_not_there")


class NoModel:
    def __init__(self) -> None:
        raise EngineError("its model is missing")


class Dies:
    def __init__(self) -> None:
        os._exit(3)


class DiesLater(Echo):
    """Loads once; a second process finds no model."""

    def __init__(self, path: str) -> None:
        super().__init__()
        if os.path.exists(path):
            raise EngineError("its model is missing")
        with open(path, "x"):
            pass
