"""How English is read aloud."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

from pipeline.reading import english_tables as tables
from pipeline.reading.numerals import cardinal, digits, ordinal, year
from pipeline.reading.reader import DATE, FOREIGN_PHONE, HALF, ISO_DATE, LEFT, NUMBER_READ, Currency, Reader, Rule, Unit

MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
MONTH = (
    r"(Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)\.?"
)
DAYS = {
    "mon": "Monday", "tue": "Tuesday", "tues": "Tuesday", "wed": "Wednesday", "thu": "Thursday", "thur": "Thursday",
    "thurs": "Thursday", "fri": "Friday", "sat": "Saturday", "sun": "Sunday",
}  # fmt: skip
DAY_FIRST = frozenset({"GB", "IE", "AU", "NZ", "IN", "ZA"})
REGNAL = (
    "Elizabeth|Charles|Henry|George|William|James|Edward|Richard|Louis|Philip|Felipe|Carlos|Alfonso|Napoleon|Catherine"
    "|Nicholas|Alexander|Frederick|Wilhelm|Francis|Benedict|Paul|Pius|Gregory|Clement|Leo|John|Mary|Peter|Ramses"
)
PARTS = "Chapter|Part|Act|Volume|Book|Phase|Type|Article|Section|War|Appendix|Level|Class|Title|Super Bowl|Schedule"
ROMAN = r"(?=[IVX])(X{0,3}(?:IX|IV|V?I{0,3}))"


class English(Reader):
    language = "en"
    regions = DAY_FIRST
    words = tables.WORDS
    symbols = tables.SYMBOLS
    currencies = tables.CURRENCIES
    multiples = tables.MULTIPLES
    units = tables.UNITS
    abbreviations = tables.ABBREVIATIONS
    before_digits = tables.BEFORE_DIGITS
    before_names = tables.BEFORE_NAMES
    code = tables.CODE

    def has_decimal_point(self) -> bool:
        return True

    def counted(self, number: str, thing: Unit | Currency) -> str:
        return f"{self.amount(number)} {thing.one if number.lstrip('-–−') == '1' else thing.many}"

    def bare(self, text: str) -> str:
        if len(text) == 4 and 1100 <= int(text) < 2100:
            return year(int(text))
        return super().bare(text)

    def fraction(self, over: int, under: int, whole: str) -> str | None:
        if under in (10, 100) and over <= under and not whole:
            return f"{cardinal(over, 'en')} out of {cardinal(under, 'en')}"
        if not 0 < over < under or not (under <= 10 or under in (12, 16, 20, 32, 64)):
            return f"{cardinal(over, 'en')} out of {cardinal(under, 'en')}" if over == under else None
        name = {2: "half", 4: "quarter"}.get(under) or ordinal(under, "en")
        if whole:
            return f"{whole} and {'a' if over == 1 else cardinal(over, 'en')} {name}{'' if over == 1 else 's'}"
        return f"{cardinal(over, 'en')} {name}{'' if over == 1 else 's'}"

    def special(self) -> Iterator[Rule]:
        yield Rule(re.compile(ISO_DATE), self._iso, numeric=True)
        yield Rule(re.compile(DATE), self._date, numeric=True)
        day = r"(?:(?<=\bon )|(?<=\bby )|(?<=\bsince )|(?<=\buntil ))(\d{1,2})/(\d{1,2})(?![\w/])"
        yield Rule(re.compile(day), self._day, numeric=True)
        end = r"(?:st|nd|rd|th)?"
        day = rf"\b{MONTH}\s(\d{{1,2}}){end}(?:(,?)\s(\d{{4}}))?(?![\w:%]|[.,/]\d)"
        yield Rule(re.compile(day), self._month_day, numeric=True)
        day = rf"\b(the\s)?(\d{{1,2}}){end}\s(?:of\s)?{MONTH}(?:(,?)\s(\d{{4}}))?(?!\w)"
        yield Rule(re.compile(day), self._day_month, numeric=True)
        yield Rule(re.compile(rf"\b{MONTH}(?=\s\d{{4}}\b)"), lambda m: self._month(m[1]))
        days = "|".join(sorted(DAYS, key=len, reverse=True))
        before = rf"\b(?:{days})(?:\.(?=,?\s|\s?[-–])|(?=,\s[\d{NUMBER_READ}]|\s?[-–]\s?(?:{days})\b))"
        yield Rule(re.compile(rf"{before}|(?<=[-–])(?:{days})\b\.?", re.IGNORECASE), self._weekday, numeric=True)
        clock = rf"(?<![\w:.,])(\d{{1,2}})[:.](\d{{2}})(?::(\d{{2}}))?(?:{HALF}|\s?h\b)?(?![\w:]|[.,]\d)"
        yield Rule(re.compile(clock), self._time, numeric=True)
        yield Rule(re.compile(rf"(?<![\w:.,])(\d{{1,2}}){HALF}"), self._hour, numeric=True)
        national = r"(?:\+?\d{1,3}[ .-])?(?:\(\d{3}\)\s?|\d{3}[ .-])\d{3}[ .-]\d{4}|\d{3}-\d{4}"
        yield Rule(
            re.compile(rf"(?<![\w.,-])(?:{national}|{FOREIGN_PHONE})(?!\w|[.,-]\d)"), self.telephone, numeric=True
        )
        nth = rf"{LEFT}(\d{{1,3}}(?:,\d{{3}}){{0,3}}|\d{{1,12}})(?:st|nd|rd|th)\b"
        yield Rule(re.compile(nth, re.IGNORECASE), self._ordinal, numeric=True)
        yield Rule(re.compile(r"(?<!\w)['’]?(\d{2}|1[1-9]\d0|20\d0)['’]?s\b"), self._decade, numeric=True)
        yield Rule(re.compile(rf"\b(?:{REGNAL})\s{ROMAN}\b(?![.'’]\w)"), self._regnal)
        yield Rule(re.compile(rf"\b(?:{PARTS})\s{ROMAN}\b(?![.'’]\w)"), self._part)
        yield Rule(re.compile(r"\b([A-Z]\w{0,40}) (St|Dr|Rd)\.(?!\s[A-Z])"), self._street)
        yield Rule(re.compile(r"\bSt\.(?=\s[A-Z])"), lambda m: "Saint")

    def _weekday(self, match: re.Match[str]) -> str | None:
        return DAYS[match[0].rstrip(".").lower()] if match[0][0].isupper() else None

    def _month(self, text: str) -> str:
        return next(month for month in MONTHS if month.startswith(text[:3]))

    def _calendar(self, y: int, month: int, day: int) -> str | None:
        try:
            date(y, month, day)
        except ValueError:
            return None
        return f"{MONTHS[month - 1]} {ordinal(day, 'en')}"

    def _iso(self, match: re.Match[str]) -> str | None:
        said = self._calendar(int(match[1]), int(match[2]), int(match[3]))
        if said is None:
            return None
        at = f" at {self._clock(int(match[4]), match[5], '')}" if match[4] and int(match[4]) < 24 else ""
        return f"{said}, {self._year(match[1])}{at}"

    def _date(self, match: re.Match[str]) -> str | None:
        first, second = int(match[1]), int(match[3])
        day_first = (self.region in DAY_FIRST or match[2] == ".") and second <= 12
        month, day = (second, first) if day_first or first > 12 else (first, second)
        said = self._calendar(int(match[4]), month, day)
        return said and f"{said}, {self._year(match[4])}"

    def _day(self, match: re.Match[str]) -> str | None:
        first, second = int(match[1]), int(match[2])
        swap = self.region in DAY_FIRST or first > 12
        return self._calendar(2000, second, first) if swap else self._calendar(2000, first, second)

    def _month_day(self, match: re.Match[str]) -> str | None:
        name = self._month(match[1])
        if not 1 <= int(match[2]) <= 31:
            return None
        said = f"{name} {ordinal(int(match[2]), 'en')}"
        return f"{said}, {self._year(match[4])}" if match[4] else said

    def _day_month(self, match: re.Match[str]) -> str | None:
        if not 1 <= int(match[2]) <= 31:
            return None
        name = self._month(match[3])
        said = f"the {ordinal(int(match[2]), 'en')} of {name}"
        return f"{said}, {self._year(match[5])}" if match[5] else said

    def _year(self, text: str) -> str:
        return year(int(text)) if 1100 <= int(text) < 2100 else self.integer(text)

    def _time(self, match: re.Match[str]) -> str | None:
        hour, minute = int(match[1]), int(match[2])
        half = (match[4] or "").lower()
        point = "." in match[0][:3]
        if hour > 23 or minute > 59 or (point and not half):
            return None
        said = self._clock(hour, match[2], half)
        if match[3]:
            said += f" and {cardinal(int(match[3]), 'en')} seconds"
        return self._stop(match, said)

    def _hour(self, match: re.Match[str]) -> str | None:
        hour = int(match[1])
        return self._stop(match, f"{cardinal(hour, 'en')} {match[2].upper()}M") if 0 < hour < 13 else None

    def _clock(self, hour: int, minute: str, half: str) -> str:
        """English has twelve hours: "14:05" is said "two oh five PM"."""
        if not half and (hour > 12 or hour == 0):
            half = "p" if hour > 12 else "a"
        named = cardinal(hour % 12 or 12, "en")
        if minute != "00":
            low = f"oh {digits(minute[1], 'en')}" if minute[0] == "0" else cardinal(int(minute), "en")
            named += f" {low}"
        elif not half:
            named += " o'clock"
        return f"{named} {half.upper()}M" if half else named

    def _stop(self, match: re.Match[str], said: str) -> str:
        """The full stop of "p.m." may end the sentence, too."""
        follows = match.string[match.end() : match.end() + 2]
        return said + "." if match[0].endswith(".") and follows[:1] == " " and follows[1:].isupper() else said

    def _ordinal(self, match: re.Match[str]) -> str:
        return ordinal(int(match[1].replace(",", "")), "en")

    def _decade(self, match: re.Match[str]) -> str | None:
        before = match.string[max(0, match.start() - 6) : match.start()].lower()
        named = match[0][0] in "'’" or re.search(r"\b(?:the|my|mid|her|his)[ -]$", before)
        if len(match[1]) == 2 and (match[1][1] != "0" or not named):  # "20s" alone are seconds
            return None
        said = year(int(match[1])) if len(match[1]) == 4 else cardinal(int(match[1]), "en")
        return said[:-1] + "ies" if said.endswith("y") else said + "s"

    def _regnal(self, match: re.Match[str]) -> str | None:
        name, _, roman = match[0].rpartition(" ")
        follows = match.string[match.end() : match.end() + 2]
        if roman == "I" and follows[:1] == " ":  # "Did Elizabeth I mean …" cannot be told apart
            return None
        return f"{name} the {ordinal(roman_value(roman), 'en')}"

    def _part(self, match: re.Match[str]) -> str | None:
        name, _, roman = match[0].rpartition(" ")
        follows = match.string[match.end() : match.end() + 1]
        return None if roman == "I" and follows == " " else f"{name} {cardinal(roman_value(roman), 'en')}"

    def _street(self, match: re.Match[str]) -> str:
        return f"{match[1]} {({'St': 'Street', 'Dr': 'Drive', 'Rd': 'Road'})[match[2]]}"


def roman_value(text: str) -> int:
    """Up to XXXIX."""
    values = {"I": 1, "V": 5, "X": 10}
    numbers = [values[char] for char in text]
    return sum(-a if a < b else a for a, b in zip(numbers, [*numbers[1:], 0], strict=True))
