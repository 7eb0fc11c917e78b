"""A browser in a network that lets no UDP out: its call goes by TCP, through its router and a published port."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from playwright.async_api import async_playwright

from tests.live import LiveServer
from tests.network.caller import KEY, URL
from tests.network.lab import HOST, VOICE, laboratory

pytestmark = [pytest.mark.network, pytest.mark.browser]

TCP_PORT = 40443
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--autoplay-policy=no-user-gesture-required"]

# Speaks silence, measures what it hears, and keeps the names of the events.
CALL = """async key => {
  const headers = {Authorization: `Bearer ${key}`, "Content-Type": "application/json"};
  const {token} = await (await fetch("/webrtc/token?agent_id=demo", {headers})).json();
  const pc = window.pc = new RTCPeerConnection();
  window.events = [];
  window.peak = 0;
  pc.createDataChannel("events").onmessage = message => events.push(JSON.parse(message.data).event);
  const context = new AudioContext();
  const microphone = context.createMediaStreamDestination();
  for (const track of microphone.stream.getTracks()) pc.addTrack(track, microphone.stream);
  pc.ontrack = event => {
    const meter = context.createAnalyser();
    const samples = new Float32Array(2048);
    const player = new Audio();
    player.srcObject = event.streams[0];
    player.play();
    context.createMediaStreamSource(event.streams[0]).connect(meter);
    setInterval(() => {
      meter.getFloatTimeDomainData(samples);
      window.peak = Math.max(window.peak, ...samples.map(Math.abs));
    }, 20);
  };
  await pc.setLocalDescription(await pc.createOffer());
  while (pc.iceGatheringState !== "complete") await new Promise(resolve => setTimeout(resolve, 10));
  const body = JSON.stringify({sdp: pc.localDescription.sdp, type: "offer", token});
  await pc.setRemoteDescription(await (await fetch("/webrtc/offer", {method: "POST", headers, body})).json());
}"""

PROTOCOL = """async () => {
  const stats = [...(await pc.getStats()).values()];
  const pair = stats.find(each => each.type === "candidate-pair" && each.nominated && each.state === "succeeded");
  return stats.find(each => each.id === pair.remoteCandidateId).protocol;
}"""


async def test_a_browser_without_udp_hears_the_agent(tmp_path: Path) -> None:
    settings = {"VOICE_API_KEYS": KEY, "VOICE_PUBLIC_IP": HOST, "VOICE_TCP_PORT": str(TCP_PORT)}
    ports = ("--host", "0.0.0.0", "--port", "8080", "--udp-port", "40000", "--engine", "instant")
    with laboratory() as lab:
        lab.host.nft(f'add rule ip published in iifname "wan" tcp dport {TCP_PORT} dnat to {VOICE}')
        lab.map_caller(50001)
        lab.home.nft(
            """
            table ip firewall {
              chain out { type filter hook forward priority filter; iifname "lan" meta l4proto udp drop; }
            }
            """
        )
        inside = tmp_path / "chromium"
        chromium = shutil.which("chromium")
        assert chromium, "Chromium is missing. Install it with: sudo apt-get install -y chromium"
        inside.write_text(f'#!/bin/sh\nexec {" ".join(lab.caller.enter)} {chromium} "$@"\n')
        inside.chmod(0o755)
        with LiveServer(tmp_path, *ports, environment=settings, enter=lab.voice.enter):
            async with async_playwright() as playwright:
                browser = await playwright.chromium.launch(executable_path=inside, args=FLAGS, headless=True)
                page = await browser.new_page(bypass_csp=True)  # the page of the server forbids what tests do
                await page.goto(URL)
                await page.evaluate(CALL, KEY)
                await page.wait_for_function("events.includes('bot.finished') && peak > 0.05", timeout=60_000)
                assert await page.evaluate(PROTOCOL) == "tcp"
                await browser.close()
        assert lab.media_flows() == []
