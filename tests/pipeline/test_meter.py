from __future__ import annotations

from pipeline.llm import Usage
from pipeline.meter import Meter
from tests.pipeline.stage import Stage, play


def test_counts_by_kind_and_engine() -> None:
    meter = Meter()
    meter.thought("openai", Usage(100, 20))
    meter.thought("openai", Usage(130, 5))
    meter.thought("local", Usage(10, 1))
    meter.said("elevenlabs", characters=12, seconds=0.0)
    meter.said("elevenlabs", characters=0, seconds=1.234)
    meter.heard("deepgram", 0.02)
    assert meter.rows() == [
        {"kind": "llm", "engine": "local", "prompt_tokens": 10, "completion_tokens": 1},
        {"kind": "llm", "engine": "openai", "prompt_tokens": 230, "completion_tokens": 25},
        {"kind": "stt", "engine": "deepgram", "audio_seconds": 0.02},
        {"kind": "tts", "engine": "elevenlabs", "characters": 12, "audio_seconds": 1.23},
    ]


def test_a_call_tells_at_its_end_what_it_used() -> None:
    async def dialogue(stage: Stage) -> None:
        await stage.greeted()
        stage.person.say("one two three")
        await stage.event("bot.finished", 2)

    [ended] = play("I see.", greeting="Hello there.")(dialogue).log.all("call.ended")
    rows = {row["kind"]: row for row in ended.usage}
    assert rows["tts"]["characters"] == len("Hello there.") + len("I see.")
    assert rows["tts"]["audio_seconds"] == 1.0
    assert rows["stt"]["audio_seconds"] > 0.6
