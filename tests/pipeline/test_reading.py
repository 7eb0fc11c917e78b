"""How numbers, dates, money, addresses and abbreviations are read in English and Spanish."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reading import numerals
from pipeline.speakable import speakable

ENGLISH = {
    "It costs $12.50.": "It costs twelve dollars and fifty cents.",
    "$1, $0.99, £3.99, 12,50 €, -$5": "one dollar, ninety-nine cents, three pounds and ninety-nine pence, "
    "twelve euros and fifty cents, minus five dollars",
    "$3.5 million or $1,000,000": "three point five million dollars or one million dollars",
    "$5-10 a day, $5/month": "five to ten dollars a day, five dollars per month",
    "1,234.5 and -7 and 0.05": "one thousand two hundred and thirty-four point five and minus seven "
    "and zero point zero five",
    "In 1984, since 1492, 2026.": "In nineteen eighty-four, since fourteen ninety-two, twenty twenty-six.",
    "the 1990s, the 90s, 20s": "the nineteen nineties, the nineties, twenty seconds",
    "1st, 22nd, 101st": "first, twenty-second, one hundred and first",
    "1/2, 3/4, 2 1/2, 2½, 24/7, 10/10": "one half, three quarters, two and a half, two and a half, "
    "twenty-four seven, ten out of ten",
    "50%, 3-5%, 5-10 km": "fifty percent, three to five percent, five to ten kilometers",
    "10kg, 1 kg, 20 ms, 100 km/h, 3.5 m²": "ten kilograms, one kilogram, twenty milliseconds, "
    "one hundred kilometers per hour, three point five square meters",
    "20°C, 72 °F, -5°": "twenty degrees Celsius, seventy-two degrees Fahrenheit, minus five degrees",
    "At 10:30, 10:05, 10:00, 14:05 h.": "At ten thirty, ten oh five, ten o'clock, two oh five PM.",
    "Open 9am-5pm. Come at 3 p.m. It is late.": "Open nine AM to five PM. Come at three PM. It is late.",
    "On 2026-11-22, 11/22/2026 or 22/11/2026": "On November twenty-second, twenty twenty-six, "
    "November twenty-second, twenty twenty-six or November twenty-second, twenty twenty-six",
    "Nov 22, November 5, 2026 and 22 Nov 2026": "November twenty-second, November fifth, twenty twenty-six "
    "and the twenty-second of November, twenty twenty-six",
    "2026-11-22T10:30:00Z": "November twenty-second, twenty twenty-six at ten thirty",
    "Call (555) 123-4567 or +34 600 123.": "Call five five five, one two three, four five six seven "
    "or plus three four, six zero zero, one two three.",
    "order 12345, room #7, 48213377": "order one two three, four five, room number seven, "
    "four eight two one, three three seven seven",
    "Python 3.11.2, version 3.11, v2, 3.11": "Python three point eleven point two, version three point eleven, "
    "version two, three point one one",
    "K7QX2P, COVID-19, MP3, 5-year, 4K": "K seven Q X two P, COVID nineteen, MP three, five year, four K",
    "Elizabeth II and Louis XIV in World War II": "Elizabeth the second and Louis the fourteenth in World War two",
    "Dr. Smith, 12 Oak Dr., St. Mary, Main St.": "Doctor Smith, twelve Oak Drive, Saint Mary, Main Street.",
    "e.g. this, i.e. that, approx. 5, etc. Then no. No. 5": "for example this, that is that, approximately five, "
    "et cetera. Then no. number five",
    "John.Doe+x@my-site.co.uk": "John dot Doe plus x at my dash site dot co dot uk",
    "2 + 2 = 4, 5 - 3 = 2, 6 ÷ 2, 5*3": "two plus two equals four, five minus three equals two, "
    "six divided by two, five times three",
    "~5, R&D, C++, a → b, and/or, x < 5, @bob #tag": "about five, R and D, C plus plus, a to b, and or, "
    "x is less than five, at bob hashtag tag",
    "7/10, x^2, Feb 2025, ½ mi": "seven out of ten, x to the power of two, February twenty twenty-five, one half mile",
    "Mon-Fri, the U.S. and NASA": "Monday to Friday, the U.S. and NASA",
}
SPANISH = {
    "Cuesta 12,50 €.": "Cuesta doce euros con cincuenta céntimos.",
    "1 €, 21 €, 0,99 €, 1.000.000 €, 3,5 millones de €": "un euro, veintiún euros, noventa y nueve céntimos, "
    "un millón de euros, tres coma cinco millones de euros",
    "200 £ y 1 £, $12.50": "doscientas libras y una libra, doce dólares con cincuenta centavos",
    "1.234,5 y 1.234.567 y 3,14 y 3,05 y -7": "mil doscientos treinta y cuatro coma cinco y un millón doscientos "
    "treinta y cuatro mil quinientos sesenta y siete y tres coma catorce y tres coma cero cinco y menos siete",
    "21.000 y 31.500 en 1984": "veintiún mil y treinta y un mil quinientos en mil novecientos ochenta y cuatro",
    "1.º, 2ª, 3.ª, 1.er, 13.º, 21.º": "primero, segunda, tercera, primer, decimotercero, vigésimo primero",
    "el 3.º piso, el 1º de mayo": "el tercer piso, el primero de mayo",
    "½, 3/4, 2½": "medio, tres cuartos, dos y medio",
    "3-5 %, 10kg, 1 h, 21 h, 3,5 m²": "tres a cinco por ciento, diez kilos, una hora, veintiuna horas, "
    "tres coma cinco metros cuadrados",
    "20 ºC, -5°, 100 km/h": "veinte grados centígrados, menos cinco grados, cien kilómetros por hora",
    "A las 10:30, 1:15, 14:05 h, 21:00.": "A las diez y media, una y cuarto, catorce cero cinco, veintiuna horas.",
    "a las 3 p. m. Luego, a las 9 am": "a las tres de la tarde. Luego, a las nueve de la mañana",
    "El 22/11/2026, 2026-11-22": "El veintidós de noviembre de dos mil veintiséis, "
    "veintidós de noviembre de dos mil veintiséis",
    "22 de nov., 22 nov 2026, el 5/3": "veintidós de noviembre, veintidós de noviembre de dos mil veintiséis, "
    "el cinco de marzo",
    "Llame al 600 123 456 o al 91 123 45 67.": "Llame al seis cero cero, uno dos tres, cuatro cinco seis "
    "o al nueve uno, uno dos tres, cuatro cinco, seis siete.",
    "pedido 12345, código postal 28013": "pedido uno dos tres, cuatro cinco, código postal dos ocho cero, uno tres",
    "siglo XXI, Felipe VI, Alfonso XIII, Isabel II": "siglo veintiuno, Felipe sexto, Alfonso trece, Isabel segunda",
    "El Dr. García y la Sra. López, Ud. y Uds. van": "El doctor García y la señora López, usted y ustedes van",
    "1 manzana, 21 años, 31 días, 200 personas": "una manzana, veintiún años, treinta y un días, doscientas personas",
    "21 mil, 101 noches, 1 problema, 1 y 2": "veintiún mil, ciento una noches, un problema, uno y dos",
    "½ kg, 7/10, 10^6": "medio kilo, siete sobre diez, diez elevado a seis",
    "EE. UU., p. ej. C/ Mayor núm. 5, n.º 3, etc.": "Estados Unidos, por ejemplo calle Mayor número cinco, "
    "número tres, etcétera.",
    "una API, una URL, la ONU, NO, MP3": "una a pe i, una u erre ele, la ONU, NO, eme pe tres",
    "ana@b.com, https://www.ejemplo.es/hola": "ana arroba b punto com, ejemplo punto es barra hola",
    "2 + 2 = 4, A & B, ~5, 5 × 3": "dos más dos es igual a cuatro, A y B, aproximadamente cinco, cinco por tres",
    "versión 3.11, 3.11.2, K7Q2": "versión tres punto once, tres punto once punto dos, ka siete cu dos",
}  # fmt: skip


@pytest.mark.parametrize("text", ENGLISH)
def test_english(text: str) -> None:
    assert speakable(text, "en-US") == ENGLISH[text]


@pytest.mark.parametrize("text", SPANISH)
def test_spanish(text: str) -> None:
    assert speakable(text, "es-ES") == SPANISH[text]


def test_the_region_decides() -> None:
    assert speakable("5/3/2026", "en-US") == "May third, twenty twenty-six"
    assert speakable("5/3/2026", "en-GB") == "March fifth, twenty twenty-six"
    assert speakable("1,234.50 y $5", "es-MX") == "mil doscientos treinta y cuatro punto cincuenta y cinco pesos"
    assert speakable("1.234,50 y $5", "es-AR") == "mil doscientos treinta y cuatro coma cincuenta y cinco pesos"


def test_what_is_no_date_and_no_time_is_read_as_numbers() -> None:
    assert (
        speakable("31/02/26 or 25:99", "en")
        == "thirty-one slash zero two slash twenty-six or twenty-five to ninety-nine"
    )


@given(st.integers(0, 10**15 - 1), st.sampled_from(["en", "es"]))
def test_every_number_has_words(value: int, language: str) -> None:
    words = numerals.cardinal(value, language)
    assert words.replace(" ", "").replace("-", "").isalpha()
    assert "uno mil" not in words
    assert numerals.ordinal(value % 3000, language).replace(" ", "").replace("-", "").isalpha()


@given(st.text("0123456789", min_size=1, max_size=60), st.sampled_from(["en", "es"]))
def test_digits_are_all_read(text: str, language: str) -> None:
    one_by_one = numerals.digits(text, language).split()
    assert speakable(f"code {text}0000", "en").replace(",", "").split()[1:] == [
        *numerals.digits(text, "en").split(),
        *["zero"] * 4,
    ]
    assert len(one_by_one) == len(text)
