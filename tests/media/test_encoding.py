"""What comes out of the encoders is what a decoder hears."""

from __future__ import annotations

import io
import wave

import av
import numpy as np
import pytest

from media.audio import OUTPUT_RATE, Pcm
from media.encoding import Format, encoder

TONE = (8000 * np.sin(2 * np.pi * 440 * np.arange(OUTPUT_RATE) / OUTPUT_RATE)).astype(np.int16)
"""One second."""


def encoded(form: Format, rate: int, pieces: list[Pcm]) -> bytes:
    made = encoder(form, rate)
    return b"".join([*map(made.encode, pieces), made.finish()])


def decoded(data: bytes) -> tuple[Pcm, int]:
    with av.open(io.BytesIO(data)) as container:
        frames = list(container.decode(audio=0))
    pcm = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    if pcm.dtype != np.int16:
        pcm = (pcm * 32767).astype(np.int16)
    return pcm, frames[0].sample_rate


def pitch(pcm: Pcm, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm))))
    return float(np.argmax(spectrum) * rate / len(pcm))


@pytest.mark.parametrize("rate", [16_000, 24_000])
@pytest.mark.parametrize("form", ["pcm", "wav", "mp3"])
@pytest.mark.parametrize("size", [1, 777, OUTPUT_RATE])
def test_every_form_and_rate_and_size_of_pieces(form: Format, rate: int, size: int) -> None:
    pieces = [TONE[start : start + size] for start in range(0, len(TONE) if size > 1 else 50, size)]
    data = encoded(form, rate, pieces)
    pcm, found = (np.frombuffer(data, "<i2"), rate) if form == "pcm" else decoded(data)
    assert found == rate
    seconds = sum(map(len, pieces)) / OUTPUT_RATE
    assert len(pcm) / rate == pytest.approx(seconds, abs=0.12 if form == "mp3" else 2 / rate)
    if size > 1:
        assert pitch(pcm, rate) == pytest.approx(440, abs=3)
        assert np.abs(pcm[rate // 4 : rate // 2]).max() == pytest.approx(8000, rel=0.1)


def test_a_wav_without_a_length_is_read_to_its_end() -> None:
    with wave.open(io.BytesIO(encoded("wav", OUTPUT_RATE, [TONE]))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, OUTPUT_RATE)
        assert file.readframes(10 * OUTPUT_RATE) == TONE.astype("<i2").tobytes()


@pytest.mark.parametrize("form", ["pcm", "wav", "mp3"])
def test_nothing_is_little(form: Format) -> None:
    assert len(encoded(form, 16_000, [])) <= 1500
