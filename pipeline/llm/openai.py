"""Any language model behind the HTTP API of OpenAI: theirs, and those of all who speak it. Official SDK, ``openai``.

Source: https://platform.openai.com/docs/api-reference/chat/create and .../chat-streaming.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pipeline.engine import EngineError
from pipeline.llm import Delta, GenerateOptions, Message, TextDelta, ToolCall, Usage
from pipeline.remote import Breaker, garbled, hung_up
from pipeline.sdk import OWN_NAME, Sdk

logger = logging.getLogger(__name__)

UNLOADED_SECONDS = 240.0
"""After so long without a question a server in the house may have forgotten a model."""

END_SECONDS = 0.2
"""How long the end of a connection's use may take after the end of an answer."""

DISPENSABLE = ("reasoning_effort", "temperature", "stream_options", "max_completion_tokens", "max_tokens")
"""Parameters that some models refuse and that an answer can do without."""

REASONING = re.compile(r"o\d|gpt-5(?!.*chat)")
"""Models of OpenAI's that think before they answer."""

THOUGHT = re.compile(r"\s*<think>.*?</think>\s*", re.DOTALL)
"""What models of some servers write before their answer, and nobody is to hear."""


class OpenAiLlm:
    """A ``LanguageModel``: one provider, one key, any of its models."""

    def __init__(self, name: str, url: str, key: str, model: str = "") -> None:
        """``model`` answers agents that name none; empty: the first that the provider lists."""
        self.name = name
        self.breaker = Breaker()
        self._sdk = Sdk(name, url, key)
        self._keyed = bool(key)
        self._loaded: dict[str, float] = {}  # by model: when it was asked for something, loop's time
        self._loading: set[asyncio.Task[None]] = set()
        self._model = model
        self._refused: dict[str, set[str]] = {}  # by model: parameters that it does not take

    @property
    def trouble(self) -> str:
        return self.breaker.trouble if self.breaker.open else ""

    async def start(self) -> None:
        """Load the library and open a connection. Does not raise: a provider that is down now may be up later."""
        await self._sdk.warm(self.breaker)

    def prepare(self, model: str = "") -> None:
        """Something is going to be asked: have a connection, and in a house of one's own a model that is loaded."""
        self._sdk.prepare(self.breaker)
        now = asyncio.get_running_loop().time()
        if not self._keyed and now - self._loaded.get(model, -math.inf) > UNLOADED_SECONDS:
            self._loaded[model] = now
            self._loading.add(task := asyncio.create_task(self._load(model), name=f"loading a model of {self.name}"))
            task.add_done_callback(self._loading.discard)

    async def generate(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], options: GenerateOptions
    ) -> AsyncGenerator[Delta, None]:
        """See ``LanguageModel``. Raises ``pipeline.remote.ProviderError``."""
        client = await self._sdk.client()
        model = options.model or self._model or await self._sdk.usual_model()
        self._loaded[options.model] = asyncio.get_running_loop().time()
        request = self._request(model, messages, tools, options)
        with self._sdk.errors():
            opened, response = await self._open(client, model, request)
        answer = _Answer(self.name)
        whole = False
        try:
            with self._sdk.errors(hung_up):
                lines = aiter(response.iter_lines())
                async for line in lines:
                    if not line.startswith("data:"):
                        continue
                    if (data := line[5:].strip()) == "[DONE]":
                        whole = True
                        break
                    for delta in answer.read(self._chunk(data)):
                        yield delta
            for delta in answer.end():
                yield delta
        finally:
            if whole:  # a connection whose answer was read to its end can be used again
                with suppress(Exception):
                    async with asyncio.timeout(END_SECONDS):
                        async for _ in lines:
                            pass
            await opened.__aexit__(None, None, None)

    async def aclose(self) -> None:
        for task in self._loading:
            task.cancel()
        await asyncio.gather(*self._loading, return_exceptions=True)
        await self._sdk.aclose()

    async def _load(self, model: str) -> None:
        """Servers such as Ollama's load a model when it is asked something, which takes longer than a caller waits."""
        options = GenerateOptions(model=model, max_tokens=1)
        with suppress(EngineError):  # it shows again when it matters
            async for _ in self.generate([{"role": "user", "content": "Hi"}], (), options):
                pass

    def _request(
        self, model: str, messages: Sequence[Message], tools: Sequence[dict[str, Any]], options: GenerateOptions
    ) -> dict[str, Any]:
        own = self.name == OWN_NAME
        # Past the library's types: it would look at every field of every message, 25 ms for a long conversation, on the
        # loop that plays audio.
        raw: dict[str, Any] = {"messages": list(messages), **({"tools": list(tools)} if tools else {})}
        request: dict[str, Any] = {
            "model": model,
            "messages": [],
            "extra_body": raw,
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": options.temperature,
        }
        if options.max_tokens is not None:
            request["max_completion_tokens" if own else "max_tokens"] = options.max_tokens
        if own and REASONING.match(model):
            del request["temperature"]  # they refuse all but one
            request["reasoning_effort"] = "low"  # somebody waits on the line
        return {name: value for name, value in request.items() if name not in self._refused.get(model, ())}

    def _chunk(self, data: str) -> dict[str, Any]:
        """An object of the stream. Raises ``ProviderError`` for one that tells of a failure."""
        chunk = json.loads(data)
        if not isinstance(chunk, dict):
            raise garbled(self.name)
        if error := chunk.get("error"):
            raise self._sdk.stream_error(error)
        return chunk

    async def _open(self, client: Any, model: str, request: dict[str, Any]) -> tuple[Any, Any]:
        """Ask, again without what the model does not take, if it says so.

        The answer comes line by line: made into objects of the library each token would cost 0.3 ms of the loop.
        """
        import openai

        while True:
            try:
                opened = client.chat.completions.with_streaming_response.create(**request)
                return opened, await opened.__aenter__()
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                said = f"{error.param or ''} {error.message}"
                name = next((name for name in DISPENSABLE if name in request and name in said), None)
                if name is None:
                    raise
                logger.info("%s: %s takes no %s", self.name, model, name)
                self._refused.setdefault(model, set()).add(name)
                del request[name]


