"""The receptionist of a dental clinic: an agent whose backend is this file.

    pip install aiohttp
    VOICE_API_KEY=pk_… python agent.py            # VOICE_URL=https://voice.example.org for a server elsewhere

It registers the agent, greets callers by name, runs a tool for the model, and connects again when it has to.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import uuid
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import aiohttp

URL = os.environ.get("VOICE_URL", "http://localhost:8080").rstrip("/")
API_KEY = os.environ["VOICE_API_KEY"]

OPENING_HOURS = {
    "name": "opening_hours",
    "description": "When the clinic is open on a day of the week.",
    "parameters": {"type": "object", "properties": {"day": {"type": "string"}}, "required": ["day"]},
}
AGENT: dict[str, Any] = {
    "agent_id": "receptionist",
    "llm": "openai/gpt-4.1-mini",  # a server without it answers with its own model, and says so
    "prompt": "You answer the phone of Sunny Dental. Today is {{day}}, {{date}}. Be brief and friendly.",
    "tools": [{"type": "function", "function": OPENING_HOURS}],
}


async def opening_hours(day: str) -> dict[str, str]:
    """Look it up wherever it stands; a tool may take its time."""
    return {"day": day, "open": "closed" if day.lower() in ("saturday", "sunday") else "from nine to six"}


TOOLS = {"opening_hours": opening_hours}


class Backend:
    """One connection to the server."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.refused = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def send(self, event: str, *, after: float = 0, **fields: Any) -> None:
        await asyncio.sleep(after)
        with suppress(ConnectionError):  # what was lost with the connection is not sent again
            await self.socket.send_json({"event": event, **fields})

    async def run(self) -> bool:
        """Until the connection ends. Whether it is worth to connect again."""
        self.start(self.ping())
        await self.send("connect", api_key=API_KEY)
        async for message in self.socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                await self.hear(json.loads(message.data))
        for task in self._tasks:
            task.cancel()
        return not self.refused

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """What takes time must not delay what is heard next."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def ping(self) -> None:
        while True:
            await self.send("ping", after=30)  # who is silent for 45 s may lose its agents to another backend

    async def hear(self, frame: dict[str, Any]) -> None:
        """Everything that happens is a frame; those that mean nothing to us we ignore."""
        match frame["event"]:
            case "connected":
                await self.send("agent.create", **AGENT)
            case "agent.created":
                print(f"{frame['agent_id']} is online at {URL}", flush=True)
            case "ping":
                await self.send("pong")
            case "call.started":
                await self.greet(frame["call_id"], frame["metadata"])
            case "llm.before":  # about to answer: the moment to look something up for the prompt
                await self.send("llm.ready", call_id=frame["call_id"], turn=frame["turn"])
            case "llm.tool_call":
                self.start(self.run_tools(frame))
            case "user.message" | "message.confirmed":
                print(f"{'caller' if frame['event'] == 'user.message' else 'agent'}: {frame['text']}", flush=True)
            case "call.ended":
                print(f"call ended after {frame['duration_seconds']:.0f} s: {frame['reason']}", flush=True)
            case "error":
                await self.complain(frame)

    async def greet(self, call_id: str, metadata: dict[str, Any]) -> None:
        """``metadata`` is what the token of this caller carries, see token_server.py."""
        name = f" {metadata['name']}" if "name" in metadata else ""
        text = f"Hello{name}, this is Sunny Dental. How can I help?"
        ids: dict[str, Any] = {"call_id": call_id, "message_id": f"msg_{uuid.uuid4().hex}", "in_reply_to": ""}
        await self.send("bot.reply", text=text, add_to_history=True, **ids)

    async def run_tools(self, frame: dict[str, Any]) -> None:
        """All calls of one turn of the model, at the same time."""
        results = await asyncio.gather(*(run_tool(call) for call in frame["tool_calls"]))
        await self.send("llm.tool_result", call_id=frame["call_id"], msg_id=frame["msg_id"], results=results)

    async def complain(self, frame: dict[str, Any]) -> None:
        print(f"{frame['code']}: {frame['error']}", flush=True)
        if frame["code"] == "AGENT_CONFLICT":  # another process has it, perhaps the one that this one replaces
            self.start(self.send("agent.create", after=frame["retry_after_s"], **AGENT))
        elif frame["code"] in ("INVALID_KEY", "REGISTRATION_ERROR", "AGENT_CONFLICT_FATAL"):
            self.refused = True
            await self.socket.close()


async def run_tool(call: dict[str, str]) -> dict[str, Any]:
    """What goes wrong is a result too: the model tells the caller."""
    try:
        result: Any = await TOOLS[call["name"]](**json.loads(call["arguments"]))
    except Exception as error:
        result = {"error": f"{type(error).__name__}: {error}"}
    return {"tool_call_id": call["id"], "result": result}


async def main() -> None:
    """Stay connected: after 1 s, 2 s, 4 s, … and at most 30 s."""
    delay = 1.0
    async with aiohttp.ClientSession() as http:
        while True:
            with suppress(aiohttp.ClientError):
                async with http.ws_connect(f"{URL}/client") as socket:
                    delay = 1.0
                    if not await Backend(socket).run():
                        raise SystemExit(1)
            print(f"not connected; again in {delay:.0f} s", flush=True)
            await asyncio.sleep(delay * random.uniform(1, 1.25))
            delay = min(2 * delay, 30.0)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
