"""The ears of a server, with and without their models."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.settings import Settings
from media.audio import AudioFrame
from pipeline.ears import Ears
from pipeline.silero import Activity
from tests.voices import recording, silence


@pytest.mark.models
async def test_both_are_there(caplog: pytest.LogCaptureFixture) -> None:
    ears = Ears(Settings.load().models_dir)
    await ears.start()
    assert ears.silero.ready
    assert await ears.turn_model.ask(recording("en-00.flac"), deadline=60)
    await ears.aclose()
    assert await ears.is_complete(recording("en-00.flac")) is None
    assert caplog.text == ""


async def test_a_server_without_them_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ears = Ears(tmp_path)
    await ears.start()
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert "silero_vad_16k_op15.onnx is missing" in record.message
    assert "turn model" not in record.message  # comes with the package
    told: list[Activity] = []
    assert ears.listen(told.append).hear(AudioFrame(silence(0.02), 0.0, is_speech=True, level=-20, concealed=False))
    assert told == [Activity(1.0, 0.02)]
    assert await ears.is_complete(silence(1.0)) is not None
    await ears.aclose()
    assert await ears.is_complete(silence(1.0)) is None
