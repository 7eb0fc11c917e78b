"""Opus through libopus: 16 kHz mono in, 24 kHz mono out, and the few facts that a payload tells (RFC 6716)."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from media.audio import INPUT_RATE, OUTPUT_FRAME, OUTPUT_RATE, Pcm

MAX_PAYLOAD = 1275
"""Largest compressed frame, bytes (RFC 6716 section 3.2.1)."""

_MAX_DURATION = 5760  # 120 ms at 48 kHz, the longest packet (section 3.2.5)

# opus_defines.h
_APPLICATION_VOIP = 2048
_SIGNAL_VOICE = 3001
_SET_MAX_BANDWIDTH = 4004
_BANDWIDTHS = {8_000: 1101, 12_000: 1102, 16_000: 1103, 24_000: 1104, 48_000: 1105}
_SET_BITRATE = 4002
_SET_COMPLEXITY = 4010
_SET_INBAND_FEC = 4012
_SET_PACKET_LOSS_PERC = 4014
_SET_DTX = 4016
_SET_SIGNAL = 4024
_RESET_STATE = 4028

# Samples at 48 kHz of one frame, by the upper five bits of the first byte (section 3.1, table 2).
_FRAME_DURATION = [480, 960, 1920, 2880] * 3 + [480, 960] * 2 + [120, 240, 480, 960] * 4


class OpusUnavailableError(RuntimeError):
    """libopus is not on this machine. The text says how to install it."""


class OpusError(ValueError):
    """libopus refused a payload or a setting."""


def duration(payload: bytes) -> int:
    """Samples at 48 kHz that a payload holds (RFC 6716 section 3.1); 0 when it is malformed."""
    if not payload:
        return 0
    frames = (1, 2, 2, payload[1] & 0x3F if len(payload) > 1 else 0)[payload[0] & 0x03]
    samples = frames * _FRAME_DURATION[payload[0] >> 3]
    return samples if samples <= _MAX_DURATION else 0


def has_fec(payload: bytes) -> bool:
    """Whether a payload repeats the frame before it (LBRR, RFC 6716 section 4.2.3).

    Only payloads whose first frame follows the first byte are looked into; that is every one that browsers send.
    """
    if len(payload) < 2 or payload[0] & 0x80 or payload[0] & 0x03 > 1:  # CELT has none
        return False
    frames = max(1, _FRAME_DURATION[payload[0] >> 3] // 960)
    # Per channel: one voice-activity bit for each 20 ms, then the LBRR flag. Both have even odds, hence plain bits.
    mid = payload[1] >> (7 - frames) & 1
    side = payload[1] >> (6 - 2 * frames) & 1 if payload[0] & 0x04 else 0
    return bool(mid or side)


class Decoder:
    """One stream of payloads to mono PCM at ``INPUT_RATE``. Stereo is mixed down by the codec."""

    def __init__(self) -> None:
        self._opus = load()
        # The state lives in memory that Python owns, so there is nothing to destroy.
        self._state = ctypes.create_string_buffer(self._opus.opus_decoder_get_size(1))
        _check(self._opus.opus_decoder_init(self._state, INPUT_RATE, 1))
        self._pcm = np.zeros(_MAX_DURATION * INPUT_RATE // 48_000, np.int16)
        self._address = self._pcm.ctypes.data

    def decode(self, payload: bytes) -> Pcm:
        """Decode one payload, shape ``(n,)``, n up to 120 ms. Raises ``OpusError`` on a malformed one."""
        if not payload:  # libopus takes an empty payload for a lost one
            raise OpusError("empty payload")
        return self._decode(payload, len(self._pcm), 0)

    def recover(self, following: bytes, samples: int) -> Pcm:
        """The ``samples`` (at 16 kHz, multiple of 40) before ``following``, from its FEC or else concealed."""
        return self._decode(following, samples, 1)

    def conceal(self, samples: int) -> Pcm:
        """Invent ``samples`` (at 16 kHz, multiple of 40) that continue what was heard."""
        return self._decode(None, samples, 0)

    def reset(self) -> None:
        """Forget what was heard: another stream follows."""
        _check(self._opus.opus_decoder_ctl(self._state, _RESET_STATE))

    def _decode(self, payload: bytes | None, samples: int, fec: int) -> Pcm:
        size = len(payload) if payload else 0
        count = _check(self._opus.opus_decode(self._state, payload, size, self._address, samples, fec))
        return self._pcm[:count].copy()


class Encoder:
    """Mono speech at ``OUTPUT_RATE``, 20 ms a packet, in-band FEC as told, no DTX (the sender has its own pattern)."""

    def __init__(self, *, bitrate: int, complexity: int, max_bandwidth: int = 24_000) -> None:
        """``bitrate`` in bit/s, ``complexity`` 0 to 10, ``max_bandwidth`` as a sampling rate in Hz."""
        self._opus = load()
        self._state = ctypes.create_string_buffer(self._opus.opus_encoder_get_size(1))
        _check(self._opus.opus_encoder_init(self._state, OUTPUT_RATE, 1, _APPLICATION_VOIP))
        self._pcm = np.zeros(OUTPUT_FRAME, np.int16)
        self._payload = np.zeros(MAX_PAYLOAD, np.uint8)
        self._addresses = self._pcm.ctypes.data, self._payload.ctypes.data
        self._set(_SET_BITRATE, bitrate)
        self._set(_SET_COMPLEXITY, complexity)
        self._set(_SET_MAX_BANDWIDTH, _BANDWIDTHS[max_bandwidth])
        self._set(_SET_SIGNAL, _SIGNAL_VOICE)
        self._set(_SET_DTX, 0)

    def encode(self, pcm: Pcm) -> bytes:
        """Encode ``pcm`` of shape ``(OUTPUT_FRAME,)`` into one payload."""
        self._pcm[:] = pcm
        source, target = self._addresses
        size = _check(self._opus.opus_encode(self._state, source, OUTPUT_FRAME, target, MAX_PAYLOAD))
        return self._payload[:size].tobytes()

    def expect_loss(self, percent: int) -> None:
        """Tell the share of packets that get lost, 0 to 100: above 0 payloads repeat the frame before them."""
        self._set(_SET_INBAND_FEC, 1 if percent else 0)
        self._set(_SET_PACKET_LOSS_PERC, percent)

    def _set(self, request: int, value: int) -> None:
        _check(self._opus.opus_encoder_ctl(self._state, request, ctypes.c_int(value)))


def dtx_payload(payload: bytes) -> bytes:
    """The payload that says "nothing to hear" in the mode of ``payload``.

    A first byte that announces one frame, and no frame: libopus decodes it to fading noise, and browsers take a payload
    of one or two bytes for the codec's own comfort noise until the next packet, so they conceal nothing meanwhile.
    """
    return bytes((payload[0] & 0xFC,))


@functools.cache
def load() -> ctypes.PyDLL:
    """Find libopus once: the system's, else the one inside the PyAV wheel.

    ``PyDLL`` keeps the GIL through each call on purpose. A call takes some 20 to 100 us; giving the GIL away and
    asking for it again costs up to 5 ms each time when another Python thread is busy, and the media clock cannot wait.

    Raises ``OpusUnavailableError``.
    """
    for name in _candidates():
        try:
            return _declare(ctypes.PyDLL(name))
        except (OSError, AttributeError):
            continue
    raise OpusUnavailableError(
        "libopus was not found. Install it: `apt install libopus0`, `dnf install opus`, `apk add opus` "
        "or `brew install opus`."
    )


def _candidates() -> Iterator[str]:
    yield "libopus.so.0"
    for prefix in ("/opt/homebrew", "/usr/local", "/opt/local"):
        yield f"{prefix}/lib/libopus.0.dylib"
    if found := ctypes.util.find_library("opus"):
        yield found
    spec = importlib.util.find_spec("av")
    if spec and spec.origin:
        package = Path(spec.origin).parent
        for folder in (package.with_name("av.libs"), package / ".dylibs"):
            yield from (str(path) for path in sorted(folder.glob("libopus*")))


def _declare(opus: ctypes.PyDLL) -> ctypes.PyDLL:
    pointer, number = ctypes.c_void_p, ctypes.c_int
    opus.opus_decoder_get_size.argtypes = [number]
    opus.opus_decoder_init.argtypes = [pointer, ctypes.c_int32, number]
    opus.opus_decode.argtypes = [pointer, ctypes.c_char_p, ctypes.c_int32, pointer, number, number]
    opus.opus_encoder_get_size.argtypes = [number]
    opus.opus_encoder_init.argtypes = [pointer, ctypes.c_int32, number, number]
    opus.opus_encode.argtypes = [pointer, pointer, number, pointer, ctypes.c_int32]
    opus.opus_encode.restype = ctypes.c_int32
    # Variadic: only the fixed arguments are declared, which tells ctypes where the variable ones begin.
    opus.opus_decoder_ctl.argtypes = [pointer, number]
    opus.opus_encoder_ctl.argtypes = [pointer, number]
    opus.opus_strerror.argtypes = [number]
    opus.opus_strerror.restype = ctypes.c_char_p
    return opus


def _check(result: int) -> int:
    if result < 0:
        raise OpusError(load().opus_strerror(result).decode())
    return result
