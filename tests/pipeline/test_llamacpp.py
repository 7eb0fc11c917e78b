from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from config.settings import Settings
from pipeline.engine import EngineError
from pipeline.llm import GenerateOptions, Message, TextDelta, Usage
from pipeline.llm.llamacpp import PROMPT_BYTES, LlamaCpp, fit
from pipeline.models import SMOLLM2
from pipeline.worker import Worker

SYSTEM: Message = {"role": "system", "content": "You are a helpful voice assistant. Answer in one short sentence."}


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


# --- what the model is given


def test_the_history_begins_with_the_user_and_alternates() -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}
    result = {"role": "tool", "tool_call_id": "1", "content": "42"}
    history = [assistant("Welcome!"), user("Hi."), user("Look."), call, result, assistant("It is 42."), user("Thanks.")]
    assert fit([SYSTEM, *history]) == [SYSTEM, user("Hi.\nLook."), assistant("It is 42."), user("Thanks.")]
    assert fit([]) == []
    assert fit([user("Hi.")]) == [user("Hi.")]
    assert fit([{"role": "user", "content": [{"type": "image_url"}]}, user("Hi.")]) == [user("Hi.")]


def test_what_is_left_out_is_the_oldest() -> None:
    history = [message for i in range(100) for message in (user(f"Question {i}."), assistant(f"Answer {i}."))]
    fitted = fit([SYSTEM, *history, user("Last.")], 1000)
    assert fitted[0] == SYSTEM
    assert fitted[1:] == [*history, user("Last.")][-(len(fitted) - 1) :]
    assert sum(len(message["content"]) for message in fitted) > 950


messages = st.lists(
    st.builds(
        lambda role, text: {"role": role, "content": text},
        st.sampled_from(["system", "user", "assistant", "tool"]),
        st.text(max_size=30).flatmap(lambda text: st.integers(1, 60).map(lambda n: text * n)),
    ),
    max_size=30,
)


@given(messages, st.integers(10, 400))
def test_any_history_fits(history: list[Message], limit: int) -> None:
    before = [dict(message) for message in history]
    fitted = fit(history, limit)
    assert history == before
    assert sum(len(message["content"].encode()) for message in fitted) <= limit
    roles = [message["role"] for message in fitted if message["role"] != "system"]
    assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"] * (len(roles) % 2)
    assert [message["role"] for message in fitted].count("system") <= 1
    texts = [m["content"] for m in history if m["role"] == "user" and m["content"]]
    if texts:
        assert "user" in roles


async def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    model = LlamaCpp(tmp_path / "none.gguf")
    with pytest.raises(EngineError, match=r"none\.gguf is missing: run `voice-server setup`"):
        await model.start()
    await model.aclose()


# --- the real model


@pytest.fixture(scope="module")
def file() -> Path:
    path = Settings.load().models_dir / SMOLLM2.name
    assert path.is_file(), f"{path} is missing: run `voice-server setup`"
    return path


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def model(file: Path) -> AsyncIterator[LlamaCpp]:
    model = LlamaCpp(file)
    await model.start()
    yield model
    await model.aclose()


async def write(model: LlamaCpp, *history: Message, **options: Any) -> tuple[str, Usage | None]:
    text, usage = "", None
    async with aclosing(model.generate([SYSTEM, *history], [], GenerateOptions(temperature=0.0, **options))) as deltas:
        async for delta in deltas:
            if isinstance(delta, TextDelta):
                assert delta.engine == "SmolLM2-135M-Instruct.Q4_1"
                text += delta.text
            elif isinstance(delta, Usage):
                usage = delta
    return text, usage


@pytest.mark.models
@pytest.mark.asyncio(loop_scope="module")
async def test_streams_an_answer(model: LlamaCpp) -> None:
    text, usage = await write(model, user("What is the capital of France?"))
    assert "Paris" in text
    assert usage
    assert usage.prompt_tokens > 20
    assert 3 < usage.completion_tokens < 60


