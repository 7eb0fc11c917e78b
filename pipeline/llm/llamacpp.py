"""A language model in a GGUF file, run by llama.cpp on this machine's processor (package ``xllamacpp``, MIT)."""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import re
import secrets
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from pipeline.engine import EngineError
from pipeline.llm import Delta, GenerateOptions, Message, TextDelta, Usage
from pipeline.worker import Worker

logger = logging.getLogger(__name__)

CONTEXT = 2048
"""Tokens that a call's prompt and answer may fill."""

SLOTS = 4
"""Answers written at once."""

CACHE = 256
"""MiB for prompts that were read before and have no slot just now: the next turn reads only what is new."""

REUSE = 16
"""Tokens in a row that are found again in a cached prompt although what stood before them was left out."""

PROMPT_BYTES = 3000
"""UTF-8 bytes of prompt, some 750 English tokens. One core reads 100 to 200 uncached tokens a second."""

ENOUGH, MOST = 48, 120
"""Tokens of a spoken answer: after so many it ends with its sentence, or at last anywhere."""

LONGEST = 1024
"""Tokens of an answer, whatever the agent asks for."""

SAMPLING = {"min_p": 0.1, "repeat_penalty": 1.05}
"""Keeps a very small model from rare words and from going round in circles."""

SENTENCE_END = re.compile(r"[.!?…][\"'”’)]*\s*$")


class LlamaCpp:
    """A ``LanguageModel``. All calls share one worker process, which holds one copy of the model. Offers no tools."""

    name = "llamacpp"

    def __init__(self, path: Path) -> None:
        """``path`` is a GGUF file whose model has a chat template."""
        self._path = path
        # Never all cores: two threads wait for each other at every layer, and when the other engines take one of two
        # cores away, the pair writes 2 tokens a second where a single thread still writes 20.
        threads = min(4, max(1, (os.cpu_count() or 1) // 2))
        self.options = {"path": str(path), "context": CONTEXT, "slots": SLOTS, "threads": threads}
        """Of ``Llama``."""
        self._starting = asyncio.Lock()
        self._worker = Worker("pipeline.llm.llamacpp:Llama", self.options, name=self.name, concurrency=SLOTS)

    async def start(self) -> None:
        if not self._path.is_file():
            raise EngineError(f"{self.name}: the model file {self._path.name} is missing: run `voice-server setup`")
        async with self._starting:  # on its own account and on that of the engine ``local``
            await self._worker.start()

    async def generate(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], options: GenerateOptions
    ) -> AsyncGenerator[Delta, None]:
        """See ``LanguageModel``. Without ``max_tokens`` the answer is as long as one listens to: a few sentences."""
        enough, most = (ENOUGH, MOST) if options.max_tokens is None else (LONGEST, min(options.max_tokens, LONGEST))
        job = self._worker.stream("chat", fit(messages), options.temperature, enough, most)
        async with aclosing(job) as chunks:
            async for chunk in chunks:
                if isinstance(chunk, str):
                    yield TextDelta(chunk, self._path.stem)
                else:
                    prompt, cached, written = chunk
                    logger.debug("%d of %d prompt tokens were cached, %d written", cached, prompt, written)
                    yield Usage(prompt, written)

    async def aclose(self) -> None:
        await self._worker.aclose()


def fit(messages: Sequence[Message], limit: int = PROMPT_BYTES) -> list[Message]:
    """What a small model can read of a conversation: system prompt and latest messages, ``limit`` bytes at most.

    Only text remains, and it begins with the user and alternates: many chat templates demand it, and a small model that
    finds a greeting first goes on as it pleases.
    """
    texts = [(m["role"], m["content"]) for m in messages if m["role"] != "tool" and isinstance(m.get("content"), str)]
    system = _cut("\n\n".join(text for role, text in texts if role == "system"), limit // 2)
    history: list[Message] = []
    for role, text in texts:
        if role == "system" or not text or (role == "assistant" and not history):
            continue
        if history and history[-1]["role"] == role:
            history[-1]["content"] += "\n" + text
        else:
            history.append({"role": role, "content": text})
    room = limit - len(system.encode())
    while _size(history) > room and len(history) > 2:
        history = history[2:]
    if _size(history) > room:
        for message in history:
            message["content"] = _cut(message["content"], room // len(history))
    return ([{"role": "system", "content": system}] if system else []) + history


def _size(history: Sequence[Message]) -> int:
    return sum(len(message["content"].encode(errors="replace")) for message in history)


def _cut(text: str, limit: int) -> str:
    return text.encode(errors="replace")[:limit].decode(errors="ignore")


class Llama:
    """The model. Lives in the worker process, called by as many threads as there are slots."""

    def __init__(self, path: str, context: int, slots: int, threads: int) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = path
        params.n_ctx = context * slots
        params.n_parallel = slots
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.n_gpu_layers = 0
        params.cache_ram_mib = CACHE
        params.n_cache_reuse = REUSE
        params.verbosity = -1
        # The library always opens an HTTP port on loopback as well. Nobody uses it: nobody knows the key.
        params.api_keys = [secrets.token_hex(32)]
        params.cors_origins = ""
        params.ui = params.endpoint_slots = False
        try:
            self._server = xllamacpp.Server(params)
        except RuntimeError:
            raise EngineError(f"llama.cpp cannot load {Path(path).name}; expected a GGUF file") from None

    def chat(
        self, messages: list[Message], temperature: float, enough: int, most: int
    ) -> Iterator[str | tuple[int, int, int]]:
        """Yield the answer piece by piece, then (prompt tokens, those of them that were cached, tokens written).

        After ``enough`` tokens the answer ends with its sentence, without the last value.
        """
        request = {
            "messages": messages,
            "temperature": temperature,
            **SAMPLING,
            "max_tokens": most,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        chunks: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        unwanted = threading.Event()
        writer = threading.Thread(target=self._write, args=(request, chunks, unwanted), daemon=True)
        writer.start()
        try:
            tail = ""
            for count, chunk in enumerate(iter(chunks.get, None)):
                if "error" in chunk:
                    raise EngineError(_complaint(chunk["error"]))
                if text := _text(chunk):
                    yield text
                    tail = (tail + text)[-8:]
                    if count >= enough and SENTENCE_END.search(tail):
                        return
                elif usage := chunk.get("usage"):
                    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
                    yield usage["prompt_tokens"], cached, usage["completion_tokens"]
        finally:
            unwanted.set()
            writer.join()

    def _write(
        self, request: dict[str, Any], chunks: queue.SimpleQueue[dict[str, Any] | None], unwanted: threading.Event
    ) -> None:
        """The library calls back for each token, on the thread that asked; a true value stops it."""

        def receive(chunk: dict[str, Any]) -> bool:
            chunks.put(chunk)
            return unwanted.is_set()

        try:
            self._server.handle_chat_completions(request, receive)
        except (ValueError, RuntimeError):  # its text may quote the conversation
            chunks.put({"error": {}})
        chunks.put(None)


def _text(chunk: dict[str, Any]) -> str:
    choices = chunk.get("choices") or [{}]
    return choices[0].get("delta", {}).get("content") or ""


def _complaint(error: dict[str, Any]) -> str:
    if error.get("type") == "exceed_context_size_error":
        return "the conversation is too long for the model"
    return "the model cannot read this conversation"