@dataclass(slots=True)
class _PartialCall:
    id: str
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class _Answer:
    """Chunks of a stream as deltas. Tool calls come in fragments and are complete only at the end."""

    engine: str
    calls: list[_PartialCall] = field(default_factory=list)
    at: dict[int, _PartialCall] = field(default_factory=dict)
    """Calls by the index under which their fragments come."""
    held: str | None = ""
    """The beginning, while it may be a thought; ``None``: it is over."""
    usage: Usage | None = None

    def read(self, chunk: Mapping[str, Any]) -> list[Delta]:
        if usage := chunk.get("usage"):
            self.usage = Usage(usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0)
        for choice in (chunk.get("choices") or [])[:1]:
            delta = choice.get("delta") or {}
            for call in delta.get("tool_calls") or []:
                self._gather(call)
            text = self._spoken((delta.get("content") or "") + (delta.get("refusal") or ""))
            return [TextDelta(text, self.engine)] if text else []
        return []

    def end(self) -> list[Delta]:
        deltas: list[Delta] = [TextDelta(self.held, self.engine)] if self.held else []
        for call in self.calls:
            if not call.name:
                raise garbled(self.engine)
            deltas.append(ToolCall(call.id, call.name, call.arguments.strip() or "{}"))
        return [*deltas, self.usage] if self.usage else deltas

    def _gather(self, fragment: Mapping[str, Any]) -> None:
        """Some servers number no calls, or all alike: a name after arguments begins another."""
        index = fragment.get("index")
        index = index if isinstance(index, int) else 0
        function = fragment.get("function") or {}
        name, identity = function.get("name") or "", fragment.get("id")
        call = self.at.get(index)
        if call is None or (name and call.name and identity and identity != call.id):
            call = _PartialCall(identity or f"call_{len(self.calls)}")
            self.calls.append(call)
            self.at[index] = call
        call.name = call.name or name
        call.arguments += function.get("arguments") or ""

    def _spoken(self, text: str) -> str:
        """The text without a thought in front of it."""
        if self.held is None:
            return text
        self.held += text
        start = self.held.lstrip()
        if start.startswith("<think>") and "</think>" not in start:
            return ""
        if "<think>".startswith(start[:7]) and len(start) < 7:
            return ""
        text, self.held = THOUGHT.sub("", self.held, count=1), None
        return text
