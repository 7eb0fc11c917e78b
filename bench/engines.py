"""The local engines: loading, speed, latency, and how late the media clock's ticks are while all of them work.

`python -m bench.engines [models folder]` prints one JSON object a line. The language model joins in when the folder
holds its file.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np

from media.audio import INPUT_FRAME, INPUT_RATE, OUTPUT_RATE
from pipeline.llm import GenerateOptions
from pipeline.models import CATALOGUE, SMOLLM2
from pipeline.stt import SpeechToText, Stream
from pipeline.stt.moonshine import Moonshine
from pipeline.stt.whisper import Whisper
from pipeline.tts import TextToSpeech
from pipeline.tts.hibari import Hibari
from pipeline.tts.pico import Pico
from pipeline.worker import Worker
from tests.voices import recording, silence

TICK = 0.02
HANGOVER = 0.3
"""Seconds from ``pause`` to ``flush``: a short silence that ends a turn."""

VOICES = {
    "en": [f"{name}.flac" for name in ("en-00", "en-08", "question-sum", "human-00")],
    "es": [f"{name}.flac" for name in ("es-00", "es-04", "es-08", "question-es-sum")],
}
SENTENCES = {
    "en": "The nearest train station is two streets away, next to the old library.",
    "es": "La estación de tren más cercana está a dos calles, al lado de la vieja biblioteca.",
}


def show(name: str, **figures: Any) -> None:
    rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in figures.items()}
    print(json.dumps({"bench": name, **rounded}), flush=True)


def percentiles(values: list[float]) -> dict[str, float]:
    """In ms, of seconds."""
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {"p50_ms": cuts[49] * 1e3, "p90_ms": cuts[89] * 1e3, "p99_ms": cuts[98] * 1e3, "max_ms": max(values) * 1e3}


def memory(worker: Worker) -> int:
    """Resident set of the worker process, MB (Linux)."""
    try:
        status = Path(f"/proc/{worker.pid}/status").read_text()
    except OSError:
        return 0
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


async def load(engine: Any) -> None:
    began = time.perf_counter()
    await engine.start()
    worker: Worker = engine._worker
    size = sum(file.size for file in CATALOGUE if file.engine == engine.name)
    show(f"{engine.name} load", seconds=time.perf_counter() - began, rss_mb=memory(worker), model_mb=size / 1e6)


async def round_trips() -> None:
    worker = Worker("tests.pipeline.engines:Echo", name="echo")
    await worker.start()
    for size, count in ((0, 2000), (32_000, 500), (960_000, 100)):
        value, times = bytes(size), []
        for _ in range(count):
            began = time.perf_counter()
            await worker.call("size", value)
            times.append(time.perf_counter() - began)
        show("worker round trip", bytes=size, **percentiles(times))
    await worker.aclose()


async def talk(stream: Stream, name: str) -> float:
    """Write a recording at the pace of speech, fall silent and end the turn; returns when that was."""
    pcm = np.concatenate([recording(name), silence(0.2)])
    loop = asyncio.get_running_loop()
    began = loop.time()
    for n, start in enumerate(range(0, len(pcm), INPUT_FRAME), 1):
        stream.write(pcm[start : start + INPUT_FRAME])
        await asyncio.sleep(began + n * TICK - loop.time())
    stream.pause()
    await asyncio.sleep(HANGOVER)
    stream.flush()
    return time.perf_counter()


async def hearing(stt: SpeechToText, language: str) -> None:
    voices = VOICES[language]
    decoded, spent = 0.0, 0.0
    for name in voices:
        stream = stt.stream(language)
        stream.write(recording(name))
        stream.flush()
        began = time.perf_counter()
        await anext(aiter(stream))
        spent += time.perf_counter() - began
        decoded += len(recording(name)) / INPUT_RATE
        await stream.aclose()
    show(f"{stt.name} decode", audio_s=decoded, rtf=spent / decoded, mean_ms=spent / len(voices) * 1e3)

    partials, finals = [], []
    for name in voices:
        stream = stt.stream(language)
        began = time.perf_counter()
        talking = asyncio.create_task(talk(stream, name))
        first = 0.0
        async for transcript in stream:
            first = first or time.perf_counter() - began
            if transcript.final:
                break
        finals.append(time.perf_counter() - await talking)
        partials.append(first)
        await stream.aclose()
    show(f"{stt.name} first partial", **percentiles(partials))
    show(f"{stt.name} final after flush", **percentiles(finals))


async def one(text: str) -> AsyncIterator[str]:
    yield text


async def speaking(tts: TextToSpeech, language: str) -> None:
    firsts, spent, spoken = [], 0.0, 0.0
    for _ in range(10):
        began, first = time.perf_counter(), 0.0
        async for chunk in tts.speak(one(SENTENCES[language]), voice="", language=language):
            first = first or time.perf_counter() - began
            spoken += len(chunk.pcm) / OUTPUT_RATE
        firsts.append(first)
        spent += time.perf_counter() - began
    show(f"{tts.name} first chunk", text=SENTENCES[language], **percentiles(firsts))
    show(f"{tts.name} synthesis", audio_s=spoken, rtf=spent / spoken)


async def lateness(name: str, seconds: float, *loads: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Tick like the media clock while the loads repeat without end."""

    async def forever(load: Callable[[], Coroutine[Any, Any, object]]) -> None:
        while True:
            await load()

    tasks = [asyncio.create_task(forever(load)) for load in loads]
    loop = asyncio.get_running_loop()
    late, due = [], loop.time() + TICK
    end = due + seconds
    while due < end:
        await asyncio.sleep(due - loop.time())
        late.append(max(loop.time() - due, 0.0))
        due = max(due + TICK, loop.time())
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    show(f"tick lateness, {name}", **percentiles(late))


async def main(models: Path | None) -> None:
    stt, tts = Moonshine(), Hibari()
    engines: list[Any] = [stt, tts]
    await round_trips()
    await load(stt)
    await load(tts)

    async def hear() -> None:
        stream = stt.stream("en")
        try:
            await talk(stream, VOICES["en"][0])
        finally:
            await stream.aclose()

    async def speak() -> None:
        async for _ in tts.speak(one(SENTENCES["en"]), voice="", language="en"):
            pass

    loads = [hear, hear, speak]
    if models and (path := SMOLLM2.path(models)) and path.exists():
        from pipeline.llm.llamacpp import LlamaCpp

        llm = LlamaCpp(path)
        engines.append(llm)
        await load(llm)

        async def think() -> None:
            messages = [{"role": "user", "content": "Tell me a story about a dog and a lighthouse."}]
            async for _ in llm.generate(messages, [], GenerateOptions(max_tokens=100)):
                pass

        loads.append(think)

    await hearing(stt, "en")
    await speaking(tts, "en")
    await lateness("idle", 3)
    await lateness(f"two streams heard and {', '.join(engine.name for engine in engines)} at work", 6, *loads)
    for engine in engines:
        await engine.aclose()
    await spanish()


async def spanish() -> None:
    stt, tts = Whisper(), Pico()
    await load(stt)
    await load(tts)
    await hearing(stt, "es")
    await speaking(tts, "es")

    async def hear() -> None:
        stream = stt.stream("es")
        try:
            await talk(stream, VOICES["es"][0])
        finally:
            await stream.aclose()

    async def speak() -> None:
        async for _ in tts.speak(one(SENTENCES["es"]), voice="", language="es"):
            pass

    await lateness("two streams heard in Spanish and whisper, pico at work", 6, hear, hear, speak)
    await stt.aclose()
    await tts.aclose()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
