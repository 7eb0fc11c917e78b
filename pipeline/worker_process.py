"""What runs inside a worker process: one engine, a reader, and as many job threads as it may use.

The other end is ``pipeline.worker.Worker``. A frame is a 32-bit big-endian length and a msgpack list:

- to the child: ``[LOAD, target, options, concurrency]``, ``[RUN, job, method, args]``, ``[CANCEL, job]``;
- from it: ``[READY]``, ``[RESULT, job, value]`` or ``[ITEM, job, value]`` many times and ``[END, job]``, and
  ``[ERROR, job, text]`` (job 0: the engine did not load).
"""

from __future__ import annotations

import ctypes
import importlib
import os
import queue
import resource
import signal
import socket
import struct
import sys
import threading
from collections.abc import Generator
from contextlib import closing, suppress
from typing import Any

import msgpack

from pipeline.engine import EngineError

LOAD, RUN, CANCEL, READY, RESULT, ITEM, END, ERROR = range(8)

HEADER = struct.Struct(">I")

MAX_FRAME = 16 << 20
"""Bytes of one frame. A minute of speech at 24 kHz is 3 MB."""

PR_SET_PDEATHSIG = 1  # prctl(2)

INSTALL_HINT = "Install the local engines with `make setup` (or pip install 'voice-server[embedded,embedded-es]')."


def pack(*fields: Any) -> bytes:
    """One frame with its length in front. Raises ``ValueError`` when it is larger than ``MAX_FRAME``."""
    body: bytes = msgpack.packb(fields)
    if len(body) > MAX_FRAME:
        raise ValueError(f"a frame of {len(body)} bytes is too large")
    return HEADER.pack(len(body)) + body


class Child:
    """The loop of the process: reads frames until the parent is gone, runs jobs on threads, writes what they yield."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._send_lock = threading.Lock()
        self._jobs: queue.SimpleQueue[tuple[int, str, list[Any]]] = queue.SimpleQueue()
        self._cancelled: dict[int, threading.Event] = {}
        self._engine: Any = None

    def serve(self) -> None:
        """Returns when the parent closed its end or sent what is no frame."""
        with self._sock.makefile("rb") as stream:
            while len(header := stream.read(HEADER.size)) == HEADER.size:
                (length,) = HEADER.unpack(header)
                if length > MAX_FRAME or len(body := stream.read(length)) < length:
                    return
                kind, *fields = msgpack.unpackb(body)
                if kind == LOAD:
                    self._load(*fields)
                elif kind == RUN:
                    self._cancelled[fields[0]] = threading.Event()
                    self._jobs.put((fields[0], fields[1], fields[2]))
                elif kind == CANCEL and (cancelled := self._cancelled.get(fields[0])):  # else it has just ended
                    cancelled.set()

    def _load(self, target: str, options: dict[str, Any], concurrency: int) -> None:
        module, _, name = target.partition(":")
        try:
            self._engine = getattr(importlib.import_module(module), name)(**options)
        except ImportError as error:
            # Named after what is missing: the package itself, or a library of the system that it links to.
            package = error.name or "that it needs"
            self._send(ERROR, 0, f"the Python package {package} cannot be imported ({error.msg}). {INSTALL_HINT}")
            return
        except Exception as error:  # noqa: BLE001 - whatever a native library raises goes to the parent
            self._send(ERROR, 0, describe(error))
            return
        for _ in range(concurrency):
            threading.Thread(target=self._work, daemon=True).start()
        self._send(READY)

    def _work(self) -> None:
        while True:
            job, method, args = self._jobs.get()
            try:
                result = getattr(self._engine, method)(*args)
                if isinstance(result, Generator):
                    self._stream(job, result)
                    self._send(END, job)
                else:
                    self._send(RESULT, job, result)
            except Exception as error:  # noqa: BLE001 - whatever a native library raises goes to the parent
                self._send(ERROR, job, describe(error))
            del self._cancelled[job]

    def _stream(self, job: int, items: Generator[Any, None, None]) -> None:
        cancelled = self._cancelled[job]
        with closing(items):
            for item in items:
                if cancelled.is_set():
                    return
                self._send(ITEM, job, item)

    def _send(self, *fields: Any) -> None:
        frame = pack(*fields)
        with self._send_lock:
            try:
                self._sock.sendall(frame)
            except OSError:
                os._exit(0)  # the parent is gone


def describe(error: Exception) -> str:
    """Text for a person. The message of a foreign exception may quote what somebody said, so only its type is told."""
    return str(error) if isinstance(error, EngineError) else f"unexpected {type(error).__name__}"


def detach(parent: int, niceness: int) -> None:
    """Make this process end with its parent, and with nothing but its parent.

    SIGINT and SIGTERM are for the server, which drains its calls and then closes this process; a service manager sends
    them to the whole group.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold what people said
    with suppress(OSError):
        os.nice(niceness)


def main(fd: int, parent: int, niceness: int) -> None:
    """``niceness``: how readily this process gives way to others, nice(2)."""
    detach(parent, niceness)
    Child(socket.socket(fileno=fd)).serve()
    os._exit(0)  # do not wait for a thread that is inside a native library
