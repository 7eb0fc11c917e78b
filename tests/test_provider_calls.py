"""Calls with providers, from end to end: a real server, the official SDK, and what was really said.

OpenAI and ElevenLabs are played by servers on loopback that speak their wire format; llama.cpp's server is a real one.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import unicodedata
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import av
import numpy as np
import pytest
import pytest_asyncio

from media.audio import INPUT_RATE
from pipeline.models import SMOLLM2
from pipeline.tts.phrasing import resampled, to_pcm
from server.peer import Peer
from server.recording import RATE
from server.talk import read_audio
from tests.hearing import transcribe
from tests.live import LiveServer
from tests.providers.elevenlabs import KEY as ELEVEN_KEY
from tests.providers.elevenlabs import ElevenLabsServer, Manner
from tests.providers.openai_chat import OpenAiServer, Script
from tests.providers.sockets import SocketServer
from tests.providers.test_stt import turn
from tests.test_first_call import DATA, Talk, spoken, talk
from tests.words import normalised, word_error_rate

pytestmark = [pytest.mark.models, pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]

API_KEY = "pk_test_of_a_backend"

SEED = {
    "llm": {
        "provider": "gpt-4.1-mini",
        "model": "gpt-4.1-mini",
        "enabled": True,
        "prompt": "Eres Mara, de la clínica Sol. Sé breve.",
    },
    "voice": "elevenlabs:EXAVITQu4vr4xnSDxMaL",
    "language": "es",
    "greeting": "¡Hola! Soy Mara, de la clínica Sol.",
    "allowed_origins": ["http://localhost:*"],
}
"""What the client sends for the example of the public documentation: ``model: "gpt-4.1-mini"`` (protocol 7.4)."""


def mara(text: str) -> bytes:
    """The text in Spanish, as PCM."""
    from py_nanotts import NanoTTS

    pcm = np.frombuffer(NanoTTS().speak(text, voice="es-ES", speed=1.0, volume=0.4), "<i2")
    return to_pcm(resampled(pcm, 16_000)).tobytes()


class Clouds:
    """The providers and a server that knows their addresses and keys."""

    def __init__(
        self, openai: OpenAiServer, eleven: ElevenLabsServer, deepgram: SocketServer, server: LiveServer
    ) -> None:
        self.openai, self.eleven, self.deepgram, self.server = openai, eleven, deepgram, server

    def forget(self) -> None:
        """What was asked so far."""
        self.openai.requests.clear()
        self.eleven.sockets.clear()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sky(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Clouds]:
    folder = tmp_path_factory.mktemp("server")
    deepgram = SocketServer("/v2/listen", header="Authorization", key="Token dg-test-secret-key")
    async with OpenAiServer() as openai, ElevenLabsServer(mara) as eleven, deepgram:
        variables = {
            "OPENAI_API_KEY": openai.key,
            "ELEVENLABS_API_KEY": ELEVEN_KEY,
            "DEEPGRAM_API_KEY": "dg-test-secret-key",
            "VOICE_PROVIDER_URLS": f"openai={openai.url},elevenlabs={eleven.url},deepgram={deepgram.url}",
            "VOICE_API_KEYS": API_KEY,
        }
        server = LiveServer(folder, environment=variables)
        await asyncio.to_thread(server.__enter__)
        try:
            yield Clouds(openai, eleven, deepgram, server)
        finally:
            await asyncio.to_thread(server.__exit__, None, None, None)
        log = server.log.read_text()
        assert openai.key not in log
        assert ELEVEN_KEY not in log
        assert "dg-test" not in log


class Backend:
    """A connection that has registered the seed's agent."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self.frames: list[dict[str, Any]] = []

    async def send(self, event: str, **fields: Any) -> None:
        await self._socket.send_json({"event": event, **fields})

    async def until(self, event: str) -> dict[str, Any]:
        """The next frame of this name."""
        async with asyncio.timeout(60):
            while True:
                frame: dict[str, Any] = json.loads((await self._socket.receive()).data)
                self.frames.append(frame)
                if frame["event"] == event:
                    return frame

    @property
    def errors(self) -> list[str]:
        return [frame["error"] for frame in self.frames if frame["event"] == "error"]


