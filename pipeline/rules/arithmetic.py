"""Sums in words and digits: a small tokenizer and parser over exact fractions, for any language with a ``Lexicon``."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

LARGEST = 10**12
"""No number or result is larger."""

MAX_TOKENS = 64

MAX_EXPONENT = 40

MOST_JOINTS = 4
"""Places at which "add … and …" is tried to be taken apart. Two operands need few; rules run beside the media clock."""

Token = Fraction | str
"""A number or one of ``+ - * / ^ % ( )``; ``20 % 50`` is 20 percent of 50."""

PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, "%": 2, "^": 4}
NEGATION = 3
"""Binds tighter than a product and looser than a power."""

_NUMBER = re.compile(r"[0-9]{1,15}(?:,[0-9]{3})*(?:\.[0-9]{1,12})?|\.[0-9]{1,12}")
_PIECE = re.compile(rf"{_NUMBER.pattern}|[^\W\d_]+(?:'[^\W\d_]+)?|\S")


class NotASumError(ValueError):
    """The text is no arithmetic, or more of it than is calculated here."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """A sum that begins with its operator: *add* five *and* seven."""

    opening: re.Pattern[str]
    """Up to the end of the first operand, which is its group 1."""
    joints: tuple[str, ...]
    """What may stand between the operands."""
    operator: str
    swapped: bool = False
    """Whether the second operand comes first: *subtract* five *from* seven."""


@dataclass(frozen=True, slots=True)
class Lexicon:
    """The words of sums in one language, in lower case."""

    numbers: Mapping[str, int]
    """Words that add up: ``twenty`` ``one``."""
    scales: Mapping[str, int]
    """Words that multiply what stands in front of them, or stand for themselves: ``hundred``, ``thousand``."""
    joiners: frozenset[str]
    """Words inside a number: two hundred *and* five."""
    joined: Collection[str]
    """Words that a joiner may follow."""
    points: frozenset[str]
    articles: frozenset[str]
    """Words before a scale or a fraction: *a* hundred, *a* half."""
    fractions: Mapping[str, Fraction]
    homophones: Mapping[str, int]
    """What a recogniser writes for a number: ``to``, ``for``."""
    operators: Sequence[tuple[tuple[str, ...], tuple[Token, ...]]]
    """Words and the tokens that they mean, longest first."""
    instructions: Sequence[Instruction] = ()
    bare: frozenset[str] = frozenset()
    """Scales that need no number in front of them inside a larger number."""


def tokenize(text: str, lexicon: Lexicon) -> list[Token]:
    """The sum in ``text``, which is lower case. Raises ``NotASumError`` when any of it is no part of a sum."""
    pieces = [match[0] for match in _PIECE.finditer(re.sub(r"(?<=[^\W\d_])-(?=[^\W\d_])", " ", text))]
    if len(pieces) > 4 * MAX_TOKENS:
        raise NotASumError
    tokens: list[Token] = []
    position = 0
    while position < len(pieces):
        operand = not tokens or (isinstance(tokens[-1], str) and tokens[-1] != ")")
        found: tuple[Sequence[Token], int] | None = None
        if operand:
            number = read_number(pieces, position, lexicon)
            found = ((number[0],), number[1]) if number else None
        found = found or _operator(pieces, position, lexicon)
        if found is None:
            raise NotASumError
        tokens += found[0]
        position = found[1]
        if len(tokens) > MAX_TOKENS:
            raise NotASumError
    return tokens


def readings(text: str, lexicon: Lexicon) -> Iterator[list[Token]]:
    """Every way to read a text, which is lower case, as a sum."""
    with suppress(NotASumError):
        yield tokenize(text, lexicon)
    for instruction in lexicon.instructions:
        for joint in instruction.joints:
            for first in islice(re.finditer(rf" {joint} ", text), MOST_JOINTS):
                left = instruction.opening.fullmatch(text[: first.start()])
                if left is None:
                    continue
                try:
                    a, b = (tokenize(part, lexicon) for part in (left[1], text[first.end() :]))
                except NotASumError:
                    continue
                operator = instruction.operator
                yield [*b, operator, *a] if instruction.swapped else [*a, operator, *b]


def read_integer(text: str, lexicon: Lexicon) -> int | None:
    """The whole number that a text is, if it is one."""
    pieces = text.replace("-", " ").split()
    number = read_number(pieces, 0, lexicon) if pieces else None
    return int(number[0]) if number and number[1] == len(pieces) and number[0].denominator == 1 else None


def evaluate(tokens: Sequence[Token]) -> Fraction:
    """The exact value. Raises ``NotASumError`` for what is not well formed or too large, ``ZeroDivisionError``."""
    value, position = _expression(tokens, 0, 1)
    if position != len(tokens):
        raise NotASumError
    return value


def read_number(pieces: Sequence[str], position: int, lexicon: Lexicon) -> tuple[Fraction, int] | None:
    """The number that begins at ``position`` and the position behind it; ``None`` when there is none."""
    start = position
    if pieces[position] in lexicon.articles and position + 1 < len(pieces):
        position += 1
        if pieces[position] not in lexicon.scales and pieces[position] not in lexicon.fractions:
            return None
    if pieces[position] in lexicon.fractions:
        return lexicon.fractions[pieces[position]], position + 1
    whole, position = _whole(pieces, position, lexicon)
    if whole is None:
        if pieces[start] in lexicon.homophones:
            return Fraction(lexicon.homophones[pieces[start]]), start + 1
        return None
    if position + 1 < len(pieces) and pieces[position] in lexicon.points:
        digits, position = _digits(pieces, position + 1, lexicon)
        if not digits:
            return None
        whole += Fraction(int(digits), 10 ** len(digits))
    return (whole, position) if whole <= LARGEST else None


def _whole(pieces: Sequence[str], position: int, lexicon: Lexicon) -> tuple[Fraction | None, int]:
    start, number = position, _Whole()
    while position < len(pieces):
        piece, first = pieces[position], position == start
        if piece in lexicon.joiners and not first and position + 1 < len(pieces):
            following = lexicon.numbers.get(pieces[position + 1], 0)
            scale = lexicon.scales.get(pieces[position + 2], LARGEST) if position + 2 < len(pieces) else LARGEST
            # "one hundred and five", but not "one hundred and five hundred"
            joins = pieces[position - 1] in lexicon.joined and scale > number.room
            if not (joins and 0 < following < number.room):
                break
        elif not number.take(piece, lexicon, first=first):
            break
        position += 1
    return (number.value, position) if position > start else (None, position)


@dataclass(slots=True)
class _Whole:
    """A whole number as its words are read.

    They add up while each is smaller than the last one's last place: twenty one, but not seven five. A thousand
    multiplies the group of words in front of it, a million the thousands in front of it as well.
    """

    total: Fraction = Fraction(0)
    thousands: Fraction = Fraction(0)
    group: Fraction = Fraction(0)
    room: int = LARGEST
    """The next number must be smaller."""
    scale_room: int = LARGEST + 1
    """So must the next scale."""

    @property
    def value(self) -> Fraction:
        return self.total + self.thousands + self.group

    def take(self, piece: str, lexicon: Lexicon, *, first: bool) -> bool:
        """Whether the piece is part of the number."""
        if first and _NUMBER.fullmatch(piece):
            self.group, self.room = Fraction(piece.replace(",", "")), 1
            return True
        if lexicon.numbers.get(piece, LARGEST) < self.room:
            return self._add(lexicon.numbers[piece], first=first)
        if lexicon.scales.get(piece, LARGEST + 1) < self.scale_room:
            return self._multiply(lexicon.scales[piece], alone=first or piece in lexicon.bare)
        return False

    def _add(self, number: int, *, first: bool) -> bool:
        if number == 0 and not first:
            return False
        self.group += number
        self.room = 10 ** (len(str(number)) - len(str(number).rstrip("0"))) if number >= 20 else 1
        return True

    def _multiply(self, scale: int, *, alone: bool) -> bool:
        before = self.group + self.thousands if scale > 1000 else self.group
        if not (before or alone) or (scale == 1000 and self.thousands):
            return False
        product = (before or Fraction(1)) * scale
        if scale < 1000:
            self.group = product
        elif scale == 1000:
            self.thousands, self.group = product, Fraction(0)
        else:
            self.total, self.thousands, self.group = self.total + product, Fraction(0), Fraction(0)
            self.scale_room = scale
        self.room = scale
        return True


def _digits(pieces: Sequence[str], position: int, lexicon: Lexicon) -> tuple[str, int]:
    digits = ""
    while position < len(pieces) and len(digits) < 12:
        piece = pieces[position]
        if piece.isascii() and piece.isdecimal():
            digits += piece
        elif 0 <= lexicon.numbers.get(piece, -1) <= 9:
            digits += str(lexicon.numbers[piece])
        else:
            break
        position += 1
    return digits, position


def _operator(pieces: Sequence[str], position: int, lexicon: Lexicon) -> tuple[Sequence[Token], int] | None:
    for words, tokens in lexicon.operators:
        if tuple(pieces[position : position + len(words)]) == words:
            return tokens, position + len(words)
    return ((pieces[position],), position + 1) if pieces[position] in "()" else None


def _expression(tokens: Sequence[Token], position: int, least: int) -> tuple[Fraction, int]:
    left, position = _operand(tokens, position)
    while position < len(tokens):
        operator = tokens[position]
        if not isinstance(operator, str) or PRECEDENCE.get(operator, 0) < least:
            break
        # All are left-associative but the power.
        right, position = _expression(tokens, position + 1, PRECEDENCE[operator] + (operator != "^"))
        left = _apply(operator, left, right)
    return left, position


def _operand(tokens: Sequence[Token], position: int) -> tuple[Fraction, int]:
    if position == len(tokens):
        raise NotASumError
    first = tokens[position]
    if isinstance(first, Fraction):
        return first, position + 1
    if first == "-":
        value, position = _expression(tokens, position + 1, NEGATION)
        return -value, position
    if first != "(":
        raise NotASumError
    value, position = _expression(tokens, position + 1, 1)
    if position == len(tokens) or tokens[position] != ")":
        raise NotASumError
    return value, position + 1


def _apply(operator: str, left: Fraction, right: Fraction) -> Fraction:
    match operator:
        case "+":
            value = left + right
        case "-":
            value = left - right
        case "*":
            value = left * right
        case "/":
            value = left / right
        case "%":
            value = left * right / 100
        case _:
            if right.denominator != 1 or abs(right) > MAX_EXPONENT or abs(left.numerator) > 10**6:
                raise NotASumError
            value = Fraction(left**right)
    if abs(value) > LARGEST or value.denominator > LARGEST:
        raise NotASumError
    return value
