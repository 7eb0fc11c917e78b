"""Opus: facts of the payload against libopus as the oracle, recovery that is better than guessing, garbage."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media import opus
from media.audio import INPUT_FRAME, OUTPUT_FRAME
from media.level import dbfs
from tests.media.signals import likeness, payloads, speech, tone


@given(st.binary(max_size=40))
def test_duration_is_what_libopus_says(payload: bytes) -> None:
    library = opus.load()
    samples = library.opus_packet_get_nb_samples(payload, len(payload), 48_000)
    assert opus.duration(payload) == max(0, samples)


@pytest.mark.parametrize("ms", [2.5, 5, 10, 20, 40, 60])
def test_duration_of_real_packets(ms: float) -> None:
    packets = payloads(tone(16_000, 16_000), ms)
    assert {opus.duration(packet) for packet in packets} == {int(48 * ms)}
    decoder = opus.Decoder()
    assert {len(decoder.decode(packet)) for packet in packets} == {int(16 * ms)}


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("ms", [10, 20, 40, 60])
def test_fec_is_seen_when_it_is_there(ms: float, channels: int) -> None:
    voice = np.repeat(speech(), channels)
    bitrate = 40_000 * channels
    with_fec = payloads(voice, ms, channels=channels, loss=20, bitrate=bitrate)
    without = payloads(voice, ms, channels=channels, loss=0, bitrate=bitrate)
    assert sum(map(opus.has_fec, with_fec)) > len(with_fec) / 3
    assert not any(map(opus.has_fec, without))


def newer_library() -> ctypes.PyDLL | None:
    """A libopus that tells about LBRR (since 1.5): the system's or the one that PyAV carries."""
    bundled = Path(av.__file__).parent.with_name("av.libs").glob("libopus*")
    libraries = [opus.load(), *(ctypes.PyDLL(str(path)) for path in bundled)]
    return next((library for library in libraries if hasattr(library, "opus_packet_has_lbrr")), None)


ORACLE = newer_library()


@pytest.mark.skipif(ORACLE is None, reason="needs libopus 1.5")
@given(st.integers(0, 31), st.booleans(), st.integers(0, 1), st.integers(0, 255), st.binary(max_size=9))
def test_fec_is_seen_where_libopus_sees_it(config: int, stereo: bool, code: int, first: int, rest: bytes) -> None:
    assert ORACLE is not None
    payload = bytes((config << 3 | stereo << 2 | code, first)) + rest
    expected = ORACLE.opus_packet_has_lbrr(payload, len(payload))
    assert expected < 0 or opus.has_fec(payload) == bool(expected)


@pytest.mark.parametrize("channels", [1, 2])
def test_speech_survives(channels: int) -> None:
    voice = speech()
    decoder = opus.Decoder()
    packets = payloads(np.repeat(voice, channels), channels=channels, bitrate=64_000)
    heard = np.concatenate([decoder.decode(packet) for packet in packets])
    assert likeness(heard, voice) > 0.85  # it is a vocoder in part: phases are free


