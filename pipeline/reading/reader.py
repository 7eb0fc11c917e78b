"""The rules that languages share. A language is one subclass: its tables, and what it says in an order of its own."""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from typing import ClassVar, NamedTuple

from pipeline.reading.numerals import MAX_DIGITS, cardinal, digits, letters

NUMBER_READ, READ = "\ue000", "\ue001"
"""Stand for a character that was read already, as part of a number or of something else. Never in plain text."""

LEFT = rf"(?<![\w.,$€£¥{NUMBER_READ}])"
ISO_DATE = (
    r"(?<![\w-])(\d{4})-(\d{2})-(\d{2})"
    r"(?:T(\d{2}):(\d{2})(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:?\d{2})?)?(?![\w-])"
)
DATE = r"(?<![\w/.-])(\d{1,2})([/.-])(\d{1,2})\2(\d{4})(?![\w/]|[-.]\d)"
HALF = r"(?:\s?([AaPp])(?:\.\s?[Mm]\.|[Mm]\b))"
FOREIGN_PHONE = r"\+\d{1,15}(?:[ .-]\(?\d{1,6}\)?){0,6}"
CODE_LOOKBACK = 40
"""Characters in front of a number that may tell what kind of number it is."""

Read = Callable[[re.Match[str]], str | None]
"""What a match is read as; ``None`` when it is not what it seemed to be."""


class Reading(NamedTuple):
    """A stretch of text that is spoken otherwise than it is written."""

    start: int
    end: int
    spoken: str


class Rule(NamedTuple):
    pattern: re.Pattern[str]
    read: Read
    numeric: bool = False
    """A dash between two of these is a range."""


class Currency(NamedTuple):
    one: str
    many: str
    cent: str = ""
    cents: str = ""
    feminine: bool = False


class Unit(NamedTuple):
    one: str
    many: str
    feminine: bool = False


