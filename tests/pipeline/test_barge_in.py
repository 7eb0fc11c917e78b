"""The user speaks while the bot does: the stages at which the turn machine ducks, halts, interrupts and resumes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.phrases import ACKNOWLEDGEMENTS
from pipeline.turn import FRAME
from pipeline.turn_settings import TurnSettings
from pipeline.turn_signals import (
    BotState,
    Dismiss,
    Duck,
    End,
    Listen,
    Pause,
    PausePlayback,
    ResumePlayback,
    Start,
    Voice,
)
from tests.pipeline.replay import ANSWER, GREETING, LONG_ANSWER, THINKING, Replay

NEVER = {Start, PausePlayback}
USUAL = TurnSettings()


def later(language: str = "en") -> Replay:
    """A call in which the user has spoken and the bot was heard for long enough to be free of echo."""
    replay = Replay(language=language).speak(1000).silence(800).silence(2000, LONG_ANSWER)
    assert replay.kinds()[-1] is End
    replay.decided.clear()
    return replay


def seconds(ms: float) -> Any:
    """The end of the frame in which so much is reached."""
    return pytest.approx(ms / 1000, abs=0.021)


def test_the_stages() -> None:
    replay = later()
    began = replay.now
    replay.speak(USUAL.wordless_ms, LONG_ANSWER)
    assert replay.kinds() == [Duck, Listen, PausePlayback, Start]
    assert replay.at(Duck) - began <= 0.06
    assert replay.at(Listen) - began == seconds(USUAL.onset_ms)
    assert replay.at(PausePlayback) - began == seconds(USUAL.interrupt_ms)
    assert replay.at(Start) - began == seconds(USUAL.wordless_ms)
    assert replay.all(Start)[0].began == pytest.approx(began)


def test_words_shorten_the_way() -> None:
    soft = later().speak(240, LONG_ANSWER, level=-60).read("please stop", LONG_ANSWER)
    assert soft.kinds() == [Listen, Start]
    loud = later().speak(300, LONG_ANSWER).read("stop", LONG_ANSWER)
    assert loud.kinds() == [Duck, Listen, PausePlayback, Start]
    other = later().speak(300, LONG_ANSWER).read("table", LONG_ANSWER)  # of a cough?
    assert other.kinds() == [Duck, Listen, PausePlayback]
    assert other.speak(300, LONG_ANSWER).kinds()[-1] is Start
    before = later().speak(200, LONG_ANSWER).read("stop", LONG_ANSWER)  # one word, and too little voice
    assert before.kinds() == [Duck, Listen]
    assert before.speak(100, LONG_ANSWER).kinds()[-1] is Start


def test_words_that_come_after_the_voice_still_interrupt() -> None:
    replay = later().speak(300, LONG_ANSWER).silence(400, LONG_ANSWER).read("what else", LONG_ANSWER, settled=True)
    assert replay.kinds() == [Duck, Listen, PausePlayback, Pause, Start]


@pytest.mark.parametrize("ms", [20, 100, 300, 500, 700])
def test_a_false_alarm(ms: int) -> None:
    """A cough: nobody finds a word in it, and the bot goes on."""
    replay = later().speak(ms, LONG_ANSWER).silence(220, LONG_ANSWER)
    assert Start not in replay.kinds()
    replay.read("", LONG_ANSWER, settled=True).silence(20, LONG_ANSWER)
    assert replay.kinds().count(ResumePlayback) == 1
    if ms >= 100:
        assert replay.kinds()[-2:] == [ResumePlayback, Dismiss]
    replay.decided.clear()
    assert replay.silence(1000, LONG_ANSWER).decided == []


def test_a_recogniser_that_says_nothing_is_not_waited_for() -> None:
    replay = later().speak(400, LONG_ANSWER)
    ceased = replay.now
    replay.silence(1000, LONG_ANSWER)
    assert replay.kinds()[-2:] == [ResumePlayback, Dismiss]
    assert replay.at(ResumePlayback) - ceased <= 0.62


def test_who_goes_on_after_an_acknowledgement_is_not_dismissed_for_it() -> None:
    replay = later().speak(200, LONG_ANSWER).silence(220, LONG_ANSWER)
    assert replay.kinds()[-1] is Pause
    replay.read("Mm-hm.", LONG_ANSWER, settled=True)
    replay.speak(300, LONG_ANSWER).silence(240, LONG_ANSWER)  # what was said since is not known yet
    assert Dismiss not in replay.kinds()
    replay.read("Mm-hm. But why?", LONG_ANSWER, settled=True)
    assert replay.kinds()[-1] is Start


@pytest.mark.parametrize(
    ("language", "phrase"),
    [(language, phrase) for language, phrases in ACKNOWLEDGEMENTS.items() for phrase in sorted(phrases)],
)
def test_acknowledgements_do_not_interrupt(language: str, phrase: str) -> None:
    for text in (phrase, phrase.capitalize() + ".", f"{phrase}, {phrase}!"):
        replay = later(language).speak(600, LONG_ANSWER).read(text, LONG_ANSWER).speak(3000, LONG_ANSWER)
        replay.silence(300, LONG_ANSWER).read(text, LONG_ANSWER, settled=True).silence(20, LONG_ANSWER)
        assert Start not in replay.kinds()
        assert replay.kinds()[-2:] == [ResumePlayback, Dismiss]


def test_an_acknowledgement_of_another_language_is_a_word() -> None:
    assert Start not in later("es").speak(400, LONG_ANSWER).read("de acuerdo", LONG_ANSWER).kinds()
    assert Start in later("en").speak(400, LONG_ANSWER).read("de acuerdo", LONG_ANSWER).kinds()


@pytest.mark.parametrize("text", ["there was a king", "Once upon a time", "was a king!"])
def test_the_words_of_the_bot_itself_do_not_interrupt(text: str) -> None:
    saying = "Once upon a time there was a king who had three sons"
    soft = later().speak(1000, LONG_ANSWER, level=-55).read(text, LONG_ANSWER, saying=saying)
    assert soft.silence(1000, LONG_ANSWER).kinds() == [Listen, Pause, Dismiss]
    loud = later().speak(600, LONG_ANSWER).read(text, LONG_ANSWER, saying=saying).speak(3000, LONG_ANSWER)
    assert Start not in loud.silence(1000, LONG_ANSWER).kinds()
    assert Start in later().speak(600, LONG_ANSWER).read(text, LONG_ANSWER, saying="Something else").kinds()


def test_frames_of_echo_are_no_voice() -> None:
    replay = later().hear(ms=5000, voice=1.0, bot=LONG_ANSWER, echo=0.8)
    assert replay.decided == []
    replay.hear(ms=600, voice=1.0, bot=LONG_ANSWER, echo=0.2)
    assert replay.kinds() == [Duck, Listen, PausePlayback]


def test_soft_voices_do_not_interrupt() -> None:
    """A television, 16 dB softer than the user was before."""
    replay = later().speak(5000, LONG_ANSWER, level=-36).silence(1000, LONG_ANSWER)
    assert replay.kinds() == [Listen, Pause, Dismiss]
    assert PausePlayback in later().speak(1000, LONG_ANSWER, level=-34).kinds()
    unknown = Replay().silence(2000, LONG_ANSWER).speak(1000, LONG_ANSWER, level=-36)  # nobody spoke before
    assert PausePlayback in unknown.kinds()


def test_unsure_voice_does_not_interrupt() -> None:
    replay = later().hear(ms=3000, voice=0.65, bot=LONG_ANSWER).silence(1000, LONG_ANSWER)
    assert replay.kinds() == [Listen, Pause, Dismiss]


def test_the_first_seconds_of_the_bot_need_more() -> None:
    first, then = Replay(), later()
    for replay in (first, then):
        replay.decided.clear()
        began = replay.now
        replay.speak(1000, GREETING)
        assert replay.at(PausePlayback) - began == seconds(USUAL.interrupt_ms * (1.5 if replay is first else 1))


def test_clatter_is_no_voice() -> None:
    """A keyboard: sure and loud for a moment, again and again."""
    replay = later()
    for _ in range(30):
        replay.hear(ms=20, voice=0.9, bot=LONG_ANSWER).silence(140, LONG_ANSWER)
    assert not NEVER & set(replay.kinds())
    assert Listen not in replay.kinds()


def test_a_bot_that_only_thinks_waits_for_who_goes_on() -> None:
    replay = Replay().speak(1000).silence(720)
    assert replay.kinds()[-1] is End
    replay.decided.clear()
    replay.speak(80, THINKING)
    assert replay.kinds() == [Listen, PausePlayback]  # it does not begin to speak now
    replay.speak(220, THINKING)
    start = replay.all(Start)[0]
    assert (start.turn_id, start.continued, start.interrupts) == (1, True, True)


def test_a_noise_while_it_thinks_lets_it_go_on() -> None:
    replay = Replay().speak(1000).silence(720).speak(100, THINKING).silence(700, THINKING)
    assert replay.kinds()[-4:] == [PausePlayback, Pause, ResumePlayback, Dismiss]


def test_an_answer_over_the_last_word_of_the_bot_is_a_turn() -> None:
    """It falls silent between the user's "yes" and the time at which that would have been nothing."""
    replay = later().speak(300, LONG_ANSWER).silence(100, LONG_ANSWER).silence(20)
    assert Start not in replay.kinds()  # it may be the bot's echo
    replay.read("yes")
    replay.silence(20)
    assert replay.kinds()[-2:] == [ResumePlayback, Start]
    assert not replay.all(Start)[0].interrupts
    assert replay.silence(700).kinds()[-1] is End
    stubborn = Replay(interruptible=False).speak(300, LONG_ANSWER).silence(100, LONG_ANSWER).silence(700)
    assert Start not in stubborn.kinds()  # it said that it does not listen