def test_the_encoder_speaks_24_khz() -> None:
    voice = speech(rate=24_000)
    encoder = opus.Encoder(bitrate=32_000, complexity=0)
    frames = voice[: len(voice) // OUTPUT_FRAME * OUTPUT_FRAME].reshape(-1, OUTPUT_FRAME)
    packets = [encoder.encode(frame) for frame in frames]
    assert {opus.duration(packet) for packet in packets} == {960}
    assert 24_000 < sum(map(len, packets)) * 8 / (len(packets) * 0.02) < 36_000
    decoder = opus.Decoder()
    heard = np.concatenate([decoder.decode(packet) for packet in packets])
    assert likeness(heard, speech()) > 0.85


def test_wrong_settings_and_shapes_are_refused() -> None:
    encoder = opus.Encoder(bitrate=32_000, complexity=0)
    with pytest.raises(ValueError, match="shape"):
        encoder.encode(np.zeros(OUTPUT_FRAME - 1, np.int16))
    with pytest.raises(opus.OpusError, match="invalid argument"):
        encoder.expect_loss(101)
    with pytest.raises(opus.OpusError):
        opus.Encoder(bitrate=32_000, complexity=11)


def test_a_lost_frame_comes_back_from_the_next_packet() -> None:
    voice = speech()
    packets = payloads(voice, loss=20)
    whole, recovered, concealed = opus.Decoder(), opus.Decoder(), opus.Decoder()
    errors: dict[str, list[float]] = {"fec": [], "plc": []}
    for index in range(len(packets) - 1):
        reference = whole.decode(packets[index]).astype(np.float64)
        if index % 5 == 4 and opus.has_fec(packets[index + 1]):
            for kind, guess in (
                ("fec", recovered.recover(packets[index + 1], INPUT_FRAME)),
                ("plc", concealed.conceal(INPUT_FRAME)),
            ):
                errors[kind].append(float(np.sum((guess - reference) ** 2)))
        else:
            recovered.decode(packets[index])
            concealed.decode(packets[index])
    assert len(errors["fec"]) > 15
    assert sum(errors["fec"]) < 0.5 * sum(errors["plc"])


def test_a_lone_first_byte_is_20_ms_of_fading_noise() -> None:
    encoder = opus.Encoder(bitrate=32_000, complexity=0)
    decoder = opus.Decoder()
    voice = speech(rate=24_000)[24_000:]
    payload = b""
    for start in range(0, 30 * OUTPUT_FRAME, OUTPUT_FRAME):
        payload = encoder.encode(voice[start : start + OUTPUT_FRAME])
        decoder.decode(payload)
    for _ in range(3):
        payload = encoder.encode(np.zeros(OUTPUT_FRAME, np.int16))
        decoder.decode(payload)
    dtx = opus.dtx_payload(payload)
    assert len(dtx) == 1
    assert opus.duration(dtx) == 960
    levels = [dbfs(decoder.decode(dtx)) for _ in range(10)]
    assert len(decoder.decode(dtx)) == INPUT_FRAME
    assert max(levels) < -45


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_garbage_is_refused_and_forgotten(garbage: list[bytes]) -> None:
    decoder = opus.Decoder()
    for payload in garbage:
        try:
            pcm = decoder.decode(payload)
        except opus.OpusError:
            continue
        assert len(pcm) * 3 == opus.duration(payload)
    decoder.reset()
    fresh = opus.Decoder()
    for payload in payloads(tone(3200, 16_000)):
        assert np.array_equal(decoder.decode(payload), fresh.decode(payload))


@given(st.binary(max_size=200), st.integers(1, 48))
def test_recovery_from_garbage_is_an_error_or_the_right_length(payload: bytes, steps: int) -> None:
    decoder = opus.Decoder()
    with contextlib.suppress(opus.OpusError):
        assert len(decoder.recover(payload, steps * 40)) == steps * 40
    assert len(decoder.conceal(steps * 40)) == steps * 40


@pytest.fixture
def fresh_library() -> Iterator[None]:
    opus.load.cache_clear()
    yield
    opus.load.cache_clear()


@pytest.mark.usefixtures("fresh_library")
def test_the_copy_inside_the_pyav_wheel_is_the_second_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    class Bundled(ctypes.PyDLL):
        def __init__(self, name: str) -> None:
            tried.append(name)
            if "av.libs" not in name and ".dylibs" not in name:
                raise OSError(name)
            super().__init__(name)

    monkeypatch.setattr(ctypes, "PyDLL", Bundled)
    assert isinstance(opus.load(), Bundled)
    assert tried[0] == "libopus.so.0"
    decoder = opus.Decoder()
    assert len(decoder.conceal(INPUT_FRAME)) == INPUT_FRAME


@pytest.mark.usefixtures("fresh_library")
def test_without_any_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "PyDLL", missing)
    with pytest.raises(opus.OpusUnavailableError, match="apt install libopus0"):
        opus.load()


def test_calls_keep_the_gil() -> None:
    assert type(opus.load()) is ctypes.PyDLL
