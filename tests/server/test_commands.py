"""What a backend asks of its calls: the right session, the whole frame, the answer; and when there is no such call."""

from __future__ import annotations

from typing import Any

import pytest

from server.commands import HISTORY, LATE, TOLD
from tests.server.backends import house


@pytest.mark.parametrize("event", sorted({*HISTORY, *TOLD, *LATE}))
async def test_a_command_reaches_its_call_whole_and_the_answer_its_sender(event: str) -> None:
    async with house() as server, server.backend() as backend, server.backend() as console:
        await backend.create("Mara Ruiz")
        talk, other = [await server.begin("default", "mara-ruiz", call_id) for call_id in ("c1", "c2")]
        fields = {"call_id": "c1", "request_id": "rq_1_ab", "anything": {"deep": [1, None]}}
        answer = await backend.ask(event, **fields)
        assert answer == {"event": "done", "agent_id": "Mara Ruiz", "call_id": "c1", "request_id": "rq_1_ab"}
        assert talk.commands == [{"event": event, **fields}]
        assert other.commands == []
        assert (await console.ask(event, **fields))["agent_id"] == "mara-ruiz", "who did not register it gets the slug"
        await backend.quiet()


async def test_a_session_is_configured_by_its_id_alone_in_either_spelling() -> None:
    async with house() as server, server.backend() as backend:
        await backend.create("mara")
        talk = await server.begin("default", "mara", "c1")
        encoded = {"session_id": "c1", "agent_id": "mara", "raw_prompt": True}
        raw = {"session_id": "c1", "promptVars": {"a": "b"}, "stt": "deepgram:nova-3:es"}
        for fields in (encoded, raw):
            assert (await backend.ask("session.configure", **fields))["agent_id"] == "mara"
        assert talk.commands == [{"event": "session.configure", **fields} for fields in (encoded, raw)]
        for session_id in ("nobody", None, 7, {"a": 1}):
            answer = await backend.ask("session.configure", session_id=session_id, agent_id="mara")
            assert (answer["event"], answer["code"]) == ("error", "SESSION_NOT_FOUND")


@pytest.mark.parametrize("event", sorted(HISTORY))
@pytest.mark.parametrize("ended", [True, False])
async def test_a_request_about_no_call_is_answered_at_once(event: str, ended: bool) -> None:
    async with house() as server, server.backend() as backend:
        await backend.create("leo")
        await backend.create("Mara")
        talk = await server.begin("default", "mara", "c1")
        if ended:
            talk.hangup("hangup")
            while server.hub.running:
                await backend.quiet()
        call_id = "c1" if ended else "c2"
        expected = {
            "event": HISTORY[event],
            "agent_id": "Mara" if ended else "leo",
            "call_id": call_id,
            "request_id": "rq_7",
            "error": "call not found",
        }
        assert await backend.ask(event, call_id=call_id, request_id="rq_7") == expected


@pytest.mark.parametrize("event", sorted(TOLD))
async def test_other_commands_for_no_call_are_told_so(event: str) -> None:
    async with house() as server, server.backend() as backend:
        for call_id in ("c9", None, ["c9"]):
            answer = await backend.ask(event, call_id=call_id)
            assert (answer["event"], answer["code"]) == ("error", "CALL_NOT_FOUND")
            assert answer.get("call_id") == ("c9" if call_id == "c9" else None)


async def test_what_crosses_the_end_of_a_call_is_no_mistake() -> None:
    async with house() as server, server.backend() as backend:
        for event in sorted(LATE):
            await backend.send(event, call_id="c9", action="chunk")
        await backend.quiet()
        assert (await backend.ask("bot.reply.stream", call_id="c9", action="start"))["code"] == "CALL_NOT_FOUND"


async def test_an_agent_is_paused_in_one_session_or_in_all_of_them() -> None:
    async with house() as server, server.backend() as backend:
        await backend.create("Mara")
        await backend.create("leo")
        talks = [await server.begin("default", "mara", call_id) for call_id in ("c1", "c2")]
        foreign = await server.begin("default", "leo", "c3")
        one: dict[str, Any] = {"event": "session.pause", "agent_id": "Mara", "session_id": "c1"}
        assert (await backend.ask(**one))["call_id"] == "c1"
        assert [talk.commands for talk in talks] == [[one], []]
        whole = {"event": "session.pause", "agent_id": "mara"}
        assert await backend.ask(**whole) == {"event": "session.paused", "agent_id": "Mara"}
        assert talks[1].commands == [{**whole, "session_id": "c2"}]
        late = await server.begin("default", "mara", "c4")
        assert late.commands == [{"event": "session.pause", "session_id": "c4"}]
        await backend.ask("session.resume", agent_id="mara")
        assert (await server.begin("default", "mara", "c5")).commands == []
        assert foreign.commands == []
        await backend.quiet()


async def test_a_person_speaks_for_the_agent() -> None:
    async with house() as server, server.backend() as backend:
        await backend.create("mara")
        talk = await server.begin("default", "mara", "c1")
        await backend.ask("session.send", agent_id="mara", session_id="c1", text="Hello.")
        assert (await backend.ask("session.send", agent_id="mara", text="To all."))["call_id"] == "c1"
        assert [command["text"] for command in talk.commands] == ["Hello.", "To all."]


@pytest.mark.parametrize("event", ["session.pause", "session.resume", "session.send"])
async def test_nobody_else_is_paused_instead(event: str) -> None:
    async with house() as server, server.backend() as backend:
        await backend.create("mara")
        talk = await server.begin("default", "mara", "c1")
        for fields, code in (
            ({"agent_id": "mara", "session_id": "c9"}, "SESSION_NOT_FOUND"),
            ({"agent_id": "mara", "session_id": 7}, "SESSION_NOT_FOUND"),
            ({"agent_id": "mara", "contact": "+1555"}, "UNSUPPORTED"),
            ({"agent_id": "nobody"}, "AGENT_NOT_REGISTERED"),
            ({}, "AGENT_NOT_REGISTERED"),
        ):
            assert (await backend.ask(event, **fields))["code"] == code
        assert talk.commands == []
