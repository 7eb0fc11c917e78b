"""The HTTP rules that every route shares: the shape of errors, CORS, bounds. Source: protocol 1.2, 2.2 and 11."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address
from typing import Any, NoReturn, cast

from aiohttp import abc, http_exceptions, web

from server.tls import Certificate, TlsPort
from tokens.errors import (
    AccessError,
    InvalidKey,
    LedgerUnavailable,
    MetadataError,
    OriginNotAllowed,
    TokenError,
    TokenReason,
)

logger = logging.getLogger(__name__)

MAX_BODY = 128 * 1024
"""Bytes of one request body: an SDP of 64 KiB written as JSON fits, whatever its escapes."""

MAX_LINE = 32 * 1024
"""Bytes of the request line and of one header: the sealed metadata travels in the query, at most 6 KiB when escaped."""

MAX_CONNECTIONS = 1024
"""Open HTTP connections of one process; what comes above is closed at once."""

BODY_SECONDS = 10.0
IDLE_SECONDS = 75.0
LINGER_SECONDS = 2.0
"""How long the rest of a body is read and forgotten after its refusal, so that the client gets to read why."""

CORS = {
    "Access-Control-Allow-Origin": "*",  # no client sends credentials, so nothing is gained by echoing the origin
    "Access-Control-Allow-Methods": "GET, POST, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, Authorization, X-API-Key",
    "Access-Control-Expose-Headers": "Retry-After",
    "Access-Control-Max-Age": "3600",
}
PLAIN = {"X-Content-Type-Options": "nosniff", "Server": "voice-server"}
"""Headers of every answer."""
CORS_PATHS = (
    "/webrtc/",
    "/chat/",
    "/api/sdk/agent-info/",
    "/api/sdk/voice",
    "/v1/calls/",
    "/v1/agents/",
    "/api/scribe",
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ApiError(Exception):
    """A request is answered with an error. ``detail`` is for people and holds no secret, ``code`` is for machines."""

    def __init__(self, status: int, detail: str, code: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.code = code
        self.headers = dict(headers or {})


def answer(data: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer, ``application/json; charset=utf-8``."""
    return web.json_response(data, status=status, headers=headers)


