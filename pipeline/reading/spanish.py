"""How Spanish is read aloud."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

from pipeline.reading import spanish_tables as tables
from pipeline.reading.english import ROMAN, roman_value
from pipeline.reading.numerals import before_noun, cardinal, digits, feminine, ordinal
from pipeline.reading.reader import DATE, FOREIGN_PHONE, HALF, ISO_DATE, LEFT, Currency, Reader, Rule, Unit

MONTHS = (
    "enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre", "noviembre",
    "diciembre",
)  # fmt: skip
MONTH = "(ene|feb|mar|abr|may|jun|jul|ago|sept?|oct|nov|dic)"
POINT_REGIONS = frozenset({"MX", "US", "PR", "GT", "HN", "NI", "SV", "PA", "DO", "PE"})
"""Where decimals are written with a point."""
PESO_REGIONS = frozenset({"MX", "AR", "CL", "CO", "UY", "DO", "CU"})
_NOUN = re.compile(r" (?!(?:de|del|y|e|o|en|que|por|para|con|se|es|fue|está|a|al|hasta)\b)([a-zñáéíóúü]{2,30})(?!\w)")
"""In front of one it is "primer" and "tercer"."""
_FEMININE = re.compile(
    r"(?<!dí)(?<!m)(?<!map)as?$|(?:ión|iones|dad|dades|tud|tudes|noche|noches|vez|veces)$|^(?:cama|pluma)"
)
KINGS = (
    "Isabel|Felipe|Carlos|Juan Carlos|Alfonso|Fernando|Luis|Enrique|Jaime|Sancho|Pedro|Juan|Pablo|Benedicto|Pío|León"
    "|Gregorio|Clemente|Urbano|Francisco|Napoleón|Nicolás|Alejandro|Guillermo|Jorge|Eduardo|Catalina|Ramsés"
)
PARTS = "siglos?|capítulos?|tomos?|volumen|actos?|parte|fase|título|artículo|anexo|tipo|nivel|mundial|edición|congreso"
SPELLED = frozenset(
    {"ADN", "ADSL", "AI", "API", "ATM", "BBC", "CD", "CEO", "CIF", "CPU", "CSS", "CV", "DJ", "DNI", "DVD", "FBI", "GB"}
    | {"GPS", "GPU", "HDMI", "HTML", "HTTP", "HTTPS", "IA", "ID", "IP", "IRPF", "IT", "KPI", "LLM", "NIE", "NIF", "PC"}
    | {"PDF", "PHP", "QR", "SA", "SL", "SMS", "SQL", "SSL", "TC", "TLS", "TV", "UCI", "UE", "UGT", "URL", "USB", "VIP"}
    | {"VPN", "WC", "XML"}
)
"""Capitals that are no words though they may look like one."""


class Spanish(Reader):
    language = "es"
    regions = POINT_REGIONS | PESO_REGIONS
    words = tables.WORDS
    symbols = tables.SYMBOLS
    currencies = tables.CURRENCIES
    multiples = tables.MULTIPLES
    units = tables.UNITS
    abbreviations = tables.ABBREVIATIONS
    before_digits = tables.BEFORE_DIGITS
    before_names = tables.BEFORE_NAMES
    code = tables.CODE

    def __init__(self, region: str) -> None:
        super().__init__(region)
        if self.region in PESO_REGIONS:
            self.currencies = {**self.currencies, "$": self.currencies["MXN"]}
        self.words = {**self.words, "point": "punto" if self.point == "." else "coma"}

    def has_decimal_point(self) -> bool:
        return self.region in POINT_REGIONS

    def group_also(self) -> str:
        return " "

    def counted(self, number: str, thing: Unit | Currency) -> str:
        words = self.amount(number)
        if self.point not in number:
            words = feminine(words) if thing.feminine else before_noun(words)
        name = thing.one if number.lstrip("-–−") == "1" else thing.many
        return f"{words} de {name}" if words.endswith(("llón", "llones")) else f"{words} {name}"

    def decimals(self, text: str) -> str:
        """Two of them are one number: "tres coma catorce"."""
        if len(text) > 2 or (text[0] == "0" and len(text) > 1):
            return digits(text, "es")
        return cardinal(int(text), "es")

    def fraction(self, over: int, under: int, whole: str) -> str | None:
        names = {2: "medio", 3: "tercio", 4: "cuarto"}
        if under in (10, 100) and over <= under and not whole:
            return f"{cardinal(over, 'es')} sobre {cardinal(under, 'es')}"
        if not 0 < over < under or under > 10:
            return None
        name = names.get(under) or ordinal(under, "es")
        if under == 2:
            return f"{whole} y medio" if whole else "medio"
        said = f"{before_noun(cardinal(over, 'es'))} {name}{'' if over == 1 else 's'}"
        return f"{whole} y {said}" if whole else said

    def special(self) -> Iterator[Rule]:
        yield Rule(re.compile(ISO_DATE), self._iso, numeric=True)
        yield Rule(re.compile(DATE), self._date, numeric=True)
        before = "|".join(rf"(?<=\b{word} )" for word in ("el", "del", "al", "día", "hasta", "desde"))
        yield Rule(re.compile(rf"(?:{before})(\d{{1,2}})/(\d{{1,2}})(?![\w/])"), self._day, numeric=True)
        months = rf"(?<=\d )(de )?{MONTH}(?:\.|(?!\w))(?:\s(de\s)?(?=\d{{4}}))?"
        yield Rule(re.compile(months, re.IGNORECASE), self._month)
        clock = rf"(?<![\w:.,])(\d{{1,2}})[:.](\d{{2}})(?::(\d{{2}}))?(?:{HALF}|\s?(h(?:s|rs)?)\b)?(?![\w:]|[.,]\d)"
        yield Rule(re.compile(clock), self._time, numeric=True)
        yield Rule(re.compile(rf"(?<![\w:.,])(\d{{1,2}}){HALF}"), self._hour, numeric=True)
        yield Rule(re.compile(self._phones()), self.telephone, numeric=True)
        nth = rf"{LEFT}(\d{{1,4}})(?:\.?\s?([ºª])(?!\s?[CF]\b)|\.?(er|ero|era|do|da|ro|ra|to|ta|mo|ma|vo|va|no|na)\b)"
        yield Rule(re.compile(nth), self._ordinal, numeric=True)
        yield Rule(re.compile(rf"\b(?:{KINGS})\s{ROMAN}\b(?![.'’]\w)"), self._king)
        yield Rule(re.compile(rf"\b(?:{PARTS})\s{ROMAN}\b(?![.'’]\w)", re.IGNORECASE), self._part)

    def _phones(self) -> str:
        sep, end = "[ -]", r"(?!\w|[.,-]\d|\s?(?:€|euros|de\s|\d{3}\b))"
        forms = [
            FOREIGN_PHONE,
            rf"[6789]\d\d{sep}\d{{3}}{sep}\d{{3}}",
            rf"[6789]\d\d(?:{sep}\d\d){{3}}",
            rf"[89]\d{sep}\d{{3}}{sep}\d\d{sep}\d\d",
            rf"\(?\d\d\)?{sep}\d{{4}}{sep}\d{{4}}",
            rf"(?:\d{{1,3}}{sep})?\(?\d{{3}}\)?{sep}\d{{3}}{sep}\d{{4}}",
        ]
        return rf"(?<![\w.,-])(?:{'|'.join(forms)}){end}"

    def _calendar(self, y: int, month: int, day: int) -> str | None:
        try:
            date(y, month, day)
        except ValueError:
            return None
        return f"{cardinal(day, 'es')} de {MONTHS[month - 1]}"

    def _iso(self, match: re.Match[str]) -> str | None:
        said = self._calendar(int(match[1]), int(match[2]), int(match[3]))
        if said is None:
            return None
        at = f" a las {self._clock(int(match[4]), match[5], '')}" if match[4] and int(match[4]) < 24 else ""
        return f"{said} de {cardinal(int(match[1]), 'es')}{at}"

    def _date(self, match: re.Match[str]) -> str | None:
        day, month = int(match[1]), int(match[3])
        if month > 12 or (self.region in {"US", "PR"} and day <= 12 and match[2] == "/"):
            day, month = month, day
        said = self._calendar(int(match[4]), month, day)
        return said and f"{said} de {cardinal(int(match[4]), 'es')}"

    def _day(self, match: re.Match[str]) -> str | None:
        return self._calendar(2000, int(match[2]), int(match[1])) if 0 < int(match[2]) < 13 else None

    def _month(self, match: re.Match[str]) -> str:
        name = next(month for month in MONTHS if month.startswith(match[2][:3].lower()))
        return f"de {name}{' de ' if match[0].endswith((' ', 'de ')) else ''}"

    def _time(self, match: re.Match[str]) -> str | None:
        hour, minute = int(match[1]), int(match[2])
        if hour > 23 or minute > 59 or ("." in match[0][:3] and not (match[4] or match[5])):
            return None
        said = self._clock(hour, match[2], (match[4] or "").lower())
        if match[3]:
            said += f" y {before_noun(cardinal(int(match[3]), 'es'))} segundos"
        return self._stop(match, said)

    def _hour(self, match: re.Match[str]) -> str | None:
        hour = int(match[1])
        return self._stop(match, self._clock(hour, "00", match[2].lower())) if 0 < hour < 13 else None

    def _clock(self, hour: int, minute: str, half: str) -> str:
        """Hours are feminine: "la una y media", "las veintiuna treinta"."""
        said = feminine(cardinal(hour, "es"))
        if minute == "00":
            said += " horas" if (hour > 12 or hour == 0) and not half else ""
        elif 0 < hour < 13:
            said += " y " + {"15": "cuarto", "30": "media"}.get(minute, cardinal(int(minute), "es"))
        else:
            said += f" {digits(minute, 'es') if minute[0] == '0' else cardinal(int(minute), 'es')}"
        return f"{said} {self._part_of_day(hour % 12, half)}" if half and hour < 13 else said

    def _part_of_day(self, hour: int, half: str) -> str:
        if half == "a":
            return "de la noche" if hour == 0 else "de la mañana"
        return "del mediodía" if hour == 0 else "de la tarde" if hour < 8 else "de la noche"

    def _stop(self, match: re.Match[str], said: str) -> str:
        """The full stop of "p. m." may end the sentence, too."""
        follows = match.string[match.end() : match.end() + 2]
        ends = match[0].endswith(".") and follows[:1] == " " and (follows[1:].isupper() or follows[1:] in ("¿", "¡"))
        return said + "." if ends else said

    def _ordinal(self, match: re.Match[str]) -> str:
        said = ordinal(int(match[1]), "es")
        if match[2] == "ª" or (match[3] or "").endswith("a"):
            return feminine(said)
        noun = match[3] == "er" or (match[2] and _NOUN.match(match.string, match.end()))
        return said.removesuffix("o") if noun and said.endswith(("primero", "tercero")) else said

    def _number(self, match: re.Match[str]) -> str:
        """In front of a noun it has a gender: "una manzana", "veintiún años", "doscientas personas"."""
        said = super()._number(match)
        if "," in said or not (noun := _NOUN.match(match.string, match.end())):
            return said
        return feminine(said) if _FEMININE.search(noun[1]) else before_noun(said)

    def _king(self, match: re.Match[str]) -> str:
        name, _, roman = match[0].rpartition(" ")
        value = roman_value(roman)
        said = ordinal(value, "es") if value <= 10 else cardinal(value, "es")
        return f"{name} {feminine(said) if name in ('Isabel', 'Catalina') else said}"

    def _part(self, match: re.Match[str]) -> str:
        name, _, roman = match[0].rpartition(" ")
        return f"{name} {cardinal(roman_value(roman), 'es')}"

    def acronym(self, text: str) -> str:
        """The voice reads capitals as a word."""
        hard = text.isupper() and (re.search(r"[^AEIOUÁÉÍÓÚ]{4}|^[^AEIOUÁÉÍÓÚ]+$", text) or text in SPELLED)
        return self.spelled(text) if hard else text