class Reader(ABC):
    """Reads one language. Every pattern is bounded, so that reading takes time linear in the text."""

    language: ClassVar[str]
    regions: ClassVar[frozenset[str]]
    """Those that do otherwise than the rest (ISO 3166)."""
    words: Mapping[str, str]
    """What the shared rules say: and, at, dash, dot, minus, per, percent, point, slash, times, to, version, …"""
    symbols: ClassVar[Mapping[str, str]]
    """Signs with a name, wherever they stand."""
    currencies: Mapping[str, Currency]
    units: ClassVar[Mapping[str, Unit]]
    multiples: ClassVar[Mapping[str, str]]
    """What stands between a number and a currency, and how it is read."""
    abbreviations: ClassVar[Mapping[str, str]]
    """Lower case, without spaces."""
    before_digits: ClassVar[Mapping[str, str]]
    """Abbreviations that are words or names unless a number follows."""
    before_names: ClassVar[Mapping[str, str]]
    """Abbreviations that are something else unless a capital letter follows."""
    code: ClassVar[re.Pattern[str]]
    """Matches text behind which a number is a name and no quantity, such as "order number "."""

    def __init__(self, region: str) -> None:
        """``region``: one of ``regions``, or empty; decides on decimals, dates and the dollar sign."""
        self.region = region
        self.point, self.group = (".", ",") if self.has_decimal_point() else (",", ".")
        p, g = self.point, self.group
        own = rf"(?:\d{{1,3}}(?:[{g}{self.group_also()}]\d{{3}}){{1,6}}(?!\d)|\d{{1,40}})(?:[{p}]\d{{1,40}})?"
        foreign = rf"\d{{1,3}}(?:[{p}]\d{{3}}){{0,6}}[{g}]\d{{1,2}}(?![.,]?\d)"
        self.number = rf"(?:{foreign}|{own})(?!\d)"
        self.signed = rf"(?:(?<![\w)\]{NUMBER_READ}{READ}])[-–−])?{self.number}"
        self._rules = [*self._addresses(), *self.special(), *self._quantities(), *self._rest()]

    @abstractmethod
    def has_decimal_point(self) -> bool:
        """Decimals are written with a point, thousands with a comma; else the other way round."""

    def group_also(self) -> str:
        return ""

    @abstractmethod
    def special(self) -> Iterable[Rule]:
        """Dates, times, telephone numbers, ordinals: what is read before plain numbers."""

    @abstractmethod
    def fraction(self, over: int, under: int, whole: str) -> str | None:
        """``whole``: the number in front in words, or empty."""

    @abstractmethod
    def counted(self, number: str, thing: Unit | Currency) -> str:
        """A number as written and what it counts."""

    def bare(self, text: str) -> str:
        """Digits that stand alone."""
        return self.integer(text) if len(text) < 7 else self.digits(text)

    def decimals(self, text: str) -> str:
        return digits(text, self.language)

    def spelled(self, text: str) -> str:
        """Letters one by one."""
        return letters(text, self.language)

    def acronym(self, text: str) -> str:
        """Capitals that the voice would not read by itself as people do."""
        return text

    def read(self, text: str) -> list[Reading]:
        """The stretches of plain text that are read otherwise, in order, not overlapping."""
        found: list[Reading] = []
        for rule in self._rules:
            pieces, end = [], 0
            for match in rule.pattern.finditer(text):
                spoken = rule.read(match)
                if spoken is None:
                    continue
                if match[0].endswith(".") and not spoken.endswith(".") and _closes(text, match.end()):
                    spoken += "."
                found.append(Reading(match.start(), match.end(), spoken))
                mask = NUMBER_READ if rule.numeric else READ
                pieces += [text[end : match.start()], mask * (match.end() - match.start())]
                end = match.end()
            text = "".join(pieces) + text[end:]
        return sorted(found)

    def amount(self, text: str) -> str:
        """A number as written, in words."""
        sign = ""
        if text[0] in "-–−":
            sign, text = f"{self.words['minus']} ", text[1:]
        whole, decimals = self.parts(text)
        words = sign + self.integer(whole)
        return f"{words} {self.words['point']} {self.decimals(decimals)}" if decimals else words

    def parts(self, text: str) -> tuple[str, str]:
        """The digits in front of the decimal sign and behind it, which may be that of other countries."""
        own, foreign = text.rfind(self.point), text.rfind(self.group)
        decimal = own
        if foreign > own and len(text) - foreign <= 3:
            decimal = foreign
        elif foreign > own:
            decimal = -1
        whole, rest = (text[:decimal], text[decimal + 1 :]) if decimal >= 0 else (text, "")
        return re.sub(r"[., ]", "", whole), rest

    def integer(self, text: str) -> str:
        """Digits as a quantity, when they can be one."""
        if len(text) > MAX_DIGITS or (len(text) > 1 and text[0] == "0"):
            return self.digits(text)
        return cardinal(int(text), self.language)

    def digits(self, text: str) -> str:
        """One by one, with a pause after every few."""
        if len(text) <= 4:
            return digits(text, self.language)
        size = 4 if len(text) % 4 == 0 else 3
        ends = [*range(size, len(text) - 1, size), len(text)]
        starts = [0, *ends[:-1]]
        return ", ".join(digits(text[a:b], self.language) for a, b in zip(starts, ends, strict=True))

    def telephone(self, match: re.Match[str]) -> str:
        groups = re.findall(r"\d+", match[0])
        said = ", ".join(digits(group, self.language) for group in groups)
        return f"{self.words['plus']} {said}" if match[0].startswith("+") else said

    def _addresses(self) -> Iterator[Rule]:
        yield Rule(re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[^\W_][\w-]{0,62}(?:\.[^\W_][\w-]{0,62}){1,5}"), self._email)
        yield Rule(re.compile(r"(?:\b[a-zA-Z]{2,10}://|\bwww\.)[^\s<>\"]+"), self._url)
        domains = "com|org|net|edu|gov|io|ai|app|dev|info|co|eu|es|mx|ar|cl|pe|uk|us|de|fr|it|example"
        host = rf"(?<![\w@.-])(?:[a-zA-Z0-9][a-zA-Z0-9-]{{0,61}}\.){{1,4}}(?:{domains})\b(?!\.\w)(?:[/?][^\s<>\"]*)?"
        yield Rule(re.compile(host), self._url)
        yield Rule(re.compile(r"(?<![\w@])@(?=\w)"), lambda m: self.words["at"])
        yield Rule(re.compile(r"(?<![\w#&])#(?=[^\W\d])"), lambda m: "hashtag")

    def _quantities(self) -> Iterator[Rule]:
        n = self.number
        signs, multiples = _any(self.currencies), _any(self.multiples)
        many = rf"(?:\s?(?P<many>{multiples})(?!\w)(?:\sde(?!\w))?)?"
        minus = "(?P<minus>[-–−]?)"
        money = rf"{LEFT}{minus}(?P<sign>{signs})\s?(?P<n>{n})(?:[-–—](?P=sign)?(?P<to>{n}))?{many}"
        yield Rule(re.compile(money), self._money, numeric=True)
        money = rf"{LEFT}{minus}(?P<n>{n}){many}\s?(?P<sign>{signs})(?!\w)"
        yield Rule(re.compile(money), self._money, numeric=True)
        percent = rf"{LEFT}({self.signed})\s?%"
        yield Rule(re.compile(percent), lambda m: f"{self.amount(m[1])} {self.words['percent']}", numeric=True)
        degrees = rf"{LEFT}({self.signed})\s?(?:°\s?([CF]?)|º\s?([CF]))(?![^\W_])"
        yield Rule(re.compile(degrees), self._degrees, numeric=True)
        measure = rf"{LEFT}(?<!/)({self.signed})\s?({_any(self.units)})(?![\w/'’])"
        yield Rule(re.compile(measure), self._measure, numeric=True)
        over = r"(?<![\w/.,])(?:(\d{1,4})\s)?(\d{1,3})/(\d{1,4})(?![\w/]|[.,]\d)"
        yield Rule(re.compile(over), self._over, numeric=True)
        yield Rule(re.compile(r"(\d{1,15})?([¼-¾⅐-⅞])"), self._vulgar, numeric=True)
        unit = rf"(?<={NUMBER_READ})\s?({_any(self.units)})(?![\w/'’])"  # of a fraction
        yield Rule(re.compile(unit), lambda m: f" {self.units[m[1]].one}" if m[0][0] == " " else self.units[m[1]].one)
        version = r"(?<![\w.,])(v|[Vv]ersi[oó]n\s|Python\s)?(\d{1,5}(?:\.\d{1,5}){1,5})(?![\w]|\.\d)"
        yield Rule(re.compile(version), self._version)
        yield Rule(re.compile(r"\bv(\d{1,4})\b"), lambda m: f"{self.words['version']} {self.integer(m[1])}")
        code = r"(?<![\w-])(?=[\w-]{0,39}\d)(?=[\w-]{0,39}[^\W\d_])[^\W_]{1,40}(?:-[^\W_]{1,40}){0,8}(?![\w-])"
        yield Rule(re.compile(code), self._code)
        yield Rule(re.compile(rf"(?<![^\W_])({self.signed})"), self._number, numeric=True)
        between = rf"(?<={NUMBER_READ})\s?[-–—−]\s?(?={NUMBER_READ})"
        yield Rule(re.compile(between), self._between, numeric=True)
        yield Rule(
            re.compile(rf"(?<={NUMBER_READ})\s?(?:\*{{1,2}}|x)\s?(?={NUMBER_READ})"), lambda m: self.words["times"]
        )
        yield Rule(re.compile(rf"(?<={NUMBER_READ}):(?={NUMBER_READ})"), lambda m: self.words["to"])
        yield Rule(re.compile(rf"(?<={NUMBER_READ})/(?={NUMBER_READ})"), lambda m: self.words["slash"])
        yield Rule(re.compile(rf"(?<={NUMBER_READ})/(?=[^\W\d_])"), lambda m: self.words["per"])
        yield Rule(re.compile(rf"(?<=[^\W_{READ}] )[<>](?= [\w{NUMBER_READ}])"), lambda m: self.words[m[0]])
        yield Rule(re.compile(rf"#\s?(?={NUMBER_READ})"), lambda m: self.words["number"])
        yield Rule(re.compile(rf"~\s?(?={NUMBER_READ})"), lambda m: self.words["about"])

    def _rest(self) -> Iterator[Rule]:
        follows = rf"(?!\w)(?=\s?[\d{NUMBER_READ}])"
        yield Rule(_dotted(self.before_digits, follows), lambda m: self.before_digits[_key(m[0])])
        names = _dotted(self.before_names, r"(?=\s[A-ZÀ-Þ])")
        yield Rule(names, lambda m: self.before_names[_key(m[0])] if m[0][0].isupper() else None)
        yield Rule(_dotted(self.abbreviations, r"(?!\w)"), self._abbreviation)
        yield Rule(re.compile(r"\b[A-ZÑ]{2,6}\b(?![.&])"), self._capitals)
        yield Rule(re.compile(r"(?<=[^\W_])_+(?=[^\W_])"), lambda m: " ")
        yield Rule(re.compile(_any(self.symbols)), lambda m: self.symbols[m[0]])
        yield Rule(re.compile(r"(?<=\w)[/\\](?=\w)"), lambda m: " ")
        yield Rule(re.compile(rf"[^\Wa-zA-ZÀ-ɏ_{NUMBER_READ}{READ}]"), self._figure)

    def _email(self, match: re.Match[str]) -> str:
        return self._address(match[0])

    def _url(self, match: re.Match[str]) -> str:
        """Host and path: who hears an address wants no protocol and no query."""
        text = match[0].rstrip(".,;:!?)]}'’”»*_")
        tail = match[0][len(text) :]
        host, _, path = re.sub(r"^(?:[a-zA-Z]{2,10}://)?(?:www\.)?", "", text).partition("/")
        path = re.split(r"[?#]", path)[0].rstrip("/")
        address = re.split(r"[?#]", host)[0] + (f"/{path}" if 0 < len(path) <= 40 else "")
        return self._address(address) + "".join(char for char in tail if char in ".,;:!?)")

    def _address(self, text: str) -> str:
        names = {".": "dot", "@": "at", "/": "slash", "-": "dash", "_": "underscore", "+": "plus", ":": "colon"}
        text = "".join(char for char in text if not unicodedata.category(char).startswith(("No", "Nl")))
        said = []
        for part in re.findall(r"[^\W\d_]+|\d|[^\w\s]|_", text):
            if part.isdecimal():
                said.append(digits(part, self.language))
            else:
                said.append(self.words.get(names.get(part, ""), "") if len(part) == 1 and not part.isalpha() else part)
        return " ".join(filter(None, said))

    def _money(self, match: re.Match[str]) -> str:
        currency = self.currencies[match["sign"]]
        number, many = match["n"], match["many"]
        sign = f"{self.words['minus']} " if match["minus"] else ""
        if many:
            return f"{sign}{self.amount(number)} {self.multiples[many]} {currency.many}"
        if to := match.groupdict().get("to"):
            return f"{sign}{self.amount(number)} {self.words['to']} {self.counted(to, currency)}"
        whole, part = self.parts(number)
        if len(part) != 2 or not currency.cent:
            return sign + self.counted(number, currency)
        cents = self.counted(str(int(part)), Unit(currency.cent, currency.cents))
        if not int(part):
            return sign + self.counted(whole, currency)
        return sign + (cents if whole == "0" else f"{self.counted(whole, currency)} {self.words['with']} {cents}")

    def _degrees(self, match: re.Match[str]) -> str:
        scale = match[2] or match[3] or ""
        degrees = self.counted(match[1], Unit(self.words["degree"], self.words["degrees"]))
        return f"{degrees} {self.words[scale]}" if scale else degrees

    def _measure(self, match: re.Match[str]) -> str:
        return self.counted(match[1], self.units[match[2]])

    def _over(self, match: re.Match[str]) -> str | None:
        whole = self.integer(match[1]) if match[1] else ""
        if (said := self.fraction(int(match[2]), int(match[3]), whole)) is not None:
            return said
        both = f"{self.integer(match[2])} {self.integer(match[3])}"
        return f"{whole} {both}" if whole else both

    def _vulgar(self, match: re.Match[str]) -> str | None:
        value = Fraction(unicodedata.numeric(match[2])).limit_denominator(10)
        return self.fraction(value.numerator, value.denominator, self.integer(match[1]) if match[1] else "")

    def _version(self, match: re.Match[str]) -> str | None:
        lead, parts = match[1], match[2].split(".")
        grouped = self.group == "." and re.fullmatch(r"\d{1,3}(?:\.\d{3})+", match[2])
        if not lead and (len(parts) == 2 or grouped):
            return None
        said = f" {self.words['dot' if len(parts) == 4 else 'release']} ".join(map(self.integer, parts))
        return said if not lead else f"{self.words['version'] if lead == 'v' else lead.strip()} {said}"

    def _code(self, match: re.Match[str]) -> str | None:
        """Letters with digits: "COVID-19", "MP3" and "5-year" keep their words, "K7QX2P" is spelled."""
        if not all(char.isalpha() or char.isdecimal() or char == "-" for char in match[0]):
            return None
        parts = re.findall(r"[^\W\d_]+|\d+|-", match[0])
        runs = [part for part in parts if part != "-"]
        words = any(len(run) > 1 and run.isalpha() and not run.isupper() for run in runs)
        spell = not words and (len(runs) > 3 or any(run.isdigit() and len(run) > 3 for run in runs))
        said = []
        for part in parts:
            if part == "-":
                said.append("," if spell else "")
            elif part.isdecimal():
                said.append(self.digits(part) if spell else self.bare(part))
            else:
                said.append(self.spelled(part) if spell or len(part) == 1 else self.acronym(part))
        return " ".join(filter(None, said)).replace(" ,", ",")

    def _number(self, match: re.Match[str]) -> str:
        text = match[1]
        if not text.isdecimal():
            return self.amount(text)
        before = match.string[max(0, match.start() - CODE_LOOKBACK) : match.start()]
        if len(text) > 3 and (before.endswith("#") or self.code.search(before)):
            return self.digits(text)
        return self.bare(text)

    def _between(self, match: re.Match[str]) -> str:
        """A dash between numbers is "to", in a sum it is "minus"."""
        around = match.string[max(0, match.start() - CODE_LOOKBACK) : match.end() + CODE_LOOKBACK]
        return self.words["minus" if " " in match[0] and re.search(r"[=+×÷]", around) else "to"]

    def _abbreviation(self, match: re.Match[str]) -> str:
        said = self.abbreviations[_key(match[0])]
        ends = _key(match[0]) == "etc." and re.match(r"\s[A-ZÀ-Þ¿¡]", match.string[match.end() : match.end() + 2])
        if match.start() == 0 and match[0][0].isupper():
            said = said[0].upper() + said[1:]
        return said + "." if ends else said

    def _capitals(self, match: re.Match[str]) -> str | None:
        said = self.acronym(match[0])
        return said if said != match[0] else None

    def _figure(self, match: re.Match[str]) -> str | None:
        """A digit of another script, a circled one, a lone superscript, …"""
        if not unicodedata.category(match[0]).startswith("N"):
            return None
        value = unicodedata.numeric(match[0], -1.0)
        return cardinal(int(value), self.language) if value >= 0 and value == int(value) else ""


def _closes(text: str, end: int) -> bool:
    """Nothing but closing marks follows."""
    return len(text) - end < 4 and not any(char.isalnum() or char in (".", NUMBER_READ, READ) for char in text[end:])


def _any(keys: Iterable[str]) -> str:
    """Regular expression for one of the keys, the longest that fits."""
    return "|".join(map(re.escape, sorted(keys, key=len, reverse=True)))


def _dotted(keys: Iterable[str], follows: str) -> re.Pattern[str]:
    """Abbreviations with or without spaces behind their inner full stops."""
    forms = (r"\s?".join(map(re.escape, re.findall(r"[^.]+\.?", key))) for key in sorted(keys, key=len, reverse=True))
    return re.compile(rf"(?<![\w.])(?:{'|'.join(forms)}){follows}", re.IGNORECASE)


def _key(text: str) -> str:
    return text.replace(" ", "").lower()
