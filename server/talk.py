"""`voice-server talk`: call an agent from the command line, say something, see and hear the answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
import wave
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import click
import numpy as np
from av.error import FFmpegError

from config.identity import split_api_key
from config.problem import SettingsError
from config.secrets import FILE_NAME, given_keys, load_secrets
from config.settings import Settings
from media.audio import OUTPUT_RATE, Pcm
from server.dialogue import Dialogue
from server.peer import Peer, PeerError
from server.recording import RATE

UNREACHED, UNHEARD, UNANSWERED, BROKEN, MUTE = 3, 4, 5, 6, 7
"""Exit codes: no call, no ``turn.end``, no answer spoken to its end, the call broke, nothing to say it with."""

GREETING_SECONDS = 4.0
"""An agent that has not begun to greet by then has no greeting, unless its engines are still being loaded."""

LINGER_SECONDS = 0.8
"""The last packets of an answer are still on their way when its ``bot.finished`` arrives."""

STEP_SECONDS = 0.1
MOST_SECONDS = 600
UNTOLD = {
    "event",
    "call_id",
    "session_id",
    "agent_id",
    "seq",
    "ts",
    "message_id",
    "timestamp",
    "start_time",
    "end_time",
}
"""What a person does not read; with ``--json`` it is all there."""


class TalkError(Exception):
    """A talk that did not succeed, with its own exit code. The text is fit for a person."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Printer:
    """Writes one line per frame."""

    as_json: bool

    def __call__(self, at: float, frame: dict[str, Any]) -> None:
        if self.as_json:
            click.echo(json.dumps({**frame, "at": round(at, 4)}, ensure_ascii=False))
        else:
            facts = {key: value for key, value in frame.items() if key not in UNTOLD}
            told = "  ".join(f"{key}={_short(value)}" for key, value in facts.items())
            click.echo(f"{at:9.3f}  {frame.get('event', '?'):<18} {told}")


@click.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--say", metavar="TEXT", help="Speak this with the local voice instead of a file.")
@click.option("--url", default="http://localhost:8080", show_default=True, help="Base address of the server.")
@click.option("--agent", default="demo", show_default=True, help="Agent to call.")
@click.option("--api-key", help="Secret key; without one the token is asked for as a page would.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per frame.")
@click.option(
    "--save", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Keep the bot's voice (WAV)."
)
@click.option("--timeout", default=60.0, show_default=True, help="Longest wait for the greeting and for the answer, s.")
def talk(
    *,
    file: Path | None,
    say: str | None,
    url: str,
    agent: str,
    api_key: str | None,
    as_json: bool,
    save: Path | None,
    timeout: float,
) -> None:
    """Call an agent, play FILE (WAV, FLAC, Ogg …) in real time, print every event and where the time went.

    Exits 0 only when the answer to FILE was spoken to its end; 3 no call, 4 not heard, 5 not answered, 6 call broke.
    """
    if (file is None) == (say is None):
        raise click.UsageError("Give a FILE or --say TEXT, one of them.")
    if urlsplit(url).scheme not in ("http", "https"):
        raise click.BadParameter(f"{url!r} is no http or https address", param_hint="--url")
    try:
        pcm = read_audio(file) if file is not None else asyncio.run(synthesise(say or ""))
        asyncio.run(make_call(Target(url, agent, api_key or ""), pcm, Printer(as_json), save, timeout))
    except TalkError as failure:
        click.echo(f"Error: {failure}", err=True)
        sys.exit(failure.code)
    except KeyboardInterrupt:
        sys.exit(130)


@dataclass(frozen=True)
class Target:
    """Whom to call, and with which key if any."""

    url: str
    agent: str
    api_key: str

    async def reach(self, seconds: float) -> Peer:
        """A connected peer, which the caller closes. Raises ``TalkError``.

        The token is asked for as a page would. Where that is refused by a server on this machine, the key that it keeps
        in its data folder opens the door.
        """
        peer = Peer(self.url, self.agent, api_key=self.api_key)
        try:
            await peer.connect(seconds)
            return peer
        except PeerError as error:
            await peer.close()
            key = local_key(self.url) if error.status in (401, 403) and not self.api_key else ""
            if not key:
                raise TalkError(str(error), UNREACHED) from None
        except BaseException:
            await peer.close()
            raise
        return await Target(self.url, self.agent, key).reach(seconds)


