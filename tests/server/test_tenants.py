"""Several developers on one server, and several tenants of one agent."""

from __future__ import annotations

import json
from typing import Any

from tests.server.backends import Backend, House, house, until
from tests.server.test_chat import AGENT, brief, chat_token, heard, say, think


async def test_a_developers_slug_beside_that_of_production() -> None:
    """Each connection registers its own; tokens, sessions and their ends stay apart."""
    async with house() as server, server.backend("acme") as production:
        model = think(server)
        await production.create("mara", **AGENT | {"prompt": "I am production."})
        async with server.backend("acme") as developer:
            await developer.create("dev-ana-mara", **AGENT | {"prompt": "I am Ana's."})
            tokens = {slug: await chat_token(server, agent_id=slug) for slug in ("mara", "dev-ana-mara")}
            for slug, holder, other in (("mara", production, developer), ("dev-ana-mara", developer, production)):
                async with server.http.ws_connect("/chat/ws", params={"token": tokens[slug]}) as socket:
                    page = Backend(socket)
                    assert (await page.next())["agent"] == slug
                    await say(page, "Who are you?")
                told = await heard(holder, "llm.chat.ended")
                assert {frame["agent_id"] for frame in told} == {slug}
                await other.quiet()
            assert [asked[0]["content"].partition(".")[0] for asked in model.asked] == ["I am production", "I am Ana's"]
            late = await chat_token(server, agent_id="dev-ana-mara")
        await until(lambda: server.hub.registry.held == 1)
        async with server.http.ws_connect("/chat/ws", params={"token": late}) as socket:
            assert (await Backend(socket).next())["error"] == "Agent 'dev-ana-mara' is not online"
        assert await chat_token(server, agent_id="mara"), "production goes on"


async def test_tenants_of_one_agent_are_told_apart_by_what_their_tokens_seal() -> None:
    async with house() as server, server.backend("acme") as backend:
        model = think(server)
        await backend.create("mara", **AGENT | {"prompt": "You serve {{company}}.", "preparing": True})
        for company, other in (("Acme", "Globex"), ("Globex", "Acme")):
            assert company in await _prompt_of(server, backend, model, company)
            assert other not in model.asked[-1][0]["content"]


async def _prompt_of(server: House, backend: Backend, model: Any, company: str) -> str:
    """The prompt for a visitor of this company, whose page claims to be of another."""
    token = await chat_token(server, metadata=json.dumps({"company": company}))
    query = {"token": token, "metadata": '{"company": "Mallory"}'}
    async with server.http.ws_connect("/chat/ws", params=query) as socket:
        page = Backend(socket)
        [started] = await heard(backend, "llm.chat.started")
        assert started["metadata"] == {"company": company}
        before = (await heard(backend, "llm.before"))[-1]
        call = {"call_id": before["call_id"]}
        await backend.send(
            "history.set_vars", **call, request_id="r1", vars={"company": started["metadata"]["company"]}
        )
        await backend.send("llm.ready", **call, turn=before["turn"])
        await heard(page, "chat.connected")
        await page.send("message", text="Hi")
        before = (await heard(backend, "llm.before"))[-1]
        await backend.send("llm.ready", **call, turn=before["turn"])
        assert brief(await heard(page, "chat.done"), "text")[-1] == ("chat.done", "I see.")
    await heard(backend, "llm.chat.ended")
    return str(model.asked[-1][0]["content"])
