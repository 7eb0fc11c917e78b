"""The providers tried for real, for the doctor: one short question, one word to say, one sentence to hear.

That costs what it costs, a few tokens and a second of sound for each.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from config.providers import LABELS, Kind, Providers
from media.audio import INPUT_RATE, OUTPUT_RATE, Pcm
from pipeline.apology import apology
from pipeline.engine import EngineError, Engines
from pipeline.llm import GenerateOptions, TextDelta
from pipeline.remote import ProviderError
from pipeline.stt import Transcript
from server.finding import Finding

SECONDS = 20.0
"""How long a provider may take."""

MOST_TOKENS = 64
"""Of an answer; a model that thinks needs some before the first that counts."""

FRAME = INPUT_RATE // 50


async def try_providers(engines: Engines) -> list[Finding]:
    """One finding for each kind of work of each provider that has a key or an address, all at once."""
    tries: list[tuple[Kind, Callable[[Any], Awaitable[str]]]] = [("llm", _think), ("tts", _speak), ("stt", _hear)]
    work = [_try(engines, kind, name, attempt) for kind, attempt in tries for name in engines.providers.set_up(kind)]
    return list(await asyncio.gather(*work))


async def _try(engines: Engines, kind: Kind, name: str, attempt: Callable[[Any], Awaitable[str]]) -> Finding:
    title = f"{name}, {LABELS[kind]}"
    engine = engines.made(kind, name)
    try:
        async with asyncio.timeout(SECONDS):
            await engine.start()  # what a call would not wait for
            text = await attempt(engine)
    except TimeoutError:
        return Finding(title, ok=False, text=f"took longer than {SECONDS:g} s", fix=_fix(engines.providers, name))
    except EngineError as error:
        text = error.explained if isinstance(error, ProviderError) else str(error)
        return Finding(title, ok=False, text=text, fix=_fix(engines.providers, name))
    return Finding(title, ok=True, text=text)


def _fix(providers: Providers, name: str) -> str:
    preset = providers.preset(name)
    key = f"the key ({preset.variable})" if preset and preset.variable else "whether it runs"
    return f"check {key} and the address {providers.url(name)}; calls get the next one of the fallbacks meanwhile"


async def _think(engine: Any) -> str:
    began = time.perf_counter()
    question = [{"role": "user", "content": "Say hello."}]
    answer: AsyncGenerator[Any, None] = engine.generate(question, [], GenerateOptions(max_tokens=MOST_TOKENS))
    async with aclosing(answer) as deltas:
        async for delta in deltas:
            if isinstance(delta, TextDelta):
                return f"first token after {_ms(began)}"
    raise EngineError(f"{engine.name} had nothing to say")


async def _speak(engine: Any) -> str:
    async def text() -> AsyncGenerator[str, None]:
        yield "Hello."

    began = time.perf_counter()
    sound: AsyncGenerator[Any, None] = engine.speak(text(), voice="", language="en")
    async with aclosing(sound) as chunks:
        async for chunk in chunks:
            if len(chunk.pcm):
                return f"first audio after {_ms(began)}"
    raise EngineError(f"{engine.name} made no sound")


async def _hear(engine: Any) -> str:
    stream = engine.stream("en")
    try:
        pcm = _speech()
        for i in range(0, len(pcm) - FRAME + 1, FRAME):
            stream.write(pcm[i : i + FRAME])
        stream.pause()
        stream.flush()
        began = time.perf_counter()
        async for found in stream:
            if isinstance(found, Transcript) and found.final:
                if not found.text:
                    raise EngineError(f"{engine.name} heard no word in a sentence")
                return f"a sentence transcribed after {_ms(began)}: {found.text!r:.60}"
    finally:
        await stream.aclose()
    raise EngineError(f"{engine.name} hung up")


def _speech() -> Pcm:
    """A sentence at ``INPUT_RATE``, between silence."""
    import av
    import numpy as np

    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(apology("en").pcm[np.newaxis]), format="s16", layout="mono")
    frame.sample_rate = OUTPUT_RATE
    resampler = av.AudioResampler("s16", "mono", INPUT_RATE)
    parts = [part.to_ndarray()[0] for part in (*resampler.resample(frame), *resampler.resample(None))]
    silence = np.zeros(INPUT_RATE // 2, np.int16)
    return np.concatenate([silence, *parts, silence]).astype(np.int16)


def _ms(began: float) -> str:
    return f"{(time.perf_counter() - began) * 1000:.0f} ms"
