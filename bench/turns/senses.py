"""What the models make of an item. Each answer depends on the sound alone, so it is computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.turns.items import Item
from config.settings import Settings
from media.audio import FRAME_MS, INPUT_RATE, AudioFrame, Pcm
from pipeline.models import SILERO
from pipeline.silero import Activity, Network, Question, VoiceActivity
from pipeline.stt.redecoding import PARTIAL_EVERY, Heard
from pipeline.turn_model import Classifier

FRAME = FRAME_MS / 1000

GRID = 5
"""Frames (100 ms) to which the ends of what is transcribed are rounded, so that a slightly different machine asks the
same."""

TRANSCRIBING = {"en": (0.03, 0.02), "es": (0.13, 0.02)}
"""Seconds that a transcription takes, when the last partial is its draft: at least, and for each second of sound."""

JUDGING = 0.04
"""Seconds that the turn model takes."""

SHORTEST_SPEECH = 10
"""Frames with voice that the recognisers want."""


class Senses:
    """The models' answers about one item."""

    def __init__(self, item: Item, store: Path) -> None:
        """``store`` is the file of the answers."""
        self.language = item.recipe.language
        self._frames: list[AudioFrame] = []  # as they were heard
        self._now = 0.0  # probability of speech in the last of them
        self._store = store
        self._known: dict[str, Any] = json.loads(store.read_text()) if store.exists() else {}
        self._asked = len(self._known)
        self._voice = {
            clean: self._answer(f"voice {clean}", partial(self._listen, [arrival.frame for arrival in arrivals]))
            for clean, arrivals in ((False, item.heard), (True, item.unechoed))
        }

    def restart(self) -> None:
        """For the runner: another subject hears the item."""
        self._frames.clear()

    def hear(self, frame: AudioFrame, *, clean: bool) -> None:
        """For the runner: the next frame, from the sound without echo if ``clean``."""
        self._now = self._voice[clean][len(self._frames)]
        self._frames.append(frame)

    def save(self) -> None:
        """Keep what was not known before."""
        if len(self._known) > self._asked:
            self._store.parent.mkdir(parents=True, exist_ok=True)
            self._store.write_text(json.dumps(self._known))
            self._asked = len(self._known)

    def voice(self) -> float:
        """The probability of speech, 0 to 1, that is known when the last frame has come: by Silero behind its gate."""
        return self._now

    def words(self, since: float, until: float) -> str:
        """What the recogniser of the language understands of the sound between two media times, s."""
        first, last = (round(time / FRAME) // GRID * GRID for time in (max(since, 0), until))
        frames = self._frames[first:last]
        if sum(frame.is_speech for frame in frames) < SHORTEST_SPEECH:
            return ""
        sound = np.concatenate([frame.pcm for frame in frames])
        return str(self._answer(f"words {_name(sound)}", lambda: _transcribe(sound, self.language).text))

    def complete(self, since: float, until: float) -> float:
        """How probably the turn that these times bound is complete, says the turn model."""
        first, last = (round(time / FRAME) for time in (max(since, 0), until))
        sound = np.concatenate([frame.pcm for frame in self._frames[first:last]])
        return float(self._answer(f"complete {_name(sound)}", lambda: round(_judge()(sound), 4)))

    def _answer(self, question: str, compute: Callable[[], Any]) -> Any:
        if question not in self._known:
            self._known[question] = compute()
        return self._known[question]

    def _listen(self, frames: list[AudioFrame]) -> list[float]:
        told: list[Activity] = []
        ear = VoiceActivity(_Inline(), told.append)  # type: ignore[arg-type]
        probabilities = []
        for frame in frames:
            known = round(told[-1].probability, 4) if told else 0.0  # in a call, its answer comes after the frame
            if not ear.hear(frame):
                told.clear()
                known = 0.0
            probabilities.append(known)
        return probabilities


class _Inline:
    """Stands for ``pipeline.silero.Silero``: answers at once."""

    ready = True

    def ask(self, ear: VoiceActivity) -> None:
        while question := ear.next():
            self._tell(ear, question)

    def _tell(self, ear: VoiceActivity, question: Question) -> None:
        [probability], [state] = _network().run([question.window.pcm], [question.state])
        ear.learn(question, probability, state)
        ear.answer(question, probability)

    def forget(self, ear: VoiceActivity) -> None:
        """Nothing waits."""


class Recogniser:
    """A recogniser's partials, as late as they would come. Mirrors ``pipeline.stt.redecoding``."""

    def __init__(self, senses: Senses) -> None:
        self._senses = senses
        self._least, self._rate = TRANSCRIBING[senses.language]
        self._since: float | None = None
        self._tried = self._paused = self._decoded = 0.0
        self._due: tuple[float, float] | None = None  # when the decoding is done, and up to where it heard
        self._last = ""

    def listen(self, since: float) -> None:
        """Hear from this media time on."""
        self._since, self._due, self._last = since, None, ""
        self._tried = since
        self._paused = self._decoded = 0.0

    def stop(self) -> None:
        self._since = None

    def pause(self, until: float) -> None:
        """The speaker fell silent: decode what there is."""
        self._paused = until

    def hear(self, now: float, until: float) -> tuple[str, bool] | None:
        """What is understood now, with sound up to ``until`` (media time); ``True``: it stands for all before a pause.

        ``None`` when there is nothing new.
        """
        if self._since is None:
            return None
        told = None
        if self._due and now >= self._due[0]:
            told = self._take(self._due[1])
            self._due = None
        wanted = (until - self._tried) * INPUT_RATE >= PARTIAL_EVERY or self._paused > self._tried
        if self._due is None and wanted:
            self._tried = until
            self._due = now + self._least + self._rate * (until - self._since), until
        return told

    def _take(self, until: float) -> tuple[str, bool] | None:
        self._decoded = until
        text = self._senses.words(self._since or 0.0, until)
        settled = bool(self._paused) and until >= self._paused
        if text == self._last and not settled:
            return None
        self._last = text
        return text, settled


def _name(sound: Pcm) -> str:
    """Of a sound, among those of one item."""
    return hashlib.blake2b(sound.tobytes(), digest_size=8).hexdigest()


def _transcribe(sound: Pcm, language: str, draft: Sequence[int] = ()) -> Heard:
    recogniser, pcm = _recogniser(language), sound.tobytes()
    heard = recogniser.transcribe(pcm, draft) if language == "en" else recogniser.transcribe(pcm, language, draft)
    return Heard(*heard)


@cache
def _recogniser(language: str) -> Any:
    if language == "en":
        from pipeline.stt import moonshine

        return moonshine.Recognizer()
    from pipeline.stt import whisper

    return whisper.Recognizer()


@cache
def _network() -> Network:
    return Network(Settings.load().models_dir / SILERO.name)


@cache
def _judge() -> Callable[[Pcm], float]:
    """The turn model."""
    classifier = Classifier()
    return lambda sound: classifier.judge(sound.tobytes())
