"""The synthetic caller and the talk command: what counts as answered, what is heard when, how failures leave."""

from __future__ import annotations

import asyncio
import json
import time
import wave
from pathlib import Path
from typing import cast

import av
import ifaddr
import numpy as np
import pytest
from aiohttp import web
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from config.secrets import FILE_NAME
from media.audio import FRAME_MS
from server import peer, talk
from server.dialogue import SETTLE_SECONDS, Dialogue
from server.peer import Heard, Mouth, PeerError, Utterance
from server.recording import HELD_SECONDS, RATE, Recording

FRAME = RATE * FRAME_MS // 1000
TONE = (8000 * np.sin(np.arange(FRAME) * 0.1)).astype(np.int16)
SILENCE = np.zeros(FRAME, np.int16)


def heard(at: float, event: str, **fields: object) -> Heard:
    return Heard(at, {"event": event, **fields})


# Dialogue ------------------------------------------------------------------------------------------------------------


def greeted() -> Dialogue:
    dialogue = Dialogue()
    dialogue.feed(heard(1.0, "bot.speaking", message_id="g"))
    before = dialogue.greeted
    dialogue.feed(heard(2.0, "bot.finished", message_id="g"))
    assert (before, dialogue.greeted) == (False, True)
    dialogue.begin(3.0)
    return dialogue


def test_an_answer_spoken_to_its_end_is_complete() -> None:
    dialogue = greeted()
    dialogue.said(Utterance(3.1, 5.0))
    dialogue.feed(heard(5.5, "turn.end", turn_id=1))
    dialogue.feed(heard(6.0, "bot.speaking", message_id="a"))
    assert not dialogue.complete(7.0)
    dialogue.feed(heard(8.0, "bot.finished", message_id="a"))
    assert dialogue.complete(8.0)


def test_the_greeting_is_no_answer() -> None:
    dialogue = Dialogue()
    dialogue.begin(0.5)
    dialogue.feed(heard(1.0, "bot.speaking", message_id="g"))
    dialogue.said(Utterance(0.6, 2.0))
    dialogue.feed(heard(2.5, "turn.end", turn_id=1))
    dialogue.feed(heard(3.0, "bot.finished", message_id="g"))
    assert not dialogue.complete(100.0)


def test_an_interrupted_answer_is_none() -> None:
    dialogue = greeted()
    dialogue.said(Utterance(3.1, 5.0))
    dialogue.feed(heard(5.5, "turn.end", turn_id=1))
    dialogue.feed(heard(6.0, "bot.speaking", message_id="a"))
    dialogue.feed(heard(6.5, "bot.interrupted", message_id="a"))
    assert not dialogue.complete(100.0)
    dialogue.feed(heard(7.0, "bot.speaking", message_id="b"))
    dialogue.feed(heard(8.0, "bot.finished", message_id="b"))
    assert dialogue.complete(8.0)


def test_an_answer_to_the_first_half_of_a_file_does_not_count() -> None:
    dialogue = greeted()
    dialogue.feed(heard(4.0, "turn.end", turn_id=1))
    dialogue.feed(heard(4.2, "bot.speaking", message_id="a"))
    dialogue.feed(heard(4.9, "bot.finished", message_id="a"))
    dialogue.said(Utterance(3.1, 6.0))
    assert not dialogue.complete(6.1), "the second half may not have been transcribed yet"
    dialogue.feed(heard(6.2, "user.speaking", text="and"))
    assert not dialogue.complete(6.0 + 2 * SETTLE_SECONDS)


def test_an_answer_before_the_end_of_a_noisy_file_counts_in_the_end() -> None:
    dialogue = greeted()
    dialogue.feed(heard(4.0, "turn.end", turn_id=1))
    dialogue.feed(heard(4.2, "bot.speaking", message_id="a"))
    dialogue.feed(heard(4.9, "bot.finished", message_id="a"))
    dialogue.said(Utterance(3.1, 6.0))
    assert dialogue.complete(6.0 + SETTLE_SECONDS)


EVENTS = st.tuples(
    st.sampled_from(["bot.speaking", "bot.finished", "bot.interrupted", "turn.end", "user.speaking", "turn.latency"]),
    st.sampled_from(["g", "a", "b"]),
)


@given(st.lists(EVENTS, max_size=30))
def test_complete_means_turn_end_then_speaking_then_finished(events: list[tuple[str, str]]) -> None:
    dialogue = Dialogue()
    dialogue.begin(0.0)
    dialogue.said(Utterance(0.0, 0.0))
    for index, (event, message) in enumerate(events):
        dialogue.feed(heard(index + 1.0, event, message_id=message, turn_id=index))
    if dialogue.complete(1000.0):
        turn = max(i for i, (event, _) in enumerate(events) if event == "turn.end")
        after = events[turn + 1 :]
        finished = [m for i, (e, m) in enumerate(after) if e == "bot.finished" and ("bot.speaking", m) in after[:i]]
        assert finished
        assert "user.speaking" not in [event for event, _ in after]


