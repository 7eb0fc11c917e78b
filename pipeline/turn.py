"""Who speaks now: a state machine without I/O and without a clock.

It is told what was heard, what the recogniser and the turn model make of it and what the bot is doing, and returns what
follows from it. Protocol 7.5, 8.3, 8.5, 8.6. The states are the user's; those of the bot come with each observation.

    QUIET ──voice──> NOTICED ──enough──> SPEAKING ──silence──> PAUSED ──enough──> QUIET
      ^                 │                    ^                    │
      └──── nothing ────┘                    └────── voice ───────┘
"""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Iterator

from config.turns import TurnMode
from media.audio import FRAME_MS
from pipeline.barge_in import Heard, interrupts, remembered
from pipeline.endpointing import Silence, probability_complete, silence_needed
from pipeline.loudness import LOUD, Feedback, Loudness
from pipeline.phrases import count_words, is_acknowledgement, is_claim, is_command, is_echo
from pipeline.turn_rules import (
    AS_LOUD,
    CLEAR,
    CLEAR_LEVEL,
    CLEARLY_ABOVE,
    DEAF_MS,
    DISTRUST,
    EARLY,
    GAP_MS,
    HEARD_GAP_MS,
    HYSTERESIS,
    LAG_MS,
    LAST_WORDS_MS,
    LONE_ECHO_MS,
    NOISY,
    NOISY_ROOM,
    OUTLASTING_MS,
    PERHAPS_MS,
    PROVEN_MS,
    SHORTEST_VOICE_MS,
    SOFT_MS,
    STANDING_OUT_MS,
    TOLD_MS,
)
from pipeline.turn_settings import TurnSettings
from pipeline.turn_signals import (
    Ask,
    BotState,
    Decision,
    Dismiss,
    Duck,
    Eager,
    End,
    Listen,
    NativeEnd,
    Observation,
    Pause,
    PausePlayback,
    Resume,
    ResumePlayback,
    Start,
    Unfinished,
    Verdict,
    Voice,
    Words,
)

FRAME = FRAME_MS / 1000


class State(enum.Enum):
    QUIET = enum.auto()
    NOTICED = enum.auto()
    """Someone may be speaking; not enough yet to begin a turn or to interrupt the bot."""
    SPEAKING = enum.auto()
    PAUSED = enum.auto()


