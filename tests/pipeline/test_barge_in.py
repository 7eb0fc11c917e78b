"""The user speaks while the bot does: the stages at which the turn machine ducks, halts, interrupts and resumes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.loudness import LOUD
from pipeline.phrases import ACKNOWLEDGEMENTS
from pipeline.turn import FRAME
from pipeline.turn_rules import (
    DEAF_MS,
    EARLY,
    EARLY_WORDS_MS,
    FEW_WORDS_MS,
    LONE_ECHO_MS,
    NOISY,
    OUTLASTING_MS,
    PROVEN_MS,
    SHORTEST_COMMAND_MS,
    SILENT,
    UNECHOED_MS,
    UNVOICED_MS,
    WORD_MS,
)
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
from tests.pipeline.replay import ANSWER, GREETING, LONG_ANSWER, THINKING, USER, Replay

NEVER = {Start, PausePlayback}
USUAL = TurnSettings()
SOFT = USER - USUAL.below_user - 1
"""Softer than the user speaks over the bot."""
ECHOED = -35.0
"""As loud as an echo may be."""


def later(language: str = "en") -> Replay:
    """A call in which the user has spoken and the bot was heard for long enough to be free of echo."""
    replay = Replay(language=language).speak(1000).give_back().silence(USUAL.guard_ms, LONG_ANSWER)
    assert replay.kinds()[-1] is End
    replay.decided.clear()
    return replay


def seconds(ms: float) -> Any:
    """The end of the frame in which so much is reached."""
    return pytest.approx(ms / 1000, abs=0.021)


def test_the_stages() -> None:
    replay = later()
    began = replay.now
    replay.speak(500, LONG_ANSWER).read("Well, I", LONG_ANSWER)
    assert replay.kinds() == [Duck, Listen, PausePlayback, Start]
    assert replay.at(Duck) - began <= 0.06
    assert replay.at(Listen) - began == seconds(USUAL.onset_ms)
    assert replay.at(PausePlayback) - began == seconds(USUAL.interrupt_ms)
    assert replay.at(Start) - began == seconds(500)
    assert replay.all(Start)[0].began == pytest.approx(began)


def test_words_shorten_the_way() -> None:
    assert later().speak(700, LONG_ANSWER).read("please stop", LONG_ANSWER).kinds()[-1] is Start
    soon = SHORTEST_COMMAND_MS + 20
    assert soon < USUAL.interrupt_ms
    assert later().speak(soon, LONG_ANSWER).read("stop", LONG_ANSWER).kinds() == [Duck, Listen, Start]
    other = later().speak(soon, LONG_ANSWER).read("table", LONG_ANSWER)  # of a cough?
    assert other.kinds() == [Duck, Listen]
    whispered = later().speak(700, LONG_ANSWER, level=SOFT)
    for text in ("stop", "stop talking now"):
        assert whispered.read(text, LONG_ANSWER, settled=True).kinds() == []  # nobody listens


def test_a_lone_word_that_nobody_expects_interrupts_when_it_was_long_enough() -> None:
    assert Start not in later().speak(FEW_WORDS_MS - 20, LONG_ANSWER).read("table", LONG_ANSWER).kinds()
    assert Start in later().speak(FEW_WORDS_MS, LONG_ANSWER).read("table", LONG_ANSWER).kinds()
    assert Start not in later().speak(FEW_WORDS_MS, LONG_ANSWER).read("yeah", LONG_ANSWER).kinds()


@pytest.mark.parametrize("text", ["I think we", "I think we should", "I think we should leave now"])
def test_more_words_than_the_voice_can_have_had_are_a_guess(text: str) -> None:
    spoken = max(EARLY_WORDS_MS, WORD_MS * len(text.split()))
    needed = min(FEW_WORDS_MS, -(-spoken // 20) * 20)
    early = later().speak(needed - 20, LONG_ANSWER).read(text, LONG_ANSWER)
    assert Start not in early.kinds()
    assert early.speak(40, LONG_ANSWER).read(text, LONG_ANSWER).kinds()[-1] is Start
    assert Start in later().speak(needed, LONG_ANSWER).read(text, LONG_ANSWER).kinds()


def test_voice_alone_interrupts_only_where_no_words_can_come() -> None:
    assert Start not in later().speak(USUAL.wordless_ms - 20, LONG_ANSWER).kinds()
    deaf = later()
    deaf.machine.deaf = True
    began = deaf.now
    assert deaf.speak(1000, LONG_ANSWER).kinds() == [Duck, Listen, PausePlayback, Start]
    assert deaf.at(Start) - began == seconds(USUAL.interrupt_ms + DEAF_MS)
    cough = later()
    cough.machine.deaf = True
    cough.speak(USUAL.interrupt_ms + DEAF_MS - 40, LONG_ANSWER)
    ceased = cough.now
    assert cough.silence(1000, LONG_ANSWER).kinds()[-2:] == [ResumePlayback, Dismiss]
    assert cough.at(ResumePlayback) - ceased == seconds(DEAF_MS)  # nobody waits for its words


def test_long_noise_halts_the_bot_once() -> None:
    """A drill that passes for a voice. The bot goes on, and who says something is still heard."""
    replay = later()
    began = replay.now
    replay.speak(USUAL.wordless_ms + 5000, LONG_ANSWER).silence(USUAL.words_ms, LONG_ANSWER)
    assert Start not in replay.kinds()
    assert replay.kinds().count(PausePlayback) == replay.kinds().count(ResumePlayback) == 1
    assert replay.at(ResumePlayback) - began == seconds(USUAL.wordless_ms)
    assert replay.speak(700, LONG_ANSWER).read("please stop", LONG_ANSWER).kinds()[-1] is Start
    patient = later().speak(USUAL.wordless_ms, LONG_ANSWER).silence(round(NOISY * 1000), LONG_ANSWER)
    patient.decided.clear()
    assert PausePlayback in patient.speak(USUAL.interrupt_ms, LONG_ANSWER).kinds()


def test_words_that_come_after_the_voice_still_interrupt() -> None:
    replay = (
        later().speak(FEW_WORDS_MS, LONG_ANSWER).silence(400, LONG_ANSWER).read("what else", LONG_ANSWER, settled=True)
    )
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
    replay.silence(USUAL.words_ms + 100, LONG_ANSWER)
    assert replay.kinds()[-2:] == [ResumePlayback, Dismiss]
    assert replay.at(ResumePlayback) - ceased == seconds(USUAL.words_ms)


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
    assert Start not in later("es").speak(700, LONG_ANSWER).read("de acuerdo", LONG_ANSWER).kinds()
    assert Start in later("en").speak(700, LONG_ANSWER).read("de acuerdo", LONG_ANSWER).kinds()


@pytest.mark.parametrize("text", ["there was a king", "Once upon a time", "was a king!"])
def test_the_words_of_the_bot_itself_do_not_interrupt(text: str) -> None:
    saying = "Once upon a time there was a king who had three sons"
    soft = later().speak(1000, LONG_ANSWER, level=-55).read(text, LONG_ANSWER, saying=saying)
    assert soft.silence(1000, LONG_ANSWER).kinds() == []
    loud = later().speak(600, LONG_ANSWER).read(text, LONG_ANSWER, saying=saying)
    assert Start in loud.kinds()  # as loud as the user always is: they repeat it
    strange = Replay().silence(3000, LONG_ANSWER).speak(600, LONG_ANSWER)  # nobody has spoken before
    assert Start not in strange.read(text, LONG_ANSWER, saying=saying).silence(1000, LONG_ANSWER).kinds()
    assert Start in later().speak(600, LONG_ANSWER).read(text, LONG_ANSWER, saying="Something else").kinds()


def test_frames_of_echo_are_no_voice() -> None:
    replay = later().hear(ms=5000, voice=1.0, bot=LONG_ANSWER, echo=0.8, level=ECHOED)
    assert replay.decided == []
    replay.hear(ms=600, voice=1.0, bot=LONG_ANSWER, echo=0.2)
    assert replay.kinds() == [Duck, Listen, PausePlayback]


def test_two_short_words_that_nobody_expects_are_a_misheard_acknowledgement() -> None:
    def after(ms: int, text: str) -> list[type]:
        replay = later().speak(ms, LONG_ANSWER).silence(220, LONG_ANSWER).read(text, LONG_ANSWER, settled=True)
        return replay.silence(1000, LONG_ANSWER).kinds()

    assert after(300, "Of her.")[-2:] == [ResumePlayback, Dismiss]
    assert after(300, "Um-hum, oh.")[-2:] == [ResumePlayback, Dismiss]
    assert Start in after(300, "No.")
    assert Start in after(300, "Hold on.")
    assert Start in after(FEW_WORDS_MS + 20, "Of her.")


def test_a_voice_that_nobody_could_doubt_halts_the_bot_sooner() -> None:
    def halted(probability: float, settings: TurnSettings = USUAL) -> float:
        replay = Replay(settings).silence(2000, LONG_ANSWER)
        began = replay.now
        return replay.hear(ms=600, voice=probability, bot=LONG_ANSWER).at(PausePlayback) - began

    assert halted(0.9) == seconds(USUAL.interrupt_ms)
    assert halted(0.99) == seconds(USUAL.interrupt_ms / USUAL.clear_weight)
    assert halted(0.99, replace(USUAL, clear_weight=1.0)) == seconds(USUAL.interrupt_ms)


def test_noise_in_which_the_bot_is_never_heard_proves_that_there_is_no_echo() -> None:
    replay = Replay().hear(ms=UNVOICED_MS, voice=0.0, level=SILENT + 1, bot=GREETING)
    began = replay.now
    replay.speak(600, GREETING)
    assert replay.at(PausePlayback) - began == seconds(USUAL.interrupt_ms)


def test_soft_voices_do_not_interrupt() -> None:
    """A television, much softer than the user was before."""
    replay = later().speak(5000, LONG_ANSWER, level=SOFT).silence(1000, LONG_ANSWER)
    assert replay.kinds() == []
    assert PausePlayback in later().speak(1000, LONG_ANSWER, level=SOFT + 2).kinds()
    unknown = Replay().silence(2000, LONG_ANSWER).speak(1000, LONG_ANSWER, level=SOFT)  # nobody spoke before
    assert PausePlayback in unknown.kinds()


def test_what_the_room_is_full_of_does_not_interrupt() -> None:
    """A television that nobody takes for a voice until somebody in it speaks."""

    def in_room(level: float) -> Replay:
        replay = Replay().hear(ms=10_000, voice=0.1, level=level, bot=LONG_ANSWER)
        assert replay.decided == []
        return replay

    room = -45.0
    assert PausePlayback not in in_room(room).speak(1000, LONG_ANSWER, level=room + 2).kinds()
    assert PausePlayback in in_room(room).speak(1000, LONG_ANSWER, level=room + 20).kinds()
    assert PausePlayback in in_room(-70.0).speak(1000, LONG_ANSWER, level=room + 2).kinds()
    assert PausePlayback in in_room(-22.0).speak(1000, LONG_ANSWER).kinds()  # who is this loud is near


def test_unsure_voice_does_not_interrupt() -> None:
    replay = later().hear(ms=3000, voice=0.65, bot=LONG_ANSWER).silence(1000, LONG_ANSWER)
    assert replay.kinds() == []


def test_the_first_seconds_of_the_bot_need_more() -> None:
    first, then = Replay().hear(ms=1200, voice=0.0, level=SILENT + 1), later()
    for replay in (first, then):
        replay.decided.clear()
        began = replay.now
        replay.speak(1000, GREETING, level=LOUD - 2)
        assert replay.at(PausePlayback) - began == seconds(USUAL.interrupt_ms * (EARLY if replay is first else 1))


def test_a_voice_at_the_microphone_needs_no_more_in_the_first_seconds() -> None:
    replay = Replay().speak(1000, GREETING, level=LOUD + 2)
    assert replay.at(PausePlayback) == seconds(USUAL.interrupt_ms)


def test_clatter_is_no_voice() -> None:
    """A keyboard: sure and loud for a moment, again and again."""
    replay = later()
    for _ in range(30):
        replay.hear(ms=20, voice=0.9, bot=LONG_ANSWER).silence(140, LONG_ANSWER)
    assert not NEVER & set(replay.kinds())
    assert Listen not in replay.kinds()


def test_a_bot_that_only_thinks_waits_for_who_goes_on() -> None:
    replay = Replay().speak(1000).give_back()
    assert replay.kinds()[-1] is End
    replay.decided.clear()
    replay.speak(USUAL.onset_ms, THINKING)
    assert replay.kinds() == [Listen, PausePlayback]  # it does not begin to speak now
    replay.speak(FEW_WORDS_MS - USUAL.onset_ms, THINKING)
    assert Start not in replay.kinds()
    replay.read("and", THINKING)
    start = replay.all(Start)[0]
    assert (start.turn_id, start.continued, start.interrupts) == (1, True, True)


def test_a_noise_while_it_thinks_lets_it_go_on() -> None:
    replay = Replay().speak(1000).give_back().speak(100, THINKING).silence(USUAL.words_ms + 100, THINKING)
    assert replay.kinds()[-4:] == [PausePlayback, Pause, ResumePlayback, Dismiss]


def test_an_answer_over_the_last_word_of_the_bot_is_a_turn() -> None:
    """It falls silent between the user's "yes" and the time at which that would have been nothing."""
    replay = later().speak(300, LONG_ANSWER).silence(100, LONG_ANSWER).silence(20)
    assert Start not in replay.kinds()  # it may be the bot's echo
    replay.read("yes")
    replay.silence(20)
    assert replay.kinds()[-2:] == [ResumePlayback, Start]
    assert not replay.all(Start)[0].interrupts
    assert replay.give_back().kinds()[-1] is End
    stubborn = Replay(interruptible=False).speak(300, LONG_ANSWER).silence(100, LONG_ANSWER).give_back()
    assert Start not in stubborn.kinds()  # it said that it does not listen