async def make_call(target: Target, pcm: Pcm, out: Printer, save: Path | None, seconds: float) -> None:
    """Call, say ``pcm`` (mono, ``RATE``), hear the answer, report. Raises ``TalkError``."""
    async with await target.reach(seconds) as peer:
        talking = Conversation(peer, out, seconds)
        try:
            await talking.run(pcm)
        except PeerError as error:
            raise TalkError(f"{error} before the answer was spoken to its end", BROKEN) from None
        finally:
            if save is not None:
                write_wav(save, peer.recording.pcm())
            report(latency(peer, talking.dialogue), out, time.monotonic() - peer.offered_at)


@dataclass
class Conversation:
    """Greeting, question, answer, over a connected peer; every frame is printed."""

    peer: Peer
    out: Printer
    seconds: float
    dialogue: Dialogue = field(default_factory=Dialogue)

    async def run(self, pcm: Pcm) -> None:
        """Hear the greeting, say ``pcm`` (mono, ``RATE``), hear the answer. Raises ``TalkError`` and ``PeerError``."""
        await self._greeting()
        self.dialogue.begin(time.monotonic())
        saying = asyncio.create_task(self.peer.say(pcm))
        try:
            deadline = time.monotonic() + len(pcm) / RATE + self.seconds
            while not self.dialogue.complete(time.monotonic()):
                if time.monotonic() > deadline:
                    raise self._timed_out()
                await self._next(STEP_SECONDS)
                if saying.done() and self.dialogue.ended == float("inf"):
                    self.dialogue.said(saying.result())
        finally:
            saying.cancel()
            await asyncio.gather(saying, return_exceptions=True)
        await self._linger()

    async def _greeting(self) -> None:
        limit = time.monotonic() + self.seconds
        patience = time.monotonic() + GREETING_SECONDS
        while not self.dialogue.greeted:
            if not self.dialogue.spoke and time.monotonic() > patience:
                if not await self.peer.loading():
                    return
                patience = time.monotonic() + GREETING_SECONDS
            if time.monotonic() > limit:
                raise TalkError(f"The greeting was not spoken to its end within {self.seconds:g} s", UNANSWERED)
            await self._next(STEP_SECONDS)

    async def _linger(self) -> None:
        until = time.monotonic() + LINGER_SECONDS
        with contextlib.suppress(PeerError):  # the answer is complete: that the agent hangs up now is no failure
            while (left := until - time.monotonic()) > 0:
                await self._next(left)

    async def _next(self, seconds: float) -> None:
        heard = await self.peer.next_event(seconds)
        if heard is not None:
            self.dialogue.feed(heard)
            self.out(heard.at - self.peer.offered_at, heard.frame)

    def _timed_out(self) -> TalkError:
        if self.dialogue.turn is None:
            return TalkError(f"The server did not end the turn (no turn.end) within {self.seconds:g} s", UNHEARD)
        if self.dialogue.answer is None:
            return TalkError(f"No answer began after the turn.end within {self.seconds:g} s", UNANSWERED)
        return TalkError(f"The answer was not spoken to its end within {self.seconds:g} s", UNANSWERED)


# Results -------------------------------------------------------------------------------------------------------------