def test_who_speaks_during_the_last_words_of_the_bot_answers() -> None:
    """They are heard to their end, and then the user has had the turn all along."""
    ending = BotState(busy=True, audible=True, played_ms=2500, left_ms=500, answering=True)
    replay = later()
    began = replay.now
    replay.speak(500, ending)
    assert replay.kinds() == [Listen]
    replay.speak(280)
    assert replay.kinds() == [Listen]  # it may be the bot's echo
    replay.speak(20)
    assert replay.kinds() == [Listen, Start]
    start = replay.all(Start)[0]
    assert start.began == pytest.approx(began)
    assert not start.interrupts
    assert not start.continued


def test_the_cheap_detector_lowers_the_voice_and_no_more() -> None:
    def perhaps(replay: Replay, ms: int, level: float = -20.0, echo: float = 0.0) -> Replay:
        for _ in range(ms // 20):
            replay.hear_frame(Voice(0.1, level, echo, perhaps=True), LONG_ANSWER)
        return replay

    replay = later()
    began = replay.now
    perhaps(replay, 1000)
    assert replay.kinds() == [Duck, ResumePlayback]  # the neural one never agreed
    assert replay.at(ResumePlayback) - began <= 0.25
    assert perhaps(replay.silence(500, LONG_ANSWER), 500).kinds()[2:] == []  # nor is it believed for a while
    assert perhaps(replay.silence(2000, LONG_ANSWER), 100).kinds()[2:] == [Duck]
    assert perhaps(later(), 500, level=-40).decided == []
    assert perhaps(later(), 500, echo=0.9).decided == []


@pytest.mark.parametrize(("played_ms", "continued"), [(0, True), (1999, True), (2000, False), (60_000, False)])
def test_continuation(played_ms: int, *, continued: bool) -> None:
    bot = BotState(busy=True, audible=True, played_ms=played_ms, answering=True)
    start = later().speak(400, bot).read("no, wait", bot).all(Start)[0]
    assert (start.continued, start.turn_id) == (continued, 1 if continued else 2)


def test_a_greeting_is_never_continued() -> None:
    first = Replay().speak(400, GREETING).read("no, wait", GREETING).all(Start)[0]
    assert (first.turn_id, first.continued) == (1, False)
    again = later().speak(400, GREETING).read("no, wait", GREETING).all(Start)[0]
    assert (again.turn_id, again.continued) == (2, False)
    nothing_to_continue = Replay().speak(400, ANSWER).read("no, wait", ANSWER).all(Start)[0]
    assert (nothing_to_continue.turn_id, nothing_to_continue.continued) == (1, False)


def test_who_is_released_while_the_bot_yields_lets_it_go_on() -> None:
    assert later().speak(40, LONG_ANSWER).release().kinds() == [Duck, ResumePlayback]
    assert later().speak(300, LONG_ANSWER).release().kinds()[-2:] == [ResumePlayback, Dismiss]


@given(st.lists(st.tuples(st.integers(20, 500), st.floats(0.7, 1.0), st.integers(100, 1500)), max_size=10))
def test_soft_or_echoed_or_short_sounds_never_interrupt(sounds: list[tuple[int, float, int]]) -> None:
    replay = later()
    for n, (ms, voice, pause) in enumerate(sounds):
        match n % 3:
            case 0:
                replay.hear(ms=ms, voice=voice, bot=LONG_ANSWER, level=-37)
            case 1:
                replay.hear(ms=ms, voice=voice, bot=LONG_ANSWER, echo=0.9)
            case 2:
                replay.hear(ms=min(ms, 160), voice=voice, bot=LONG_ANSWER)
        replay.silence(pause, LONG_ANSWER)
    assert Start not in replay.kinds()
    replay.silence(1000, LONG_ANSWER)
    assert replay.machine._yielding is None


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(-60, 0)), max_size=20))
def test_a_loud_sure_onset_ducks_within_60_ms(before: list[tuple[int, float]]) -> None:
    replay = later()
    for frames, level in before:
        replay.hear(ms=frames * 20, voice=0.4, bot=LONG_ANSWER, level=level)
    replay.silence(700, LONG_ANSWER)
    began = replay.now
    replay.hear(ms=60, voice=1.0, bot=LONG_ANSWER, level=-20)
    assert began < replay.at(Duck) <= began + 3 * FRAME
