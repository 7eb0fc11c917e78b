"""Language models behind OpenAI's HTTP API, through the official SDK, against a server that speaks it on loopback.

https://platform.openai.com/docs/api-reference/chat/create, https://platform.openai.com/docs/api-reference/chat-streaming,
https://platform.openai.com/docs/guides/error-codes
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from config.providers import PRESETS
from pipeline.engine import EngineError
from pipeline.llm import Delta, GenerateOptions, TextDelta, ToolCall, Usage
from pipeline.llm.openai import OpenAiLlm
from pipeline.remote import ProviderError
from tests.providers.openai_chat import OpenAiServer, Script, hang_up, pause, raw

HELLO = [{"role": "user", "content": "Hello."}]
TOOL = {"type": "function", "function": {"name": "book", "description": "", "parameters": {"type": "object"}}}


@pytest.fixture
async def server() -> AsyncIterator[OpenAiServer]:
    async with OpenAiServer() as server:
        yield server


@pytest.fixture
async def model(server: OpenAiServer) -> AsyncIterator[OpenAiLlm]:
    model = OpenAiLlm("openai", server.url, server.key, "gpt-4.1-mini")
    yield model
    await model.aclose()


async def ask(llm: OpenAiLlm, *tools: dict[str, Any], **options: Any) -> list[Delta]:
    async with aclosing(llm.generate(HELLO, tools, GenerateOptions(**options))) as deltas:
        return [delta async for delta in deltas]


def text(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


# --- what is asked, and what comes back


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if "llm" in preset.kinds])
async def test_every_preset_speaks_the_same(name: str) -> None:
    preset = PRESETS[name]
    async with OpenAiServer(key="sk-test-secret-key" if preset.variable else "") as server:
        server.scripts.append(Script("Good ", "morning."))
        model = OpenAiLlm(name, server.url, server.key, preset.model)
        await model.start()
        try:
            deltas = await ask(model)
        finally:
            await model.aclose()
        assert deltas == [TextDelta("Good ", name), TextDelta("morning.", name), Usage(12, 2)]
        [request] = server.requests
        assert (request["model"], request["stream"]) == (preset.model or "house-model", True)
        assert request["messages"] == HELLO
        assert (model.trouble, server.listed) == ("", 1)


async def test_model_temperature_and_length_are_those_of_the_question(server: OpenAiServer, model: OpenAiLlm) -> None:
    await ask(model, model="gpt-4.1", temperature=0.2, max_tokens=50)
    await ask(model)
    first, second = server.requests
    assert (first["model"], first["temperature"], first["max_completion_tokens"]) == ("gpt-4.1", 0.2, 50)
    assert (second["model"], second["temperature"]) == ("gpt-4.1-mini", 0.7)
    assert "max_completion_tokens" not in second
    assert "tools" not in second


async def test_others_know_the_older_name_of_the_length(server: OpenAiServer) -> None:
    model = OpenAiLlm("groq", server.url, server.key)
    await ask(model, max_tokens=50)
    await model.aclose()
    assert server.requests[0]["max_tokens"] == 50


async def test_a_model_that_thinks_is_asked_to_think_little(server: OpenAiServer, model: OpenAiLlm) -> None:
    await ask(model, model="gpt-5-nano")
    assert server.requests[0]["reasoning_effort"] == "low"
    assert "temperature" not in server.requests[0]


async def test_a_parameter_that_a_model_refuses_is_left_out_from_then_on(
    server: OpenAiServer, model: OpenAiLlm
) -> None:
    refusal = {
        "message": "Unsupported parameter: 'temperature'",
        "param": "temperature",
        "type": "invalid_request_error",
    }
    server.scripts.extend([Script(status=400, error=refusal), Script("Yes.")])
    assert text(await ask(model)) == "Yes."
    await ask(model)
    assert ["temperature" in request for request in server.requests] == [True, False, False]


async def test_tool_calls_come_in_fragments(server: OpenAiServer, model: OpenAiLlm) -> None:
    def fragment(index: int, **parts: Any) -> dict[str, Any]:
        name_and_arguments = {key: parts.pop(key) for key in ("name", "arguments") if key in parts}
        return {"tool_calls": [{"index": index, "function": name_and_arguments, **parts}]}

    server.scripts.append(
        Script(
            {"role": "assistant", "content": None},
            fragment(0, id="call_a", type="function", name="book", arguments=""),
            fragment(0, arguments='{"day":'),
            fragment(0, arguments=' "Monday"}'),
            fragment(1, id="call_b", type="function", name="book", arguments=""),
            finish="tool_calls",
        )
    )
    deltas = await ask(model, TOOL)
    assert deltas == [
        ToolCall("call_a", "book", '{"day": "Monday"}'),
        ToolCall("call_b", "book", "{}"),
        Usage(12, 5),
    ]
    assert server.requests[0]["tools"] == [TOOL]


async def test_servers_that_number_all_tool_calls_alike_are_understood(server: OpenAiServer, model: OpenAiLlm) -> None:
    """As Gemini and Ollama did: whole calls, one after another, each with index 0."""
    calls = [
        {"index": 0, "id": f"call_{i}", "type": "function", "function": {"name": "book", "arguments": f'{{"n":{i}}}'}}
        for i in range(2)
    ]
    server.scripts.append(Script({"tool_calls": calls[:1]}, {"tool_calls": calls[1:]}))
    deltas = await ask(model, TOOL)
    assert deltas[:2] == [ToolCall("call_0", "book", '{"n":0}'), ToolCall("call_1", "book", '{"n":1}')]


@pytest.mark.parametrize(
    ("pieces", "spoken"),
    [
        (["<think>", "Let me see", ".</think>\n\n", "Four."], "Four."),
        (["<think>\n\n</think>\n\nFour."], "Four."),
        (["<", "think> no </", "think>Four", "."], "Four."),
        (["<b>", "Four</b>"], "<b>Four</b>"),
        (["<"], "<"),
    ],
)
async def test_what_a_model_thinks_aloud_is_not_said(
    server: OpenAiServer, model: OpenAiLlm, pieces: list[str], spoken: str
) -> None:
    server.scripts.append(Script(*pieces))
    assert text(await ask(model)) == spoken


# --- secrets and addresses


async def test_what_the_environment_holds_for_openai_goes_to_nobody_else(
    server: OpenAiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin-of-openai")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-openai")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-openai")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Mine: header-of-openai")
    server.key = ""
    model = OpenAiLlm("groq", server.url, "")
    await model.start()
    await ask(model)
    await model.aclose()
    assert len(server.headers) >= 2
    for headers in server.headers:
        assert not [value for value in headers.values() if "of-openai" in value]


async def test_a_refused_key_is_known_before_the_first_call_and_shown_to_nobody(
    server: OpenAiServer, caplog: pytest.LogCaptureFixture
) -> None:
    model = OpenAiLlm("openai", server.url, "sk-wrong-key-of-somebody-1234567890")
    await model.start()
    assert model.trouble.startswith("openai refuses the key (401)")
    with pytest.raises(ProviderError) as caught:
        await ask(model)
    await model.aclose()
    assert caught.value.refused
    assert caught.value.explained.startswith("openai refuses the key (401): Incorrect API key provided: …")
    assert "sk-" not in f"{caught.value.explained} {model.trouble} {caplog.text}"


# --- when it goes wrong


@pytest.mark.parametrize(
    ("script", "said", "retried"),
    [
        (Script(status=500), "openai is out of order (500)", True),
        (Script(status=503, headers={"Retry-After": "30"}), "openai is out of order (503)", False),
        (Script(status=429, headers={"Retry-After": "0.2"}), "openai is asked too often (429)", True),
        (Script(status=429, headers={"Retry-After": "20"}), "openai is asked too often (429)", False),
        (
            Script(status=429, error={"message": "You exceeded", "code": "insufficient_quota"}),
            "openai wants to be",
            False,
        ),
        (Script(status=400), "openai does not accept the request (400)", False),
        (Script(status=403), "openai refuses the key (403)", False),
        (Script(status=404), "openai does not have that (404)", False),
        (Script(hang_up), "openai hung up in the middle", True),
        (Script(raw(b"data: {broken\n\n")), "openai answered with something that is no answer", False),
        (Script(raw(b"data: [1, 2]\n\n")), "openai answered with something that is no answer", False),
        (Script(raw(b'data: {"error": {"message": "overloaded", "code": 503}}\n\n')), "openai is out of order", True),
    ],
)
async def test_failures(server: OpenAiServer, model: OpenAiLlm, script: Script, said: str, retried: bool) -> None:
    server.scripts.append(script)
    with pytest.raises(ProviderError) as caught:
        await ask(model)
    assert str(caught.value).startswith(said)
    assert caught.value.is_worth_a_retry == retried


async def test_the_connection_may_break_after_some_words(server: OpenAiServer, model: OpenAiLlm) -> None:
    server.scripts.append(Script("I was ", "just ", hang_up))
    answer = model.generate(HELLO, [], GenerateOptions())
    assert text([await anext(answer), await anext(answer)]) == "I was just "
    with pytest.raises(EngineError, match="hung up in the middle"):
        await anext(answer)
    assert text(await ask(model)) == "Hello there."


async def test_nobody_there(model: OpenAiLlm) -> None:
    nobody = OpenAiLlm("ollama", "http://127.0.0.1:9/v1", "")
    await nobody.start()
    with pytest.raises(ProviderError, match="ollama cannot be reached") as caught:
        await ask(nobody, model="qwen3:8b")
    assert caught.value.is_worth_a_retry
    await nobody.aclose()


# --- time


async def test_a_connection_is_open_before_the_first_question_and_kept(server: OpenAiServer, model: OpenAiLlm) -> None:
    await model.start()
    assert (server.listed, len(server.connections)) == (1, 1)
    for _ in range(3):
        await ask(model)
    assert len(server.connections) == 1


async def test_a_call_that_begins_has_a_connection_opened_unless_one_is_there(
    server: OpenAiServer, model: OpenAiLlm
) -> None:
    model.prepare()
    model.prepare()
    async with asyncio.timeout(5):  # until the answer is here and its connection free, not only until it is asked for
        await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name().startswith("warming")))
    assert server.listed == 1
    await ask(model)
    model.prepare()
    await ask(model)
    assert (server.listed, len(server.connections)) == (1, 1)


async def test_a_server_in_the_house_loads_the_model_while_the_call_begins(server: OpenAiServer) -> None:
    server.key = ""
    house = OpenAiLlm("ollama", server.url, "")
    house.prepare("qwen3:8b")
    house.prepare("qwen3:8b")
    async with asyncio.timeout(5):
        while not server.requests:
            await asyncio.sleep(0.01)
    await ask(house, model="qwen3:8b")
    house.prepare("qwen3:8b")
    await ask(house, model="qwen3:8b")
    await house.aclose()
    assert [(request["model"], request.get("max_tokens")) for request in server.requests] == [
        ("qwen3:8b", 1),
        ("qwen3:8b", None),
        ("qwen3:8b", None),
    ]


async def test_who_closes_the_answer_cancels_it_at_once(server: OpenAiServer, model: OpenAiLlm) -> None:
    server.scripts.append(Script("One ", pause(30), "two."))
    answer = model.generate(HELLO, [], GenerateOptions())
    assert text([await anext(answer)]) == "One "
    began = time.perf_counter()
    await answer.aclose()
    assert time.perf_counter() - began < 0.05
    async with asyncio.timeout(5):
        await server.gone.wait()
    assert text(await ask(model)) == "Hello there."


async def test_who_waits_for_the_first_word_can_be_cancelled_too(server: OpenAiServer, model: OpenAiLlm) -> None:
    server.scripts.append(Script("Late.", first=30))
    task = asyncio.create_task(ask(model))
    async with asyncio.timeout(5):
        while not server.requests:
            await asyncio.sleep(0.01)
    task.cancel()
    began = time.perf_counter()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.perf_counter() - began < 0.05
    async with asyncio.timeout(5):
        await server.gone.wait()
