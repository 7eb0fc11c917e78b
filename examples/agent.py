"""The receptionist of a dental clinic: an agent whose backend is this file.

    pip install aiohttp
    VOICE_API_KEY=pk_… python agent.py            # VOICE_URL=https://voice.example.org for a server elsewhere

It registers the agent, greets callers by name, runs a tool when the model asks for it, and connects again when the
connection is lost; calls go on meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import uuid
from contextlib import suppress
from typing import Any

import aiohttp

URL = os.environ.get("VOICE_URL", "http://localhost:8080").rstrip("/")
API_KEY = os.environ["VOICE_API_KEY"]
PING_SECONDS = 30
"""A backend from which nothing came for 45 s may lose its agents to another one."""

OPENING_HOURS = {
    "name": "opening_hours",
    "description": "When the clinic is open on a day of the week.",
    "parameters": {"type": "object", "properties": {"day": {"type": "string"}}, "required": ["day"]},
}
AGENT: dict[str, Any] = {
    "agent_id": "receptionist",
    "language": "en",
    "llm": "openai/gpt-4.1-mini",  # a server without it answers with its own model, and says so
    "prompt": "You answer the phone of Sunny Dental. Today is {{day}}, {{date}}. Be brief and friendly.",
    "tools": [{"type": "function", "function": OPENING_HOURS}],
}


async def opening_hours(day: str) -> dict[str, str]:
    """Look it up wherever it stands; a tool may take its time."""
    closed = day.strip().lower() in ("saturday", "sunday")
    return {"day": day, "open": "closed" if closed else "from nine to six"}


TOOLS = {"opening_hours": opening_hours}


class Backend:
    """One connection to the server."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.refusal = ""
        """Why there is no point in trying again."""

    async def send(self, event: str, **fields: Any) -> None:
        with suppress(ConnectionError):  # what was lost with the connection is not sent again
            await self.socket.send_json({"event": event, **fields})

    async def run(self) -> None:
        """Until the connection ends."""
        tasks = {asyncio.create_task(self.ping())}
        await self.send("connect", api_key=API_KEY)
        async for message in self.socket:
            if message.type is aiohttp.WSMsgType.TEXT:  # in a task of its own, so that a slow tool delays nothing else
                task = asyncio.create_task(self.hear(json.loads(message.data)))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        for task in tasks:
            task.cancel()

    async def ping(self) -> None:
        while True:
            await asyncio.sleep(PING_SECONDS)
            await self.send("ping")

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
                results = await asyncio.gather(*(self.run_tool(call) for call in frame["tool_calls"]))
                await self.send("llm.tool_result", call_id=frame["call_id"], msg_id=frame["msg_id"], results=results)
            case "user.message" | "message.confirmed":
                who = "caller" if frame["event"] == "user.message" else "agent"
                print(f"{who}: {frame['text']}", flush=True)
            case "call.ended":
                print(f"call ended after {frame['duration_seconds']:.0f} s: {frame['reason']}", flush=True)
            case "error":
                await self.complain(frame)

    async def greet(self, call_id: str, metadata: dict[str, Any]) -> None:
        """``metadata`` is what the token of this caller carries, see token_server.py."""
        name = f" {metadata['name']}" if "name" in metadata else ""
        greeting = f"Hello{name}, this is Sunny Dental. How can I help?"
        message = {"message_id": f"msg_{uuid.uuid4().hex}", "text": greeting, "in_reply_to": "", "add_to_history": True}
        await self.send("bot.reply", call_id=call_id, **message)

    async def run_tool(self, call: dict[str, str]) -> dict[str, Any]:
        """What goes wrong is a result too: the model tells the caller."""
        try:
            result: Any = await TOOLS[call["name"]](**json.loads(call["arguments"]))
        except Exception as error:
            result = {"error": f"{type(error).__name__}: {error}"}
        return {"tool_call_id": call["id"], "result": result}

    async def complain(self, frame: dict[str, Any]) -> None:
        text = f"{frame['code']}: {frame['error']}"
        print(text, flush=True)
        if frame["code"] == "AGENT_CONFLICT":  # another process has it; perhaps the one that this one replaces
            await asyncio.sleep(frame["retry_after_s"])
            await self.send("agent.create", **AGENT)
        elif frame["code"] in ("INVALID_KEY", "REGISTRATION_ERROR", "AGENT_CONFLICT_FATAL"):
            self.refusal = text
            await self.socket.close()


async def main() -> None:
    """Stay connected: after 1 s, 2 s, 4 s, … and at most 30 s."""
    delay = 1.0
    async with aiohttp.ClientSession() as http:
        while True:
            with suppress(aiohttp.ClientError):
                async with http.ws_connect(f"{URL}/client") as socket:
                    delay = 1.0
                    backend = Backend(socket)
                    await backend.run()
                    if backend.refusal:
                        raise SystemExit(1)
            print(f"not connected; again in {delay:.0f} s", flush=True)
            await asyncio.sleep(delay * random.uniform(1, 1.25))
            delay = min(2 * delay, 30.0)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
