"""A backend as protocol.md says the public SDK is: what it sends, what it waits for, what it does with each frame.

Source: protocol 1.2, 1.3, 3 and 10. Behaviour that costs an application something when the server errs is kept on
purpose: frames without ``agent_id`` are dropped, promises wait for as long as theirs do, ids are remembered for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp

from tests.conformance.call import Call, Tool
from tests.conformance.inbox import Frame, Inbox
from tests.conformance.rules import BackendRules

CONNECT_SECONDS = 10.0
PING_SECONDS = 30.0
REGISTER_SECONDS = 10.0
EPISODE_SECONDS = 90.0
"""How long a conflict over an agent is contested."""
DIAL_SECONDS = 30.0

CONFLICTS = frozenset({"AGENT_CONFLICT", "AGENT_IN_USE"})
OF_CALLS = ("call.", "speech.", "user.", "turn.", "eager.", "bot.", "message.", "reply.", "llm.", "session.", "skill.")

Handler = Callable[..., object]


class SdkError(Exception):
    """A promise was rejected. ``code`` as the SDK names it."""

    def __init__(self, code: str, text: str = "") -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class Emitter:
    """Handlers by the name of an event; what one of them raises ends the process of an application."""

    def __init__(self) -> None:
        self.crashes: list[BaseException] = []
        self._handlers: dict[str, list[Handler]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def on(self, event: str, handler: Handler) -> None:
        self._handlers.setdefault(event, []).append(handler)

    def emit(self, event: str, *values: Any) -> None:
        for handler in self._handlers.get(event, ()):
            try:
                result = handler(*values)
            except Exception as error:  # noqa: BLE001
                self.crashes.append(error)
                continue
            if isinstance(result, Awaitable):
                self.spawn(result)

    def spawn(self, work: Awaitable[Any]) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def settle(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.crashes.append(error)


class Agent(Emitter):
    """One agent of a backend. Handlers of ``on`` get the call and the event, ``call.started`` and its like the call."""

    def __init__(self, sdk: Sdk, agent_id: str, tools: Mapping[str, Tool], config: Frame) -> None:
        super().__init__()
        self.id = agent_id
        self.tools = dict(tools)
        self.sdk = sdk
        self.config = config
        self.registered = False
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.dialling: asyncio.Future[Frame] | None = None
        self._queue: list[Frame] = []
        self._episode: float | None = None
        self._attempt = 0
        self._retry: asyncio.TimerHandle | None = None

    def create(self) -> None:
        self.sdk.send_now({"event": "agent.create", "agent_id": self.id, **self.config})

    def send(self, event: str, **fields: Any) -> None:
        """What is said before the server knows the agent waits for that."""
        frame = {"event": event, "agent_id": self.id, **fields}
        if self.registered:
            self.sdk.send_now(frame)
        else:
            self._queue.append(frame)

    def update(self, **config: Any) -> None:
        self.config |= config
        self.send("agent.configure", **config)

    def add_phone_number(self, number: str) -> None:
        self.send("channel.add", type="phone", ref=number)

    async def create_token(self, channel: str, metadata: Frame | None = None) -> Frame:
        return await self.sdk.create_token(channel, self.id, metadata)

    async def dial(self, to: str, caller: str) -> Frame:
        self.dialling = asyncio.get_running_loop().create_future()
        self.send("call.dial", to=to, **{"from": caller})
        async with asyncio.timeout(DIAL_SECONDS):
            return await self.dialling

    def on_created(self) -> None:
        self.registered, self._episode, self._attempt = True, None, 0
        self._cancel_retry()
        waiting, self._queue = self._queue, []
        for frame in waiting:
            self.sdk.send_now(frame)
        if not self.ready.done():
            self.ready.set_result(None)
        self.emit("ready")

    def on_lost(self) -> None:
        self.registered = False
        self._cancel_retry()

    def on_displaced(self) -> None:
        """It stays gone: neither is the socket closed nor the agent registered again. Protocol 3.5."""
        self.registered = False
        self.emit("channel.removed")

    def on_error(self, event: Frame) -> bool:
        """Protocol 3.4. Whether the frame was about the registration."""
        code = event.get("code", "")
        if code in CONFLICTS:
            self._contest(event)
        elif code in ("AGENT_CONFLICT_FATAL", "SERVER_AT_CAPACITY", "REGISTRATION_ERROR"):
            self._give_up(code, event.get("error", ""))
        else:
            return False
        return True

    def _contest(self, event: Frame) -> None:
        now = time.monotonic()
        if self._episode is None or event.get("holderAlive") is False:
            self._episode, self._attempt = now, 0
        if now - self._episode > EPISODE_SECONDS:
            self._give_up("AGENT_CONFLICT", "nobody lets go of it")
            return
        delay = event.get("retryAfterS") or 5.0 * 2**self._attempt
        delay = min(delay, 600.0 if event.get("holderAlive") else 60.0)
        self._attempt += 1
        self._cancel_retry()
        self._retry = asyncio.get_running_loop().call_later(delay * random.uniform(0.85, 1.15), self.create)
        self.emit("conflict", event)

    def _give_up(self, code: str, text: str) -> None:
        self._cancel_retry()
        if not self.ready.done():
            self.ready.set_exception(SdkError(code, text))
            self.ready.exception()  # an application that does not wait for it is not told
        self.emit("conflict", {"code": code})

    def _cancel_retry(self) -> None:
        if self._retry:
            self._retry.cancel()


class Sdk(Emitter):
    """One process of a developer. Connects at once, as its constructor does; an async context manager.

    ``inbox`` holds what came as it came; handlers get events with their top-level keys in camelCase.
    """

    def __init__(self, url: str, api_key: str, *, first_retry: float = 1.0) -> None:
        """``first_retry``: seconds before the first attempt to connect again; doubled for each that follows."""
        super().__init__()
        self.inbox = Inbox()
        self.rules = BackendRules()
        self.agents: dict[str, Agent] = {}
        self.calls: dict[str, Call] = {}
        self.ghosts: list[Frame] = []
        """Events that made the SDK invent a call, or end one that never was. Protocol 1.4, 3.9."""
        self.dropped: list[Frame] = []
        self.connections = 0
        self.socket: aiohttp.ClientWebSocketResponse | None = None
        self.ready: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self.lines: dict[str, asyncio.Future[None]] = {}
        self._http_url = url.replace("ws", "http", 1) if url.startswith("ws") else url
        self._url = url.replace("http", "ws", 1).rstrip("/") if url.startswith("http") else url.rstrip("/")
        self._key = api_key
        self._first_retry = first_retry
        self._http = aiohttp.ClientSession()
        self._rounds: set[str] = set()
        self._requests: dict[str, asyncio.Future[Frame]] = {}
        self._number = 0
        self._life = asyncio.create_task(self._live(), name="sdk")
        self._overdue = asyncio.get_running_loop().call_later(CONNECT_SECONDS, self._give_up)

    # --- what an application calls

    def agent(self, agent_id: str, *, tools: Mapping[str, Tool] | None = None, **config: Any) -> Agent:
        agent = self.agents[agent_id] = Agent(self, agent_id, tools or {}, config)
        if tools:
            parameters = {"type": "object", "properties": {}}
            config["tools"] = [
                {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}
                for name in tools
            ]
        if self.ready.done():
            agent.create()
        return agent

    async def create_token(
        self, channel: str, agent_id: str, metadata: Frame | None = None, **narrowed: str
    ) -> dict[str, Any]:
        """``{token, server, expiresIn}``. Raises ``SdkError`` with the server's ``detail``. Protocol 2.3, 10.1."""
        if (agent := self.agents.get(agent_id)) is not None:
            try:
                async with asyncio.timeout(REGISTER_SECONDS):
                    await asyncio.shield(agent.ready)
            except TimeoutError:
                raise SdkError("AGENT_NOT_REGISTERED") from None
        query = {"agent_id": agent_id, **({"metadata": json.dumps(metadata)} if metadata else {}), **narrowed}
        headers = {"Authorization": f"Bearer {self._key}"}
        async with self._http.get(f"{self._http_url}/{channel}/token", params=query, headers=headers) as response:
            body: Frame = await response.json()
            if response.status != 200:
                assert isinstance(body["detail"], str)
                raise SdkError(str(response.status), body["detail"])
        if not isinstance(body.get("token"), str) or not body["token"]:
            raise SdkError("NO_TOKEN")
        return {**body, "server": body.get("server", self._http_url), "expiresIn": body.get("expires_in", 60)}

    def line(self, number: str) -> asyncio.Future[None]:
        """What ``line.ready`` is."""
        self.lines[number] = asyncio.get_running_loop().create_future()
        self.send_now({"event": "line.create", "number": number, "config": {}})
        return self.lines[number]

    async def request(self, event: str, **fields: Any) -> Frame:
        """Protocol 3.13. Raises ``SdkError``, after 10 s without an answer at the latest."""
        self._number += 1
        request_id = f"rq_{self._number}_{random.getrandbits(24):06x}"
        answered: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._requests[request_id] = answered
        self.send_now({"event": event, "request_id": request_id, **fields})
        try:
            async with asyncio.timeout(10.0):
                answer = await answered
        except TimeoutError:
            raise SdkError("REQUEST_TIMEOUT", event) from None
        finally:
            del self._requests[request_id]
        if "error" in answer:
            raise SdkError("REQUEST_REJECTED", answer["error"])
        return answer

    def send_now(self, frame: Frame) -> None:
        """What is sent while the socket is down is lost."""
        if self.socket is not None and not self.socket.closed:
            self.spawn(self._send(self.socket, json.dumps(frame)))

    async def disconnect(self) -> None:
        self._overdue.cancel()
        self._life.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._life

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.disconnect()
        await self._http.close()
        for emitter in (self, *self.agents.values()):
            await emitter.settle()
        if kind is None:
            self.rules.assert_kept()
            assert not self.ghosts, self.ghosts
            assert not [crash for emitter in (self, *self.agents.values()) for crash in emitter.crashes]

    # --- the connection

    def _give_up(self) -> None:
        """Nobody waits for this in most applications: it ends the process. Protocol 3.1."""
        if not self.ready.done():
            self.ready.set_exception(SdkError("CONNECTION_TIMEOUT"))
            self.crashes.append(SdkError("CONNECTION_TIMEOUT"))

    async def _send(self, socket: aiohttp.ClientWebSocketResponse, text: str) -> None:
        with contextlib.suppress(ConnectionError):
            await socket.send_str(text)

    async def _live(self) -> None:
        attempt = 0
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with self._http.ws_connect(
                    f"{self._url}/client", timeout=aiohttp.ClientWSTimeout(ws_close=1)
                ) as socket:
                    self.socket = socket
                    if await self._converse(socket):
                        attempt = 0
            reason = self._lost()
            if "displaced" in reason.lower():
                return
            await asyncio.sleep(min(30.0, self._first_retry * 2**attempt) * random.uniform(1, 1.25))
            attempt += 1

    async def _converse(self, socket: aiohttp.ClientWebSocketResponse) -> bool:
        """Until the socket is closed. Whether the server took us in."""
        await socket.send_str(json.dumps({"event": "connect", "api_key": self._key}))
        pinging = self.spawn(self._ping(socket))
        welcome = False
        self._reason = ""
        try:
            while (message := await socket.receive()).type is aiohttp.WSMsgType.TEXT:
                frame = json.loads(message.data)
                welcome = welcome or frame["event"] == "connected"
                self._take(frame)
            self._reason = str(message.extra or "")
        finally:
            pinging.cancel()
        return welcome

    async def _ping(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while not socket.closed:
            await asyncio.sleep(PING_SECONDS)
            await self._send(socket, '{"event": "ping"}')

    def _lost(self) -> str:
        """Protocol 3.6: every local call ends, the table is empty, no agent is registered."""
        calls, self.calls = list(self.calls.values()), {}
        for call in calls:
            call.on_ended({"event": "call.ended", "reason": self._reason or "connection_closed"})
        for agent in self.agents.values():
            agent.on_lost()
        self.emit("disconnected", self._reason)
        self.inbox.wake()
        return self._reason

    _reason = ""

    # --- what comes

    def _take(self, raw: Frame) -> None:
        self.rules.check(raw)
        self._dispatch({camel(key): value for key, value in raw.items()})
        self.inbox.put(raw)

    def _dispatch(self, event: Frame) -> None:
        name = event["event"]
        agent = self._agent(event.get("agentId"))
        match name:
            case "connected":
                self.connections += 1
                for each in self.agents.values():
                    each.create()
                if not self.ready.done():
                    self.ready.set_result(event)
            case "ping":
                self.send_now({"event": "pong"})
            case "agent.created" | "agent.resumed" if agent:
                agent.on_created()
            case "agent.displaced" if agent:
                agent.on_displaced()
            case "error":
                if not (agent and agent.on_error(event)):
                    self.emit("error", event)
            case "line.error" if event["number"] in self.lines:
                self.lines[event["number"]].set_exception(SdkError(event["code"], event["error"]))
            case _:
                self._of_a_call(event, agent)

    def _agent(self, agent_id: str | None) -> Agent | None:
        """By the exact id, then by what follows the last colon, then by slug. Protocol 1.4."""
        if agent_id is None:
            return None
        for spelled in (agent_id, agent_id.rpartition(":")[2]):
            if spelled in self.agents:
                return self.agents[spelled]
        slug = agent_id.rpartition(":")[2].strip().lower().replace(" ", "-").replace("_", "-")
        return next((each for each in self.agents.values() if each.id.lower().replace(" ", "-") == slug), None)

    def _of_a_call(self, event: Frame, agent: Agent | None) -> None:
        name = event["event"]
        if (waiting := self._requests.get(str(event.get("requestId")))) and not waiting.done():
            waiting.set_result(event)
            return
        if not name.startswith(OF_CALLS):
            self.emit(name, event)
            return
        if agent is None:
            self.dropped.append(event)
            return
        call_id = str(event.get("callId"))
        call = self.calls.get(call_id)
        match name:
            case "call.started":
                call = self.calls[call_id] = Call(agent, event)
                agent.emit("call.started", call)
            case "call.ended":
                self._end(agent, call, event)
            case "call.error":
                agent.emit("call.ended", None)
            case "llm.tool_call":
                self._run_tools(agent, call, event)
            case "llm.before":
                if call is not None:
                    agent.spawn(self._prepare(agent, call, event))
            case _ if call is None:
                if call_id.startswith("wrt_"):
                    self.ghosts.append(event)
            case _:
                call.on_event(event)
                agent.emit(name, call, event)

    def _end(self, agent: Agent, call: Call | None, event: Frame) -> None:
        if call is not None:
            del self.calls[call.id]
            call.on_ended(event)
            agent.emit("call.ended", call, event)
        elif event.get("direction") == "outbound" and agent.dialling and not agent.dialling.done():
            agent.dialling.set_exception(SdkError("DIAL_FAILED", event["reason"]))
        elif event.get("direction") != "inbound" or event.get("reason") == "failed":
            self.ghosts.append(event)

    def _run_tools(self, agent: Agent, call: Call | None, event: Frame) -> None:
        """Protocol 3.14: each round once for ever, an unknown call with a stub, unknown tools with an error."""
        if event["msgId"] in self._rounds:
            return
        self._rounds.add(event["msgId"])
        if not agent.tools:
            agent.emit("llm.toolCall", call, event)
            return
        agent.spawn(self._execute(agent, call or Call.stub(agent, event["callId"]), event))

    async def _execute(self, agent: Agent, call: Call, event: Frame) -> None:
        results = await asyncio.gather(
            *(_run(agent.tools.get(each["name"]), each, call) for each in event["toolCalls"])
        )
        call.tool_result(event["msgId"], results)

    async def _prepare(self, agent: Agent, call: Call, event: Frame) -> None:
        for handler in agent._handlers.get("call.preparing", ()):
            result = handler(call)
            if isinstance(result, Awaitable):
                await result
        self.send_now({"event": "llm.ready", "call_id": call.id, "agent_id": agent.id, "turn": event["turn"]})


async def _run(tool: Tool | None, wanted: Frame, call: Call) -> Frame:
    """The result of one tool, as a row of ``llm.tool_result``."""
    row: Frame = {"tool_call_id": wanted["id"]}
    if tool is None:
        return {**row, "result": {"error": f"unknown tool {wanted['name']}"}}
    try:
        result = tool.execute(json.loads(wanted["arguments"]), call)
        row["result"] = await result if isinstance(result, Awaitable) else result
    except Exception as error:  # noqa: BLE001
        row["result"] = {"error": str(error)}
    return {
        **row,
        **({"ephemeral": True} if tool.ephemeral else {}),
        **({"no_followup": True} if tool.no_followup else {}),
    }


def camel(key: str) -> str:
    head, *rest = key.split("_")
    return head + "".join(part.capitalize() for part in rest)
