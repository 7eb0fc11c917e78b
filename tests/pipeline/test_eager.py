"""Answers that are prepared before the turn is over: confirmed they are heard sooner, withdrawn they never were."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from media.audio import FRAME_MS, OUTPUT_FRAME
from media.playout import Playout
from pipeline.answering import Answering
from pipeline.briefing import Question
from pipeline.conversation import Conversation
from pipeline.engine import EngineError
from pipeline.hearing import Turn
from pipeline.llm import GenerateOptions
from pipeline.skills import Skills
from pipeline.speaking import Memory, Speaking, Utterance
from pipeline.tools import Tools
from pipeline.voicing import Voice, Voicing
from tests import virtual_time
from tests.pipeline.scripted import Log, ScriptedLlm, ScriptedTts, spoken
from tests.pipeline.stage import Stage, play

APOLOGY = spoken(["Sorry,", "that", "failed."])
LONG = " ".join(f"This is sentence number {number} of a very long answer." for number in range(60))


class Bot:
    """The bot's side of a call, whose playout is drained by a clock."""

    def __init__(self, *answers: Any) -> None:
        self.llm, self.tts, self.playout = ScriptedLlm(*answers), ScriptedTts(), Playout()
        self.log = Log(asyncio.get_running_loop().time)
        self.said: list[tuple[str, str]] = []
        self.speaking = Speaking(self.playout, self.log.publish, self._remember)
        self.conversation = Conversation()
        self.answering = Answering(
            voicing=Voicing(self.speaking, self.log.publish, Voice(self.tts, "", "en", 1.0, APOLOGY)),
            speaking=self.speaking,
            conversation=self.conversation,
            tools=Tools(self.log.publish, self.conversation, Skills(self.log.publish)),
            filler=lambda: "",
            prepare=self._prepare,
            publish=self.log.publish,
        )

    def _remember(self, utterance: Utterance, heard: str) -> None:
        if heard and utterance.memory is Memory.HISTORY:
            self.said.append((utterance.id, heard))

    async def _prepare(self, turn: int) -> None:
        """Nobody is asked."""

    def turn(self, text: str, number: int = 1) -> Turn:
        now = asyncio.get_running_loop().time()
        return Turn(number, texts=[text], silent_since=now - 0.4, decided=now, final=now)

    def prepare(self, text: str, number: int = 1) -> None:
        self.answering.prepare(self.turn(text, number), self._question(text))

    def answer(self, text: str, number: int = 1) -> None:
        self.answering.answer(self.turn(text, number), lambda: self._question(text))

    @property
    def open_streams(self) -> int:
        return self.llm.open_streams + self.tts.open_streams

    async def run(self) -> None:
        while True:
            await asyncio.sleep(FRAME_MS / 1000)
            if self.playout.take(OUTPUT_FRAME) is not None:
                self.speaking.advance(self.playout.played)

    def _question(self, text: str) -> Question:
        return Question(self.llm, [{"role": "user", "content": text}], GenerateOptions())


def with_bot(scene: Callable[[Bot], Awaitable[None]], *answers: Any) -> Bot:
    async def main() -> Bot:
        bot = Bot(*answers)
        clock = asyncio.create_task(bot.run())
        await scene(bot)
        await bot.answering.aclose()
        assert bot.open_streams == 0
        clock.cancel()
        await asyncio.gather(clock, return_exceptions=True)
        return bot

    return virtual_time.run(main())


def assert_unheard_of(bot: Bot) -> None:
    """Nobody can tell that something is prepared."""
    assert bot.log.events == []
    assert not bot.answering.busy
    assert not bot.speaking.active
    assert bot.playout.written == 0


async def heard(bot: Bot) -> None:
    async with asyncio.timeout(60):
        while bot.answering.busy or bot.speaking.active:
            await asyncio.sleep(0.01)


def test_what_is_prepared_is_heard_at_once_when_it_is_confirmed() -> None:
    async def scene(bot: Bot) -> None:
        bot.prepare("what is seven")
        await asyncio.sleep(5)
        assert_unheard_of(bot)
        assert bot.tts.voices  # and yet the first clause is spoken already
        bot.answer("what is seven")
        await heard(bot)

    bot = with_bot(scene, "Seven is a number. It is a nice one.")
    assert len(bot.llm.asked) == 1
    assert bot.log.names("bot.word") == [
        "llm.thinking",
        "llm.response",
        "bot.speaking",
        "turn.latency",
        "message.confirmed",
        "bot.finished",
    ]
    assert bot.log.at("bot.speaking") - bot.log.at("llm.thinking") <= 0.04
    assert bot.log.all("bot.finished")[0].text == "Seven is a number. It is a nice one."
    latency = bot.log.all("turn.latency")[0]
    assert latency.total_ms == sum(latency.stages.values()) == pytest.approx(400, abs=40)
    assert latency.stages["llm"] == latency.stages["clause"] == latency.stages["tts"] == 0


