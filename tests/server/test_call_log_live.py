"""The call log of a real server: a whole call as it is watched, and what a crash leaves of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from server.peer import Peer
from tests.live import LiveServer

KEY = "pk_of_the_tests"
ENVIRONMENT = {"VOICE_API_KEYS": KEY, "VOICE_UDP_ADDRESSES": "127.0.0.1", "VOICE_MINT_RATE": "0"}
SECONDS = 60.0


def server(folder: Path) -> LiveServer:
    return LiveServer(folder, "--engine", "instant", environment=ENVIRONMENT)


class Reader:
    """Follows a log, comes back with its cursor when the connection breaks, and never reads an entry twice."""

    def __init__(self, url: str, token: str, **target: str) -> None:
        self.entries: list[dict[str, Any]] = []
        self.texts: dict[int, str] = {}
        """Of what is stored, by number."""
        self.caught_up = asyncio.Event()
        self._url = url
        self._query = {"token": token, **target}
        self._cursor = 0

    def kinds(self) -> list[str]:
        return [entry["type"] for entry in self.entries]

    async def until(self, kind: str, count: int = 1) -> None:
        async with asyncio.timeout(SECONDS):
            while self.kinds().count(kind) < count:
                await asyncio.sleep(0.01)

    async def come_and_go(self) -> int:
        """Until the log is finished; how often it came."""
        times = 1
        while not await self.read(5):
            times += 1
        return times

    async def read(self, at_most: int = 1 << 30) -> bool:
        """One connection; true when the server has closed it as finished."""
        query = {**self._query, "after": str(self._cursor)}
        async with aiohttp.ClientSession() as http, http.ws_connect(f"{self._url}/v1/attach", params=query) as socket:
            async for message in socket:
                entry = json.loads(message.data)
                assert "error" not in entry, entry
                if entry["type"] == "log.caught_up":
                    self.caught_up.set()
                    continue
                assert entry["seq"] > self._cursor, "nothing twice"
                self._cursor = entry["seq"]
                self.entries.append(entry)
                if not entry["ephemeral"]:
                    self.texts[entry["seq"]] = message.data
                at_most -= 1
                if not at_most:
                    return False
            return socket.close_code == 1000


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {KEY}"}) as http:
        yield http


async def get(http: aiohttp.ClientSession, path: str, **query: str) -> dict[str, Any]:
    async with http.get(path, params=query) as response:
        body = await response.json()
        assert response.status == 200, body
        assert isinstance(body, dict)
        return body


async def stored(http: aiohttp.ClientSession, path: str) -> tuple[list[str], bool]:
    """All of a log: its entries as they were sent, and whether it goes on."""
    async with http.get(path, params={"limit": "1000"}) as response:
        text = await response.text()
    page = json.loads(text)
    assert page["next"] is None
    texts = [json.dumps(entry, separators=(",", ":")) for entry in page["entries"]]
    assert text.startswith(f'{{"entries":[{",".join(texts)}]'), "an entry is written in one way"
    return texts, page["live"]


async def test_a_whole_call_with_a_reader_that_comes_and_goes(tmp_path: Path) -> None:
    with server(tmp_path) as live:
        async with asking(live.url) as http, Peer(live.url, "demo", api_key=KEY) as peer:
            token = (await get(http, "/stream/token", agent_id="demo"))["token"]
            await peer.connect()
            reader, of_agent = Reader(live.url, token, call=peer.session_id), Reader(live.url, token, agent="demo")
            following = asyncio.create_task(of_agent.read())
            reading = asyncio.create_task(reader.come_and_go())
            for number in range(2):  # the first one interrupts the greeting
                peer.act("inject_text", text=f"question number {number}")
                await reader.until("bot.finished", number + 1)
            await peer.close()
            assert await asyncio.wait_for(reading, SECONDS) > 5
            texts, going_on = await stored(http, f"/v1/calls/{peer.session_id}/events")
            assert (list(reader.texts.values()), going_on) == (texts, False), "no loss, no duplicate, the same bytes"
            kinds = [json.loads(text)["type"] for text in texts]
            assert (kinds[0], kinds[-2:]) == ("call.started", ["call.ended", "call.summary"])
            assert kinds.count("turn.start") == kinds.count("turn.end") >= 4
            answers = reader.entries[-1]["data"]["metrics"]["e2e"]
            assert answers["n"] == 2
            assert 0 < answers["p50"] <= answers["p95"] <= answers["max"] < 5
            await of_agent.until("call.ended")
            assert [entry["data"]["call"] for entry in of_agent.entries] == 2 * [peer.session_id]
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def test_a_crash_loses_nothing_that_anybody_has_seen(tmp_path: Path) -> None:
    """SIGKILL in the middle of what is said, again and again."""
    seen: dict[str, dict[int, str]] = {}
    for crash in range(3):
        live = server(tmp_path)
        with live:
            async with asking(live.url) as http, Peer(live.url, "demo", api_key=KEY) as peer:
                for call_id, texts in seen.items():
                    async with asyncio.timeout(SECONDS):
                        while (now := await stored(http, f"/v1/calls/{call_id}/events"))[1]:
                            await asyncio.sleep(0.02)
                    assert now[0][: len(texts)] == list(texts.values())
                    last = [json.loads(text) for text in now[0]]
                    assert [entry["type"] for entry in last[-2:]] == ["call.ended", "call.summary"]
                    assert last[-2]["data"]["reason"] == "failed"
                    assert last[-2]["seq"] > max(texts), "a reader that comes back with its cursor gets it"
                listed = await get(http, "/v1/agents/demo/calls")
                told = [(entry["type"], entry["data"]["call"]) for entry in listed["entries"]]
                assert told == [(kind, call_id) for call_id in seen for kind in ("call.started", "call.ended")]
                token = (await get(http, "/stream/token", agent_id="demo"))["token"]
                await peer.connect()
                reader = Reader(live.url, token, call=peer.session_id)
                reading = asyncio.create_task(reader.read())
                for number in range(3 + crash):
                    peer.act("inject_text", text=f"question number {number}")
                    await reader.until("user.message", number + 1)
                page = await get(http, f"/v1/calls/{peer.session_id}/events")
                live.kill()
                await asyncio.gather(reading, return_exceptions=True)
                entries = {entry["seq"]: json.dumps(entry, separators=(",", ":")) for entry in page["entries"]}
                seen[peer.session_id] = {**entries, **reader.texts}
                assert len(reader.texts) > 5
                assert any(entry["ephemeral"] for entry in reader.entries)