def test_who_speaks_during_the_last_words_of_the_bot_answers() -> None:
    """They are heard to their end, and then the user has had the turn all along."""
    ending = BotState(busy=True, audible=True, played_ms=2500, left_ms=500, answering=True)
    replay = later()
    began = replay.now
    replay.speak(500, ending)
    assert replay.kinds() == [Listen]
    replay.speak(OUTLASTING_MS - 20)
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
    assert replay.at(ResumePlayback) - replay.at(Duck) == seconds(PROVEN_MS)
    assert replay.at(Duck) - began <= 0.06
    assert perhaps(replay.silence(500, LONG_ANSWER), 500).kinds()[2:] == []  # nor is it believed for a while
    assert perhaps(replay.silence(2000, LONG_ANSWER), 100).kinds()[2:] == [Duck]
    assert perhaps(later(), 500, level=SOFT).decided == []
    assert perhaps(later(), 500, level=ECHOED, echo=0.9).decided == []


@pytest.mark.parametrize(("played_ms", "continued"), [(0, True), (1999, True), (2000, False), (60_000, False)])  # 8.5
def test_continuation(played_ms: int, *, continued: bool) -> None:
    bot = BotState(busy=True, audible=True, played_ms=played_ms, answering=True)
    start = later().speak(700, bot).read("no, wait", bot).all(Start)[0]
    assert (start.continued, start.turn_id) == (continued, 1 if continued else 2)


