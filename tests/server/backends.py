"""A backend's side of ``WS /client``, in front of the real application, and sessions that write down what they hear."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from config.agent import AgentConfig
from config.settings import Settings
from media.engine import MediaEngine
from pipeline.engine import Engines
from pipeline.session import Reply
from server.app import Parts, build_app
from server.call_log import CallLog, open_call_log
from server.http import Listener
from server.lifecycle import hub_limits
from server.local_hub import LocalHub
from server.rate import MemoryCounter
from server.registry import AgentKey
from server.threads import Threads
from tests.server.sockets import listening
from tokens.keys import ApiKeys
from tokens.ledger import MemoryLedger
from tokens.minting import TokenOffice

KEYS = {"default": "pk_of_the_operator", "acme": "pk_of_acme_corp", "globex": "pk_of_globex"}
PUBLISHABLE = {"acme": "pk_publishable_of_acme", "globex": "pk_publishable_of_globex"}
PAGE = "https://page.example"
SECONDS = 30.0

Frame = dict[str, Any]


def bearer(org: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[org]}"}


class Talk:
    """A session that does nothing but remember."""

    def __init__(self, session_id: str) -> None:
        self.id = session_id
        self.commands: list[Mapping[str, Any]] = []
        self.agents: list[AgentConfig] = []
        self.attended: list[bool] = []
        self.reason: str | None = None
        self._over = asyncio.Event()

    def command(self, frame: Mapping[str, Any], reply: Reply) -> None:
        self.commands.append(frame)
        reply({"event": "done", "call_id": self.id, "request_id": frame.get("request_id")})

    def reload(self, agent: AgentConfig) -> None:
        self.agents.append(agent)

    def attend(self, present: bool) -> None:
        self.attended.append(present)

    def hangup(self, reason: str) -> None:
        self.reason = self.reason or reason
        self._over.set()

    async def wait_ended(self) -> None:
        await self._over.wait()


class Backend:
    """One socket, as the public SDK uses it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def send(self, event: str, **fields: Any) -> None:
        await self.socket.send_str(json.dumps({"event": event, **fields}))

    async def next(self) -> Frame:
        """The next frame. Fails when the socket is closed instead."""
        async with asyncio.timeout(SECONDS):
            message = await self.socket.receive()
        assert message.type is aiohttp.WSMsgType.TEXT, (message, self.socket.close_code)
        frame = json.loads(message.data)
        assert isinstance(frame, dict)
        return frame

    async def ask(self, event: str, **fields: Any) -> Frame:
        await self.send(event, **fields)
        return await self.next()

    async def quiet(self) -> None:
        """Nothing waits to be read: what comes next answers a ping."""
        assert (await self.ask("ping"))["event"] == "pong"

    async def create(self, agent_id: str, **config: Any) -> None:
        assert await self.ask("agent.create", agent_id=agent_id, **config) == {
            "event": "agent.created",
            "agent_id": agent_id,
        }

    async def closed(self) -> tuple[int | None, str]:
        """Read until the server closes: code and reason."""
        async with asyncio.timeout(SECONDS):
            while True:
                message = await self.socket.receive()
                if message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR):
                    return self.socket.close_code, str(message.extra or "")


class House:
    """The application, and ways in."""

    def __init__(
        self,
        hub: LocalHub,
        office: TokenOffice,
        listener: Listener,
        http: aiohttp.ClientSession,
        engines: Engines,
        log: CallLog,
    ) -> None:
        self.hub = hub
        self.engines = engines
        self.log = log
        self.office = office
        self.listener = listener
        self.http = http

    @asynccontextmanager
    async def stranger(self) -> AsyncIterator[Backend]:
        async with self.http.ws_connect("/client", max_msg_size=0) as socket:
            yield Backend(socket)

    @asynccontextmanager
    async def backend(self, org: str = "default") -> AsyncIterator[Backend]:
        async with self.stranger() as backend:
            connected = await backend.ask("connect", api_key=KEYS[org])
            assert connected["event"] == "connected"
            assert connected["org_id"] == org
            yield backend

    async def begin(self, org: str, slug: str, session_id: str, channel: str = "webrtc") -> Talk:
        """A session with an agent, as a browser's offer would have begun it."""
        registration = self.hub.registry.get(AgentKey(org, slug))
        assert registration is not None
        talk = Talk(session_id)
        with self.hub.seat(registration, channel) as seat:
            seat.take(talk)
        return talk

    async def get(self, path: str, headers: Mapping[str, str] | None = None, **query: str) -> tuple[int, Any]:
        async with self.http.get(path, params=query, headers=headers) as response:
            return response.status, await response.json()

    async def token(self, org: str, agent_id: str, channel: str = "webrtc", **query: str) -> tuple[int, Any]:
        return await self.get(f"/{channel}/token", bearer(org), agent_id=agent_id, **query)


@asynccontextmanager
async def house(*declared: AgentConfig, **options: Any) -> AsyncIterator[House]:
    """The real application on a real port, with nothing loaded that thinks or speaks."""
    settings = Settings(**{"mint_rate": 0, "offer_rate": 0, **options})
    media = MediaEngine(addresses=["127.0.0.1"])
    await media.start()
    engines = Engines(settings)
    office = TokenOffice(("s" * 32,), MemoryLedger())
    keys = ApiKeys([f"{org}:{key}" for org, key in KEYS.items()], [f"{org}:{key}" for org, key in PUBLISHABLE.items()])
    threads = Threads(None)
    try:
        with tempfile.TemporaryDirectory() as folder:
            logged = settings.model_copy(update={"data_dir": Path(folder)})
            async with open_call_log(logged) as log, LocalHub(declared, hub_limits(settings)) as hub:
                parts = Parts(settings, keys, office, hub, media, engines, MemoryCounter(), threads, log)
                async with (
                    listening(build_app(parts)) as listener,
                    aiohttp.ClientSession(f"http://localhost:{listener.port}") as http,
                ):
                    yield House(hub, office, listener, http, engines, log)
    finally:
        await media.close()
        await engines.aclose()
        await threads.aclose()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.005)
