"""Conversations as text: what a dialogue file says, parsed line by line. README.md beside this file is the format."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.engine import EngineError
from pipeline.events import Event
from pipeline.llm import ToolCall

NUMBER = r"\d+(?:\.\d+)?"
RANGE = rf"(?P<low>{NUMBER})?(?P<dots>\.\.)?(?P<high>{NUMBER})?"

_WHEN = re.compile(
    rf"(?:(?:(?P<later>{NUMBER})\s+)?after\s+(?:(?P<words>\d+)\s+words?|(?P<event>[a-z]+\.[a-z_.]+))"
    rf"|\+(?P<pause>{NUMBER})|(?P<at>{NUMBER}))\s+(?P<what>\S.*)"
)
_DEED = re.compile(r"(?P<who>\w+)\s*(?:\((?P<manner>[^)]*)\))?\s*(?P<text>.*)")
_SOUND = re.compile(rf"\w+ (?P<seconds>{NUMBER}) s")
_LEVEL = re.compile(r"(?P<level>-\d+) dB")
_GUESS = re.compile(rf"guesses (?P<probability>{NUMBER})")
_EVENT = re.compile(
    r"(?P<name>[a-z]+\.[a-z_.]+|error)"
    r"(?P<fields>(?:\s+\w+=\S+)*)"
    r'(?:\s+"(?P<text>[^"]*)")?'
    rf"(?P<time>\s+\((?P<clock>at )?{RANGE}(?: after (?P<after>[a-z_.]+))?\))?"
)
_LINE = re.compile(r"(?P<role>user|bot):\s+(?P<text>\S.*)")
_BREAK = re.compile(r"\s*\(breaks(?:: (?P<error>[^)]*))?\)\s*")
_CALL = re.compile(r"\s*\(calls (?P<tool>\w+)\)\s*")

KNOBS = {
    "stt final": "seconds between the end of a turn and its text",
    "llm first": "seconds to the first word of an answer",
    "llm word": "seconds to each further word",
    "tts word": "seconds to make a word audible",
    "model thinks": "seconds to a verdict",
}

SOUNDS = {"sound.full", "sound.low", "sound.off"}
EVENTS = {kind.name for kind in Event.__subclasses__()} | SOUNDS

UNREMARKABLE = SOUNDS | frozenset({
    "call.started", "session.started", "user.speaking", "llm.thinking", "llm.response", "turn.latency", "bot.word",
    "message.confirmed", "message.aborted", "barge_in", "llm.before", "llm.tool_result",
})  # fmt: skip
"""What happens all the time: it may be expected, and may happen without."""


BACKEND_DEEDS = frozenset({
    "says", "replies", "returns", "hangs up", "cancels", "clears", "holds", "unholds", "mutes", "unmutes", "pauses",
    "resumes", "speaks",
})  # fmt: skip
WITH_TEXT = frozenset({"says", "replies", "returns", "speaks"})


class ScriptError(ValueError):
    """A dialogue file that says nothing sensible, and where."""


@dataclass(frozen=True, slots=True)
class When:
    """The moment of a deed: at a time of the call, after a pause, or so long after something happened."""

    at: float | None = None
    pause: float | None = None
    """Seconds after the user's last sound."""
    event: str | None = None
    words: int | None = None
    """The bot has said so many words of the message that is the present one or the next."""
    later: float = 0.0


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that someone does."""

    line: int
    when: When
    kind: str
    """``says``, ``sounds``, ``types``, ``mutes``, ``unmutes``, ``leaves``, ``sets``, ``hangs up``, ``guesses``,
    ``breaks``, ``recovers``, ``curtain``, or one of ``BACKEND_DEEDS``."""
    who: str = ""
    text: str = ""
    number: float = 0.0
    """Seconds of a sound, or a probability."""
    level: float = -20.0
    slowly: bool = False
    eager: bool = False


@dataclass(frozen=True, slots=True)
class Bounds:
    """A closed range; a single number has a tolerance of its own."""

    low: float
    high: float

    def hold(self, value: float) -> bool:
        return self.low - 1e-6 <= value <= self.high + 1e-6

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}".replace("-inf", "").replace("inf", "")


@dataclass(frozen=True, slots=True)
class Timing:
    """When an event must come: seconds after ``after`` (an event, ``voice`` or ``silence`` of the user, ``""``: the
    beginning)."""

    bounds: Bounds
    after: str


@dataclass(frozen=True, slots=True)
class Expectation:
    line: int
    source: str
    name: str
    fields: dict[str, str]
    text: str | None
    timing: Timing | None


@dataclass(slots=True)
class Script:
    """One dialogue."""

    path: Path
    title: str = ""
    agent: dict[str, Any] = field(default_factory=dict)
    verdicts: list[float | None] = field(default_factory=list)
    answers: list[list[str | Exception | ToolCall]] = field(default_factory=list)
    knobs: dict[str, float] = field(default_factory=dict)
    unsayable: str = ""
    """A word at which the voice breaks; ``*``: at any."""
    ignored: frozenset[str] = frozenset(UNREMARKABLE)
    never: dict[str, int] = field(default_factory=dict)
    """Events that must not happen, and the lines that say so."""
    deeds: list[Deed] = field(default_factory=list)
    expected: list[Expectation] = field(default_factory=list)
    history: list[tuple[int, str, str]] | None = None
    """Line, role, text."""

    @property
    def has_backend(self) -> bool:
        """Somebody serves the agent."""
        asks = any(isinstance(word, ToolCall) for answer in self.answers for word in answer)
        return asks or any(deed.who == "backend" for deed in self.deeds)

    pending: str = ""
    """Why the product does not behave like this yet."""
    asked: list[tuple[int, str]] | None = None
    """Line, and what the user had said last when the language model was asked."""


def read(path: Path) -> Script:
    """Parse a file. Raises ``ScriptError``."""
    return parse(path.read_text(), path)


def parse(text: str, path: Path) -> Script:
    """Raises ``ScriptError``, which names the line."""
    script = Script(path)
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        content = line.strip()
        if content.startswith("#"):
            script.title = script.title or content.lstrip("# ")
            continue
        try:
            if not content:
                continue
            if line[0].isspace():
                _entry(script, section, number, content)
            else:
                section = _statement(script, number, content)
        except ScriptError as error:
            raise ScriptError(f"{path}:{number}: {error}") from None
    if not script.title:
        raise ScriptError(f"{path}:1: the first line says in a comment what is shown")
    if not script.deeds or not script.expected:
        raise ScriptError(f"{path}:1: nothing happens, or nothing is expected")
    return script


def bounds(low: str | None, dots: str | None, high: str | None, tolerance: float = 0.0) -> Bounds:
    """``1..2``, ``1..``, ``..2``, or a single number."""
    if not (low or high):
        raise ScriptError("a range has at least one end")
    if not dots:
        value = float(low or high or 0)
        return Bounds(value - tolerance, value + tolerance)
    return Bounds(float(low or "-inf"), float(high or "inf"))


def _statement(script: Script, line: int, content: str) -> str:
    """A line that is not indented. Returns the section that it opens."""
    word, _, rest = content.partition(" ")
    if content in ("expect", "history", "asked"):
        if content != "expect":
            setattr(script, content, [])
        return content
    if knob := next((knob for knob in KNOBS if content.startswith(knob + " ")), None):
        script.knobs[knob] = _number(content.removeprefix(knob))
    elif content.startswith("tts breaks at "):
        script.unsayable = content.removeprefix("tts breaks at ").strip()
    elif not _setting(script, line, word, rest.strip()):
        script.deeds.append(_deed(line, content))
    return ""


def _setting(script: Script, line: int, word: str, rest: str) -> bool:
    """Whether the line was one."""
    match word:
        case "agent":
            _set(script.agent, rest)
        case "model":
            script.verdicts = [None if verdict == "-" else _number(verdict) for verdict in rest.split()]
        case "bot":
            script.answers.append(list(_answer(rest)))
        case "pending":
            script.pending = rest
        case "watch":
            script.ignored -= set(_events(rest))
        case "ignore":
            script.ignored |= set(_events(rest))
        case "never":
            script.never |= dict.fromkeys(_events(rest), line)
        case _:
            return False
    return True


def _entry(script: Script, section: str, line: int, content: str) -> None:
    """An indented line."""
    match section:
        case "expect":
            script.expected.append(_expectation(line, content))
        case "history" if script.history is not None:
            if not (spoken := _LINE.fullmatch(content)):
                raise ScriptError('"user: …" or "bot: …" is expected')
            script.history.append((line, spoken["role"], spoken["text"]))
        case "asked" if script.asked is not None:
            script.asked.append((line, content))
        case _:
            raise ScriptError('an indented line stands under "expect", "history" or "asked"')


def _deed(line: int, content: str) -> Deed:
    found = _WHEN.fullmatch(content)
    if not found:
        raise ScriptError(f"neither a setting nor a moment with a deed: {content!r}")
    _events(found["event"] or "")
    when = When(
        at=float(found["at"]) if found["at"] else None,
        pause=float(found["pause"]) if found["pause"] else None,
        event=found["event"],
        words=int(found["words"]) if found["words"] else None,
        later=float(found["later"] or 0),
    )
    what = found["what"]
    if what == "curtain":
        return Deed(line, when, "curtain")
    deed = _DEED.fullmatch(what)
    who = deed["who"] if deed else ""
    manner = (deed["manner"] or "") if deed else ""
    text = deed["text"] if deed else ""
    match who:
        case "user":
            return _user(line, when, manner, text)
        case "backend" if manner in BACKEND_DEEDS and bool(text) == (manner in WITH_TEXT):
            return Deed(line, when, manner, who, text)
        case "stt" if guess := _GUESS.match(manner):
            return Deed(line, when, "guesses", number=float(guess["probability"]), eager="eager" in manner)
        case "stt" | "tts" if manner.startswith("breaks"):
            return Deed(line, when, "breaks", who, manner.partition(": ")[2] or "out of order")
        case "stt" | "tts" if manner == "recovers":
            return Deed(line, when, "recovers", who)
    raise ScriptError(f"nobody can do this: {what!r}")


def _user(line: int, when: When, manner: str, text: str) -> Deed:
    terms = [term.strip() for term in manner.split(",") if term.strip()]
    kind, seconds, level, slowly = "says", 0.0, -20.0, False
    for term in terms:
        if term in ("types", "mutes", "unmutes", "leaves", "sets"):
            kind = term
        elif sound := _SOUND.fullmatch(term):
            kind, seconds = "sounds", float(sound["seconds"])
        elif term == "slowly":
            slowly = True
        elif loudness := _LEVEL.fullmatch(term):
            level = float(loudness["level"])
        else:
            raise ScriptError(f"no user does this: {term!r}")
    if bool(text) != (kind in ("says", "types", "sets")):
        raise ScriptError("text where there is none, or none where there must be")
    if kind == "sets":
        _set({}, text)
    return Deed(line, when, kind, "user", text, seconds, level, slowly)


def setting(text: str) -> dict[str, Any]:
    """``turn_detection.preset fast``: a key of the wire, dots for nesting, and a JSON value or plain text."""
    into: dict[str, Any] = {}
    _set(into, text)
    return into


def _set(into: dict[str, Any], text: str) -> None:
    key, _, value = text.partition(" ")
    if not value.strip():
        raise ScriptError(f"{key} has no value")
    *path, last = key.split(".")
    for part in path:
        into = into.setdefault(part, {})
    try:
        into[last] = json.loads(value)
    except ValueError:
        into[last] = value.strip()


def _answer(text: str) -> Iterator[str | Exception | ToolCall]:
    """The words of an answer; the language model breaks at "(breaks: reason)", and at its end "(calls tool)"s."""
    before, *failure = _BREAK.split(text, maxsplit=1)
    words, *tools = _CALL.split(before)
    yield from words.split()
    for number, tool in enumerate(filter(None, tools)):
        yield ToolCall(f"call_{number}", tool, "{}")
    if failure:
        yield EngineError(failure[0] or "out of order")


def _expectation(line: int, content: str) -> Expectation:
    found = _EVENT.fullmatch(content)
    if not found:
        raise ScriptError(f"not an event with fields, a text and a time: {content!r}")
    _events(found["name"])
    if found["after"] not in (None, "voice", "silence"):
        _events(found["after"])
    fields = dict(pair.split("=", 1) for pair in found["fields"].split())
    timing = None
    if found["time"]:
        if bool(found["clock"]) == bool(found["after"]):
            raise ScriptError('a time is "at" a moment of the call or "after" something')
        within = bounds(found["low"], found["dots"], found["high"], tolerance=0.05)
        timing = Timing(within, found["after"] or "")
    return Expectation(line, content, found["name"], fields, found["text"], timing)


def _events(names: str) -> list[str]:
    """A misspelt event would be one that never happens."""
    if unknown := set(names.split()) - EVENTS:
        raise ScriptError(f"no such event: {', '.join(sorted(unknown))}")
    return names.split()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ScriptError(f"not a number: {text.strip()!r}") from None