def test_a_turn_that_is_over_before_the_answer_is_ready_waits_for_the_rest_of_it() -> None:
    async def scene(bot: Bot) -> None:
        bot.llm.first_token = 1.0
        bot.prepare("what is seven")
        await asyncio.sleep(0.6)
        bot.answer("what is seven")
        await heard(bot)

    bot = with_bot(scene, "A number.")
    assert len(bot.llm.asked) == 1
    assert bot.log.at("bot.speaking") - bot.log.at("llm.thinking") == pytest.approx(0.45, abs=0.1)
    assert bot.log.all("bot.finished")[0].text == "A number."


@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.21, 0.3, 1.0, 5.0])
def test_what_is_withdrawn_vanishes(seconds: float) -> None:
    async def scene(bot: Bot) -> None:
        bot.prepare("what is seven")
        await asyncio.sleep(seconds)
        bot.answering.withdraw()
        await asyncio.sleep(0.01)
        assert bot.open_streams == 0
        await asyncio.sleep(1)
        assert_unheard_of(bot)
        assert bot.said == []

    with_bot(scene, LONG)


@pytest.mark.parametrize(("text", "number"), [("what is seven plus five", 1), ("what is seven", 2)])
def test_another_turn_than_the_one_that_was_guessed_is_answered_anew(text: str, number: int) -> None:
    async def scene(bot: Bot) -> None:
        bot.prepare("what is seven")
        await asyncio.sleep(1)
        bot.answer(text, number)
        await heard(bot)

    bot = with_bot(scene, "A number.", "Twelve.")
    assert [asked[-1]["content"] for asked in bot.llm.asked] == ["what is seven", text]
    assert [event.text for event in bot.log.all("bot.finished")] == ["Twelve."]
    assert len(bot.log.all("llm.thinking")) == len(bot.log.all("llm.response")) == 1


def test_only_the_last_guess_is_prepared() -> None:
    async def scene(bot: Bot) -> None:
        for text in ("what", "what is", "what is seven"):
            bot.prepare(text)
            await asyncio.sleep(0.5)
            assert bot.llm.open_streams + bot.tts.open_streams <= 2
        bot.answer("what is seven")
        await heard(bot)

    bot = with_bot(scene, "One.", "Two.", "Three.")
    assert [event.text for event in bot.log.all("bot.finished")] == ["Three."]


def test_a_failure_in_secret_is_told_when_it_matters() -> None:
    async def scene(bot: Bot) -> None:
        bot.prepare("what is seven")
        await asyncio.sleep(1)
        assert_unheard_of(bot)
        bot.answer("what is seven")
        await heard(bot)

    thoughtless = with_bot(scene, [EngineError("out of memory")])
    assert [event.code for event in thoughtless.log.all("llm.error")] == ["LLM_FAILED"]
    assert thoughtless.log.all("bot.finished")[0].text == "Sorry, that failed."

    async def mute(bot: Bot) -> None:
        bot.tts.failing = "*"
        await scene(bot)

    silent = with_bot(mute, "Seven.")
    assert [event.code for event in silent.log.all("error")] == ["TTS_FAILED"]
    assert silent.log.all("bot.finished")[0].text == "Sorry, that failed."

    broken = with_bot(scene, [RuntimeError("a bug")])
    assert [event.code for event in broken.log.all("error")] == ["INTERNAL"]


@pytest.mark.parametrize("error", [EngineError("out of memory"), RuntimeError("a bug")])
def test_a_failure_of_what_is_withdrawn_is_nobody_s_business(error: Exception) -> None:
    async def scene(bot: Bot) -> None:
        bot.prepare("what is seven")
        await asyncio.sleep(1)
        bot.answering.withdraw()
        await asyncio.sleep(1)
        assert_unheard_of(bot)

    with_bot(scene, [error])


def test_little_is_prepared_of_a_long_answer() -> None:
    async def scene(bot: Bot) -> None:
        bot.llm.token_seconds = 0.0
        bot.prepare("tell me a story")
        await asyncio.sleep(30)
        assert_unheard_of(bot)
        assert bot.llm.open_streams == bot.tts.open_streams == 1  # both wait
        bot.answer("tell me a story")
        await asyncio.sleep(10)
        bot.answering.stop()
        bot.speaking.interrupt("user_spoke")

    bot = with_bot(scene, LONG)
    assert LONG.startswith(" ".join(event.word for event in bot.log.all("bot.word")))


def test_an_answer_in_secret_does_not_disturb_the_reply_that_is_heard() -> None:
    async def scene(bot: Bot) -> None:
        bot.answering.greet("Good morning to you.")
        await asyncio.sleep(0.3)
        bot.prepare("hello")
        await asyncio.sleep(0.2)
        bot.answering.withdraw()
        await heard(bot)

    bot = with_bot(scene, "Hi.")
    assert [event.text for event in bot.log.all("bot.finished")] == ["Good morning to you."]
    assert not bot.speaking.answers_turn