def test_a_greeting_is_never_continued() -> None:
    first = Replay().speak(700, GREETING).read("no, wait", GREETING).all(Start)[0]
    assert (first.turn_id, first.continued) == (1, False)
    again = later().speak(700, GREETING).read("no, wait", GREETING).all(Start)[0]
    assert (again.turn_id, again.continued) == (2, False)
    nothing_to_continue = Replay().speak(700, ANSWER).read("no, wait", ANSWER).all(Start)[0]
    assert (nothing_to_continue.turn_id, nothing_to_continue.continued) == (1, False)


def test_who_is_released_while_the_bot_yields_lets_it_go_on() -> None:
    assert later().speak(40, LONG_ANSWER).release().kinds() == [Duck, ResumePlayback]
    assert later().speak(300, LONG_ANSWER).release().kinds()[-2:] == [ResumePlayback, Dismiss]


@given(st.lists(st.tuples(st.integers(20, 500), st.floats(0.7, 1.0), st.integers(100, 1500)), max_size=10))
def test_soft_or_echoed_or_short_sounds_never_interrupt(sounds: list[tuple[int, float, int]]) -> None:
    short = round(USUAL.interrupt_ms / USUAL.clear_weight) - 40
    replay = later()
    for n, (ms, voice, pause) in enumerate(sounds):
        match n % 3:
            case 0:
                replay.hear(ms=ms, voice=voice, bot=LONG_ANSWER, level=SOFT)
            case 1:
                replay.hear(ms=ms, voice=voice, bot=LONG_ANSWER, level=ECHOED, echo=0.9)
            case 2:
                replay.hear(ms=min(ms, short), voice=voice, bot=LONG_ANSWER)
        replay.silence(pause, LONG_ANSWER)
    assert not NEVER & set(replay.kinds())
    replay.silence(USUAL.words_ms, LONG_ANSWER)
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


