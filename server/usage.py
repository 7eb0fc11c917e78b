"""What a server on this machine takes: CPU time and memory of the process that listens on a port (Linux)."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_PROC = Path("/proc")
_LISTENING = "0A"


@dataclass(frozen=True, slots=True)
class Usage:
    """Of the process and its children, which are the workers of the local engines."""

    process_seconds: float
    workers_seconds: float
    memory_mb: float


def find_server(url: str) -> int | None:
    """The process that listens on the port of ``url``; ``None`` when it is elsewhere or not ours to look at."""
    parts = urlsplit(url)
    if sys.platform != "linux" or parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        return None
    port = f":{parts.port or (443 if parts.scheme == 'https' else 80):04X}"
    inodes = set()
    for table in ("net/tcp", "net/tcp6"):
        if (_PROC / table).exists():
            rows = [line.split() for line in (_PROC / table).read_text().splitlines()[1:]]
            inodes |= {f"socket:[{row[9]}]" for row in rows if row[1].endswith(port) and row[3] == _LISTENING}
    return next((int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit() and _holds(entry, inodes)), None)


def read_usage(pid: int) -> Usage | None:
    """What it took so far; ``None`` when it is gone."""
    own = _stat(pid)
    if own is None:
        return None
    children = [usage for child in _children(pid) if (usage := _stat(child)) is not None]
    return Usage(own[0], sum(each[0] for each in children), own[1] + sum(each[1] for each in children))


def _holds(entry: Path, inodes: set[str]) -> bool:
    try:
        return any(os.readlink(link) in inodes for link in (entry / "fd").iterdir())
    except OSError:  # gone, or another user's
        return False


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in (_PROC / str(pid) / "task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:
        return found
    return [*found, *(grandchild for child in found for grandchild in _children(child))]


def _stat(pid: int) -> tuple[float, float] | None:
    """CPU seconds and resident megabytes."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    ticks = int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK"), int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6
