"""The page: ``GET /`` and its files, under a policy that lets nothing in from elsewhere."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from server.http import Handler

FOLDER = Path(__file__).parent / "page"


def headers(public_url: str | None) -> dict[str, str]:
    """What the page may do. ``public_url`` is where its tokens send it, if that is another origin."""
    elsewhere = f" {public_url}" if public_url else ""
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
    return [
        web.get("/", _file(FOLDER / "index.html", common)),
        *(web.get(f"/page/{path.relative_to(FOLDER).as_posix()}", _file(path, common)) for path in files),
    ]


def _file(path: Path, common: dict[str, str]) -> Handler:
    async def serve(_: web.Request) -> web.StreamResponse:
        return web.FileResponse(path, headers=common)

    return serve
