"""The page: ``GET /`` and its files, under a policy that lets nothing in from elsewhere; and what other pages embed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from server.http import Handler

FOLDER = Path(__file__).parent / "page"
EMBEDDED = {
    "chat.js": "text/javascript",
    "chat.d.ts": "text/plain",
    "client.js": "text/javascript",
    "client.d.ts": "text/plain",
    "widget.js": "text/javascript",
    "widget.d.ts": "text/plain",
}
"""Files that any page may import: they stand at the top. The system's table takes ``.ts`` for a video."""

FRESH_SECONDS = 300


def headers(public_url: str | None) -> dict[str, str]:
    """What the page may do. ``public_url`` is where its tokens send it, if that is another origin."""
    # An address of http does not stand for that of a WebSocket (CSP level 3, 6.7.2.8).
    elsewhere = f" {public_url} {public_url.replace('http', 'ws', 1)}" if public_url else ""
    policy = (
        f"default-src 'self'; connect-src 'self'{elsewhere}; media-src 'self' blob:; img-src 'self' data:; "
        "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-cache",  # asked again each time; unchanged files are answered with 304
    }


def routes(public_url: str | None) -> list[web.RouteDef]:
    """One route per file that is there now, so that no request can name another one."""
    common = headers(public_url)
    files = [path for path in sorted(FOLDER.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    own = [path for path in files if path.name not in EMBEDDED]
    return [
        web.get("/", _file(FOLDER / "index.html", common)),
        *(web.get(f"/page/{path.relative_to(FOLDER).as_posix()}", _file(path, common)) for path in own),
        *(web.get(f"/{path.name}", _file(path, _embedded(path.name))) for path in files if path.name in EMBEDDED),
    ]


def _embedded(name: str) -> dict[str, str]:
    """Module scripts of another origin are fetched with CORS (HTML standard, 8.1.4.2)."""
    return {
        "Content-Type": f"{EMBEDDED[name]}; charset=utf-8",
        "Access-Control-Allow-Origin": "*",
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Cache-Control": f"public, max-age={FRESH_SECONDS}",
    }


def _file(path: Path, common: Mapping[str, str]) -> Handler:
    async def serve(_: web.Request) -> web.StreamResponse:
        return web.FileResponse(path, headers=common)

    return serve
