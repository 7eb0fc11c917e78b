from __future__ import annotations

import numpy as np
import pytest

from media.audio import INPUT_FRAME, Pcm
from media.vad import WebRtcVad
from tests.media.signals import pink_noise, speech


def share(pcm: Pcm, vad: WebRtcVad) -> float:
    frames = pcm[: len(pcm) // INPUT_FRAME * INPUT_FRAME].reshape(-1, INPUT_FRAME)
    return sum(vad.is_speech(frame) for frame in frames) / len(frames)


def loud_share(pcm: Pcm) -> float:
    """Frames within 30 dB of the loudest: what any detector must call speech."""
    frames = pcm[: len(pcm) // INPUT_FRAME * INPUT_FRAME].reshape(-1, INPUT_FRAME).astype(np.float64)
    power = (frames**2).mean(1)
    return float((power > power.max() / 1000).mean())


@pytest.mark.parametrize("name", ["en-00", "en-short-02", "es-02", "human-00"])
def test_voices_are_speech(name: str) -> None:
    voice = speech(name)
    assert share(voice, WebRtcVad()) >= 0.95 * loud_share(voice)


def test_quiet_rooms_are_not() -> None:
    assert share(np.zeros(32_000, np.int16), WebRtcVad()) == 0
    assert share(pink_noise(32_000, dbfs=-50), WebRtcVad()) < 0.05


def test_a_pause_is_noticed_at_once_in_a_quiet_room() -> None:
    voice = speech("en-00")
    end = int(np.flatnonzero(np.abs(voice) > 1000)[-1])
    vad, bare = WebRtcVad(), WebRtcVad(floor=-127)
    assert share(voice[:end], vad) > 0.5
    assert share(voice[:end], bare) > 0.5
    room = pink_noise(INPUT_FRAME * 20, dbfs=-75)
    assert share(room, vad) == 0
    assert share(room, bare) > 0  # the hangover that the floor takes away
