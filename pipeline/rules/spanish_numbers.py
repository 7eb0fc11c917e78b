"""Numbers and sums in Spanish words. Words are written without accents, as recognisers often leave them out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from pipeline.rules.arithmetic import LARGEST, Instruction, Lexicon, Token

ONES = [
    *("cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve", "diez"),
    *("once", "doce", "trece", "catorce", "quince", "dieciséis", "diecisiete", "dieciocho", "diecinueve", "veinte"),
    *("veintiuno", "veintidós", "veintitrés", "veinticuatro", "veinticinco", "veintiséis", "veintisiete"),
    *("veintiocho", "veintinueve"),
]
TENS = {30: "treinta", 40: "cuarenta", 50: "cincuenta", 60: "sesenta", 70: "setenta", 80: "ochenta", 90: "noventa"}
HUNDREDS = [
    *("", "ciento", "doscientos", "trescientos", "cuatrocientos", "quinientos"),
    *("seiscientos", "setecientos", "ochocientos", "novecientos"),
]
THOUSAND_MILLIONS = "millardos"
"""One word for "mil millones" while a number is read; see ``joined``."""

ACCENTS = str.maketrans("áéíóúü", "aeiouu")

OPERATORS: dict[str, tuple[Token, ...]] = {
    "elevado a la potencia de": ("^",),
    "multiplicado por": ("*",),
    "dividido entre": ("/",),
    "dividido para": ("/",),
    "dividido por": ("/",),
    "por ciento de": ("%",),
    "porciento de": ("%",),
    "al cuadrado": ("^", Fraction(2)),
    "elevado a": ("^",),
    "al cubo": ("^", Fraction(3)),
    "% de": ("%",),
    **dict.fromkeys(["mas", "sumado a", "y", "+"], ("+",)),
    **dict.fromkeys(["menos", *"-−–"], ("-",)),
    **dict.fromkeys(["por", "veces", "de", *"x×*·"], ("*",)),
    **dict.fromkeys(["entre", "sobre", *"/÷:"], ("/",)),
    "^": ("^",),
}

LEXICON = Lexicon(
    numbers={word.translate(ACCENTS): n for n, word in enumerate(ONES)}
    | {word: n for n, word in TENS.items()}
    | {word: 100 * n for n, word in enumerate(HUNDREDS) if word}
    | {word[:-2] + "as": 100 * n for n, word in enumerate(HUNDREDS) if n > 1}
    | {"cien": 100, "un": 1, "una": 1, "veintiun": 21, "veintiuna": 21},
    scales={"mil": 10**3, "millon": 10**6, "millones": 10**6, THOUSAND_MILLIONS: 10**9, "billon": 10**12}
    | {"billones": 10**12},
    joiners=frozenset({"y"}),
    joined=frozenset(TENS.values()),
    points=frozenset({"coma", "punto"}),
    articles=frozenset({"la", "el"}),
    fractions={"mitad": Fraction(1, 2), "doble": Fraction(2), "triple": Fraction(3)}
    | {"tercio": Fraction(1, 3), "tercera": Fraction(1, 3)},
    homophones={},
    operators=sorted(((tuple(words.split()), tokens) for words, tokens in OPERATORS.items()), key=lambda o: -len(o[0])),
    instructions=[
        Instruction(re.compile(r"(?:suma(?:me|r)?|suma de) (.+?)"), ("y", "mas", "con"), "+"),
        Instruction(re.compile(r"(?:multiplica(?:me|r)?|producto de) (.+?)"), ("por", "y"), "*"),
        Instruction(re.compile(r"(?:divide(?:me)?|dividir) (.+?)"), ("entre", "por"), "/"),
        Instruction(re.compile(r"(?:resta(?:le|me|r)?|quita(?:le|r)?) (.+?)"), ("a", "de"), "-", swapped=True),
        Instruction(re.compile(r"diferencia entre (.+?)"), ("y",), "-"),
    ],
    bare=frozenset({"mil"}),
)

SPOKEN = {"+": "más", "-": "menos", "*": "por", "/": "entre", "%": "por ciento de", "^": "elevado a"}
SPOKEN |= {"(": "abre paréntesis", ")": "cierra paréntesis"}

IDIOMS = {  # how one says what was calculated with
    "cero coma cinco por": "la mitad de",
    "cero coma tres tres por": "un tercio de",
    "elevado a dos": "al cuadrado",
    "elevado a tres": "al cubo",
}


def joined(text: str) -> str:
    """Lower-case text with its numbers as ``arithmetic`` reads them: 1.500,25 is 1500.25."""
    text = re.sub(r"(?<=\d)\.(?=\d{3}(?!\d))", "", text)
    text = re.sub(r"(?<=\d),(?=\d)", ".", text)
    return re.sub(r"\bmil millones\b", THOUSAND_MILLIONS, text)


def say_number(value: Fraction) -> str:
    """In words: exact when four decimal places are enough, else "aproximadamente" with two."""
    if value < 0:
        return "menos " + say_number(-value)
    if value.denominator == 1:
        return _whole(value.numerator) if value <= LARGEST else str(value.numerator)
    places = 4 if (value * 10**4).denominator == 1 else 2
    whole, decimals = divmod(round(value * 10**places), 10**places)
    digits = str(decimals).zfill(places).rstrip("0")
    words = [_whole(whole), *(["coma", *(ONES[int(d)] for d in digits)] if digits else [])]
    return " ".join(words) if places == 4 else "aproximadamente " + " ".join(words)


def say_sum(tokens: Sequence[Token]) -> str:
    """The sum as one would read it aloud."""
    text = " ".join(say_number(token) if isinstance(token, Fraction) else SPOKEN[token] for token in tokens)
    for written, idiom in IDIOMS.items():
        text = text.replace(written, idiom)
    return text


def _whole(n: int) -> str:
    for size, one, many in ((10**12, "un billón", "billones"), (10**6, "un millón", "millones")):
        if n >= size:
            count, rest = divmod(n, size)
            words = one if count == 1 else f"{_short(_whole(count))} {many}"
            return f"{words} {_whole(rest)}" if rest else words
    if n >= 1000:
        count, rest = divmod(n, 1000)
        words = "mil" if count == 1 else f"{_short(_whole(count))} mil"
        return f"{words} {_whole(rest)}" if rest else words
    if n >= 100:
        words = "cien" if n == 100 else HUNDREDS[n // 100]
        return f"{words} {_whole(n % 100)}" if n % 100 else words
    if n < 30:
        return ONES[n]
    return TENS[n - n % 10] + (f" y {ONES[n % 10]}" if n % 10 else "")


def _short(words: str) -> str:
    """Before a noun: veintiún mil, treinta y un millones."""
    if words.endswith("veintiuno"):
        return words[:-3] + "ún"
    return words[:-1] if words.endswith("uno") else words
