"""The server's own turn machine as a ``Subject``: what ``pipeline.hearing`` does with it, without a call around it."""

from __future__ import annotations

from bench.turns.items import Item
from bench.turns.senses import FRAME, JUDGING, Recogniser, Senses
from bench.turns.subject import Decision, Kind, Playout
from config.turns import Preset
from media.audio import AudioFrame
from pipeline import turn_signals as signals
from pipeline.ear import DOUBTFUL
from pipeline.echo import Echo
from pipeline.recognition import NOTICING_MS, PRE_ROLL_MS
from pipeline.turn import TurnMachine
from pipeline.turn_model import BEHIND_MS
from pipeline.turn_settings import PRESETS, TurnSettings


class Machine:
    """With the preset that agents get who set nothing."""

    def __init__(self, settings: TurnSettings | None = None, name: str = "machine") -> None:
        self.name = name
        self._settings = settings or TurnSettings()

    def start(self, item: Item, senses: Senses) -> None:
        self._senses = senses
        self._recogniser = Recogniser(senses)
        self._machine = TurnMachine(self._settings, item.recipe.language)
        self._echo = Echo()
        self._since = 0.0  # what the recogniser hears
        self._began = 0.0  # what the turn model hears
        self._asked: tuple[float, signals.Verdict] | None = None

    def frame(self, now: float, frame: AudioFrame, bot: Playout) -> list[Decision]:
        heard = bot.audible or (bot.busy and bot.played_ms > 0)  # one that is halted was heard already
        state = signals.BotState(busy=bot.busy, audible=heard, played_ms=bot.played_ms, answering=bot.answering)
        until = frame.time + FRAME
        made: list[Decision] = []

        def observe(observation: signals.Observation) -> None:
            for decision in self._machine.observe(frame.time, observation, state):
                made.extend(self._apply(decision, now, until))

        if (understood := self._recogniser.hear(now, until)) is not None:
            text, settled = understood
            observe(signals.Words(text, settled, bot.saying))
        if self._asked and now >= self._asked[0]:
            verdict, self._asked = self._asked[1], None
            observe(verdict)
        probability = self._senses.voice()
        self._echo.hear(frame.pcm, bot.sounding)
        echo = self._echo.likeness() if probability >= DOUBTFUL or frame.is_speech else 0.0
        observe(signals.Voice(probability, frame.level, echo, perhaps=frame.is_speech))
        return made

    def _apply(self, decision: signals.Decision, now: float, until: float) -> list[Decision]:
        match decision:
            case signals.Listen():
                # The recogniser gets what was kept: the pre-roll, and the voice for which it began to listen.
                self._since = max(0.0, until - (PRE_ROLL_MS + NOTICING_MS) / 1000)
                self._recogniser.listen(self._since)
                return []
            case signals.Dismiss():
                self._recogniser.stop()
                return []
            case signals.Start():
                if not decision.continued:
                    self._began = decision.began - PRE_ROLL_MS / 1000
                started = Decision(now, Kind.SPEECH_STARTED, since=self._since)
                return [started, Decision(now, Kind.INTERRUPT)] if decision.interrupts else [started]
            case signals.Ask():
                probability = self._senses.complete(self._began, min(until, decision.ceased + BEHIND_MS / 1000))
                self._asked = now + JUDGING, signals.Verdict(decision.question, probability)
                return []
            case signals.Pause():
                self._recogniser.pause(until)
                return [Decision(now, Kind.PAUSED)]
            case signals.End():
                self._recogniser.stop()
                return [Decision(now, Kind.END)]
            case _:
                return [Decision(now, KINDS[type(decision)])] if type(decision) in KINDS else []


def fast() -> Machine:
    return Machine(PRESETS[Preset.FAST], "machine-fast")


def patient() -> Machine:
    return Machine(PRESETS[Preset.PATIENT], "machine-patient")


KINDS = {
    signals.Resume: Kind.RESUMED,
    signals.Eager: Kind.EAGER,
    signals.Duck: Kind.DUCK,
    signals.PausePlayback: Kind.PAUSE_PLAYBACK,
    signals.ResumePlayback: Kind.RESUME_PLAYBACK,
}