@asynccontextmanager
async def backend(server: LiveServer, **agent: Any) -> AsyncIterator[Backend]:
    address = f"{server.url}/client"
    async with aiohttp.ClientSession() as http, http.ws_connect(address) as socket:
        one = Backend(socket)
        await one.send("connect", api_key=API_KEY)
        await one.until("connected")
        await one.send("agent.create", agent_id="mara-clinica", **SEED, **agent)
        await one.until("agent.created")
        yield one


async def heard(peer: Peer, event: str) -> dict[str, Any]:
    """The next frame of this name."""
    async with asyncio.timeout(60):
        while True:
            found = await peer.next_event(60)
            if found is not None and found.event == event:
                return found.frame


async def test_the_example_of_the_documentation_runs_as_printed(sky: Clouds) -> None:
    sky.forget()
    async with backend(sky.server) as owner:
        sky.openai.scripts.append(Script("Siete más cinco ", "son doce."))
        async with Peer(sky.server.url, "mara-clinica") as peer:
            await peer.connect()
            started = await heard(peer, "session.started")
            assert started["language"] == "es"
            assert started["engines"] == {"stt": "whisper", "llm": "openai", "tts": "elevenlabs"}
            assert (await heard(peer, "bot.finished"))["text"] == SEED["greeting"]
            await peer.say(read_audio(DATA / "question-es-sum.flac"))
            greeted = len(peer.recording.pcm())
            asked = (await heard(peer, "user.message"))["text"]
            assert word_error_rate(("Cuánto es 7 más 5", asked)) <= 0.2, asked
            response = await heard(peer, "llm.response")
            assert (response["text"], response["engine"]) == ("Siete más cinco son doce.", "openai")
            assert (await heard(peer, "bot.finished"))["text"] == "Siete más cinco son doce."
            assert not [event for event in peer.events if event.event == "error"]
        [request] = sky.openai.requests
        assert request["model"] == "gpt-4.1-mini"
        assert "clínica Sol" in request["messages"][0]["content"]
        assert request["messages"][-1] == {"role": "user", "content": asked}
        speeches = [speech for speech in sky.eleven.sockets if speech.text]
        assert [speech.voice for speech in speeches] == ["EXAVITQu4vr4xnSDxMaL"] * 2
        assert {speech.query["model_id"] for speech in speeches} == {"eleven_multilingual_v2"}
        assert "key" not in " ".join(owner.errors)
        pcm = peer.recording.pcm()
        # one at a time: Whisper may lose its way in the long silence between both
        greeting, answer = await transcribe(_at_input_rate(pcm[:greeted]), _at_input_rate(pcm[greeted:]), language="es")
        assert {"hola", "mara", "clinica"} <= set(normalised(_without_accents(greeting))), greeting
        assert {"doce", "twelve"} & set(normalised(answer)), answer  # digits are compared by their English names
        sky.server.empty_after(3.0)


def _without_accents(text: str) -> str:
    """What Whisper puts and leaves out as it likes."""
    return "".join(letter for letter in unicodedata.normalize("NFD", text) if not unicodedata.combining(letter))


def _at_input_rate(pcm: Any) -> Any:
    frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), format="s16", layout="mono")
    frame.sample_rate = RATE
    resampler = av.AudioResampler("s16", "mono", 16_000)
    return np.concatenate([out.to_ndarray()[0] for part in (frame, None) for out in resampler.resample(part)])


async def test_model_voice_and_language_change_in_the_middle_of_a_call(sky: Clouds) -> None:
    sky.forget()
    async with backend(sky.server) as owner:
        sky.openai.scripts.extend([Script("Claro que sí."), Script("Of course.")])
        async with Peer(sky.server.url, "mara-clinica") as peer:
            await peer.connect()
            await heard(peer, "bot.finished")
            session = (await owner.until("call.started"))["call_id"]
            peer.act("inject_text", text="¿Me ayuda?")
            assert (await heard(peer, "bot.finished"))["text"] == "Claro que sí."
            await owner.send(
                "session.configure",
                session_id=session,
                agent_id="mara-clinica",
                language="en",
                voice="elevenlabs/george",
                llm={"provider": "openai", "model": "gpt-4.1", "prompt": "Be brief."},
            )
            assert (await heard(peer, "call.updated"))["language"] == "en"
            peer.act("inject_text", text="Can you help me?")
            assert (await heard(peer, "bot.finished"))["text"] == "Of course."
        assert [request["model"] for request in sky.openai.requests] == ["gpt-4.1-mini", "gpt-4.1"]
        last = [speech for speech in sky.eleven.sockets if speech.text][-1]
        assert (last.voice, last.query["model_id"]) == ("JBFqnCBsd6RMkjVDRZzb", "eleven_flash_v2_5")
        assert owner.errors == []


