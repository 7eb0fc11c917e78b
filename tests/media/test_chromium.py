"""A real Chromium at the media engine, with nothing else of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.async_api import Page, async_playwright

from media import opus
from media.audio import OUTPUT_RATE
from media.engine import MediaEngine
from media.sdp import UPLINK_BITRATE, parse_offer
from media.session import Session
from tests.media.peers import Recorder, running_engine, until

pytestmark = pytest.mark.browser

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]

# A page that speaks a 440 Hz tone from WebAudio and measures what it hears.
PAGE = """<!doctype html><audio autoplay></audio><script>
async function call() {
  const pc = window.pc = new RTCPeerConnection();
  window.messages = [];
  const channel = window.channel = pc.createDataChannel("events");
  channel.onmessage = event => messages.push(event.data);
  channel.onopen = () => channel.send("hello");
  const context = new AudioContext();
  const microphone = context.createMediaStreamDestination();
  const tone = context.createOscillator();
  const volume = context.createGain();
  volume.gain.value = 0.3;
  tone.connect(volume).connect(microphone);
  tone.start();
  for (const track of microphone.stream.getTracks()) pc.addTrack(track, microphone.stream);
  pc.ontrack = event => {
    window.streams = event.streams.length;
    document.querySelector("audio").srcObject = event.streams[0];
    const meter = context.createAnalyser();
    const samples = new Float32Array(2048);
    context.createMediaStreamSource(event.streams[0]).connect(meter);
    window.peak = 0;
    setInterval(() => {
      meter.getFloatTimeDomainData(samples);
      window.peak = Math.max(window.peak, ...samples.map(Math.abs));
    }, 20);
  };
  await pc.setLocalDescription(await pc.createOffer());
  while (pc.iceGatheringState !== "complete") await new Promise(resolve => setTimeout(resolve, 10));
  await pc.setRemoteDescription({type: "answer", sdp: await answer(pc.localDescription.sdp)});
}
</script>"""


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        context = await playwright.chromium.launch_persistent_context(
            tmp_path, executable_path=CHROMIUM, args=ARGUMENTS, headless=True
        )
        page = context.pages[0]
        await page.set_content(PAGE)
        yield page
        await context.close()


async def call(
    page: Page, engine: MediaEngine, recorder: Recorder, *, keep: Callable[[str], bool] = lambda line: True
) -> Session:
    """``keep``: which of the answer's candidates the page is told of."""
    sessions: list[Session] = []

    async def answer(sdp: str) -> str:
        sessions.append(await engine.accept(parse_offer(sdp), recorder))
        sessions[0].send("sent before the channel was open")
        lines = sessions[0].answer.splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith("a=candidate") or keep(line))

    await page.expose_function("answer", answer)
    await page.evaluate("call()")
    return sessions[0]


async def test_chromium_talks_and_hears_and_says_goodbye(page: Page) -> None:
    async with running_engine() as engine:
        recorder = Recorder()
        session = await call(page, engine, recorder)
        await until(lambda: {"connected", "open", "audio"} <= set(recorder.events))
        await until(lambda: recorder.level > -20 and recorder.messages == ["hello"])
        tone = np.sin(2 * np.pi * 300 * np.arange(2 * OUTPUT_RATE) / OUTPUT_RATE) * 9000
        session.playout.write(tone.astype(np.int16))
        await page.wait_for_function("window.peak > 0.2")
        assert await page.evaluate("window.streams") == 1
        assert await page.evaluate("messages") == ["sent before the channel was open"]
        await until(lambda: recorder.played == 2 * OUTPUT_RATE)
        assert session.stats.receiver.malformed == 0

        loop = asyncio.get_running_loop()
        hung_up = loop.time()
        await page.evaluate("pc.close()")
        await until(lambda: recorder.reason)
        assert recorder.reason == "disconnected"
        assert loop.time() - hung_up < 2  # by its goodbye, not by silence


async def test_chromium_hears_that_the_server_hangs_up(page: Page) -> None:
    async with running_engine() as engine:
        recorder = Recorder()
        session = await call(page, engine, recorder)
        await until(lambda: "open" in recorder.events)
        await session.close()
        assert recorder.reason == "closed"
        await page.wait_for_function("channel.readyState === 'closed'")


async def test_chromium_sends_the_band_that_is_heard_and_no_more(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    payloads: list[bytes] = []
    measure = opus.duration

    def note(payload: bytes) -> int:
        payloads.append(payload)
        return measure(payload)

    monkeypatch.setattr(opus, "duration", note)
    async with running_engine() as engine:
        recorder = Recorder()
        await call(page, engine, recorder)
        await until(lambda: recorder.level > -20 and len(payloads) > 100)
    spoken = payloads[50:]
    wide_band = {8, 9, 10, 11, 20, 21, 22, 23}  # RFC 6716 table 2; a tone is no voice, hence CELT
    assert {payload[0] >> 3 for payload in spoken} <= wide_band
    assert sum(map(len, spoken)) * 8 / (len(spoken) * 0.02) < 1.1 * UPLINK_BITRATE


async def test_chromium_calls_by_tcp_when_there_is_no_other_way(page: Page) -> None:
    """As where UDP is blocked: of the answer only the TCP candidates can be reached."""
    async with running_engine(tcp_port=0) as engine:
        recorder = Recorder()
        session = await call(page, engine, recorder, keep=lambda line: " udp " not in line)
        await until(lambda: {"connected", "open", "audio"} <= set(recorder.events), deadline=40)
        await until(lambda: recorder.level > -20 and recorder.messages == ["hello"])
        tone = np.sin(2 * np.pi * 300 * np.arange(2 * OUTPUT_RATE) / OUTPUT_RATE) * 9000
        session.playout.write(tone.astype(np.int16))
        await page.wait_for_function("window.peak > 0.2")
        await until(lambda: engine.tcp_stats.received > 50)
        assert engine.udp_stats.received == 0
        assert session.quality.lost == 0
        await page.evaluate("pc.close()")
        await until(lambda: recorder.reason == "disconnected")
