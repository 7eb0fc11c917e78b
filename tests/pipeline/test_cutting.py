"""Files as utterances, in a process of its own: every kind, damaged ones, hostile ones."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from media.audio import INPUT_RATE
from pipeline.cutting import AudioFiles, Found, TooLongError, UnreadableError
from tests.audio_files import KINDS, encoded, wav
from tests.voices import DATA, recording, silence

pytestmark = pytest.mark.asyncio(loop_scope="module")

SPEECH = np.concatenate([silence(0.5), recording("en-00.flac"), silence(1.0), recording("en-02.flac"), silence(2.0)])


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def files() -> AsyncIterator[AudioFiles]:
    files = AudioFiles()
    await files.start()
    yield files
    await files.aclose()


async def cut(files: AudioFiles, folder: Path, data: bytes, longest: float = 100.0) -> tuple[list[Found], int]:
    """The utterances, checked against the file of samples, and the length."""
    source, target = folder / "source", folder / "target"
    source.write_bytes(data)
    *found, samples = [value async for value in files.cut(str(source), str(target), longest)]
    utterances = [value for value in found if isinstance(value, Found)]
    assert len(utterances) == len(found)
    assert isinstance(samples, int)
    assert sum(one.size for one in utterances) == target.stat().st_size
    return utterances, samples


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_file(files: AudioFiles, tmp_path: Path, kind: str) -> None:
    found, samples = await cut(files, tmp_path, encoded(SPEECH, kind))
    assert samples == pytest.approx(len(SPEECH), abs=0.15 * INPUT_RATE)
    assert len(found) == 2
    expected = (0.5, 0.5 + len(recording("en-00.flac")) / INPUT_RATE + 1.0)
    assert [one.start / INPUT_RATE for one in found] == [pytest.approx(start, abs=0.45) for start in expected]


async def test_what_is_no_audio(files: AudioFiles, tmp_path: Path) -> None:
    for data in (
        b"",
        b"nonsense" * 1000,
        b"RIFF\0\0\0\0WAVE",
        (DATA / "manifest.json").read_bytes(),
        wav(silence(0.0)),
    ):
        with pytest.raises(UnreadableError):
            await cut(files, tmp_path, data)
    with pytest.raises(UnreadableError):
        [value async for value in files.cut(str(tmp_path / "missing"), str(tmp_path / "target"), 1.0)]


async def test_a_list_of_other_files_is_no_audio(files: AudioFiles, tmp_path: Path) -> None:
    """FFmpeg would open what a playlist or a script names: files of this machine, addresses of its network."""
    secret = DATA / "en-00.flac"
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{secret}\n#EXT-X-ENDLIST\n"
    for text in (playlist, f"ffconcat version 1.0\nfile '{secret}'\n"):
        with pytest.raises(UnreadableError):
            await cut(files, tmp_path, text.encode())


async def test_a_damaged_file_is_understood_as_far_as_it_goes(files: AudioFiles, tmp_path: Path) -> None:
    data = bytearray(encoded(SPEECH, "mp3"))
    data[len(data) // 2 : len(data) // 2 + 300] = b"\xff" * 300
    found, samples = await cut(files, tmp_path, bytes(data))
    assert samples == pytest.approx(len(SPEECH), abs=0.5 * INPUT_RATE)
    found, samples = await cut(files, tmp_path, bytes(data[: len(data) // 3]))
    assert len(found) == 1
    assert samples == pytest.approx(len(SPEECH) / 3, abs=0.5 * INPUT_RATE)


async def test_a_file_that_is_too_long(files: AudioFiles, tmp_path: Path) -> None:
    with pytest.raises(TooLongError, match=r"longer than 0\.1 minutes"):
        await cut(files, tmp_path, encoded(np.tile(SPEECH, 3), "flac"), longest=6.0)
    with pytest.raises(TooLongError):
        await cut(files, tmp_path, wav(silence(100.0)), longest=60.0)


async def test_silence_has_no_utterance(files: AudioFiles, tmp_path: Path) -> None:
    assert await cut(files, tmp_path, wav(silence(200.0)), longest=300.0) == ([], 200 * INPUT_RATE)
