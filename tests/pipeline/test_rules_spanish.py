from __future__ import annotations

import random
from contextlib import suppress
from datetime import UTC, datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.llm import GenerateOptions, TextDelta
from pipeline.llm.rules import Rules, answer
from pipeline.rules.arithmetic import NotASumError, Token, evaluate, read_number, tokenize
from pipeline.rules.spanish import CANNOT
from pipeline.rules.spanish_numbers import ACCENTS, LEXICON, joined, say_number, say_sum

NOW = datetime(2026, 11, 22, 15, 5, tzinfo=UTC)


def ask(text: str, previous: str = "") -> str | None:
    return answer(text, language="es-MX", now=NOW, previous=previous)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("¿Qué hora es?", "Son las tres y cinco de la tarde."),
        ("¿Me puede decir la hora, por favor?", "Son las tres y cinco de la tarde."),
        ("¿Qué oras?", "Son las tres y cinco de la tarde."),
        ("Hola, ¿qué hora es?", "Son las tres y cinco de la tarde."),
        ("¿Cuál es la fecha de hoy?", "Hoy es domingo, 22 de noviembre de 2026."),
        ("¿A qué día estamos?", "Hoy es domingo, 22 de noviembre de 2026."),
        ("¿Qué día es hoy?", "Hoy es domingo."),
        ("¿Qué día es mañana?", "Mañana es lunes."),
        ("¿Qué día fue ayer?", "Ayer fue sábado."),
        ("¿En qué mes estamos?", "Estamos en noviembre."),
        ("¿En qué año estamos?", "Estamos en 2026."),
        ("¿Cuánto es siete más cinco?", "Siete más cinco son doce."),
        ("¿Cuánto es 7 más 5?", "Siete más cinco son doce."),
        ("Cuanto es 7 mas 5", "Siete más cinco son doce."),
        ("¿Cuánto es 7+5?", "Siete más cinco son doce."),
        ("Mara, ¿cuánto son doce por cuatro, por favor?", "Doce por cuatro son cuarenta y ocho."),
        ("12x4", "Doce por cuatro son cuarenta y ocho."),
        ("¿Cuánto da veintiuno entre tres?", "Veintiuno entre tres son siete."),
        ("¿Cuánto es diez dividido entre tres?", "Diez entre tres son aproximadamente tres coma tres tres."),
        ("Dos menos cinco.", "Dos menos cinco son menos tres."),
        ("Dos menos uno.", "Dos menos uno es uno."),
        ("¿Cuánto es el 20% de 1.500?", "Veinte por ciento de mil quinientos son trescientos."),
        ("¿Cuál es la mitad de diez?", "La mitad de diez son cinco."),
        ("¿Cuánto es el doble de siete?", "Dos por siete son catorce."),
        ("Cinco al cuadrado.", "Cinco al cuadrado son veinticinco."),
        ("Suma siete y cinco.", "Siete más cinco son doce."),
        ("Resta cinco a siete.", "Siete menos cinco son dos."),
        ("Multiplica tres por cuatro.", "Tres por cuatro son doce."),
        ("¿Cuánto es 3,5 más 1,5?", "Tres coma cinco más uno coma cinco son cinco."),
        ("treinta y un mil más dos", "Treinta y un mil más dos son treinta y un mil dos."),
        ("dos mil millones más un millón mil", "Dos mil millones más un millón mil son dos mil un millones mil."),
        ("¿Cuánto es uno dividido por cero?", "No se puede dividir entre cero."),
        ("¿Cuánto es siete más la luna?", None),
        ("¿Cuánto es cinco?", None),
        ("Repite conmigo: ¡Hola, mundo!", "¡Hola, mundo!"),
        ("Repite después de mí, el perro azul.", "El perro azul."),
        ("Di buenos días.", "Buenos días."),
        ("Di algo bonito sobre el mar.", None),
        ("¿Puedes repetir eso?", "Era esto."),
        ("¿Podría repetirlo un poco más despacio, por favor?", "Era esto."),
        ("Deletrea la palabra gato.", "Gato se deletrea G, A, T, O."),
        ("¿Cómo se escribe mañana?", "Mañana se deletrea M, A, Ñ, A, N, A."),
        ("¿Cómo se deletrea canción?", "Canción se deletrea C, A, N, C, I, Ó, N."),
        ("Deletrea " + "x" * 41, "Deletreo una palabra corta cada vez."),
        ("Cuenta hasta cinco.", "Uno, dos, tres, cuatro, cinco."),
        ("¿Puedes contar del 5 al 1?", "Cinco, cuatro, tres, dos, uno."),
        ("Cuenta atrás desde tres.", "Tres, dos, uno."),
        ("Cuenta hasta un millón.", "Eso es demasiado para mí. Cuento hasta cien números cada vez."),
        ("¡Hola!", "¡Hola! ¿En qué puedo ayudarle?"),
        ("Hola, buenos días.", "¡Buenos días! ¿En qué puedo ayudarle?"),
        ("Hola, ¿cómo estás?", "Muy bien, gracias. ¿En qué puedo ayudarle?"),
        ("Muchas gracias.", "De nada."),
        ("Vale, gracias. ¡Adiós!", "¡Adiós! Ha sido un placer hablar con usted."),
        ("Me llamo Ana María.", "Mucho gusto, Ana María."),
        ("¿Cuál es la capital de Francia?", None),
        ("¿A qué hora abre la tienda?", None),
        ("", None),
        ("¿?", None),
        ("a" * 601, None),
    ],
)
def test_spanish(question: str, expected: str | None) -> None:
    assert ask(question, previous="Era esto.") == expected