def latency(peer: Peer, dialogue: Dialogue) -> dict[str, Any]:
    """What the call took, ms: as this side measured it, and the server's stages of the answered turn."""
    facts: dict[str, Any] = {"offer_to_answer_ms": _ms(peer.answered_at - peer.offered_at)}
    if (first := peer.recording.loud_after(0.0)) is not None:
        facts["offer_to_first_audio_ms"] = _ms(first - peer.offered_at)
    if dialogue.turn is not None:
        heard = peer.recording.loud_after(dialogue.turn.at)
        if heard is not None and dialogue.ended < heard:
            facts["end_of_speech_to_first_audio_ms"] = _ms(heard - dialogue.ended)
        stages = dialogue.stages.get(str(dialogue.turn.frame.get("turn_id")))
        if stages is not None:
            facts["server_stages_ms"] = stages.get("stages", {})
            facts["server_total_ms"] = stages.get("total_ms")
    return facts


def report(facts: dict[str, Any], out: Printer, at: float) -> None:
    """Print the latency breakdown; as JSON, it is one more line with the event ``talk.latency``."""
    if out.as_json:
        out(at, {"event": "talk.latency", **facts})
        return
    click.echo()
    for key, title in (
        ("offer_to_answer_ms", "offer → answer"),
        ("offer_to_first_audio_ms", "offer → first bot audio"),
        ("end_of_speech_to_first_audio_ms", "end of speech → first bot audio"),
        ("server_total_ms", "  as the server counts"),
    ):
        if facts.get(key) is not None:
            click.echo(f"{title:<34} {facts[key]:>6} ms")
    for stage, ms in facts.get("server_stages_ms", {}).items():
        click.echo(f"{'    ' + stage:<34} {ms:>6} ms")


def write_wav(path: Path, pcm: Pcm) -> None:
    """Write mono PCM at ``RATE``."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(pcm.tobytes())


# What to say ---------------------------------------------------------------------------------------------------------


def read_audio(path: Path) -> Pcm:
    """The first audio stream of a file as mono PCM at ``RATE``. Raises ``click.BadParameter``."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    parts: list[Pcm] = []
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(container.streams.audio[0]):
                parts += [out.to_ndarray()[0] for out in resampler.resample(frame)]
                if sum(map(len, parts)) > MOST_SECONDS * RATE:
                    raise click.BadParameter(f"{path} is longer than {MOST_SECONDS // 60} minutes", param_hint="FILE")
        parts += [out.to_ndarray()[0] for out in resampler.resample(None)]
    except (FFmpegError, IndexError):
        raise click.BadParameter(f"{path} holds no audio that can be read", param_hint="FILE") from None
    if not parts:
        raise click.BadParameter(f"{path} is empty", param_hint="FILE")
    return np.concatenate(parts)


async def synthesise(text: str) -> Pcm:
    """``text`` in the voice of the local TTS, mono at ``RATE``. Raises ``TalkError``."""
    from pipeline.engine import EngineError
    from pipeline.tts.hibari import Hibari

    engine = Hibari()

    async def pieces() -> AsyncIterator[str]:
        yield text

    try:
        await engine.start()
        chunks = [chunk.pcm async for chunk in engine.speak(pieces(), voice="", language="en")]
    except EngineError as error:
        raise TalkError(f"The local voice failed: {error}", MUTE) from None
    finally:
        await engine.aclose()
    if not sum(map(len, chunks)):
        raise TalkError("There is nothing to say", MUTE)
    return _resample(np.concatenate(chunks), OUTPUT_RATE)


def _resample(pcm: Pcm, rate: int) -> Pcm:
    frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), format="s16", layout="mono")
    frame.sample_rate = rate
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    return np.concatenate([out.to_ndarray()[0] for part in (frame, None) for out in resampler.resample(part)])


def local_key(url: str) -> str:
    """The key that a server on this machine was given or keeps in its data folder; empty for any other address."""
    if urlsplit(url).hostname not in ("localhost", "127.0.0.1", "::1"):
        return ""
    try:
        settings = Settings.load()
        if not given_keys(settings)[0] and not (settings.data_dir / FILE_NAME).exists():
            return ""  # loading would make a new key, which no server knows
        return split_api_key(load_secrets(settings).api_keys[0])[1]
    except (SettingsError, OSError):
        return ""


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _ms(seconds: float) -> int:
    return round(1000 * seconds)