# --- in a call


def eager_events(stage: Stage) -> list[str]:
    kinds = ("eager.turn", "turn.continued", "user.message", "turn.end", "llm.thinking", "bot.speaking", "turn.pause")
    return [event.name for _, event in stage.log.events if event.name in kinds]


def test_a_guess_that_proves_right_saves_the_time_of_thinking() -> None:
    def answered(verdict: float | None) -> Stage:
        async def dialogue(stage: Stage) -> None:
            stage.ears.verdicts.append(verdict)
            stage.person.say("what is seven")
            await stage.event("bot.finished")

        return play("Seven is a number.", greeting="")(dialogue)

    eager, plain = answered(0.99), answered(None)
    names = ["user.message", "turn.end", "llm.thinking", "bot.speaking"]
    assert eager_events(eager) == ["eager.turn", *names]
    assert eager_events(plain) == names
    assert len(eager.llm.asked) == 1
    guess, message = eager.log.all("eager.turn")[0], eager.log.all("user.message")[0]
    assert (guess.message_id, guess.text, guess.turn_id) == (message.message_id, message.text, message.turn_id)
    assert guess.probability > 0.7
    saved = plain.log.all("turn.latency")[0].total_ms - eager.log.all("turn.latency")[0].total_ms
    assert saved >= 300
    assert eager.history() == plain.history()


def test_a_guess_that_proves_wrong_leaves_no_trace() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.ears.verdicts.append(0.99)
        stage.person.say("what is seven")
        await stage.event("eager.turn")
        stage.person.say("plus five")
        await stage.event("turn.continued")
        await asyncio.sleep(0.02)
        assert (stage.llm.open_streams, stage.tts.open_streams) == (0, 0)
        assert stage.line.playout.written == 0
        await stage.event("bot.finished")

    stage = play("A number.", "Twelve.", greeting="")(dialogue)
    assert eager_events(stage) == [
        "eager.turn",
        "turn.continued",
        "eager.turn",
        "user.message",
        "turn.end",
        "llm.thinking",
        "bot.speaking",
    ]
    assert stage.history() == [("user", "what is seven plus five"), ("assistant", "Twelve.")]
    assert stage.log.all("bot.interrupted") == []
    (wrong, right), message = stage.log.all("eager.turn"), stage.log.all("user.message")[0]
    assert wrong.turn_id == right.turn_id == message.turn_id
    assert wrong.message_id != message.message_id  # what answers the shorter one is out of date
    assert right.message_id == message.message_id


def test_a_call_that_ends_takes_what_was_prepared_with_it() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.ears.verdicts.append(0.99)
        stage.person.say("what is seven")
        await stage.event("eager.turn")
        await stage.hang_up()

    stage = play(LONG, greeting="")(dialogue)
    assert "llm.thinking" not in stage.log.names()
    assert stage.history() == []


@pytest.mark.parametrize("action", ['{"action":"mute"}', '{"action":"inject_text","text":"and quickly"}'])
def test_what_ends_the_turn_from_outside_confirms_or_replaces_the_guess(action: str) -> None:
    async def dialogue(stage: Stage) -> None:
        stage.ears.verdicts.append(0.99)
        stage.person.say("what is seven")
        await stage.event("eager.turn")
        stage.call.on_message(action)
        await stage.event("bot.finished")

    stage = play("A number.", "A number, quickly.", greeting="")(dialogue)
    asked = [messages[-1]["content"] for messages in stage.llm.asked]
    if "mute" in action:
        assert asked == ["what is seven"]
    else:
        assert asked == ["what is seven", "what is seven and quickly"]
    assert stage.history()[0] == ("user", asked[-1])
    guess, message = stage.log.all("eager.turn")[0], stage.log.all("user.message")[0]
    assert (guess.message_id == message.message_id) == (guess.text == message.text)


def test_a_guess_whose_words_the_final_takes_back_is_dropped() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.ears.verdicts.append(0.99)
        stage.person.say("hm")
        await stage.event("eager.turn")
        stage.vocabulary._words[0] = ""
        await stage.event("speech.ended")
        await asyncio.sleep(1)
        assert (stage.llm.open_streams, stage.tts.open_streams) == (0, 0)

    stage = play(LONG, greeting="")(dialogue)
    assert eager_events(stage) == ["eager.turn", "turn.continued"]
    assert stage.history() == []


def test_an_agent_whose_application_answers_prepares_nothing() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.ears.verdicts.append(0.99)
        stage.person.say("what is seven")
        await stage.event("turn.end")

    stage = play(greeting="", llm=None)(dialogue)
    assert eager_events(stage) == ["eager.turn", "user.message", "turn.end"]
    assert stage.llm.asked == []
