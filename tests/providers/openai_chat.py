"""A server that speaks chat completions, as it is told to: well, slowly, wrongly, or not at all.

Wire format: https://platform.openai.com/docs/api-reference/chat-streaming (server-sent events, ``data: {chunk}``,
at last ``data: [DONE]``; with ``include_usage`` a last chunk without choices) and https://platform.openai.com/docs/guides/error-codes.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Self

from aiohttp import web
from aiohttp.test_utils import TestServer

Write = Callable[[web.StreamResponse], Awaitable[bool]]
"""False: that was the end."""


class OpenAiServer:
    """On loopback. Each request takes the next of ``scripts``; without one it answers ``Hello there.``"""

    def __init__(self, key: str = "sk-test-secret-key") -> None:
        self.key = key
        self.scripts: deque[Script] = deque()
        self.requests: list[dict[str, Any]] = []
        """Bodies, in order."""
        self.headers: list[Mapping[str, str]] = []
        self.listed = 0
        """How often the models were asked for."""
        self.models = ["house-model"]
        self.gone = asyncio.Event()
        """A client left before its answer was written."""
        self.connections: set[Any] = set()
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        self._server = TestServer(app)

    async def __aenter__(self) -> Self:
        await self._server.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()

    @property
    def url(self) -> str:
        return str(self._server.make_url("/v1"))

    async def _models(self, request: web.Request) -> web.Response:
        self.listed += 1
        self._note(request)
        if not self._admitted(request):
            return refusal()
        return web.json_response({"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self._note(request)
        if not self._admitted(request):
            return refusal()
        body = await request.json()
        self.requests.append(body)
        script = self.scripts.popleft() if self.scripts else Script("Hello there.")
        try:
            return await script.answer(request, body)
        except (asyncio.CancelledError, ConnectionError):
            self.gone.set()
            raise

    def _note(self, request: web.Request) -> None:
        self.headers.append(request.headers)
        self.connections.add(request.transport)

    def _admitted(self, request: web.Request) -> bool:
        return not self.key or request.headers.get("Authorization") == f"Bearer {self.key}"


def refusal() -> web.Response:
    said = (
        "Incorrect API key provided: sk-wrong*********************key. You can find your API key at https://x.example."
    )
    return web.json_response(
        {"error": {"message": said, "type": "invalid_request_error", "param": None, "code": "invalid_api_key"}},
        status=401,
    )


class Script:
    """One answer. ``words`` are the pieces of its text; other parts are chunks as they are, or what to do instead."""

    def __init__(
        self,
        *parts: str | dict[str, Any] | Write,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        error: Mapping[str, Any] | None = None,
        first: float = 0.0,
        finish: str | None = "stop",
    ) -> None:
        """``first``: seconds until the first byte. ``finish``: ``None`` leaves the stream without an end."""
        self._parts, self._status, self._error = parts, status, error
        self._headers, self._first, self._finish = headers or {}, first, finish

    async def answer(self, request: web.Request, body: Mapping[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(self._first)
        if self._status != 200:
            error = self._error or {"message": f"status {self._status}", "type": "server_error"}
            return web.json_response({"error": error}, status=self._status, headers=self._headers)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for part in self._parts:
            if isinstance(part, str):
                await write(response, chunk(body, {"content": part}))
            elif isinstance(part, dict):
                await write(response, chunk(body, part))
            elif not await part(response):
                return response
        if self._finish is None:
            return response
        await write(response, chunk(body, {}, finish=self._finish))
        if (body.get("stream_options") or {}).get("include_usage"):
            usage = {"prompt_tokens": 12, "completion_tokens": len(self._parts), "total_tokens": 12 + len(self._parts)}
            await write(response, chunk(body, None) | {"usage": usage})
        await response.write(b"data: [DONE]\n\n")
        return response


def chunk(body: Mapping[str, Any], delta: Mapping[str, Any] | None, finish: str | None = None) -> dict[str, Any]:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": body.get("model", ""),
        "choices": choices,
        "usage": None,
    }


async def write(response: web.StreamResponse, value: Mapping[str, Any]) -> None:
    await response.write(f"data: {json.dumps(value)}\n\n".encode())


def pause(seconds: float) -> Write:
    async def wait(_: web.StreamResponse) -> bool:
        await asyncio.sleep(seconds)
        return True

    return wait


def raw(data: bytes) -> Write:
    async def send(response: web.StreamResponse) -> bool:
        await response.write(data)
        return True

    return send


async def hang_up(response: web.StreamResponse) -> bool:
    """The connection is gone, in the middle of a chunked body."""
    transport = response._req.transport if response._req else None  # type: ignore[union-attr]
    assert transport is not None
    transport.abort()
    return False
