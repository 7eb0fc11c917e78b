"""A web site of somebody else, on an origin of its own: pages that embed the client under a strict policy."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


class HostSite:
    """Serves ``files`` (path to text) under ``policy`` on a free port of localhost. A context manager."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.policy = "default-src 'none'"
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.origin = f"http://localhost:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def publish(self, files: Mapping[str, str], server: str) -> None:
        """Put pages up. Their policy allows their own scripts and icon and the voice server, and nothing else."""
        self.policy = f"default-src 'none'; script-src 'self' {server}; connect-src {server}; img-src 'self'"
        self.files.update(files)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(site: HostSite) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = site.files.get(self.path)
            body = (text or "").encode()
            self.send_response(404 if text is None else 200)
            self.send_header("Content-Type", "text/javascript" if self.path.endswith(".js") else "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Security-Policy", site.policy)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """The test tells what matters."""

    return Handler
