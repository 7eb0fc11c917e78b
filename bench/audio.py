"""What 20 ms of one call cost: `python -m bench.audio`, one JSON object a line.

CPU time of this thread, the least of several rounds, in microseconds per 20 ms; 1000 us are 5 % of a core per session.
`distance_db` is the spectral distance (36 mel bands to 8 kHz, voiced frames) between what was said and what is heard.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from media import level, opus, rtp
from media.audio import INPUT_FRAME, INPUT_RATE, OUTPUT_FRAME, OUTPUT_RATE, Pcm
from media.playout import Playout
from media.receiver import Receiver
from media.sender import BITRATE, COMPLEXITY, Sender
from media.vad import WebRtcVad

VOICES = Path(__file__).parents[1] / "tests" / "data"
ROUNDS = 3
TICK = 0.020


def main() -> None:
    heard, said = voice(INPUT_RATE), voice(OUTPUT_RATE)
    frames_in, frames_out = cut(heard, INPUT_FRAME), cut(said, OUTPUT_FRAME)
    payloads = encode(frames_out, BITRATE, COMPLEXITY, 0)
    with_fec = encode(frames_out, BITRATE, COMPLEXITY, 10)
    packets = [
        rtp.build(rtp.Packet(111, False, index, index * 960, 1, payload)) for index, payload in enumerate(payloads)
    ]
    decoder, vad = opus.Decoder(), WebRtcVad()
    report("decode", cost(decoder.decode, payloads))
    report("decode, with FEC inside", cost(decoder.decode, with_fec))
    report("recover by FEC", cost(lambda payload: decoder.recover(payload, INPUT_FRAME), with_fec))
    report("conceal", cost(lambda _: decoder.conceal(INPUT_FRAME), payloads))
    report("voice activity", cost(vad.is_speech, frames_in))
    report("level", cost(level.dbfs, frames_in))
    report("RTP parse", cost(rtp.parse, packets))
    for bitrate, complexities in ((24_000, (0, 5)), (32_000, (0, 1, 2, 5, 10))):
        for complexity in complexities:
            for loss in (0, 10):
                report_encoder(bitrate, complexity, loss, frames_out, heard)
    report("receive: parse, reorder, decode, level, voice activity", receive_path(packets))
    report("receive: nothing comes", receive_path(packets[:1]))
    report("send: drain, encode, build", send_path(said))
    report("send: silence by DTX", send_path(said[:1]))


def report(what: str, microseconds: float, **more: Any) -> None:
    print(json.dumps({"what": what, "us": round(microseconds, 1), **more}), flush=True)


def report_encoder(bitrate: int, complexity: int, loss: int, frames: list[Pcm], original: Pcm) -> None:
    encoder = opus.Encoder(bitrate=bitrate, complexity=complexity)
    encoder.expect_loss(loss)
    payloads = encode(frames, bitrate, complexity, loss)
    decoder = opus.Decoder()
    report(
        "encode",
        cost(encoder.encode, frames),
        bitrate=bitrate,
        complexity=complexity,
        expected_loss=loss,
        sent_kbit=round(sum(map(len, payloads)) * 8 / len(payloads) / 20, 1),
        fec_share=round(sum(map(opus.has_fec, payloads)) / len(payloads), 2),
        distance_db=round(distance(original, np.concatenate([decoder.decode(payload) for payload in payloads])), 2),
    )


def encode(frames: list[Pcm], bitrate: int, complexity: int, loss: int) -> list[bytes]:
    encoder = opus.Encoder(bitrate=bitrate, complexity=complexity)
    encoder.expect_loss(loss)
    return [encoder.encode(frame) for frame in frames]


def receive_path(packets: list[bytes]) -> float:
    """One packet and one tick each 20 ms; after the last packet 10 s of nothing when there is but one."""
    steps = packets + [b""] * (500 if len(packets) == 1 else 0)

    def run() -> None:
        receiver = Receiver(payload_type=111, vad=WebRtcVad())
        for step, packet in enumerate(steps):
            if packet:
                receiver.receive(packet, step * TICK)
            receiver.tick(step * TICK)

    return best(run) / len(steps)


def send_path(said: Pcm) -> float:
    steps = max(500, len(said) // OUTPUT_FRAME)

    def run() -> None:
        playout = Playout()
        playout.write(said)
        sender = Sender(playout, payload_type=111, ssrc=1)
        for step in range(steps):
            sender.tick(step * TICK)

    return best(run) / steps


def cost(function: Callable[[Any], object], arguments: Iterable[Any]) -> float:
    arguments = list(arguments)

    def run() -> None:
        for argument in arguments:
            function(argument)

    return best(run) / len(arguments)


def best(run: Callable[[], None]) -> float:
    """Least CPU time of a run, us."""
    least = float("inf")
    for _ in range(ROUNDS):
        start = time.thread_time()
        run()
        least = min(least, time.thread_time() - start)
    return least * 1e6


def voice(rate: int) -> Pcm:
    """Some 25 s of recorded speech, mono."""
    resampler = av.AudioResampler("s16", "mono", rate)
    parts = []
    for name in ("human-00", "en-00", "es-02"):
        with av.open(str(VOICES / f"{name}.flac")) as container:
            parts += [out.to_ndarray()[0] for frame in container.decode(audio=0) for out in resampler.resample(frame)]
    return np.concatenate(parts)


def cut(pcm: Pcm, size: int) -> list[Pcm]:
    return list(pcm[: len(pcm) // size * size].reshape(-1, size))


def distance(said: Pcm, heard: Pcm) -> float:
    """Root mean square of the level differences over voiced frames and bands, dB, at the delay that fits best."""
    length = min(len(said), len(heard))
    one, other = said[:length].astype(np.float64), heard[:length].astype(np.float64)
    products = np.fft.irfft(np.fft.rfft(other, 2 * length) * np.conj(np.fft.rfft(one, 2 * length)))
    delay = int(np.argmax(products[:800]))
    before, after = bands(one[: length - delay]), bands(other[delay:])
    is_voiced = before.mean(1) > before.mean(1).max() - 35
    return float(np.sqrt(np.mean((before - after)[is_voiced] ** 2)))


def bands(pcm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Levels of 36 mel bands every 10 ms, dB."""
    windows = np.lib.stride_tricks.sliding_window_view(pcm, 320)[::160] * np.hanning(320)
    power = np.abs(np.fft.rfft(windows)) ** 2
    mel = np.linspace(80, 2840, 38)
    edges = 700 * (10 ** (mel / 2595) - 1)
    frequency = np.fft.rfftfreq(320, 1 / INPUT_RATE)
    rising = (frequency - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequency) / (edges[2:] - edges[1:-1])[:, None]
    levels: NDArray[np.float64] = 10 * np.log10(power @ np.clip(np.minimum(rising, falling), 0, None).T + 1e3)
    return levels


if __name__ == "__main__":
    main()