async def test_a_voice_that_breaks_is_replaced_in_the_middle_of_a_sentence(sky: Clouds) -> None:
    sky.forget()
    async with backend(sky.server):
        sky.openai.scripts.append(Script("Abrimos a las nueve. ", "Cerramos a las seis."))
        async with Peer(sky.server.url, "mara-clinica") as peer:
            await peer.connect()
            await heard(peer, "bot.finished")
            sky.eleven.faults.append(Manner(words=1, then="hang up"))
            peer.act("inject_text", text="¿Cuándo abren?")
            assert (await heard(peer, "bot.finished"))["text"] == "Abrimos a las nueve. Cerramos a las seis."
            [told] = [event.frame for event in peer.events if event.event == "error"]
            assert (told["code"], told["error"]) == (
                "FALLBACK",
                "elevenlabs hung up in the middle; pico takes its place",
            )
        assert [speech.text for speech in sky.eleven.sockets if speech.text][-1].startswith("Abrimos a las nueve.")


async def test_with_flux_the_recogniser_says_when_it_is_the_bots_turn(sky: Clouds) -> None:
    sky.forget()
    async with backend(sky.server, stt="flux"):
        sky.openai.scripts.append(Script("Doce."))
        async with Peer(sky.server.url, "mara-clinica") as peer:
            await peer.connect()
            assert (await heard(peer, "session.started"))["engines"]["stt"] == "deepgram"
            await heard(peer, "bot.finished")
            before = sum(len(frame) for frame in sky.deepgram.frames if isinstance(frame, bytes)) // 2
            speaking = asyncio.create_task(peer.say(read_audio(DATA / "question-es-sum.flac")))
            await sky.deepgram.heard(before + INPUT_RATE)
            await sky.deepgram.say(turn("StartOfTurn", "¿cuánto"), turn("Update", "¿cuánto es siete"))
            assert (await heard(peer, "user.speaking"))["text"] == "¿cuánto"
            await speaking
            await sky.deepgram.say(turn("EndOfTurn", "¿Cuánto es siete más cinco?", 0.87))
            assert (await heard(peer, "user.message"))["text"] == "¿Cuánto es siete más cinco?"
            assert (await heard(peer, "turn.end"))["probability"] == 0.87
            assert (await heard(peer, "bot.finished"))["text"] == "Doce."
            assert not [event for event in peer.events if event.event == "error"]
    assert sky.deepgram.queries[-1]["model"] == ["flux-general-multi"]


# --- a real server


@contextmanager
def llama_server(models: Path) -> Iterator[str]:
    """Its base address."""
    command = [sys.executable, "-m", "tests.providers.llama_server", str(models / SMOLLM2.name)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            yield f"{process.stdout.readline().decode().strip()}/v1"
        finally:
            process.kill()


AGENT = """
[agents.house]
language = "en"
llm = {provider = "llamacpp-server", temperature = 0.0}
prompt = "You are a friendly assistant. Answer in one short sentence."
greeting = "Hello!"
allowed_origins = ["http://localhost:*"]
"""


async def test_a_whole_call_with_the_server_of_llama_cpp(tmp_path: Path) -> None:
    from config.settings import Settings

    (tmp_path / "voice.toml").write_text(AGENT)
    with llama_server(Settings().models_dir) as url:
        variables = {"VOICE_PROVIDER_URLS": f"llamacpp-server={url}"}
        with LiveServer(tmp_path, "--config", str(tmp_path / "voice.toml"), environment=variables) as server:
            call: Talk = await asyncio.to_thread(
                talk, server, tmp_path, str(DATA / "question-sum.flac"), "--agent", "house"
            )
    assert call.code == 0, call.errors
    [response] = [frame for frame in call.frames if frame["event"] == "llm.response"]
    assert (response["engine"], bool(response["text"].strip())) == ("llamacpp-server", True)
    assert not [frame for frame in call.frames if frame["event"] in ("error", "llm.error")]
    said = await spoken(call)
    assert len(said[-1].split()) >= 2, said