@pytest.mark.models
@pytest.mark.asyncio(loop_scope="module")
async def test_answers_of_several_calls_do_not_mix(model: LlamaCpp) -> None:
    countries = {"France": "Paris", "Italy": "Rome", "Japan": "Tokyo", "Egypt": "Cairo", "Germany": "Berlin"}
    questions = [user(f"What is the capital of {country}?") for country in countries]
    answers = await asyncio.gather(*(write(model, question) for question in questions))
    for (text, _), city in zip(answers, countries.values(), strict=True):
        assert [c for c in countries.values() if c in text] == [city]


@pytest.mark.models
@pytest.mark.asyncio(loop_scope="module")
async def test_closing_cancels_at_once(model: LlamaCpp) -> None:
    """Many more answers than there are slots: if they went on after their end, the last one would wait for minutes."""
    for _ in range(20):
        options = GenerateOptions(max_tokens=1000)
        async with aclosing(model.generate([SYSTEM, user("Write a long novel.")], [], options)) as deltas:
            async for _delta in deltas:
                break
    async with asyncio.timeout(30):
        await write(model, user("Say yes."), max_tokens=3)


@pytest.mark.models
@pytest.mark.asyncio(loop_scope="module")
async def test_length_is_what_was_asked_for(model: LlamaCpp) -> None:
    _, usage = await write(model, user("Write a long novel."), max_tokens=7)
    assert usage == Usage(usage.prompt_tokens if usage else 0, 7)
    text, _ = await write(model, user("Write a long novel about a ship."))
    assert 20 < len(text.split()) < 120


@pytest.mark.models
@pytest.mark.asyncio(loop_scope="module")
async def test_a_conversation_that_is_too_long_is_an_error(model: LlamaCpp) -> None:
    with pytest.raises(EngineError, match="too long for the model"):
        await write(model, user("𒀱" * (PROMPT_BYTES // 4)))
    text, _ = await write(model, user("Say yes."), max_tokens=3)
    assert text


@pytest.mark.models
async def test_every_prompt_is_read_once(file: Path) -> None:
    """With more calls than slots, and also when the oldest messages are left out."""
    worker = Worker("pipeline.llm.llamacpp:Llama", LlamaCpp(file).options | {"slots": 1}, name="llama")
    await worker.start()

    async def ask(history: list[Message]) -> tuple[int, int]:
        *words, (prompt, cached, _) = [item async for item in worker.stream("chat", history, 0.0, 100, 12)]
        history.append(assistant("".join(words)))
        return prompt, cached

    calls: list[list[Message]] = [[SYSTEM, user(f"I am number {i}. " + "What is the sea? " * 5)] for i in range(3)]
    before = []
    try:
        for history in calls:
            before.append((await ask(history))[0])
            history.append(user("And what is the moon?"))
        for history, prompt in zip(calls, before, strict=True):
            assert (await ask(history))[1] >= prompt
            history.append(user("And the sun?"))
        [*_, history] = calls
        prompt, cached = await ask([SYSTEM, *history[3:]])
        assert cached > prompt / 2
    finally:
        await worker.aclose()


@pytest.mark.models
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.asyncio(loop_scope="module")
async def test_the_port_of_the_library_is_closed_to_others(model: LlamaCpp) -> None:
    folder = Path(f"/proc/{model._worker.pid}/fd")
    inodes = {os.readlink(link).partition("[")[2].rstrip("]") for link in folder.iterdir()}
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    [address] = [fields[1] for fields in sockets if fields[3] == "0A" and fields[9] in inodes]  # 0A: listening
    assert address.startswith("0100007F:")  # 127.0.0.1
    url = f"http://127.0.0.1:{int(address.partition(':')[2], 16)}"
    async with aiohttp.ClientSession() as session:
        for path in ("/v1/models", "/props", "/slots", "/completion", "/"):
            async with session.get(url + path) as response:
                assert response.status in (401, 404), path
        async with session.post(url + "/v1/chat/completions", json={"messages": [user("Hi.")]}) as response:
            assert response.status == 401


@pytest.mark.models
async def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + os.urandom(100))
    model = LlamaCpp(tmp_path / "bad.gguf")
    with pytest.raises(EngineError, match=r"llama\.cpp cannot load bad\.gguf; expected a GGUF file"):
        await model.start()
    await model.aclose()