def test_noise_does_not_keep_a_thinking_bot_silent() -> None:
    replay = Replay().speak(1000).give_back()
    replay.decided.clear()
    replay.speak(9000, THINKING)
    assert replay.kinds().count(PausePlayback) == 1
    assert replay.at(ResumePlayback) < replay.now - 5


def test_silence_while_the_bot_speaks_proves_that_there_is_no_echo() -> None:
    """Then the first seconds of the bot need no more voice than later ones."""
    heard = Replay().silence(UNECHOED_MS, LONG_ANSWER)
    began = heard.now
    heard.speak(600, LONG_ANSWER)
    assert heard.at(PausePlayback) - began == seconds(USUAL.interrupt_ms)
    unsure = Replay().hear(ms=1200, voice=0.0, level=SILENT + 1)
    unsure.hear(ms=UNECHOED_MS, voice=0.0, level=SILENT + 1, bot=LONG_ANSWER)
    began = unsure.now
    unsure.speak(600, LONG_ANSWER, level=LOUD - 2)
    assert unsure.at(PausePlayback) - began == seconds(USUAL.interrupt_ms * EARLY)


def test_voice_that_does_not_stand_out_of_the_room_lowers_the_bot_for_a_moment_at_most() -> None:
    replay = later()
    for _ in range(150):
        replay.hear_frame(Voice(0.6, USER, 0.0, perhaps=True), LONG_ANSWER)
    assert replay.kinds()[:2] == [Duck, ResumePlayback]
    assert replay.at(ResumePlayback) - replay.at(Duck) == seconds(PROVEN_MS)


def test_many_words_need_loud_voice() -> None:
    """Those of a television behind a cough are not the user's."""
    text = "the weather will be fine tomorrow"
    replay = later().speak(160, LONG_ANSWER).hear(ms=3000, voice=0.6, bot=LONG_ANSWER).read(text, LONG_ANSWER)
    assert Start not in replay.kinds()
    assert Start in later().speak(2000, LONG_ANSWER).read(text, LONG_ANSWER).kinds()


def test_one_word_of_the_bot_is_no_answer_until_another_could_have_come() -> None:
    """The first word of an echo, when the bot has ended."""

    def over_the_end(text: str) -> Replay:
        replay = (
            Replay().silence(3000, GREETING).speak(300, GREETING, level=-35).read(text, GREETING, saying="help you")
        )
        return replay.silence(LONE_ECHO_MS - 100)

    assert Start not in over_the_end("you").kinds()
    assert Start in over_the_end("you").silence(200).kinds()
    assert Start in over_the_end("tomorrow").kinds()
