"""A whole call in Spanish, and calls whose language changes: the greeting, the answers and the voice go with it."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

from config.agent import AgentConfig
from pipeline.engine import CallEngines
from pipeline.llm.rules import Rules
from tests import virtual_time
from tests.pipeline.stage import Stage, check_rules, play

NOW = datetime(2026, 11, 22, 15, 5, tzinfo=UTC)
GREETINGS = {"en": "Hello.", "es": "¡Hola! ¿En qué puedo ayudarle?"}


def answer_by_rules(stage: Stage) -> None:
    """Give the stage the real rules for its language model."""
    stage.engines = dataclasses.replace(stage.engines, llm=Rules(clock=lambda: NOW))


def said(stage: Stage) -> list[str]:
    return [event.text for event in stage.log.all("bot.finished")]


def test_a_call_in_spanish() -> None:
    async def dialogue(stage: Stage) -> None:
        answer_by_rules(stage)
        await stage.greeted()
        for count, question in enumerate(("¿qué hora es?", "¿cuánto es siete más cinco?", "¿por qué?", "adiós"), 2):
            stage.person.say(question)
            await stage.event("bot.finished", count)

    stage = play(language="es-MX", greeting=GREETINGS)(dialogue)
    assert stage.log.all("call.started")[0].language == "es"
    assert said(stage) == [
        "¡Hola! ¿En qué puedo ayudarle?",
        "Son las tres y cinco de la tarde.",
        "Siete más cinco son doce.",
        "Soy un pequeño conjunto de reglas fijas y no sé contestar a eso. "
        "Puedo decir la hora y la fecha, hacer cuentas, deletrear, contar y repetir lo que usted diga.",
        "¡Adiós! Ha sido un placer hablar con usted.",
    ]
    assert stage.stt.languages == ["es-MX"]
    assert {language for _, language in stage.tts.voices} == {"es-MX"}
    assert stage.log.all("error") == []


def test_a_switch_in_the_middle_of_a_call() -> None:
    async def dialogue(stage: Stage) -> None:
        answer_by_rules(stage)
        await stage.greeted()
        stage.person.say("what is seven plus five?")
        await stage.event("bot.finished", 2)
        stage.call.on_message('{"action":"configure","language":"es"}')
        stage.person.say("¿cuánto es siete más cinco?")
        await stage.event("bot.finished", 3)

    stage = play(greeting=GREETINGS)(dialogue)
    assert said(stage) == ["Hello.", "Seven plus five is twelve.", "Siete más cinco son doce."]
    assert [event.language for event in stage.log.all("call.updated")] == ["es"]


def test_a_spanish_acknowledgement_does_not_interrupt() -> None:
    async def dialogue(stage: Stage) -> None:
        stage.person.say("cuénteme")
        await stage.event("bot.speaking")
        stage.person.pause(600)
        stage.person.say("sí claro vale", level=-48)  # too soft to interrupt by itself
        await stage.event("bot.finished")

    numbers = "uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece."
    stage = play(numbers, greeting="", language="es")(dialogue)
    assert stage.log.all("bot.interrupted") == []


class Deaf(Stage):
    """Nobody here speaks the agent's language, which shows only after its engines could not be loaded."""

    failed = False

    async def ready(self, agent: AgentConfig) -> None:
        await super().ready(agent)
        self.failed = True

    def choose(self, agent: AgentConfig) -> CallEngines:
        chosen = super().choose(agent)
        if not self.failed:
            return chosen
        warning = "pico could not start; the call is in English"
        return dataclasses.replace(chosen, language="en", warnings=(warning,))


def test_a_language_that_is_missing_is_told_and_the_call_is_in_english() -> None:
    async def dialogue() -> None:
        stage = Deaf(language="es", greeting=GREETINGS)
        answer_by_rules(stage)
        stage.line.start(stage.call)
        await stage.greeted()
        stage.person.say("what is seven plus five?")
        await stage.event("bot.finished", 2)
        await stage.hang_up()
        assert said(stage) == ["Hello.", "Seven plus five is twelve."]
        assert [event.language for event in stage.log.all("call.updated")] == ["en"]
        [error] = stage.log.all("error")
        assert (error.code, error.error) == ("FALLBACK", "pico could not start; the call is in English")
        check_rules(stage.log)

    virtual_time.run(dialogue())
