"""Who speaks now, in a real browser: a pause in mid-sentence, a "mm-hm" over the bot, an interruption."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

from media.audio import INPUT_RATE as RATE
from media.audio import Pcm
from tests.browser.browsers import chromium
from tests.browser.tab import VOICES, Tab, resampled
from tests.live import LiveServer

BORDER = 1.18
"""Seconds at which "What is seven plus" ends in the recording."""

PAUSE = 0.8
MM_HM, OKAY, STOP = "mm-hm.flac", "en-short-02.flac", "en-06.flac"


def pausing() -> Pcm:
    """ "What is seven plus … five?"."""
    question = resampled(VOICES / "question-sum.flac")
    tone = np.random.default_rng(1).normal(0, 8, round(PAUSE * RATE)).astype(np.int16)  # a room, not digital silence
    border = round(BORDER * RATE)
    return np.concatenate([question[:border], tone, question[border:]])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with LiveServer(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
async def tab(server: LiveServer, tmp_path: Path) -> AsyncIterator[Tab]:
    async with chromium(tmp_path) as tab:
        await tab.goto(server.url)
        yield tab


async def names(tab: Tab) -> list[str]:
    return [frame["event"] for frame in await tab.frames()]


async def test_pause_acknowledgement_interruption(tab: Tab) -> None:
    await tab.prepare(MM_HM, OKAY, STOP, pausing=pausing())
    await tab.click("#orb")
    await tab.until_state("listening")
    await tab.until("document.querySelectorAll('#captions li').length >= 1", 30, "the greeting")
    await tab.quiet_after(await tab.now())

    await tab.say("pausing")
    await tab.until(
        "document.querySelector('#captions li:last-child').textContent.toLowerCase().includes('twelve')", 30, "the sum"
    )
    users = [caption.text for caption in await tab.captions() if caption.role == "user"]
    assert users == ["What is seven plus five?"], "the pause cut the question"
    await tab.quiet_after(await tab.now())

    await tab.type("Count to thirty.")
    await tab.until_state("speaking")
    began = await tab.now()
    while (await tab.now()) < began + 3:
        await asyncio.sleep(0.1)
    for acknowledgement in (MM_HM, OKAY):
        await tab.say(acknowledgement)
        said = await tab.now()
        while (await tab.now()) < said + 2:  # longer than any decision about it takes
            await asyncio.sleep(0.1)
        assert await tab.state() == "speaking"
        assert "bot.interrupted" not in await names(tab)

    spoke = await tab.start_saying(STOP)
    await tab.until("document.querySelector('#captions [data-interrupted]') !== null", 20, "the bot was interrupted")
    (interrupted,) = [caption for caption in await tab.captions() if caption.interrupted]
    assert interrupted.interrupted == "user_spoke"
    quiet = await tab.quiet_after(spoke)
    assert quiet - spoke < 1.6
    await tab.until(
        "document.querySelector('#captions li:last-child').textContent.includes('invoice')", 30, "what was said then"
    )
    frames = await tab.frames()
    (confirmed,) = [
        frame["text"]
        for frame in frames
        if frame["event"] == "message.confirmed" and frame["text"].lower().startswith("one")
    ]
    assert confirmed == interrupted.text, "the history holds what was heard"
    assert "thirty" not in confirmed.lower()
    await tab.click("#end")
    await tab.until_state("idle")
    await tab.assert_untroubled()