# Mouth and recording -------------------------------------------------------------------------------------------------


async def test_a_mouth_speaks_in_real_time_and_tells_when_it_ended() -> None:
    mouth = Mouth()
    frames: list[av.AudioFrame] = []

    async def pull() -> None:
        while True:
            frames.append(await mouth.recv())

    pulling = asyncio.create_task(pull())
    try:
        began = time.monotonic()
        utterance = await mouth.say(np.concatenate([SILENCE, TONE, TONE, TONE, SILENCE, SILENCE]))
        took = time.monotonic() - began
    finally:
        pulling.cancel()
        await asyncio.gather(pulling, return_exceptions=True)
    said = [frame.to_ndarray()[0] for frame in frames]
    loud = [index for index, pcm in enumerate(said) if pcm.any()]
    assert loud == [loud[0], loud[0] + 1, loud[0] + 2]
    assert all(np.array_equal(said[index], TONE) for index in loud)
    assert [frame.pts for frame in frames] == [FRAME * index for index in range(len(frames))]
    assert took >= 0.04, "six frames cannot leave at once"
    assert began <= utterance.began <= utterance.ended <= began + took


async def test_a_stopped_mouth_fails_what_was_not_said() -> None:
    mouth = Mouth()
    saying = asyncio.create_task(mouth.say(TONE))
    await asyncio.sleep(0)
    mouth.stop()
    with pytest.raises(PeerError):
        await saying


def test_a_recording_places_audio_by_its_position_and_fills_gaps() -> None:
    recording = Recording()
    recording.add(2 * FRAME, TONE, at=10.04)
    recording.add(0, TONE, at=10.0)
    assert np.array_equal(recording.pcm(), np.concatenate([TONE, SILENCE, TONE]))


def test_the_time_of_sound_is_that_of_its_arrival_whatever_came_late() -> None:
    recording = Recording()
    for index in range(10):
        late = 0.5 if index in (0, 7) else 0.0
        recording.add(index * FRAME, TONE if index >= 5 else SILENCE, at=20 + index * 0.02 + HELD_SECONDS + late)
    assert recording.loud_after(0.0) == pytest.approx(20.1)
    assert recording.loud_after(20.13) == pytest.approx(20.14)
    assert recording.loud_after(21.0) is None


def test_a_recording_is_bounded() -> None:
    recording = Recording(most_seconds=0.1)
    recording.add(RATE, TONE, at=1.0)
    recording.add(-FRAME, TONE, at=1.0)
    assert len(recording.pcm()) == 0


def test_a_machine_without_a_network_calls_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ifaddr, "get_adapters", list)
    assert peer.host_addresses(use_ipv4=True, use_ipv6=True) == ["127.0.0.1"]


# Files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("codec", "name"), [("pcm_s16le", "a.wav"), ("flac", "a.flac"), ("libopus", "a.ogg")])
def test_any_audio_file_becomes_mono_pcm(tmp_path: Path, codec: str, name: str) -> None:
    samples = (8000 * np.sin(np.arange(24_000) * 2 * np.pi * 440 / 24_000)).astype(np.int16)
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=24_000, layout="mono")
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = 24_000
        for part in (frame, None):
            container.mux(stream.encode(part))
    pcm = talk.read_audio(tmp_path / name)
    assert pcm.dtype == np.int16
    assert len(pcm) == pytest.approx(RATE, rel=0.02)
    spectrum = np.abs(np.fft.rfft(pcm.astype(float)))
    assert np.argmax(spectrum) * RATE / len(pcm) == pytest.approx(440, abs=3)


def test_what_was_heard_is_saved_as_wav(tmp_path: Path) -> None:
    talk.write_wav(tmp_path / "out.wav", TONE)
    with wave.open(str(tmp_path / "out.wav")) as file:
        assert (file.getnchannels(), file.getframerate(), file.getsampwidth()) == (1, RATE, 2)
        assert file.readframes(FRAME) == TONE.tobytes()


# Command -------------------------------------------------------------------------------------------------------------


