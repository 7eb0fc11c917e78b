"""The rules that every route shares, on a real listening socket."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server import http
from tests.server.sockets import listening, raw, visiting


async def echo(request: web.Request) -> web.Response:
    return http.answer(await http.read_object(request))


async def crash(request: web.Request) -> web.Response:
    raise ValueError("the token was wrtc_secret")


async def refuse(request: web.Request) -> web.Response:
    raise http.ApiError(403, "Not for you", "NOT_FOR_YOU", {"Retry-After": "1"})


async def base(request: web.Request) -> web.Response:
    trusted = request.query.get("trusted") == "1"
    url = http.base_url(request, public_url=request.query.get("public"), trust_proxy=trusted)
    return http.answer({"base": url, "client": http.client_address(request, trust_proxy=trusted)})


async def named(request: web.Request) -> web.Response:
    return http.answer({"name": request.match_info["name"]})


def app() -> web.Application:
    app = http.application()
    app.router.add_post("/webrtc/echo", echo)
    app.router.add_get("/webrtc/crash", crash)
    app.router.add_get("/webrtc/refuse", refuse)
    app.router.add_get("/base", base)
    app.router.add_get("/items/{name}", named)
    return app


async def shape(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """The body of an error, checked for the one shape."""
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    body = await response.json()
    assert isinstance(body["detail"], str)
    assert body["detail"]
    assert body["error"] == body["detail"]
    assert isinstance(body["code"], str)
    return dict(body)


async def test_a_refusal_has_the_one_shape_and_cors() -> None:
    async with visiting(app()) as session, session.get("/webrtc/refuse") as response:
        assert response.status == 403
        assert await shape(response) == {"detail": "Not for you", "error": "Not for you", "code": "NOT_FOR_YOU"}
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert response.headers["Retry-After"] == "1"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "Python" not in response.headers["Server"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/webrtc/nowhere", 404, "NOT_FOUND"),
        ("GET", "/chat/nowhere", 404, "NOT_FOUND"),
        ("PUT", "/webrtc/echo", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/webrtc/echo", 400, "BAD_JSON"),
        ("GET", "/webrtc/crash", 500, "INTERNAL_ERROR"),
    ],
)
async def test_every_error_has_the_one_shape_and_cors(method: str, path: str, status: int, code: str) -> None:
    async with visiting(app()) as session, session.request(method, path) as response:
        assert response.status == status
        assert (await shape(response))["code"] == code
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        if status == 405:
            assert response.headers["Allow"] == "POST"


async def test_a_crash_tells_the_client_nothing_and_the_log_no_query(caplog: pytest.LogCaptureFixture) -> None:
    async with visiting(app()) as session, session.get("/webrtc/crash?token=wrtc_inquery") as response:
        assert "secret" not in await response.text()
    assert "GET /webrtc/crash failed" in caplog.text
    assert "wrtc_inquery" not in caplog.text


async def test_the_access_log_is_off_by_default_and_holds_no_query(caplog: pytest.LogCaptureFixture) -> None:
    async with visiting(app()) as session:
        with caplog.at_level(logging.INFO):
            await (await session.get("/items/one?token=wrtc_x")).read()
        assert "/items/one" not in caplog.text
    with caplog.at_level(logging.DEBUG, "server.http"):
        async with visiting(app()) as session:
            await (await session.get("/items/two?token=wrtc_x")).read()
    assert "GET /items/two 200" in caplog.text
    assert "wrtc_x" not in caplog.text


@pytest.mark.parametrize(
    "path", ["/webrtc/echo", "/webrtc//echo", "/webrtc/nowhere", "/chat/token", "/v1/calls/x/events"]
)
async def test_preflight(path: str) -> None:
    headers = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    async with visiting(app()) as session, session.options(path, headers=headers) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert {"GET", "POST", "DELETE", "OPTIONS"} == set(response.headers["Access-Control-Allow-Methods"].split(", "))
        assert {"Content-Type", "Authorization"} <= set(response.headers["Access-Control-Allow-Headers"].split(", "))
        assert int(response.headers["Access-Control-Max-Age"]) >= 600
        assert not await response.read()


async def test_no_cors_elsewhere() -> None:
    async with visiting(app()) as session:
        async with session.get("/items/one") as response:
            assert "Access-Control-Allow-Origin" not in response.headers
        async with session.options("/items/one") as response:
            assert response.status == 405
            await shape(response)


@pytest.mark.parametrize(
    "path", ["//items/one", "/items//one", "///items///one", "//items/one?x=//y", "http://a/items/one"]
)
async def test_repeated_slashes_count_as_one(path: str) -> None:
    async with listening(app()) as listener:
        head = await raw(listener.port, f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        assert head.startswith(b"HTTP/1.1 200")
        assert b'{"name": "one"}' in head


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"a": "\xc3\xa9"}', 200),
        (b"", 400),
        (b"nonsense", 400),
        (b"[1]", 400),
        (b'"text"', 400),
        (b"\xff\xfe\xfa", 400),
        (b'{"a": NaN}', 400),
        (b'{"a": "\\ud800"}', 400),
        (b'{"a": ' + b"9" * 10_000 + b"}", 400),
        (b"[" * 100_000, 400),
        (b'{"a": "' + b"x" * http.MAX_BODY + b'"}', 413),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else str(value),
)
async def test_bodies(body: bytes, status: int) -> None:
    async with visiting(app()) as session, session.post("/webrtc/echo", data=body) as response:
        assert response.status == status
        if status == 200:
            assert await response.json() == {"a": "é"}
        else:
            await shape(response)


async def test_a_compressed_body_is_bounded_by_its_real_size() -> None:
    bomb = gzip.compress(b'{"a": "' + b"x" * 20_000_000 + b'"}')
    assert len(bomb) < http.MAX_BODY
    async with visiting(app()) as session:
        async with session.post("/webrtc/echo", data=bomb, headers={"Content-Encoding": "gzip"}) as response:
            assert response.status == 413
            await shape(response)
        async with session.post("/webrtc/echo", data=b"garbage", headers={"Content-Encoding": "gzip"}) as response:
            assert response.status == 400
            await shape(response)


async def test_a_body_that_never_comes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BODY_SECONDS", 0.05)
    async with listening(app()) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"POST /webrtc/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
        line = await asyncio.wait_for(reader.readline(), 20)
        writer.close()
        assert line.startswith(b"HTTP/1.1 408")


async def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 3)
    async with listening(app()) as listener:
        kept = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(3)]
        assert await raw(listener.port, b"") == b""
        for _, writer in kept:
            writer.close()
            await writer.wait_closed()
        request = b"GET /items/one HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        async with asyncio.timeout(20):
            while not (await raw(listener.port, request)).startswith(b"HTTP/1.1 200"):
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS to a plain port\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /webrtc/token?" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 1000 + b"\r\n",
        b"GET http://[::1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /webrtc/echo HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        b"POST /webrtc/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=lambda data: repr(data[:30]),
)
async def test_what_is_no_http_is_refused_without_a_traceback(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with listening(app()) as listener:
        got = await raw(listener.port, data)
        head, _, body = got.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.0 400")
        assert b"Python" not in head
        assert b"Access-Control-Allow-Origin: *" in head
        assert json.loads(body)["code"] == "BAD_REQUEST"
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("path", ["/webrtc/echo", "/nowhere"])
async def test_an_expectation_that_nobody_can_meet(path: str) -> None:
    async with listening(app()) as listener:
        request = f"POST {path} HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        got = await raw(listener.port, request.encode())
        assert got.startswith((b"HTTP/1.1 417", b"HTTP/1.1 404"))
        assert json.loads(got.partition(b"\r\n\r\n")[2])["detail"]


@pytest.mark.parametrize(
    ("query", "headers", "expected"),
    [
        ({}, {"Host": "voice.example:8080"}, "http://voice.example:8080"),
        ({}, {"Host": "[::1]:8080"}, "http://[::1]:8080"),
        ({}, {"Host": "a", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "b"}, "http://a"),
        ({"trusted": "1"}, {"Host": "a", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "b"}, "https://b"),
        ({"trusted": "1"}, {"Host": "a", "X-Forwarded-Proto": "wss"}, "https://a"),
        ({"trusted": "1"}, {"Host": "a", "X-Forwarded-Host": "forged, b:443"}, "http://b:443"),
        ({"trusted": "1"}, {"Host": "a"}, "http://a"),
        ({"public": "https://voice.example/"}, {"Host": "a"}, "https://voice.example"),
    ],
)
async def test_base_url(query: dict[str, str], headers: dict[str, str], expected: str) -> None:
    async with visiting(app()) as session, session.get("/base", params=query, headers=headers) as response:
        assert (await response.json())["base"] == expected


@pytest.mark.parametrize("host", ["a b", "a/b", "a@b", "<script>", "a:b", "é"])
async def test_a_host_that_cannot_be_one(host: str) -> None:
    async with listening(app()) as listener:
        got = await raw(
            listener.port, b"GET /base HTTP/1.1\r\nHost: " + host.encode() + b"\r\nConnection: close\r\n\r\n"
        )
        assert got.startswith(b"HTTP/1.1 400")


async def test_without_a_host_the_address_of_the_socket_counts() -> None:
    async with listening(app()) as listener:
        got = await raw(listener.port, b"GET /base HTTP/1.0\r\n\r\n")
        assert json.loads(got.partition(b"\r\n\r\n")[2])["base"] == f"http://127.0.0.1:{listener.port}"


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (["192.0.2.7"], "192.0.2.7"),
        (["forged, 192.0.2.7"], "192.0.2.7"),
        (["198.51.100.1", "forged, 192.0.2.7"], "192.0.2.7"),  # a proxy that adds a line of its own
        (["192.0.2.7:50123"], "192.0.2.7"),
        (["2001:DB8::7"], "2001:db8::7"),
        (["198.51.100.1, [2001:db8::7]:50123"], "2001:db8::7"),
        (["192.0.2.7, unknown"], "127.0.0.1"),
        (["192.0.2.7,"], "127.0.0.1"),
        ([], "127.0.0.1"),
    ],
)
async def test_the_client_address_comes_from_a_trusted_proxy_only(forwarded: list[str], client: str) -> None:
    headers = [("X-Forwarded-For", value) for value in forwarded]
    async with visiting(app()) as session:
        async with session.get("/base", params={"trusted": "1"}, headers=headers) as response:
            assert (await response.json())["client"] == client
        async with session.get("/base", headers=headers) as response:
            assert (await response.json())["client"] == "127.0.0.1"


async def test_a_port_that_is_taken() -> None:
    async with listening(app()) as listener:
        second = http.Listener(http.application())
        with pytest.raises(OSError, match="address already in use"):
            await second.start("127.0.0.1", listener.port)
        await second.close()


PATHS = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40).map(lambda path: "/" + path)
KNOWN = st.sampled_from(
    ["/webrtc/echo", "/webrtc/crash", "/webrtc/refuse", "/base", "/items/x", "//base", "/%2e%2e/", "/%ff"]
)
METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "BREW"])
HEADERS = st.dictionaries(
    st.sampled_from(
        ["Host", "Origin", "Authorization", "Content-Type", "X-Forwarded-Host", "Range", "Cookie", "Upgrade"]
    ),
    st.binary(max_size=30).map(lambda value: value.translate(None, b"\r\n\0")),
    max_size=4,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(method=METHODS, path=PATHS | KNOWN, query=st.text(max_size=20), headers=HEADERS, body=st.binary(max_size=60))
async def test_any_request_gets_an_http_answer(
    method: str, path: str, query: str, headers: dict[str, bytes], body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    head = f"{method} {path}?{query} HTTP/1.1\r\nConnection: close\r\nContent-Length: {len(body)}\r\n".encode()
    lines = b"".join(name.encode() + b": " + value + b"\r\n" for name, value in headers.items())
    caplog.clear()
    async with listening(app()) as listener:
        got = await raw(listener.port, head + lines + b"\r\n" + body)
    assert got.startswith(b"HTTP/1.") or not got
    tracebacks = [record for record in caplog.records if record.exc_info]
    assert all("/webrtc/crash failed" in record.getMessage() for record in tracebacks)
