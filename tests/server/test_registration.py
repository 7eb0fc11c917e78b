"""Agents of backends: registered, configured, contested, lost and found again."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from config.agent import AgentConfig, LlmConfig
from server import backend as connection
from server.commands import CONFLICTS
from server.local_hub import LocalHub
from server.registry import AgentKey
from tests.server.backends import Backend, House, Talk, bearer, house, until

LLM = "openai/gpt-4.1-mini"


def key(slug: str = "mara", org: str = "default") -> AgentKey:
    return AgentKey(org, slug)


def held(hub: LocalHub, slug: str = "mara", org: str = "default") -> AgentConfig:
    registration = hub.registry.get(key(slug, org))
    assert registration is not None
    return registration.agent


# --- registering and configuring (3.3, 3.7, 3.8)


async def test_an_agent_is_registered_under_its_slug_and_answered_as_it_is_spelt() -> None:
    async with house() as server, server.backend() as backend:
        await backend.create("My Agent", prompt="You are Mara.", greeting="Hi!", voice="heart")
        agent = held(server.hub, "my-agent")
        assert (agent.prompt, agent.greeting_for("en"), agent.generates) == ("You are Mara.", "Hi!", False)
        assert await backend.ask("agent.configure", agent_id="my_agent", prompt="You are Leo.") == {
            "event": "agent.configured",
            "agent_id": "My Agent",
        }
        assert held(server.hub, "my-agent").prompt == "You are Leo."
        assert held(server.hub, "my-agent").greeting_for("en") == "Hi!"


async def test_registering_again_replaces_all_of_it_and_is_answered_again() -> None:
    async with house() as server, server.backend() as backend:
        await backend.create("mara", prompt="One.", greeting="Hi!", allowed_origins=["https://page.example"])
        await backend.ask("channel.add", agent_id="mara", type="webrtc", prompt="On the web.")
        await backend.create("mara", prompt="Two.")
        registration = server.hub.registry.get(key())
        assert registration is not None
        assert registration.agent == AgentConfig(id="mara", prompt="Two.")
        assert registration.agent_on("webrtc").prompt == "Two."


async def test_channels_lie_over_the_agent() -> None:
    async with house() as server, server.backend() as backend:
        await backend.create("mara", prompt="Agent.", language="en", voice={"voice_id": "heart", "speed": 1.1})

        def on(channel: str) -> AgentConfig:
            registration = server.hub.registry.get(key())
            assert registration is not None
            return registration.agent_on(channel)

        added = await backend.ask("channel.add", agent_id="mara", type="webrtc", prompt="Web.", voice={"speed": 1.5})
        assert added == {"event": "channel.added", "agent_id": "mara", "type": "webrtc", "ref": "webrtc"}
        assert (on("webrtc").prompt, on("webrtc").voice.voice_id, on("webrtc").voice.speed) == ("Web.", "heart", 1.5)
        assert on("chat").prompt == "Agent."
        assert await backend.ask("channel.configure", agent_id="mara", ref="webrtc", language="es") == {
            "event": "channel.configured",
            "agent_id": "mara",
            "ref": "webrtc",
        }
        assert (on("webrtc").language, on("webrtc").prompt) == ("es", "Web.")
        await backend.ask("agent.configure", agent_id="mara", prompt="New agent.")
        assert (on("webrtc").prompt, on("chat").prompt) == ("Web.", "New agent.")
        assert await backend.ask("channel.remove", agent_id="mara", ref="webrtc", type="webrtc") == {
            "event": "channel.removed",
            "agent_id": "mara",
            "ref": "webrtc",
        }
        assert (on("webrtc").language, on("webrtc").prompt) == ("en", "New agent.")


@pytest.mark.parametrize("channel", ["phone", "whatsapp", "mic", "", 7, None])
async def test_other_channels_are_refused_and_the_agent_stays(channel: Any) -> None:
    async with house() as server, server.backend() as backend:
        await backend.create("mara")
        answer = await backend.ask("channel.add", agent_id="mara", type=channel, number="+1555")
        assert (answer["event"], answer["code"], answer["agent_id"]) == ("error", "CHANNEL_UNSUPPORTED", "mara")
        assert held(server.hub)


async def test_what_cannot_be_used_is_named_in_one_frame_and_unknown_keys_in_the_log_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    wire = {
        "voice": {"speed": "fast"},
        "prompt": 7,
        "knowledge_base": "kb_secret",
        "colour": "confidential",
        "allowed_origins": ["no origin"],
        "greeting": "Hi!",
    }
    async with house() as server, server.backend() as backend:
        await backend.create("mara", **wire)
        report = await backend.next()
        assert (report["event"], report["code"], report["agent_id"]) == ("error", "BAD_CONFIG", "mara")
        for named in ("voice.speed", "prompt", "knowledge_base", "allowed_origins[0]"):
            assert named in report["error"]
        assert "colour" not in report["error"]
        assert held(server.hub).greeting_for("en") == "Hi!"
        await backend.quiet()
    assert "unknown keys colour" in caplog.text
    for value in ("confidential", "kb_secret"):
        assert value not in caplog.text


async def test_what_the_server_does_not_have_is_told_once_at_the_registration() -> None:
    async with house() as server, server.backend() as backend:
        await backend.create("mara", voice="elevenlabs/sarah", stt="deepgram/flux", llm=LLM)
        warning = await backend.next()
        assert (warning["event"], warning["code"], warning["agent_id"]) == ("error", "FALLBACK", "mara")
        assert "elevenlabs" in warning["error"]
        assert "deepgram" in warning["error"]
        await backend.quiet()


@pytest.mark.parametrize("agent_id", [None, 7, "", "***", "x" * 201, ["mara"]])
async def test_an_agent_without_a_name_can_never_work(agent_id: Any) -> None:
    async with house() as server, server.backend() as backend:
        answer = await backend.ask("agent.create", agent_id=agent_id)
        assert (answer["event"], answer["code"]) == ("error", "REGISTRATION_ERROR")
        assert server.hub.registry.held == 0


@pytest.mark.parametrize("event", ["agent.configure", "channel.add", "channel.configure", "channel.remove"])
async def test_only_who_holds_an_agent_configures_it(event: str) -> None:
    async with house(AgentConfig(id="own")) as server, server.backend() as backend, server.backend() as other:
        await backend.create("mara", prompt="Mine.")
        for agent_id in ("mara", "own", "nobody"):
            answer = await other.ask(event, agent_id=agent_id, type="webrtc", ref="webrtc", prompt="Yours.")
            assert (answer["event"], answer["code"], answer["agent_id"]) == ("error", "AGENT_NOT_REGISTERED", agent_id)
        assert held(server.hub).prompt == "Mine."


async def test_origins_are_those_of_the_registration() -> None:
    page = {"Origin": "https://page.example"}
    async with house() as server, server.backend() as backend:
        await backend.create("mara", allowed_origins=["https://page.example"])
        assert (await server.get("/webrtc/token", page, agent_id="mara"))[0] == 200
        await backend.ask("agent.configure", agent_id="mara", allowed_origins=[])
        assert (await server.get("/webrtc/token", page, agent_id="mara"))[0] == 200
        await backend.create("mara")
        assert (await server.get("/webrtc/token", page, agent_id="mara"))[0] == 401


# --- how many (3.4)


async def test_a_connection_and_a_server_hold_so_many_agents() -> None:
    async with house(max_agents=3, connection_max_agents=2) as server:
        async with server.backend() as one, server.backend() as two:
            await one.create("a")
            await one.create("b")
            full = await one.ask("agent.create", agent_id="c")
            assert (full["code"], full["agent_id"], full["used"], full["limit"]) == ("SERVER_AT_CAPACITY", "c", 2, 2)
            await one.create("b", prompt="Again.")
            await two.create("c")
            full = await two.ask("agent.create", agent_id="d")
            assert (full["code"], full["used"], full["limit"]) == ("SERVER_AT_CAPACITY", 3, 3)
        await until(lambda: server.hub.registry.held == 0)
        async with server.backend() as three:
            await three.create("d")


# --- conflicts (3.4, 3.5)


async def contested(server: House, backend: Backend, rival: Backend, *, answers: bool) -> dict[str, Any]:
    """``rival`` asks for the agent that ``backend`` holds; what it is told."""
    await rival.send("agent.create", agent_id="mara", prompt="Rival.")
    assert (await backend.next()) == {"event": "ping"}
    if answers:
        await backend.send("pong")
    return await rival.next()


async def test_a_holder_that_answers_keeps_its_agent_and_the_rival_is_told_when_to_ask_again() -> None:
    async with house() as server, server.backend() as backend, server.backend() as rival:
        await backend.create("mara", prompt="Mine.")
        for _ in range(CONFLICTS):
            refusal = await contested(server, backend, rival, answers=True)
            assert refusal.pop("error")
            assert refusal == {
                "event": "error",
                "code": "AGENT_CONFLICT",
                "agent_id": "mara",
                "holder_alive": True,
                "retry_after_s": 10,
            }
        refusal = await contested(server, backend, rival, answers=True)
        assert (refusal["code"], refusal["agent_id"]) == ("AGENT_CONFLICT_FATAL", "mara")
        assert held(server.hub).prompt == "Mine."
        await rival.create("leo")


async def test_a_holder_that_does_not_answer_loses_its_agent_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PROBE_SECONDS", 0.05)
    async with house() as server, server.backend() as backend, server.backend() as rival:
        await backend.create("mara", prompt="Mine.")
        await backend.create("leo")
        talk = await server.begin("default", "mara", "c1")
        answer = await contested(server, backend, rival, answers=False)
        assert answer == {"event": "agent.created", "agent_id": "mara"}
        assert held(server.hub).prompt == "Rival."
        assert [agent.prompt for agent in talk.agents] == ["Rival."]
        await backend.quiet()
        assert held(server.hub, "leo"), "the rest is its own"


async def test_a_closed_holder_is_no_holder() -> None:
    async with house() as server, server.backend() as rival:
        async with server.backend() as backend:
            await backend.create("mara")
        await rival.create("mara")


async def test_a_holder_that_was_silent_for_long_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house() as server, server.backend() as backend, server.backend() as rival:
        await backend.create("mara", prompt="Mine.")
        monkeypatch.setattr(connection, "LIVENESS_SECONDS", -1.0)
        await rival.create("mara", prompt="Rival.")
        monkeypatch.undo()
        assert held(server.hub).prompt == "Rival."
        await backend.quiet()


async def test_two_that_ask_for_each_others_agents_both_keep_their_own() -> None:
    async with house() as server, server.backend() as one, server.backend() as two:
        await one.create("one")
        await two.create("two")
        await one.send("agent.create", agent_id="two")
        await two.send("agent.create", agent_id="one")

        async def refused(backend: Backend) -> str:
            frames: dict[str, Any] = {}
            while len(frames) < 2:
                frame = await backend.next()
                frames[frame["event"]] = frame
                if frame["event"] == "ping":
                    await backend.send("pong")
            return str(frames["error"]["code"])

        assert await asyncio.gather(refused(one), refused(two)) == ["AGENT_CONFLICT"] * 2
        assert server.hub.registry.held == 2


async def test_an_operator_may_let_the_newest_win() -> None:
    async with house(newest_backend_wins=True) as server, server.backend() as backend, server.backend() as rival:
        await backend.create("Mara", prompt="Mine.")
        talk = await server.begin("default", "mara", "c1")
        await rival.create("mara", prompt="Rival.")
        assert await backend.next() == {"event": "agent.displaced", "agent_id": "Mara", "reason": "replaced"}
        assert held(server.hub).prompt == "Rival."
        assert talk.attended == [True, True]
        await backend.quiet()


async def test_who_leaves_while_it_contests_leaves_nothing() -> None:
    async with house() as server, server.backend() as backend:
        await backend.create("mara", prompt="Mine.")
        async with server.backend() as rival:
            await rival.send("agent.create", agent_id="mara")
            assert (await backend.next()) == {"event": "ping"}
        await until(lambda: not [task for task in asyncio.all_tasks() if task.get_name().startswith("contest")])
        assert held(server.hub).prompt == "Mine."


# --- kick (2.7, 3.5)


async def delete(server: House, slug: str, org: str = "default") -> tuple[int, Any]:
    async with server.http.delete(f"/api/sdk/agents/{slug}", headers=bearer(org)) as response:
        return response.status, await response.json()


async def test_a_kick_takes_the_agent_and_later_its_calls() -> None:
    async with house(agent_grace_seconds=0.05) as server, server.backend() as backend:
        await backend.create("Mara", llm=LLM)
        await backend.next()  # that this model is not here
        talk = await server.begin("default", "mara", "c1")
        assert await delete(server, "mara") == (200, {"success": True, "displaced": "mara", "org_id": "default"})
        assert await backend.next() == {"event": "agent.displaced", "agent_id": "Mara", "reason": "kicked"}
        assert (await server.token("default", "mara"))[0] == 404
        assert talk.attended == [True, False]
        await until(lambda: talk.reason)
        assert talk.reason == "agent_disconnected"
        await backend.quiet()
        status, body = await delete(server, "mara")
        assert (status, body["success"], body["detail"]) == (404, False, "Agent 'mara' is not online")


async def test_who_registers_a_kicked_agent_in_time_has_its_calls() -> None:
    async with house() as server, server.backend() as backend, server.backend() as other:
        await backend.create("mara")
        talk = await server.begin("default", "mara", "c1")
        assert (await delete(server, "mara"))[0] == 200
        await other.create("mara")
        assert talk.attended == [True, False, True]
        assert talk.reason is None


async def test_an_agent_of_the_operator_has_nobody_to_kick() -> None:
    async with house(AgentConfig(id="own")) as server:
        status, body = await delete(server, "own")
        assert (status, body["success"], body["code"]) == (409, False, "AGENT_NOT_HELD")


# --- losing a backend and finding it again (3.6, 8.12)


async def test_calls_go_on_without_their_backend_and_are_its_own_when_it_is_back() -> None:
    async with house() as server:
        async with server.backend() as backend:
            await backend.create("mara", llm=LLM, prompt="One.")
            talk = await server.begin("default", "mara", "c1")
        await until(lambda: server.hub.registry.held == 0)
        assert (await server.token("default", "mara"))[0] == 404
        assert (talk.attended, talk.reason) == ([True, False], None)
        async with server.backend() as backend:
            await backend.create("MARA", llm=LLM, prompt="Two.")
            await backend.next()  # that this model is not here
            assert talk.attended == [True, False, True]
            assert [agent.prompt for agent in talk.agents] == ["Two."]
            await backend.quiet()  # no second call.started
            answer = await backend.ask("history.get", call_id="c1", request_id="rq_1")
            assert (answer["agent_id"], answer["call_id"], answer["request_id"]) == ("MARA", "c1", "rq_1")
            server.hub.tell(key(), {"event": "bot.word", "call_id": "c1"})
            assert await backend.next() == {"event": "bot.word", "agent_id": "MARA", "call_id": "c1"}


async def test_calls_that_nobody_answers_end_after_a_while() -> None:
    async with house(agent_grace_seconds=0.05) as server:
        async with server.backend() as backend:
            await backend.create("writes-itself")
            await backend.create("generated", llm=LLM)
            waiting = await server.begin("default", "writes-itself", "c1")
            going_on = await server.begin("default", "generated", "c2")
        await until(lambda: waiting.reason)
        assert waiting.reason == "agent_disconnected"
        assert going_on.reason is None


async def test_a_call_whose_backend_left_while_the_offer_was_answered() -> None:
    async with house(agent_grace_seconds=0.05) as server:
        async with server.backend() as backend:
            await backend.create("mara")
            registration = server.hub.registry.get(key())
            assert registration is not None
        await until(lambda: server.hub.registry.held == 0)
        talk = Talk("c1")
        with server.hub.seat(registration, "webrtc") as seat:
            seat.take(talk)
        await until(lambda: talk.reason)
        assert talk.reason == "agent_disconnected"


async def test_an_agent_of_the_operator_comes_back_when_its_backend_leaves() -> None:
    own = AgentConfig(id="demo", prompt="Own.", llm=LlmConfig())
    async with house(own) as server:
        first = await server.begin("default", "demo", "c1")
        assert first.attended == []
        async with server.backend() as backend:
            await backend.create("demo", prompt="Theirs.")
            assert held(server.hub, "demo").prompt == "Theirs."
            assert first.attended == [True]
        await until(lambda: server.hub.registry.held == 0)
        assert held(server.hub, "demo") == own
        assert first.attended == [True, False]
        assert (await server.token("default", "demo"))[0] == 200


async def test_a_session_of_an_id_that_runs_is_refused() -> None:
    async with house() as server, server.backend() as backend:
        await backend.create("mara")
        await server.begin("default", "mara", "chat-1")
        with pytest.raises(ValueError, match="running"):
            await server.begin("default", "mara", "chat-1")
        assert server.hub.taken == 1


async def test_hot_reload_reaches_running_calls_with_what_lies_over_their_channel() -> None:
    async with house() as server, server.backend() as backend:
        await backend.create("mara", prompt="One.")
        await backend.ask("channel.add", agent_id="mara", type="chat", prompt="In chat.")
        spoken, typed = await server.begin("default", "mara", "c1"), await server.begin("default", "mara", "c2", "chat")
        await backend.ask("agent.configure", agent_id="mara", prompt="Two.", vars={"n": 1})
        assert [(agent.prompt, agent.vars) for agent in spoken.agents] == [("Two.", {"n": "1"})]
        assert [(agent.prompt, agent.vars) for agent in typed.agents] == [("In chat.", {"n": "1"})]