@pytest.mark.parametrize(
    "question", ["Cuéntame un chiste.", "Cuéntame un cuento", "¿Qué puedes hacer?", "¡Ayuda!", "¿Quién eres?"]
)
def test_small_talk(question: str) -> None:
    assert len(ask(question) or "") > 20


@pytest.mark.parametrize(
    ("hour", "minute", "expected"),
    [
        (0, 0, "Son las doce de la noche."),
        (1, 30, "Es la una y media de la madrugada."),
        (6, 1, "Son las seis y un minuto de la mañana."),
        (12, 15, "Son las doce y cuarto del mediodía."),
        (13, 45, "Es la una y cuarenta y cinco de la tarde."),
        (23, 59, "Son las once y cincuenta y nueve de la noche."),
    ],
)
def test_time_of_day(hour: int, minute: int, expected: str) -> None:
    assert answer("qué hora es", language="es", now=NOW.replace(hour=hour, minute=minute)) == expected


async def test_what_is_not_known_is_admitted_in_spanish() -> None:
    deltas = Rules(clock=lambda: NOW).generate(
        [{"role": "user", "content": "¿Por qué el cielo es azul?"}], [], GenerateOptions(language="es-ES")
    )
    assert "".join([delta.text async for delta in deltas if isinstance(delta, TextDelta)]) == CANNOT


def pieces(text: str) -> list[str]:
    return joined(text.translate(ACCENTS)).split()


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (16, "dieciséis"),
        (21, "veintiuno"),
        (31, "treinta y uno"),
        (100, "cien"),
        (101, "ciento uno"),
        (999, "novecientos noventa y nueve"),
        (1000, "mil"),
        (21_000, "veintiún mil"),
        (41_000, "cuarenta y un mil"),
        (10**6, "un millón"),
        (21 * 10**6, "veintiún millones"),
        (10**9, "mil millones"),
        (2_500 * 10**6, "dos mil quinientos millones"),
        (10**12, "un billón"),
    ],
)
def test_numbers(n: int, words: str) -> None:
    assert say_number(Fraction(n)) == words


@given(st.integers(0, 10**12))
def test_numbers_are_read_as_they_are_said(n: int) -> None:
    said = pieces(say_number(Fraction(n)))
    assert read_number(said, 0, LEXICON) == (Fraction(n), len(said))
    assert read_number(pieces(f"{n:,}".replace(",", ".")), 0, LEXICON) == (Fraction(n), 1)


@given(st.decimals(0, 10**6, places=4))
def test_decimals_are_read_as_they_are_said(value: object) -> None:
    fraction = Fraction(str(value))
    said = pieces(say_number(fraction))
    assert read_number(said, 0, LEXICON) == (fraction, len(said))


numbers = st.integers(0, 9999).map(Fraction)
steps = st.lists(st.tuples(st.sampled_from("+-*/"), numbers), min_size=1, max_size=6)
sums = st.builds(lambda first, rest: [first, *(token for step in rest for token in step)], numbers, steps)


@given(sums, st.randoms())
def test_sums_in_words_and_in_digits_are_the_same(tokens: list[Token], chance: random.Random) -> None:
    written = " ".join(
        token if not isinstance(token, Fraction) else str(token) if chance.random() < 0.5 else say_number(token)
        for token in tokens
    )
    assert tokenize(joined(written.translate(ACCENTS)), LEXICON) == tokens
    assert tokenize(joined(say_sum(tokens).translate(ACCENTS)), LEXICON) == tokens
    frame = chance.choice(["¿Cuánto es {}?", "cuanto son {}", "{} igual a", "Eh, {}, por favor."])
    assert ask(frame.format(written)) == ask(" ".join(map(str, tokens)))


@given(
    st.lists(
        st.one_of(
            st.sampled_from([*"()+-*/^%.,", "1", "0", "cinco", "y", "mil", "millones", "mitad", "de"]),
            st.text(max_size=4),
        )
    )
)
def test_no_text_is_an_error(parts: list[str]) -> None:
    text = " ".join(parts)
    ask(text)
    with suppress(NotASumError, ZeroDivisionError):
        evaluate(tokenize(joined(text.lower()), LEXICON))


@given(st.sampled_from(["qué fecha es hoy", "qué hora es", "cuenta hasta tres", "hola"]), st.randoms())
def test_case_accents_and_punctuation_do_not_matter(question: str, chance: random.Random) -> None:
    text = "".join(chance.choice([char.upper(), char, char.translate(ACCENTS)]) for char in question)
    assert ask(chance.choice(["¿", "¡", ""]) + text + chance.choice(["", ".", "?", "!", " ..."])) == ask(question)
    assert ask(text) is not None