async def run(*arguments: str) -> tuple[int, str]:
    """In a thread: the command runs an event loop of its own."""
    result = await asyncio.to_thread(CliRunner().invoke, talk.talk, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


@pytest.fixture
def question() -> str:
    return str(Path(__file__).parent.parent / "data" / "question-sum.flac")


async def test_usage_errors(tmp_path: Path, question: str) -> None:
    noise = tmp_path / "noise.wav"
    noise.write_bytes(b"no sound at all")
    for arguments, word in [
        ((), "FILE"),
        ((question, "--say", "both"), "one of them"),
        (("missing.wav",), "does not exist"),
        ((str(noise),), "no audio"),
        ((question, "--url", "ftp://localhost"), "http"),
    ]:
        code, output = await run(*arguments)
        assert code == 2
        assert word in output


async def test_no_server_is_told(question: str, unused_tcp_port: int) -> None:
    code, output = await run(question, "--url", f"http://127.0.0.1:{unused_tcp_port}")
    assert code == talk.UNREACHED
    assert "does not answer" in output


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (404, json.dumps({"detail": "Agent 'x' is not online"}), "Agent 'x' is not online"),
        (500, "<html>", "status 500"),
        (200, "[]", "no JSON object"),
        (200, json.dumps({"token": "x" * 300_000}), "larger than"),
    ],
)
async def test_a_refusal_is_told(question: str, status: int, body: str, told: str) -> None:
    async def token(_: web.Request) -> web.Response:
        return web.Response(status=status, text=body)

    app = web.Application()
    app.router.add_get("/webrtc/token", token)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        code, output = await run(question, "--url", f"http://{host}:{port}")
    finally:
        await runner.cleanup()
    assert code == talk.UNREACHED
    assert told in output


def test_the_key_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICE_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("VOICE_API_KEYS", raising=False)
    assert talk.local_key("http://localhost:8080") == ""
    assert list(tmp_path.iterdir()) == [], "looking for a key makes none"
    kept = tmp_path / FILE_NAME
    kept.write_text(json.dumps({"secret": "s" * 40, "api_key": "pk_kept_here"}))
    kept.chmod(0o600)
    assert talk.local_key("http://localhost:8080") == "pk_kept_here"
    assert talk.local_key("http://127.0.0.1:8080") == "pk_kept_here"
    assert talk.local_key("https://voice.example.org") == ""
    monkeypatch.setenv("VOICE_API_KEYS", "acme:pk_given_key")
    assert talk.local_key("http://[::1]:8080") == "pk_given_key"


# Patience ------------------------------------------------------------------------------------------------------------


class Slow:
    """A peer whose server loads for a while, and greets then or not."""

    def __init__(self, asked: int, *, greets: bool) -> None:
        self.asked, self.greets = asked, greets

    async def loading(self) -> bool:
        self.asked -= 1
        return self.asked >= 0

    async def next_event(self, seconds: float) -> Heard | None:
        await asyncio.sleep(0.001)
        if self.asked > 0 or not self.greets:
            return None
        self.greets = False
        return heard(time.monotonic(), "bot.speaking", message_id="g")


@pytest.mark.parametrize("greets", [True, False])
async def test_nothing_is_said_while_the_engines_are_loaded(greets: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talk, "GREETING_SECONDS", 0.2)
    slow = Slow(3, greets=greets)
    talking = talk.Conversation(cast(peer.Peer, slow), talk.Printer(as_json=True), 2.0)
    talking.peer.offered_at = began = time.monotonic()
    if greets:
        with pytest.raises(talk.TalkError, match="greeting was not spoken to its end"):
            await talking._greeting()
        assert slow.asked == 0, "it waited until they were there"
    else:
        await talking._greeting()
        assert time.monotonic() - began > 3 * 0.2
        assert slow.asked < 0


def agents(state: str) -> str:
    languages = [{"language": "en", "state": "ready"}, {"language": "es", "state": state}]
    return json.dumps({"agents": [{"agent": "mara", "language": "es-MX", "languages": languages}, {"agent": "demo"}]})


@pytest.mark.parametrize(
    ("status", "body", "loading"),
    [
        (200, agents("loading"), True),
        (200, agents("ready"), False),
        (200, agents("unloaded"), False),
        (200, '{"agents": []}', False),
        (200, '{"agents": [7]}', False),
        (429, '{"detail": "Too many"}', False),
        (404, "", False),
    ],
)
async def test_what_the_server_tells_about_its_engines(status: int, body: str, loading: bool) -> None:
    async def told(_: web.Request) -> web.Response:
        return web.Response(status=status, text=body)

    app = web.Application()
    app.router.add_get("/webrtc/agents", told)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with peer.Peer(f"http://{host}:{port}", "Mara") as caller:
            assert await caller.loading() is loading
    finally:
        await runner.cleanup()
    async with peer.Peer(f"http://{host}:{port}", "Mara") as caller:
        assert not await caller.loading()
