"""Which words could be all that somebody wants to say."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.completeness import LANGUAGES, MARKS, classes, completeness, evidence, load

UNFINISHED = {
    "en": [
        "I want to book a", "it was big and", "I was thinking about", "do you want the?", "it is kind of", "Well,",
        "so I went...", "so I went…", "twenty five -", "I would like", "Could you", "Can you tell me",
        "If it snows tonight", "When the doctor comes", "Because my sister", "Either the train", "My name is",
        "The parcel that you", "He told me that", "What is the", "You can write me at", "and then", "No, I",
        "I need somebody who", "It's the big house behind the", "I'm calling because", "it is very",
    ],
    "es": [
        "quiero reservar una", "la casa es", "Cuando llegue mi hermana", "entre la playa", "Me gustaría saber",
        "No me acuerdo de", "¿Me puede decir", "Llamaba porque", "El paquete que", "Quiero", "Si mi hermano", "y",
        "Me llamo", "La tienda está en la", "Creo que", "pues", "mi correo es ana arroba", "Lo necesito para el",
    ],
}  # fmt: skip

COMPLETE = {
    "en": [
        "What are you thinking about?", "Is it late?", "I want two tickets, please.", "What is that?",
        "A table for two.",
        "If it snows tonight we will have to stay at home.", "Either the train or the bus.", "Where are you from?",
        "Hello.", "hello", "Yes.", "yes", "No.", "Okay.", "Thank you.", "Good morning!", "Tell me a story.",
        "Find a hotel.", "I need a taxi.",
        "when do you open", "How are you?", "The battery is empty.", "My brother lives in Norway.", "That was all.",
        "I lost my umbrella yesterday.", "I bought a lamp last week and it doesn't work.", "No, thanks.",
    ],
    "es": [
        "¿Qué hora es?", "¿Quién es?", "gracias", "la casa está lejos", "Hola.", "sí", "No.", "Vale.", "Buenos días.",
        "Sí, gracias.", "Son las dos.", "Quiero dos entradas, por favor.", "Mi hermano vive en Noruega.",
        "Si nieva esta noche nos quedamos en casa.", "¿Cómo te llamas?", "Ayer perdí el paraguas.", "Eso es todo.",
        "Cuéntame un cuento.", "O el tren o el autobús.", "No funciona la lámpara.",
    ],
}  # fmt: skip

DICTATED = [
    ("My phone number is five, five, three.", "en", False),
    ("My phone number is 553-290.", "en", False),
    ("My phone number is 553-290-418.", "en", True),
    ("The code on the card is 771.", "en", False),
    ("Mi número es seis uno siete", "es", False),
    ("Mi número es 617 402 985.", "es", True),
]


@pytest.mark.parametrize(("text", "language"), [(text, name) for name, texts in UNFINISHED.items() for text in texts])
def test_more_is_expected(text: str, language: str) -> None:
    found = completeness(text, language)
    assert found is not None
    assert found < 0.5, evidence(text, language)


@pytest.mark.parametrize(("text", "language"), [(text, name) for name, texts in COMPLETE.items() for text in texts])
def test_that_is_all(text: str, language: str) -> None:
    found = completeness(text, language)
    assert found is not None
    assert found > 0.5, evidence(text, language)


@pytest.mark.parametrize(("text", "language", "done"), DICTATED)
def test_a_number_that_is_read_out_is_waited_for(text: str, language: str, *, done: bool) -> None:
    found = completeness(text, language)
    assert found is not None
    assert (found > 0.5) == done, evidence(text, language)


@pytest.mark.parametrize("language", ["en", "en-GB", "es", "es-MX", "fr", ""])
@pytest.mark.parametrize("text", ["", "...", "¿?", " , "])
def test_without_words_nothing_is_known(text: str, language: str) -> None:
    assert completeness(text, language) is None
    assert evidence(text, language) == []


def test_of_other_languages_only_the_mark_is_looked_at() -> None:
    assert completeness("Quelle heure est-il ?", "fr") == completeness("Wie spät ist es?", "de")
    asked, cut = completeness("Wie spät ist es?", "de"), completeness("Also,", "de")
    assert asked is not None
    assert cut is not None
    assert cut < 0.5 < asked
    assert completeness("Es ist spät.", "de") is None


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_comma_tells_that_more_comes(language: str) -> None:
    with_stop, with_comma, bare = (completeness(f"no{mark}", language) for mark in (".", ",", ""))
    assert with_stop is not None
    assert with_comma is not None
    assert bare is not None
    assert with_comma < bare < with_stop


def test_evidence_tells_why() -> None:
    found = dict(evidence("I would like to order the", "en"))
    assert found["last=the"] < 0
    assert found["class=article"] < 0
    assert sum(found.values()) < -3
    assert evidence("Well,", "en")[-1] == ("mark=,", MARKS["en"][","])


@pytest.mark.parametrize("language", LANGUAGES)
def test_case_does_not_matter_much(language: str) -> None:
    """A recogniser that writes all in small letters is understood, too."""
    for texts, done in ((UNFINISHED, False), (COMPLETE, True)):
        right = [((completeness(text.lower(), language) or 0) > 0.5) == done for text in texts[language]]
        assert sum(right) >= 0.9 * len(right)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_files_fit(language: str) -> None:
    model = load(language)
    assert 1000 < len(model.weights) < 20_000
    of_classes = {
        name.removeprefix("class=") for name in model.weights if name.startswith("class=") and " " not in name
    }
    assert {name for name in of_classes if name[0] != "-"} - {"word", "figures"} <= set(classes(language).values())


def test_it_is_fast() -> None:
    text = "I bought a lamp from you last week and when I opened the box the glass was broken so I would like to"
    completeness(text, "en")
    took = []
    for _ in range(20):
        begin = time.perf_counter()
        completeness(text, "en")
        took.append(time.perf_counter() - begin)
    assert min(took) < 0.001


@given(st.text(max_size=60), st.sampled_from(["en", "en-GB", "es", "es-MX", "fr", ""]))
def test_any_text(text: str, language: str) -> None:
    found = completeness(text, language)
    assert found is None or 0 < found < 1


@given(
    st.lists(st.sampled_from(["yes", "and", "I", "5", "'", "it's", "¿sí?", "...", "no,", "W", "email"]), max_size=12)
)
def test_any_words(words: list[str]) -> None:
    for language in LANGUAGES:
        found = completeness(" ".join(words), language)
        assert found is None or 0 < found < 1


@pytest.mark.parametrize(
    ("language", "done", "hesitating"),
    [
        ("en", "I think it was placed on Tuesday.", "I think it was placed on Tuesday, um."),
        ("en", "We need a chair.", "We need a chair, ah"),
        ("es", "Quiero una pizza.", "Quiero una pizza, eh."),
        ("es", "Está bien, ¿eh?", "Está bien, eh"),
    ],
)
def test_nobody_is_done_behind_an_um(language: str, done: str, hesitating: str) -> None:
    sure, unsure = completeness(done, language), completeness(hesitating, language)
    assert sure is not None
    assert unsure is not None
    assert unsure < 0.25
    assert sure > unsure + 0.2
