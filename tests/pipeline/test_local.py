from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from config.settings import Settings
from pipeline.engine import EngineError
from pipeline.llm import GenerateOptions, LanguageModel, Message, TextDelta
from pipeline.llm.llamacpp import LlamaCpp
from pipeline.llm.local import Local
from pipeline.llm.rules import Rules
from pipeline.models import SMOLLM2
from pipeline.rules import spanish
from pipeline.rules.english import CANNOT

NOW = datetime(2026, 11, 22, 15, 5, tzinfo=UTC)


def local(path: Path) -> Local:
    return Local(Rules(clock=lambda: NOW), LlamaCpp(path))


async def ask(engine: LanguageModel, *texts: str, **options: Any) -> tuple[str, set[str]]:
    history: list[Message] = [{"role": "user", "content": text} for text in texts]
    deltas = [delta async for delta in engine.generate(history, [], GenerateOptions(temperature=0.0, **options))]
    words = [delta for delta in deltas if isinstance(delta, TextDelta)]
    return "".join(delta.text for delta in words), {delta.engine for delta in words}


async def test_without_the_model_the_rules_answer(tmp_path: Path) -> None:
    engine = local(tmp_path / "none.gguf")
    await engine.start()
    assert "none.gguf is missing" in engine.trouble
    assert await ask(engine, "What time is it?") == ("It is 3:05 PM.", {"rules"})
    assert await ask(engine, "Why is the sky blue?") == (CANNOT, {"rules"})
    await engine.aclose()


@pytest.mark.models
async def test_a_language_that_the_model_does_not_speak_is_left_to_the_rules() -> None:
    path = Settings.load().models_dir / SMOLLM2.name
    engine = Local(Rules(clock=lambda: NOW), LlamaCpp(path), {"en"})
    await engine.start()
    assert not engine.trouble, engine.trouble
    assert await ask(engine, "¿Qué hora es?", language="es") == ("Son las tres y cinco de la tarde.", {"rules"})
    assert await ask(engine, "¿Por qué es azul el cielo?", language="es-MX") == (spanish.CANNOT, {"rules"})
    assert (await ask(engine, "Why is the sky blue?", language="en-GB"))[1] == {path.stem}
    await engine.aclose()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def engine() -> AsyncIterator[Local]:
    engine = local(Settings.load().models_dir / SMOLLM2.name)
    await engine.start()
    assert not engine.trouble, engine.trouble
    yield engine
    await engine.aclose()


@pytest.mark.models
@pytest.mark.asyncio(loop_scope="module")
async def test_rules_first_then_the_model(engine: Local) -> None:
    assert await ask(engine, "What is seven plus five?") == ("Seven plus five is twelve.", {"rules"})
    text, engines = await ask(engine, "What is the capital of France?")
    assert engines == {"SmolLM2-135M-Instruct.Q4_1"}
    assert text


@pytest.mark.models
@pytest.mark.asyncio(loop_scope="module")
async def test_a_model_that_cannot_answer_leaves_it_to_the_rules(engine: Local) -> None:
    assert await ask(engine, "𒀱" * 700) == (CANNOT, {"rules"})


@pytest.mark.models
@pytest.mark.asyncio(loop_scope="module")
async def test_a_model_that_fails_in_the_middle_is_an_error(engine: Local) -> None:
    options = GenerateOptions(max_tokens=1000)
    deltas = engine.generate([{"role": "user", "content": "Write a long novel."}], [], options)
    assert isinstance(await anext(deltas), TextDelta)
    await engine._model.aclose()
    with pytest.raises(EngineError):
        async for _ in deltas:
            pass
    await engine.start()
    assert not engine.trouble
