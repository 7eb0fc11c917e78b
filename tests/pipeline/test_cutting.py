"""Files as utterances, in a process of its own: every kind, damaged ones, hostile ones."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import av
import numpy as np
import pytest
import pytest_asyncio

from media.audio import INPUT_RATE
from pipeline.cutting import FOUND, AudioFiles, Cutter, TooLongError, UnreadableError
from pipeline.segmenting import Segment
from tests.audio_files import KINDS, encoded, wav
from tests.voices import DATA, recording, silence

SPEECH = np.concatenate([silence(0.5), recording("en-00.flac"), silence(1.0), recording("en-02.flac"), silence(2.0)])


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def files() -> AsyncIterator[AudioFiles]:
    files = AudioFiles()
    await files.start()
    yield files
    await files.aclose()


async def cut(files: AudioFiles, folder: Path, data: bytes, longest: float = 100.0) -> tuple[list[Segment], int]:
    """The utterances and the length."""
    source = folder / "source"
    source.write_bytes(data)
    *found, samples = [value async for value in files.cut(str(source), longest)]
    utterances = [value for value in found if isinstance(value, Segment)]
    assert len(utterances) == len(found)
    assert isinstance(samples, int)
    return utterances, samples


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.asyncio(loop_scope="module")
async def test_every_kind_of_file(files: AudioFiles, tmp_path: Path, kind: str) -> None:
    found, samples = await cut(files, tmp_path, encoded(SPEECH, kind))
    assert samples == pytest.approx(len(SPEECH), abs=0.15 * INPUT_RATE)
    assert len(found) == 2
    expected = (0.5, 0.5 + len(recording("en-00.flac")) / INPUT_RATE + 1.0)
    assert [one.start / INPUT_RATE for one in found] == [pytest.approx(start, abs=0.45) for start in expected]


@pytest.mark.asyncio(loop_scope="module")
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
        [value async for value in files.cut(str(tmp_path / "missing"), 1.0)]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_list_of_other_files_is_no_audio(files: AudioFiles, tmp_path: Path) -> None:
    """FFmpeg would open what a playlist or a script names: files of this machine, addresses of its network."""
    secret = DATA / "en-00.flac"
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{secret}\n#EXT-X-ENDLIST\n"
    for text in (playlist, f"ffconcat version 1.0\nfile '{secret}'\n"):
        with pytest.raises(UnreadableError):
            await cut(files, tmp_path, text.encode())


@pytest.mark.asyncio(loop_scope="module")
async def test_a_damaged_file_is_understood_as_far_as_it_goes(files: AudioFiles, tmp_path: Path) -> None:
    data = bytearray(encoded(SPEECH, "mp3"))
    data[len(data) // 2 : len(data) // 2 + 300] = b"\xff" * 300
    found, samples = await cut(files, tmp_path, bytes(data))
    assert samples == pytest.approx(len(SPEECH), abs=0.5 * INPUT_RATE)
    found, samples = await cut(files, tmp_path, bytes(data[: len(data) // 3]))
    assert len(found) == 1
    assert samples == pytest.approx(len(SPEECH) / 3, abs=0.5 * INPUT_RATE)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_file_that_is_too_long(files: AudioFiles, tmp_path: Path) -> None:
    with pytest.raises(TooLongError, match=r"longer than 0\.1 minutes"):
        await cut(files, tmp_path, encoded(np.tile(SPEECH, 3), "flac"), longest=6.0)
    with pytest.raises(TooLongError):
        await cut(files, tmp_path, wav(silence(100.0)), longest=60.0)


@pytest.mark.asyncio(loop_scope="module")
async def test_silence_has_no_utterance(files: AudioFiles, tmp_path: Path) -> None:
    assert await cut(files, tmp_path, wav(silence(200.0)), longest=300.0) == ([], 200 * INPUT_RATE)


@pytest.mark.asyncio(loop_scope="module")
async def test_files_are_read_as_far_as_they_are_asked_for_and_closed(files: AudioFiles, tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(wav(np.tile(SPEECH, 10)))
    readers = [files.cut(str(path), 1000.0) for _ in range(3)]
    firsts = [await anext(reader) for reader in readers]
    assert len({one.start for one in firsts if isinstance(one, Segment)}) == 1
    for reader in readers:
        await reader.aclose()
    assert (await cut(files, tmp_path, wav(SPEECH)))[1] == len(SPEECH)


def test_what_the_process_keeps_is_what_is_open(tmp_path: Path) -> None:
    cutter = Cutter.__new__(Cutter)  # without the limit of memory, which would be that of this process
    cutter._av, cutter._open = av, {}
    path = tmp_path / "speech"
    path.write_bytes(wav(SPEECH))
    for number in range(3):
        assert cutter.next(number, str(path), 100.0)[0] == FOUND
    cutter.drop(1)
    cutter.drop(7)
    assert set(cutter._open) == {0, 2}