def error(status: int, detail: str, code: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """The shape of errors: the SDK reads ``detail``, older clients ``error``, machines ``code``."""
    return answer({"detail": detail, "error": detail, "code": code}, status=status, headers=headers)


async def read_object(request: web.Request) -> dict[str, Any]:
    """The body as a JSON object.

    Raises ``ApiError`` 400 when it is none, 408 when it does not arrive in time, 413 when it is over ``MAX_BODY``.
    """
    try:
        async with asyncio.timeout(BODY_SECONDS):
            raw = await request.read()
    except TimeoutError:
        raise ApiError(408, "The request body did not arrive in time", "REQUEST_TIMEOUT") from None
    except web.RequestPayloadError:
        raise ApiError(400, "The request body is damaged", "BAD_BODY") from None
    return parse_object(raw, "The request body")


def parse_object(raw: bytes | str, what: str) -> dict[str, Any]:
    """Parse a JSON object that came from outside. Raises ``ApiError`` 400 that begins with ``what``."""
    try:
        value = json.loads(raw, parse_constant=_refuse_constant)
        # A lone surrogate survives the parser and would break whatever encodes the text later.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise ApiError(400, f"{what} is not valid JSON", "BAD_JSON") from None
    if not isinstance(value, dict):
        raise ApiError(400, f"{what} must be a JSON object", "BAD_JSON")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def collapse_slashes(path: str) -> str:
    """Repeated slashes count as one: an ``apiUrl`` with a trailing slash asks for ``//webrtc/token``."""
    return re.sub("//+", "/", path)


def has_cors(path: str) -> bool:
    return collapse_slashes(path).startswith(CORS_PATHS)


def base_url(request: web.Request, *, public_url: str | None, trust_proxy: bool) -> str:
    """The base under which a client reaches this server: ``public_url``, else the request's own scheme and host.

    ``X-Forwarded-Proto`` and ``X-Forwarded-Host`` count only with ``trust_proxy``, and of a list only the last value,
    which the nearest proxy wrote. Absolute, ``http`` or ``https``, no trailing slash. Raises ``ApiError`` 400 when the
    host cannot be one.
    """
    if public_url:
        return public_url.rstrip("/")
    scheme, host = request.scheme, request.headers.get("Host", "")
    if trust_proxy:
        scheme = _forwarded(request, "Proto") or scheme
        host = _forwarded(request, "Host") or host
    scheme = {"ws": "http", "wss": "https"}.get(scheme.lower(), scheme.lower())
    if not host and request.transport is not None:  # HTTP/1.0; aiohttp would ask the resolver, which may block
        address = request.transport.get_extra_info("sockname")
        host = f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"
    if scheme not in ("http", "https") or not re.fullmatch(
        r"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?", host
    ):
        raise ApiError(400, "The Host header is not valid", "BAD_HOST")
    return f"{scheme}://{host}"


def client_address(request: web.Request, *, trust_proxy: bool) -> str:
    """The IP address of the client, for rate limits: the peer, or with ``trust_proxy`` whom the proxy before us saw.

    Only that proxy is trusted: its entry is the last one, whatever the client wrote in front of it.
    """
    peer = request.remote or ""
    seen = _forwarded(request, "For") if trust_proxy else ""
    if seen.startswith("["):  # some proxies add the port
        seen = seen[1:].partition("]")[0]
    elif seen.count(":") == 1:
        seen = seen.partition(":")[0]
    try:
        return str(ip_address(seen))
    except ValueError:
        return peer


def _forwarded(request: web.Request, name: str) -> str:
    """The value that the nearest proxy wrote: some append to the client's header, some add a line of their own."""
    return ",".join(request.headers.getall(f"X-Forwarded-{name}", [])).rpartition(",")[2].strip()


@web.middleware
async def shape_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every failure leaves in the one shape; preflights of the public routes are answered here."""
    if request.method == "OPTIONS" and has_cors(request.path):
        return web.Response(status=204)
    try:
        return await handler(request)
    except ApiError as refusal:
        return error(refusal.status, refusal.detail, refusal.code, refusal.headers)
    except AccessError as refusal:
        return error(_access_status(refusal), str(refusal), refusal.code)
    except web.HTTPException as exception:
        return _shaped(exception)
    except Exception:
        # The path is logged without its query, which may carry a token.
        logger.exception("%s %s failed", request.method, request.path)
        return error(500, "Internal server error", "INTERNAL_ERROR")


@web.middleware
async def one_slash(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Resolve a path with repeated slashes as if it had single ones. A redirect would fail in a CORS preflight."""
    path, mark, query = request.raw_path.partition("?")
    if "//" not in path or not path.startswith("/"):  # http://host/path is also a way to ask (RFC 9112, 3.2.2)
        return await handler(request)
    clean = request.clone(rel_url=collapse_slashes(path) + mark + query)
    match = await request.app.router.resolve(clean)
    match.add_app(request.app)
    clean._match_info = match  # the way aiohttp's own normalize_path_middleware does it
    return await match.handler(clean)


async def set_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Headers of every answer, errors included: without CORS the browser hides even the status."""
    if has_cors(request.path):
        response.headers.update(CORS)
    response.headers.update(PLAIN)


def _shaped(exception: web.HTTPException) -> web.Response:
    """An exception of aiohttp (404, 405, 413, …) in our shape."""
    detail = exception.reason
    if exception.status == 413:
        detail = f"The request body is larger than {MAX_BODY // 1024} KiB"
    code = re.sub(r"\W+", "_", exception.reason).upper()
    headers = {"Allow": exception.headers["Allow"]} if "Allow" in exception.headers else None
    return error(exception.status, detail, code, headers)


def _access_status(refusal: AccessError) -> int:
    """Protocol 2.3 and 2.5."""
    match refusal:
        case MetadataError():
            return 400
        case TokenError(reason=TokenReason.WRONG_CHANNEL) | OriginNotAllowed():
            return 403
        case TokenError() | InvalidKey():
            return 401
        case LedgerUnavailable():
            return 503
    return 403


class AccessLog(abc.AbstractAccessLogger):
    """One line per request at debug level, without the query, which may carry a token."""

    @property
    def enabled(self) -> bool:
        return logger.isEnabledFor(logging.DEBUG)

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        logger.debug("%s %s %s %d, %.0f ms", request.remote, request.method, request.path, response.status, 1000 * time)


class Connection(web.RequestHandler):
    """One HTTP connection. What is no HTTP at all is refused in our shape too, and without a traceback in the log."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._manager is not None and len(self._manager.connections) > MAX_CONNECTIONS:
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Called for requests that did not parse, and for what failed outside of the middlewares."""
        malformed = isinstance(exc, http_exceptions.HttpProcessingError)
        if not malformed:
            logger.error("%s %s failed", request.method, request.path, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer had already begun")
        if malformed:
            response = error(status, "The HTTP request is malformed or too large", "BAD_REQUEST", CORS | PLAIN)
        else:
            response = error(status, "Internal server error", "INTERNAL_ERROR", CORS | PLAIN)
        response.force_close()
        return response

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """An ``Expect`` header that is not understood (417) is refused before any middleware."""
        if isinstance(resp, web.HTTPException):
            resp = _shaped(resp)
        return await super().finish_response(request, resp, start_time)


def application() -> web.Application:
    """An application with the shared rules and no routes."""
    app = web.Application(middlewares=[shape_errors, one_slash], client_max_size=MAX_BODY)
    app.on_response_prepare.append(set_headers)
    return app


class Listener:
    """The HTTP side of the server: a listening socket and the connections that came through it."""

    def __init__(self, app: web.Application) -> None:
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=5.0)
        self._server: asyncio.Server | None = None
        self._tls: TlsPort | None = None
        self.port = 0

    async def start(self, host: str, port: int, certificate: Certificate | None = None) -> None:
        """Bind and serve, HTTPS with a certificate; port 0 picks a free one.

        Raises ``OSError`` when the address cannot be bound.
        """
        await self._runner.setup()
        loop = asyncio.get_running_loop()

        def connect() -> Connection:
            return Connection(
                cast(web.Server, self._runner.server),  # there from setup() to cleanup()
                loop=loop,
                keepalive_timeout=IDLE_SECONDS,
                lingering_time=LINGER_SECONDS,
                max_line_size=MAX_LINE,
                max_field_size=MAX_LINE,
                access_log_class=AccessLog,
                access_log=logger,
            )

        try:
            if certificate is None:
                self._server = await loop.create_server(connect, host, port)
                self.port = self._server.sockets[0].getsockname()[1]
            else:
                self._tls = TlsPort(connect, certificate)
                await self._tls.open(host, port)
                self.port = self._tls.sockets[0].getsockname()[1]
        except BaseException:
            await self._runner.cleanup()
            raise

    async def close(self) -> None:
        """Stop listening, let requests in progress end (5 s at most), close every connection."""
        if self._server is not None:
            self._server.close()
        if self._tls is not None:
            await self._tls.close()
        await self._runner.cleanup()
        if self._tls is not None:
            self._tls.abort()
