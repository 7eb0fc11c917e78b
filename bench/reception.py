"""What is left of speech after a bad network: `python -m bench.reception`, one JSON object a line.

The network and the clock are virtual, the codec, the receiver and the recogniser are real, so figures repeat exactly.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import numpy as np

from bench.audio import distance, voice
from bench.engines import show
from media import opus
from media.audio import INPUT_FRAME, INPUT_RATE, OUTPUT_FRAME, OUTPUT_RATE, Pcm
from media.sender import BITRATE, COMPLEXITY, FEC_FROM
from pipeline.stt import Transcript
from pipeline.stt.moonshine import Moonshine
from server.recording import RATE
from server.speech import encode
from tests.media.bad_line import TICK, carry
from tests.media.bad_network import BadNetwork
from tests.voices import ENGLISH, recording, said
from tests.words import word_error_rate

LOSS, JITTER = 0.05, 0.03
SEEDS = range(2)
USUAL = TICK
"""How much later than before a frame may come for the delay to be the normal one, s."""


def as_sent(name: str, loss: int) -> list[bytes]:
    """A recording, and a short silence, as a browser sends it that was told of so much loss, percent."""
    pcm = np.concatenate([recording(name), np.zeros(INPUT_RATE // 5, np.int16)])
    return encode(np.repeat(pcm, RATE // INPUT_RATE), loss=loss)


async def understood(stt: Moonshine, pcm: Pcm) -> str:
    stream = stt.stream("en")
    try:
        stream.write(pcm)
        stream.flush()
        async for heard in stream:
            if isinstance(heard, Transcript) and heard.final:
                return heard.text
    finally:
        await stream.aclose()
    return ""


async def words(stt: Moonshine) -> None:
    """Share of words misunderstood, percent: on a clean line, and with loss and jitter, with and without FEC."""
    clean = [(said(name), await understood(stt, carry(BadNetwork(), as_sent(name, 0)).pcm)) for name in ENGLISH]
    reference = word_error_rate(*clean) * 100
    for fec in (True, False):
        pairs, recovered, concealed, lost = [], 0, 0, 0
        for seed, (index, name) in itertools.product(SEEDS if fec else SEEDS[:1], enumerate(ENGLISH)):
            network = BadNetwork(loss=LOSS, jitter=JITTER, seed=1000 * seed + index)
            line = carry(network, as_sent(name, round(LOSS * 100) if fec else 0))
            pairs.append((said(name), await understood(stt, line.pcm)))
            recovered += line.receiver.stats.recovered_ms
            concealed += line.receiver.stats.concealed_ms
            lost += line.receiver.lost
        wrong = word_error_rate(*pairs) * 100
        show(
            "words after loss",
            loss_pct=LOSS * 100,
            jitter_ms=JITTER * 1e3,
            fec=fec,
            words=sum(len(text.split()) for text, _ in pairs),
            clean_wer_pct=reference,
            wer_pct=wrong,
            points=wrong - reference,
            lost=lost,
            recovered_ms=recovered,
            concealed_ms=concealed,
        )


def recovery() -> None:
    """From when packets come again until frames are handed on as early as before, ms."""
    packets = encode(voice(RATE)[: 6 * RATE])
    for name, line, ends in (
        ("burst of 10 lost", carry(BadNetwork(jitter=JITTER), packets, drop=(100, 10)), 110 * TICK),
        ("stall of 500 ms", carry(BadNetwork(jitter=JITTER), packets, stall=(2.0, 0.5)), 2.5),
    ):
        moments = [(index + 1) * TICK + delay for index, delay in enumerate(line.delays)]  # when each was handed on
        usual = max(line.delays[:90]) + USUAL
        late = [at for at, delay in zip(moments, line.delays, strict=True) if at >= ends and delay > usual]
        show(
            "recovery",
            after=name,
            ms=max(0.0, (late[-1] - ends) * 1e3) if late else 0.0,
            concealed_ms=line.receiver.stats.concealed_ms,
            worst_delay_ms=max(line.delays) * 1e3,
        )


def far_end() -> None:
    """The bot's voice at a browser that loses packets, with and without the redundancy that its reports bring."""
    pcm = voice(OUTPUT_RATE)
    frames = pcm[: len(pcm) // OUTPUT_FRAME * OUTPUT_FRAME].reshape(-1, OUTPUT_FRAME)
    for loss in (0.02, 0.05, 0.1):
        for fec in (True, False):
            encoder = opus.Encoder(bitrate=BITRATE, complexity=COMPLEXITY)
            encoder.expect_loss(max(FEC_FROM, round(loss * 100)) if fec else 0)
            payloads = [encoder.encode(frame) for frame in frames]
            figures = [distance(voice(INPUT_RATE), played(payloads, loss, seed)) for seed in SEEDS]
            size = sum(map(len, payloads)) * 8 / len(payloads) / 20
            show("bot after loss", loss_pct=loss * 100, fec=fec, distance_db=float(np.mean(figures)), kbit=size)


def played(payloads: Sequence[bytes], loss: float, seed: int) -> Pcm:
    """What a browser's decoder makes of it: the packet behind a lost one is there when it is played."""
    decoder, network = opus.Decoder(), BadNetwork(loss=loss, seed=seed)
    arrives = [bool(network.fates(0.0)) for _ in payloads]
    out = []
    for index, payload in enumerate(payloads):
        following = payloads[index + 1] if index + 1 < len(payloads) and arrives[index + 1] else b""
        if arrives[index]:
            out.append(decoder.decode(payload))
        elif following and opus.has_fec(following):
            out.append(decoder.recover(following, INPUT_FRAME))
        else:
            out.append(decoder.conceal(INPUT_FRAME))
    return np.concatenate(out)


async def main() -> None:
    recovery()
    far_end()
    stt = Moonshine()
    await stt.start()
    try:
        await words(stt)
    finally:
        await stt.aclose()


if __name__ == "__main__":
    asyncio.run(main())
