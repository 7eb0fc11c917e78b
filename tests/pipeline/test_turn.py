"""The turn machine by replay, by recorded voices and by any sequence of observations at all."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from webrtcvad import Vad

from config.turns import TurnMode
from media.audio import FRAME_MS, INPUT_FRAME, INPUT_RATE, Pcm
from pipeline.endpointing import probability_complete, silence_needed
from pipeline.loudness import BELOW_USER, CLEARLY_FADED, FADED, LOUD
from pipeline.turn import FRAME, State, TurnMachine
from pipeline.turn_rules import DEAF_MS, EARLY, FEW_WORDS_MS, OUTLASTING_MS, PROVEN_MS, SOFT_MS, TOLD_MS
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
from tests.pipeline.replay import ANSWER, GREETING, LONG_ANSWER, SILENT_BOT, THINKING, USER, Replay

USUAL = TurnSettings()
VOICES = Path(__file__).parent.parent / "data"


def after(time: float, ms: float) -> Any:
    """The end of the frame in which so much has passed since then."""
    return pytest.approx(time + math.ceil(ms / FRAME_MS) * FRAME, abs=0.001)


def test_a_turn() -> None:
    replay = Replay().silence(1000).speak(1000).give_back()
    assert replay.kinds() == [Listen, Start, Pause, Ask, End]
    assert replay.at(Listen) == after(1.0, USUAL.onset_ms)
    assert replay.at(Start) == after(1.0, USUAL.speech_ms)
    assert replay.at(Pause) == replay.at(Ask) == after(2.0, USUAL.pause_ms)
    assert replay.at(End) == after(2.0, USUAL.undecided_ms)
    assert replay.all(Start) == [Start(1, began=1.0, confidence=0.9, continued=False, interrupts=False)]
    assert replay.all(End) == [End(1, ceased=2.0, probability=1.0)]


def test_a_click_is_no_turn_and_does_not_prolong_one() -> None:
    replay = Replay().speak(60).silence(500)
    assert replay.decided == []
    replay.speak(400)
    ceased = replay.now
    replay.silence(300).speak(20).give_back()
    assert replay.kinds() == [Listen, Start, Pause, Ask, End]
    assert replay.at(End) == after(ceased, USUAL.undecided_ms)


def test_a_voice_ends_with_its_level_though_a_detector_still_hears_it() -> None:
    replay = Replay().speak(600)
    ceased = replay.now
    replay.speak(100, level=USER - FADED - 1).give_back()
    assert replay.all(End) == [End(1, ceased=ceased, probability=1.0)]


@pytest.mark.parametrize("level", [USER - FADED + 1, USER - CLEARLY_FADED + 1])
def test_a_soft_syllable_belongs_to_the_turn(level: float) -> None:
    replay = Replay().silence(2000).speak(600).speak(100, level=level)
    ceased = replay.now
    replay.give_back()
    assert replay.all(End) == [End(1, ceased=pytest.approx(ceased), probability=1.0)]


def test_in_a_noisy_room_a_voice_ends_in_its_noise() -> None:
    room = USER - 20
    replay = Replay().hear(ms=2000, voice=0.0, level=room).speak(600)
    ceased = replay.now
    replay.speak(100, level=room).hear(ms=USUAL.undecided_ms, voice=0.0, level=room)
    assert replay.all(End) == [End(1, ceased=pytest.approx(ceased), probability=1.0)]


def test_what_rises_again_is_waited_for_before_it_is_known_to_be_a_voice() -> None:
    replay = Replay().speak(600).silence(USUAL.undecided_ms - 20)
    replay.hear(ms=PROVEN_MS - 20, voice=0.0)
    assert replay.all(End) == []
    replay.speak(200)
    assert [Resume] == replay.kinds(Listen, Start, Pause, Ask)
    assert len(Replay().speak(600).silence(USUAL.undecided_ms - 20).hear(ms=PROVEN_MS + 20, voice=0.0).all(End)) == 1


def test_going_on_after_a_pause() -> None:
    replay = Replay().speak(400).silence(400).speak(400)
    assert replay.kinds() == [Listen, Start, Pause, Ask, Resume]
    resume = replay.all(Resume)[0]
    assert resume.began == pytest.approx(0.8)
    assert replay.at(Resume) == after(0.8, USUAL.resume_ms)


def test_a_short_word_that_ends_softly_takes_a_paused_turn_up_again() -> None:
    """As "it's" does: most of it is a soft "ts"."""
    replay = Replay().speak(1000).silence(240).speak(80).speak(120, level=USER - 22)
    assert replay.kinds()[-1] is Resume
    someone_behind = Replay().speak(1000).silence(240).speak(400, level=USER - 22)
    assert Resume not in someone_behind.kinds()

    assert replay.give_back().kinds()[5:] == [Pause, Ask, End]


def test_a_word_in_pieces_takes_a_paused_turn_up_again() -> None:
    """As "ocho" does in noise: its closures are too soft to be a voice, but the detector hears one all the while."""

    def pieces(between: float) -> Replay:
        replay = Replay().speak(1000).silence(600)
        for _ in range(3):
            replay.speak(60).hear(ms=140, voice=between, level=USER - 40)
        return replay

    assert Resume in pieces(0.9).kinds()
    assert Resume not in pieces(0.1).kinds()


@pytest.mark.parametrize(
    ("bot", "turn_id", "continued"), [(GREETING, 2, False), (ANSWER, 1, True), (LONG_ANSWER, 2, False)]
)
def test_an_interruption(bot: BotState, turn_id: int, *, continued: bool) -> None:
    replay = Replay(guard_ms=0).speak(400).give_back().speak(400, bot)
    assert replay.kinds()[-4:] == [End, Duck, Listen, PausePlayback]
    start = replay.read("no, wait", bot).all(Start)[-1]
    assert (start.turn_id, start.continued, start.interrupts) == (turn_id, continued, True)


def test_in_the_first_seconds_only_what_may_be_echo_takes_longer_to_halt_the_bot() -> None:
    echo = Replay().silence(1000).speak(USUAL.interrupt_ms + 20, GREETING, level=LOUD - 1)
    near = Replay().silence(1000).speak(USUAL.interrupt_ms + 20, GREETING, level=LOUD + 1)
    assert PausePlayback not in echo.kinds()
    assert PausePlayback in near.kinds()
    assert PausePlayback in echo.speak(round(USUAL.interrupt_ms * (EARLY - 1)), GREETING, level=LOUD - 1).kinds()


def test_voice_that_is_loud_but_not_sure_halts_the_bot_when_it_lasts() -> None:
    doubtful = (USUAL.threshold + USUAL.confidence) / 2
    replay = Replay(guard_ms=0).silence(1000).speak(80, GREETING).hear(ms=180, voice=doubtful, bot=GREETING)
    assert PausePlayback not in replay.kinds()
    assert PausePlayback in replay.hear(ms=20, voice=doubtful, bot=GREETING).kinds()


def test_what_is_too_short_or_too_soft_is_dismissed() -> None:
    short = Replay().speak(USUAL.interrupt_ms - 40, GREETING).silence(USUAL.words_ms, GREETING)
    soft = Replay().speak(2000, GREETING, level=USUAL.min_level - 1).silence(USUAL.words_ms, GREETING)
    assert short.kinds() == [Duck, Listen, Pause, ResumePlayback, Dismiss]
    assert soft.kinds() == []


@pytest.mark.parametrize(
    ("text", "interrupts"),
    [
        ("stop it", True),
        ("okay yeah", False),
        ("Okay, but why?", True),
        ("", False),
        ("Uh-huh.", False),
    ],
)
def test_words_interrupt(text: str, *, interrupts: bool) -> None:
    replay = Replay().speak(700, GREETING).read(text, GREETING)
    assert (Start in replay.kinds()) == interrupts


def test_words_alone_start_nothing() -> None:
    assert Replay().silence(20, GREETING).read("please stop it", GREETING).read("please stop it").decided == []


def test_who_speaks_while_the_bot_ends_has_the_turn_by_going_on() -> None:
    replay = Replay(interruptible=False).speak(1000, GREETING)
    assert replay.kinds() == [Listen]
    start = replay.speak(OUTLASTING_MS).all(Start)[-1]  # longer than the bot's echo
    assert (start.began, start.interrupts) == (0.0, False)
    silent = Replay(interruptible=False).speak(1000, GREETING).silence(USUAL.words_ms)
    assert silent.kinds() == [Listen, Pause, Dismiss]


def test_an_answer_that_was_not_heard_can_always_be_withdrawn() -> None:
    replay = Replay(interruptible=False).speak(400).give_back().speak(FEW_WORDS_MS, THINKING)
    assert len(replay.all(Start)) == 1
    start = replay.read("and", THINKING).all(Start)[-1]
    assert (start.turn_id, start.continued) == (1, True)


def test_a_turn_whose_text_is_still_to_come_goes_on_by_voice_alone() -> None:
    """Nobody heard that it seemed over, so there is nothing to lose."""

    def ended() -> Replay:
        replay = Replay().speak(1000).give_back()
        assert replay.kinds()[-1] is End
        replay.decided.clear()
        return replay

    owed = replace(THINKING, owed=True)
    replay = ended()
    began = replay.now
    replay.speak(1000, owed)
    start = replay.all(Start)[0]
    assert (start.turn_id, start.continued, start.interrupts) == (1, True, True)
    assert replay.at(Start) == after(began, USUAL.interrupt_ms)
    assert Start not in ended().speak(1000, THINKING).kinds()  # its text is known: words are waited for
    assert Start not in ended().speak(USUAL.interrupt_ms - 20, owed).silence(1000, owed).kinds()
    assert Start not in ended().speak(1000, owed, level=USER - USUAL.below_user - 1).kinds()
    assert Start in ended().speak(USUAL.interrupt_ms, owed).kinds()
    late = ended().speak(USUAL.interrupt_ms - 20, owed).read("Yeah", owed).speak(20, owed)
    assert late.kinds()[-1] is Start  # whatever is said: it belongs to the turn


def test_nobody_keeps_the_turn_for_ever() -> None:
    replay = Replay().speak(61_000)
    assert replay.kinds() == [Listen, Start, End, Listen, Start]
    assert replay.decided[2][0] == pytest.approx(60, abs=0.1)


def test_release() -> None:
    assert Replay().release().decided == []
    assert Replay().speak(100).release().all(End) == [End(1, ceased=0.1, probability=1.0)]
    assert Replay().speak(200, GREETING).release().kinds()[-2:] == [ResumePlayback, Dismiss]


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_the_turn_model_shortens_and_lengthens_the_silence(probability: float) -> None:
    replay = Replay().speak(1000).silence(200).judge(probability).silence(USUAL.max_silence_ms)
    took = round((replay.at(End) - 1) * 1000)
    believed = probability_complete(probability, "", "en")
    assert believed is not None
    assert took / 1000 == after(0, silence_needed(believed, USUAL))
    assert (took < USUAL.undecided_ms) == (believed > USUAL.complete_from)
    assert (took > USUAL.undecided_ms) == (believed < USUAL.complete_from)
    assert (Unfinished in replay.kinds()) == (believed < USUAL.complete_from)


def test_a_verdict_that_comes_late_still_counts() -> None:
    late = USUAL.complete_ms + 60
    replay = Replay().speak(1000).silence(late).judge(1.0).silence(20)
    assert replay.at(End) == after(1.0, late + 20)


def test_a_verdict_about_an_earlier_pause_is_ignored() -> None:
    replay = Replay().speak(500).silence(300).speak(500)
    replay.judge(1.0)  # in mid-speech
    replay.silence(300)
    assert [ask.question for ask in replay.all(Ask)] == [1, 2]
    replay.judge(1.0, question=1).silence(USUAL.complete_ms - 300)
    assert End not in replay.kinds()
    replay.judge(1.0, question=7).silence(20)
    assert End not in replay.kinds()
    replay.give_back()
    assert replay.at(End) == after(1.3, USUAL.undecided_ms)
    replay.judge(0.0).silence(20).speak(500).judge(0.0).give_back()
    assert len(replay.all(End)) == 2  # nothing is left of it for the next turn
    assert Unfinished not in replay.kinds()


@pytest.mark.parametrize(
    ("text", "settled", "shorter"),
    [
        ("Is it late?", True, True),
        ("Book a table.", True, True),
        ("I would like the", True, False),
        ("Book a table.", False, None),  # perhaps "for two" is still missing
        ("I would like the", False, None),
    ],
)
def test_words_alone_answer_where_the_turn_model_does_not(text: str, *, settled: bool, shorter: bool | None) -> None:
    replay = Replay().speak(1000).silence(300).read(text, settled=settled).silence(USUAL.max_silence_ms)
    took = round((replay.at(End) - 1) * 1000)
    assert (took < USUAL.undecided_ms) == (shorter is True)
    assert (took > USUAL.undecided_ms) == (shorter is False)


def test_words_and_model_are_weighed_together() -> None:
    def took(text: str, verdict: float) -> float:
        replay = Replay().speak(1000).silence(240).read(text, settled=True).judge(verdict).silence(3000)
        return replay.at(End)

    assert took("I would like the", 0.8) > took("I was thinking", 0.8) > took("Book a table.", 0.8)
    assert took("I would like the", 0.2) > took("I would like the", 0.96)
    assert took("Book a table.", 0.05) > took("Book a table.", 0.9)


def test_an_eager_guess_is_made_once_in_a_silence_and_withdrawn_by_going_on() -> None:
    replay = Replay().speak(1000).silence(220).read("what is seven", settled=True).judge(1.0).silence(60)
    assert replay.kinds() == [Listen, Start, Pause, Ask, Eager]
    [eager] = replay.all(Eager)
    assert eager == Eager(1, eager.probability, ceased=1.0)
    assert USUAL.eager_from <= eager.probability < 1
    assert replay.speak(200).kinds()[-1] is Resume
    replay.silence(220).read("what is seven plus five", settled=True).judge(1.0).silence(USUAL.complete_ms)
    assert replay.kinds()[6:] == [Pause, Ask, Eager, End]


def test_nothing_is_guessed_before_the_words_are_settled_or_while_the_bot_is_busy() -> None:
    def paused() -> Replay:
        return Replay().speak(1000).silence(220).judge(1.0)

    assert Eager not in paused().silence(300).kinds()
    assert Eager not in paused().read("what is").silence(300).kinds()
    assert Eager not in paused().read("", settled=True).silence(300).kinds()
    assert Eager not in paused().read("what is", ANSWER, settled=True).silence(140, ANSWER).kinds()
    assert Eager in paused().read("what is", settled=True).silence(20).kinds()
    stale = Replay().speak(500).read("what is", settled=True).speak(100).silence(220).judge(1.0).silence(100)
    assert Eager not in stale.kinds()  # those were settled before what was said last


def test_a_pause_in_mid_sentence_is_told_once() -> None:
    replay = Replay().speak(1000).silence(220).judge(0.1).silence(500)
    assert replay.kinds() == [Listen, Start, Pause, Ask, Unfinished]
    assert replay.all(Unfinished)[0].ceased == pytest.approx(1.0)
    assert replay.at(Unfinished) == after(1.0, TOLD_MS)
    replay.speak(300).silence(220).judge(0.1).silence(TOLD_MS - 220)
    assert replay.kinds()[5:] == [Resume, Pause, Ask, Unfinished]
    late = Replay().speak(1000).silence(TOLD_MS + 100).judge(0.1)
    assert Unfinished not in late.kinds()  # nobody knew
    assert late.silence(20).kinds()[-1] is Unfinished


def test_a_short_pause_in_mid_sentence_is_not_told() -> None:
    replay = Replay()
    for _ in range(3):
        replay.speak(500).silence(USUAL.pause_ms).judge(0.1).silence(TOLD_MS - USUAL.pause_ms - 20)
    assert len(replay.all(Pause)) == 3
    assert Unfinished not in replay.kinds()


def test_a_voice_too_soft_to_go_on_holds_the_turn_no_longer_than_the_ceiling() -> None:
    soft = USER - BELOW_USER + 1
    replay = Replay(resume_level=soft + 1).speak(1000).silence(300).speak(USUAL.max_silence_ms, level=soft)
    ends = [at for at, decision in replay.decided if isinstance(decision, End)]
    assert ends == [after(1.0, USUAL.max_silence_ms)]


def test_a_voice_far_softer_than_the_user_s_is_somebody_else_s() -> None:
    """A television: it neither holds the turn nor takes it up again."""
    television = USER - BELOW_USER - 1
    longest = USUAL.undecided_ms + 2 * FRAME_MS
    behind = Replay().speak(1000).speak(longest, level=television)
    assert [end.ceased for end in behind.all(End)] == [pytest.approx(1.0)]
    assert behind.at(End) <= 1.0 + longest / 1000
    pause = Replay().speak(1000).silence(200).speak(longest, level=television)
    assert [end.ceased for end in pause.all(End)] == [pytest.approx(1.0)]
    assert Resume not in pause.kinds()


def test_the_user_may_be_soft_for_a_moment() -> None:
    soft = USER - BELOW_USER - 1
    replay = Replay()
    for _ in range(5):
        replay.speak(300).speak(SOFT_MS - 20, level=soft)
    replay.speak(100)
    assert replay.kinds() == [Listen, Start]
    assert replay.give_back().all(End)[0].ceased == pytest.approx(5 * (0.3 + SOFT_MS / 1000 - 0.02) + 0.1)
    late = Replay().speak(1000).silence(200).speak(200, level=soft).speak(200)
    assert late.kinds()[-1] is Resume


def samples(path: Path) -> Pcm:
    with av.open(str(path)) as file:
        return np.concatenate([frame.to_ndarray().reshape(-1) for frame in file.decode(audio=0)]).astype(np.int16)


@pytest.mark.parametrize("path", sorted(VOICES.glob("*.flac")), ids=lambda path: path.stem)
def test_recorded_voices(path: Path) -> None:
    """A person who reads is one turn, and halts the bot within 600 ms of the first sound."""
    pcm = samples(path)
    loud = np.flatnonzero(np.abs(pcm) > 1000)
    noise = np.random.default_rng(0).normal(0, 5, INPUT_RATE).astype(np.int16)
    pcm = np.concatenate([noise, pcm, noise, noise])
    first, last = (int(loud[0]) / INPUT_RATE + 1, int(loud[-1]) / INPUT_RATE + 1)
    vad = Vad(2)
    alone, during = Replay(), Replay(guard_ms=0)
    for n in range(0, len(pcm) - INPUT_FRAME, INPUT_FRAME):
        frame = pcm[n : n + INPUT_FRAME]
        level = float(20 * np.log10(np.sqrt(np.mean(np.square(frame / 32768))) + 1e-7))
        voice = float(vad.is_speech(frame.tobytes(), INPUT_RATE))
        alone.hear(ms=20, voice=voice, level=level)
        during.hear(ms=20, voice=voice, level=level, bot=LONG_ANSWER)
    assert [kind for kind in alone.kinds() if kind in (Start, End)] == [Start, End]
    assert first - 0.3 < alone.at(Start) < first + 0.2
    silence = USUAL.undecided_ms / 1000
    assert last + silence - 0.3 < alone.at(End) < last + silence + 0.4
    assert next(at for at, decision in during.decided if isinstance(decision, PausePlayback)) - first < 0.6


BOTS = st.builds(
    BotState,
    busy=st.booleans(),
    audible=st.booleans(),
    played_ms=st.integers(0, 4000),
    owed=st.booleans(),
    left_ms=st.one_of(st.none(), st.integers(0, 4000)),
    answering=st.booleans(),
)
TEXTS = st.sampled_from(["", "yeah", "stop", "stop it now", "and then I", "is it late?", "hello my friend"])
OBSERVATIONS = st.one_of(
    st.builds(Voice, st.sampled_from([0.0, 0.4, 0.6, 1.0]), st.floats(-127, 0), st.sampled_from([0.0, 0.0, 0.9])),
    st.builds(Voice, st.floats(0, 1), st.floats(-127, 0), st.floats(0, 1), st.booleans()),
    st.builds(Words, TEXTS, st.booleans(), TEXTS),
    st.builds(Words, st.text(max_size=20), st.booleans(), st.text(max_size=20)),
    st.builds(Verdict, st.integers(0, 6), st.floats(0, 1)),
    st.builds(NativeEnd, st.floats(0, 1), st.booleans()),
    st.sampled_from(["release", "type"]),
)
SETTINGS = st.builds(
    TurnSettings,
    mode=st.sampled_from(TurnMode),
    threshold=st.sampled_from([0.2, 0.5, 1.0]),
    onset_ms=st.sampled_from([0, 80]),
    speech_ms=st.sampled_from([0, 80, 250]),
    pause_ms=st.integers(0, 400),
    complete_ms=st.integers(0, 800),
    undecided_ms=st.integers(0, 800),
    unfinished_ms=st.integers(0, 1500),
    max_silence_ms=st.integers(400, 1500),
    complete_from=st.sampled_from([0.0, 0.5, 1.0]),
    recheck_ms=st.sampled_from([0, 20, 200]),
    resume_ms=st.sampled_from([0, 100]),
    resume_level=st.sampled_from([float("-inf"), -30.0]),
    eager_from=st.sampled_from([0.0, 0.7, 1.1]),
    max_turn_ms=st.integers(100, 4000),
    interruptible=st.booleans(),
    interrupt_ms=st.integers(0, 500),
    below_user=st.sampled_from([6.0, 18.0, math.inf]),
    above_room=st.sampled_from([-math.inf, 10.0]),
    min_words=st.integers(0, 3),
    soft_words=st.booleans(),
    commands=st.booleans(),
    filter_acknowledgements=st.booleans(),
    guard_ms=st.sampled_from([0, 2000]),
    words_ms=st.sampled_from([0, 300, 1000]),
    wordless_ms=st.sampled_from([0, 500, 3000]),
)
STEPS = st.lists(st.tuples(st.integers(1, 40), OBSERVATIONS, BOTS), max_size=60)


class Rules:
    """What ``TurnMachine`` promises of its decisions, whatever it is told."""

    def __init__(self) -> None:
        self.noticed = self.paused = self.eager = self.yielding = False
        self.turn = self.last = self.question = 0

    def obey(self, decision: Decision) -> None:
        match decision:
            case Listen() | Dismiss() | Start():
                self._notice(decision)
            case Duck() | PausePlayback():
                assert not (isinstance(decision, Duck) and self.yielding)
                self.yielding = True
            case ResumePlayback():
                assert self.yielding
                self.yielding = False
            case _:
                self._listen(decision)

    def _notice(self, decision: Listen | Dismiss | Start) -> None:
        assert self.noticed != isinstance(decision, Listen)
        assert not self.turn
        self.noticed = isinstance(decision, Listen)
        if isinstance(decision, Start):
            assert decision.interrupts or not self.yielding
            assert decision.continued <= decision.interrupts
            assert decision.turn_id == self.last if decision.continued else decision.turn_id > self.last
            assert 0 <= decision.confidence <= 1
            self.yielding = False
            self.turn = self.last = decision.turn_id

    def _listen(self, decision: Decision) -> None:
        match decision:
            case Pause():
                assert self.noticed or (self.turn and not self.paused)
                self.paused = bool(self.turn)
            case Ask():
                assert self.paused
                assert decision.question > self.question
                self.question = decision.question
            case Unfinished() | Eager():
                assert self.paused
                assert self.turn == decision.turn_id
                assert not (isinstance(decision, Eager) and self.eager)
                self.eager = self.eager or isinstance(decision, Eager)
            case Resume():
                assert self.paused
                self.paused = self.eager = False
            case End():
                assert self.turn == decision.turn_id
                assert 0 <= decision.probability <= 1
                self.turn, self.paused, self.eager = 0, False, False


@settings(deadline=None, max_examples=300)
@given(SETTINGS, st.sampled_from(["en", "es", "xx"]), st.booleans(), STEPS, st.sampled_from(["release", "silence"]))
def test_any_observations(
    given_settings: TurnSettings,
    language: str,
    deaf: bool,
    steps: list[tuple[int, Observation | str, BotState]],
    ending: str,
) -> None:
    """The promises hold, no turn lasts longer than the ceiling, and silence ends whatever goes on."""
    machine = TurnMachine(given_settings, language)
    machine.deaf = deaf
    rules = Rules()
    longest = max(given_settings.max_silence_ms, given_settings.words_ms, DEAF_MS, SOFT_MS) / 1000 + 0.1
    time, last_typed = 0.0, 0
    for count, observation, bot in steps:
        for _ in range(count):
            if isinstance(observation, str):
                decisions = machine.release()
                assert machine.state is State.QUIET
                if observation == "type":
                    rules.last = machine.next_turn()
                    assert rules.last > last_typed
                    last_typed = rules.last
            else:
                decisions = machine.observe(time, observation, bot)
                time += FRAME * isinstance(observation, Voice)
            for decision in decisions:
                rules.obey(decision)
                assert not isinstance(decision, End) or time - decision.ceased <= longest
    if ending == "silence":
        for n in range(round(longest / FRAME)):
            for decision in machine.observe(time + n * FRAME, Voice(0.0, -70.0, 0.0), SILENT_BOT):
                rules.obey(decision)
    else:
        for decision in machine.release():
            rules.obey(decision)
    assert machine.state is State.QUIET
    assert not rules.noticed
    assert not rules.turn
    assert not rules.yielding


def test_a_user_who_becomes_softer_is_still_one_turn() -> None:
    """One bump beside the microphone, or a headset taken off, does not make the user somebody behind the user."""
    replay = Replay().speak(1000, level=-26).speak(300, level=-3).speak(500, level=-26).give_back()
    replay.decided.clear()
    replay.speak(4000, level=-26).silence(2000)
    assert [kind for kind in replay.kinds() if kind in (Start, End)] == [Start, End]


def test_what_was_said_before_a_turn_was_continued_belongs_to_its_words() -> None:
    replay = Replay().speak(1000).silence(300).read("book a table", settled=True).silence(USUAL.max_silence_ms)
    replay.speak(900, THINKING).read("at nine tomorrow", THINKING).silence(300)
    replay.read("tomorrow", settled=True).silence(USUAL.max_silence_ms)
    assert [start.continued for start in replay.all(Start)] == [False, True]
    assert replay.all(End)[-1].probability > 0.8
    alone = Replay().speak(900).silence(300).read("tomorrow", settled=True).silence(USUAL.max_silence_ms)
    assert alone.all(End)[-1].probability < 0.5