class TurnMachine:
    """Every ``Start`` is followed by exactly one ``End``, every ``Listen`` by exactly one ``Start`` or ``Dismiss``,
    every ``Duck`` or ``PausePlayback`` by a ``ResumePlayback`` or a ``Start`` that interrupts.

    Turn ids never fall; only a continued turn repeats one.
    """

    def __init__(self, settings: TurnSettings | None = None, language: str = "en") -> None:
        self.settings = settings or TurnSettings()
        self.language = language
        self.state = State.QUIET
        self.deaf = False
        """No words will come: the recogniser is broken."""
        self._now = 0.0
        self._last_id = 0
        self._began = 0.0
        self._ceased = 0.0
        # voice
        self._run = 0  # ms of voice without a gap
        self._run_began = 0.0
        self._run_weight = 0.0  # sum of the probabilities of its frames
        self._gap = 0  # ms since the last voice
        self._sure: deque[float] = deque(maxlen=remembered(self.settings))
        self._sure_now = False  # the last frame is loud and surely voice
        self._level = 0.0
        self._soft = 0  # ms that were much softer than the user
        self._loudness = Loudness()
        self._risen = 0  # ms that have not faded
        self._perhaps = 0  # ms of what may be voice, loud enough
        self._ducked = 0.0  # when, s
        self._distrusted = self._noisy = 0.0  # until then
        self._feedback = Feedback()
        # since someone was noticed
        self._voiced = 0  # ms
        self._over_bot = False  # that was while the bot spoke
        self._alone = 0  # ms of voice since it does not
        self._sure_ms = 0  # of them loud and sure
        self._loud_ms = 0  # of them loud
        self._loudest = -math.inf
        self._passed = False  # enough of that, and close enough together, to halt the bot
        self._yielding: type[Duck] | type[PausePlayback] | None = None  # what the bot was last told to do
        # words
        self._text = ""
        self._before = ""  # those of this turn before it was continued
        self._count = 0  # of them
        self._commands = False  # one asks the bot to stop
        self._claims = False  # one contradicts or asks
        self._text_voice = 0  # ms of voice that they were made of
        self._text_loud = 0  # of them loud
        self._settled = False
        self._echoes = False  # they are the bot's
        self._may_echo = False  # so far it is one word of the bot's
        self._tells = False  # they are more than acknowledgement and echo
        self._question = 0
        self._pause = Silence()

    def observe(self, time: float, observation: Observation, bot: BotState) -> list[Decision]:
        """``time`` is the media time in s: for a ``Voice`` that of its first sample."""
        self._now = time
        match observation:
            case Voice():
                return list(self._hear(time, observation, bot))
            case Words():
                return list(self._read(observation, bot))
            case Verdict():
                if observation.question == self._question and self.state is State.PAUSED:
                    self._pause.verdict, self._pause.answered = observation.probability, True
                    self._weigh()
                return []
            case NativeEnd():
                return list(self._native_end(observation, bot))

    def release(self) -> list[Decision]:
        """The turn ends from outside: the user typed, muted the microphone or left."""
        match self.state:
            case State.QUIET:
                decisions = list(self._stop_yielding())
                self._reset()
                return decisions
            case State.NOTICED:
                return list(self._dismiss())
            case _:
                return [self._end(1.0)]

    def adopt(self, settings: TurnSettings) -> None:
        """Other rules from now on."""
        self.settings = settings
        self._sure = deque(self._sure, remembered(settings))

    def next_turn(self) -> int:
        """The id of a new turn, one that was typed, too."""
        self._last_id += 1
        self._before = ""
        return self._last_id

    # --- voice

    def _hear(self, time: float, voice: Voice, bot: BotState) -> Iterator[Decision]:
        heard = self._measure(time, voice, bot)
        match self.state:
            case State.QUIET:
                yield from self._quiet(time, bot)
            case State.NOTICED:
                yield from self._noticed(time, heard, bot)
            case State.SPEAKING:
                yield from self._speaking(time, heard)
            case State.PAUSED:
                yield from self._paused(time, heard, bot)

    def _measure(self, time: float, voice: Voice, bot: BotState) -> bool:
        """Whether the frame belongs to someone's voice, which is not the bot's own."""
        settings = self.settings
        going_on = self._run > 0 and self._gap == 0
        heard = voice.probability >= settings.threshold - HYSTERESIS * going_on
        echoes = self._loudness.is_echo(voice.level, voice.echo)
        faded = self.state in (State.SPEAKING, State.PAUSED) and voice.level < self._loudness.faded(self._loudest)
        heard = heard and not echoes and not faded
        self._risen = 0 if faded or echoes else self._risen + FRAME_MS
        if heard:
            if not self._run:
                self._run_began, self._run_weight = time, 0.0
                self._sure.extend([1.0] * (min(self._perhaps, LAG_MS) // FRAME_MS))
            self._run += FRAME_MS
            self._run_weight += voice.probability
            self._gap = 0
            self._voiced += FRAME_MS
        else:
            self._gap += FRAME_MS
            if self._gap > (HEARD_GAP_MS if voice.probability >= settings.threshold else GAP_MS):
                self._run = 0
        self._level = voice.level
        # A turn that was never loud has nobody behind the user: the user has become softer.
        soft = voice.level < self._loudness.soft <= self._loudest
        self._soft = self._soft + FRAME_MS if soft else 0
        if self.state in (State.QUIET, State.NOTICED) and not echoes:
            self._loudness.hear_room(voice.level, voice=heard or voice.perhaps)
        least = self._loudness.least(settings)
        loud = voice.level >= least
        self._perhaps = self._perhaps + FRAME_MS if loud and voice.perhaps and not echoes else 0
        sure = heard and loud and voice.probability >= settings.confidence
        clear = sure and voice.probability >= CLEAR and voice.level >= max(least + CLEARLY_ABOVE, CLEAR_LEVEL)
        weight = settings.clear_weight if clear else 1.0 if sure else settings.unsure_weight if heard and loud else 0.0
        if bot.audible and voice.level <= LOUD and self._feedback.is_possible(settings.guard_ms):
            weight = min(weight, 1.0) / EARLY
        self._sure.append(weight)
        self._sure_now = sure
        self._sure_ms += FRAME_MS * sure
        self._loud_ms += FRAME_MS * (heard and loud)
        self._loudest = max(self._loudest, voice.level) if heard else self._loudest
        if bot.audible:
            self._feedback.hear(voice.level, voice=heard or echoes or voice.perhaps)
        return heard and self._run >= min(SHORTEST_VOICE_MS, settings.onset_ms)

    def _quiet(self, time: float, bot: BotState) -> Iterator[Decision]:
        may_interrupt = self._may_interrupt(bot)
        if self._yielding is None:
            perhaps = self._perhaps >= PERHAPS_MS and time >= self._distrusted
            if bot.audible and may_interrupt and (self._sure_now or perhaps) and time >= self._noisy:
                self._yielding, self._ducked = Duck, time
                yield Duck()
        elif not (self._run and self._stands_out()) and (time - self._ducked) * 1000 >= PROVEN_MS:
            self._distrusted = time + DISTRUST
            yield from self._stop_yielding()
        if self._gap or self._run < self.settings.onset_ms:
            return
        if bot.busy and not self._stands_out():
            return
        self.state = State.NOTICED
        self._began, self._ceased = self._run_began, time + FRAME
        self._voiced, self._sure_ms, self._loudest = self._run, self._lately_sure(), self._level
        self._loud_ms = self._sure_ms
        self._over_bot, self._alone = bot.audible, 0
        yield Listen()
        if bot.busy and not bot.audible and may_interrupt and time >= self._noisy:  # it does not begin to speak now
            self._yielding = PausePlayback
            yield PausePlayback()
        yield from self._noticed(time, heard=True, bot=bot)

    def _stands_out(self) -> bool:
        """Whether the voice that goes on is more than what the room does all the time."""
        return self.settings.soft_words or self._lately_sure() >= STANDING_OUT_MS

    def _noticed(self, time: float, heard: bool, bot: BotState) -> Iterator[Decision]:
        settings = self.settings
        if heard:
            self._ceased, self._settled = time + FRAME, False
        silence = self._silence(time)
        if not bot.busy:
            self._alone += FRAME_MS * heard
            if self._voiced >= settings.speech_ms and (settings.interruptible or heard) and self._is_someone(silence):
                yield from self._start(bot)
                return
        elif self._may_interrupt(bot):
            yield from self._barge_in(bot)
            if self.state is not State.NOTICED:
                return
        if silence == max(1, settings.pause_ms // FRAME_MS) * FRAME_MS:
            yield Pause()
        heard_all = self._settled and not self._tells and not self._run and silence >= settings.pause_ms
        if self._too_long(time) or self._is_noise():
            yield from self._dismiss()
        elif heard_all or silence >= (DEAF_MS if self.deaf else settings.words_ms):
            if self._ends(bot) and self._text and not self._echoes:
                yield from self._stop_yielding()  # perhaps it is the answer: the last words are said first
            else:
                yield from self._dismiss()

    def _is_noise(self) -> bool:
        """So much loud voice without a word: it has halted the bot for nothing, and shall not again for a while."""
        if self.deaf or self._text or self._yielding is not PausePlayback or self._loud_ms < self.settings.wordless_ms:
            return False
        self._noisy = self._now + NOISY
        return True

    def _is_someone(self, silence: int) -> bool:
        """What began while the bot spoke may be its echo; nobody waits for it to become a turn."""
        if not self._over_bot or self._alone >= OUTLASTING_MS:
            return True
        if self._may_echo and silence < LONE_ECHO_MS:
            return False
        return not self._echoes and (bool(self._text) or (silence >= self.settings.words_ms and not self._settled))

    def _barge_in(self, bot: BotState) -> Iterator[Decision]:
        found = round(sum(self._sure) * FRAME_MS) if bot.audible else self._lately_sure()
        enough = found >= self.settings.interrupt_ms and self._now >= self._noisy
        self._passed = self._passed or enough
        if self._interrupts(bot):
            yield from self._start(bot)
        elif self._passed and self._yielding is not PausePlayback:
            self._yielding = PausePlayback
            yield PausePlayback()
        elif self._yielding is None and bot.audible and self._sure_now and self._now >= self._noisy:
            self._yielding = Duck
            yield Duck()

    def _lately_sure(self) -> int:
        """Loud and sure voice of the last moments, ms."""
        return sum(weight > self.settings.unsure_weight for weight in self._sure) * FRAME_MS

    def _interrupts(self, bot: BotState) -> bool:
        settings = self.settings
        if bot.owed and self._passed:  # the same turn goes on: nobody heard that it seemed over
            return True
        if self._tells:
            early = bot.answering and bot.played_ms < settings.continuation_ms
            noisy = self._loudness.least(settings) >= NOISY_ROOM
            voice = (self._text_voice, self._text_loud, self._sure_ms)
            heard = Heard(self._count, self._commands, self._claims, self._settled, *voice, self._passed, noisy, early)
            return interrupts(heard, settings, audible=bot.audible)
        if not self._passed or self._text:
            return False
        # The bot is silent meanwhile: nothing is lost by waiting for words, if any can come.
        return not settings.filter_acknowledgements or (
            self.deaf and self._voiced >= settings.interrupt_ms + DEAF_MS * bot.audible
        )

    def _may_interrupt(self, bot: BotState) -> bool:
        """A bot that cannot be interrupted can still be stopped before it was heard: nothing is cut off then.

        One that has only its last words to say says them, unless the user came before.
        """
        last_words = self._yielding is None and self._ends(bot)
        return (self.settings.interruptible and not last_words) or not bot.audible

    def _ends(self, bot: BotState) -> bool:
        if not bot.audible or bot.left_ms is None or bot.left_ms >= LAST_WORDS_MS:
            return False
        return not bot.answering or bot.played_ms >= self.settings.continuation_ms

    def _speaking(self, time: float, heard: bool) -> Iterator[Decision]:
        if heard and not self._soft:
            self._loudness.hear_user(self._level)
        if heard and self._soft < SOFT_MS:
            self._ceased = time + FRAME
        elif heard and self._soft == SOFT_MS:
            self._ceased = time + FRAME - SOFT_MS / 1000  # since then it was somebody behind the user
        if self._too_long(time):
            yield self._end(1.0)
        elif self._silence(time) >= self.settings.pause_ms and (not heard or self._soft):
            self.state = State.PAUSED
            self._pause, self._settled = Silence(), False
            self._weigh()
            yield Pause()
            yield from self._ask(time)

    def _paused(self, time: float, heard: bool, bot: BotState) -> Iterator[Decision]:
        settings = self.settings
        loud = self._soft < min(self._run, self._silence(time))  # in this silence; a short word ends softly
        if heard and self._run >= settings.resume_ms and loud and self._level >= settings.resume_level:
            self.state = State.SPEAKING
            self._ceased = time + FRAME
            yield Resume(self._run_began, self._confidence())
            return
        pause, probability = self._pause, self._pause.probability
        silence = self._silence(time)
        if self._too_long(time) or silence >= settings.max_silence_ms:
            yield self._end(1.0 if probability is None else probability)
        elif (self._run or 0 < self._perhaps < PROVEN_MS or 0 < self._risen < PROVEN_MS) and self._soft < SOFT_MS:
            return  # perhaps the user goes on
        elif silence >= silence_needed(probability, settings):
            yield self._end(1.0 if probability is None else probability)
        elif probability is not None:
            yield from self._guess(probability, silence, bot)
            # Not before it answered, else one that takes longer would never be listened to.
            if settings.recheck_ms and pause.answered and (time - pause.asked) * 1000 >= settings.recheck_ms:
                yield from self._ask(time)

    # --- the end of the turn

    def _ask(self, time: float) -> Iterator[Decision]:
        if self.settings.mode is TurnMode.SMART_TURN:
            self._question += 1
            self._pause.asked, self._pause.answered = time, False
            yield Ask(self._question, self._ceased)

    def _weigh(self) -> None:
        """The words or the verdict changed: once for many frames."""
        if self.settings.mode is TurnMode.SMART_TURN:
            said = f"{self._before} {self._text}" if self._text else ""
            verdict = self._pause.verdict
            self._pause.probability = probability_complete(verdict, said, self.language, settled=self._settled)

    def _guess(self, probability: float, silence: int, bot: BotState) -> Iterator[Decision]:
        if probability < self.settings.complete_from:
            if not self._pause.told and silence >= TOLD_MS:
                self._pause.told = True
                yield Unfinished(self._last_id, probability, self._ceased)
        elif probability >= self.settings.eager_from and self._settled and self._text and not bot.busy:
            yield from self._make_eager(probability)

    def _make_eager(self, probability: float) -> Iterator[Decision]:
        if not self._pause.eager:
            self._pause.eager = True
            yield Eager(self._last_id, probability, self._ceased)

    def _native_end(self, end: NativeEnd, bot: BotState) -> Iterator[Decision]:
        if self.state not in (State.SPEAKING, State.PAUSED) or self.settings.mode is not TurnMode.NATIVE:
            return
        if not end.eager:
            yield self._end(end.probability)
        elif self.state is State.PAUSED and self._text and not bot.busy:
            yield from self._make_eager(end.probability)

    # --- words

    def _read(self, words: Words, bot: BotState) -> Iterator[Decision]:
        if self.state is State.QUIET:
            return
        self._text, self._settled = words.text, words.settled
        self._text_voice, self._text_loud = self._voiced, self._loud_ms
        self._count, self._commands = count_words(words.text), is_command(words.text, self.language)
        self._claims = is_claim(words.text, self.language)
        self._weigh()
        acknowledges = self.settings.filter_acknowledgements and is_acknowledgement(words.text, self.language)
        user = self._loudness.user
        usual = math.inf if user is None else user - AS_LOUD
        soft = (bot.audible or self._over_bot) and self._loudest < usual
        self._echoes = soft and is_echo(words.text, words.saying)
        self._may_echo = soft and is_echo(words.text, words.saying, least=1)
        self._tells = bool(words.text) and not acknowledges and not self._echoes
        if self.state is State.NOTICED and bot.busy and self._may_interrupt(bot):
            yield from self._barge_in(bot)

    # --- from state to state

    def _start(self, bot: BotState) -> Iterator[Decision]:
        self.state = State.SPEAKING
        self._loudness.forget_recent()
        continued = bot.busy and bot.answering and bot.played_ms < self.settings.continuation_ms and self._last_id > 0
        turn_id = self._last_id if continued else self.next_turn()
        if not bot.busy:
            yield from self._stop_yielding()
        self._yielding = None
        yield Start(turn_id, self._began, self._confidence(), continued=continued, interrupts=bot.busy)

    def _end(self, probability: float) -> End:
        self._before = f"{self._before} {self._text}".strip()
        self._reset()
        return End(self._last_id, self._ceased, round(probability, 3))

    def _dismiss(self) -> Iterator[Decision]:
        yield from self._stop_yielding()
        self._reset()
        yield Dismiss()

    def _stop_yielding(self) -> Iterator[Decision]:
        if self._yielding is not None:
            self._yielding = None
            yield ResumePlayback()

    def _reset(self) -> None:
        self.state = State.QUIET
        self._run = self._voiced = 0
        self._sure.clear()
        self._passed = self._settled = self._echoes = self._may_echo = self._tells = False
        self._text = ""

    def _confidence(self) -> float:
        return round(self._run_weight * FRAME_MS / self._run, 2) if self._run else 0.0

    def _silence(self, time: float) -> int:
        return round((time + FRAME - self._ceased) * 1000)

    def _too_long(self, time: float) -> bool:
        return (time - self._began) * 1000 >= self.settings.max_turn_ms
