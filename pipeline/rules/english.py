"""The rules in English."""

from __future__ import annotations

import random
import re
from datetime import date, timedelta
from fractions import Fraction

from pipeline.rules.arithmetic import NotASumError, evaluate, read_integer, readings
from pipeline.rules.english_numbers import LEXICON, say_number, say_sum
from pipeline.rules.table import LONGEST_COUNT, LONGEST_WORD, Question, Table, rule, says, sentence

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = [
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
]

CANNOT = (
    "I am a small set of fixed rules, so I cannot answer that. "
    "I can tell the time and the date, do sums, spell, count, and repeat after you."
)
HELP = (
    "I can tell you the time, the day and the date, do sums, spell a word, count, repeat after you, "
    "and tell a joke or a short story. What would you like?"
)
JOKES = [
    "Why did the packet cross the network? To get to the other site.",
    "I told the server a joke about UDP, but I am not sure that it got it.",
    "Why was the clock sent out of the room? It tocked too much.",
]
STORY = (
    "Once there was a small lighthouse that nobody visited. Every night it lit its lamp, and every night the sea was "
    "empty. One winter a storm came, and out of the dark came a fishing boat that had lost its way. The lighthouse "
    "shone as it always did, and the boat found the harbor. In the morning the fishermen painted its door red, and "
    "ever since, each boat that passes rings its bell once. And that is the end of the story."
)


# --- time and date


@rule(
    r"what time (?:is it|it is|do you have)(?: right)?(?: now)?",
    r"(?:what is )?the (?:current |exact |local )?time(?: is)?(?: now| right now| please)?",
    r"what is (?:current )?time(?: is it)?",
    r"do you (?:have|know) the time",
    r"what hour is it",
)
def time(match: re.Match[str], question: Question) -> str:
    now = question.now
    minutes = f":{now.minute:02}" if now.minute else ""
    return f"It is {now.hour % 12 or 12}{minutes} {'AM' if now.hour < 12 else 'PM'}."


@rule(
    r"(?:what is )?(?P<of>today|tomorrow|yesterday)'s date",
    r"(?:what (?:is|was) )?(?:the )?(?:current )?date(?: is| was)?(?: it)?(?: (?P<on>today|tomorrow|yesterday))?",
    r"what date (?:is|was|will)(?: it)?(?: be)?(?: (?P<at>today|tomorrow|yesterday))?",
    r"what (?:day of the month|day and month) is it(?: today)?",
)
def day_of_month(match: re.Match[str], question: Question) -> str:
    day, name, verb = _day(match, question)
    return f"{name} {verb} {DAYS[day.weekday()]}, {MONTHS[day.month - 1]} {day.day}, {day.year}."


@rule(
    r"(?:what|which) (?:week)?day(?: of the week)? (?:is|was)(?: it)?(?: (?P<at>today|tomorrow|yesterday))?",
    r"what day will (?:it be (?P<be>tomorrow)|(?P<will>tomorrow) be)",
    r"what (?:is|was) the day(?: of the week)?(?: (?P<on>today|tomorrow|yesterday))?",
    r"what (?:is|was) (?P<of>today|tomorrow|yesterday)",
    r"what day (?:it is|today is)",
)
def weekday(match: re.Match[str], question: Question) -> str:
    day, name, verb = _day(match, question)
    return f"{name} {verb} {DAYS[day.weekday()]}."


@rule(
    r"(?:what|which) (?P<part>month|year) (?:is|are) (?:it|we in|this)(?: now)?",
    r"what is the (?:current )?(?P<the>month|year)",
)
def month_or_year(match: re.Match[str], question: Question) -> str:
    return f"It is {MONTHS[question.now.month - 1]}." if "month" in match.groups() else f"It is {question.now.year}."


def _day(match: re.Match[str], question: Question) -> tuple[date, str, str]:
    """The day that was asked for, its name and its verb."""
    words = set(match.groupdict().values())
    today = question.now.date()
    if "tomorrow" in words:
        return today + timedelta(days=1), "Tomorrow", "is"
    if "yesterday" in words:
        return today - timedelta(days=1), "Yesterday", "was"
    return today, "Today", "is"


# --- sums

_SUM_FRAME = re.compile(
    r"^(?:(?:what|how much|how many)(?: is| are| does| do| would)? |calculate |compute |work out |solve )?(?:the )?"
    r"(?P<sum>.+?)(?: (?:equals?(?: to)?|makes?|comes? to|be|is|are))?(?: what| how much)? ?=?$"
)


@rule(r".+")
def arithmetic(match: re.Match[str], question: Question) -> str | None:
    frame = _SUM_FRAME.match(match[0])
    for tokens in readings(frame["sum"] if frame else match[0], LEXICON):
        try:
            value = evaluate(tokens)
        except ZeroDivisionError:
            return "Nothing can be divided by zero."
        except NotASumError:
            continue
        if len(tokens) > 1:
            return sentence(f"{say_sum(tokens)} is {say_number(value)}")
    return None


# --- repeating, spelling, counting


_SAID = re.compile(
    r"\b(?:repeat|say)\b(?:\s+(?:this|the following|these words))?(?:[\s,]+(?:after me|back to me))?"
    r"[\s,:;.-]*(?P<text>.*)",
    re.IGNORECASE | re.DOTALL,
)


@rule(r"(?:say|repeat) (?:that|it)(?: again)?", r"repeat", r"what did you(?: just)? say", r"once more", r"again")
def say_again(match: re.Match[str], question: Question) -> str | None:
    return question.previous or None


@rule(
    r"(?:repeat|say)(?: this| the following| these words)?(?: after me| back to me) .+",
    r"(?:repeat|say) (?!something|anything|more|how|what|why|who|where|if|whether).+",
    r"repeat after me",
)
def repeat(match: re.Match[str], question: Question) -> str | None:
    said = _SAID.search(question.text)
    text = said["text"].strip(" \"“”'") if said else ""
    return text[:1].upper() + text[1:] if text else "Say: repeat after me, and then the words."


@rule(
    r"(?:spell|how (?:do|would|can) (?:you|i|we) spell|how to spell)(?: the)?(?: word| name)? (?P<word>.+)",
    r"how is(?: the word| the name)? (?P<passive>.+) (?:spelled|spelt)",
)
def spell(match: re.Match[str], question: Question) -> str | None:
    word = (match["word"] or match["passive"]).strip(" '")
    letters = [char.upper() for char in word if char.isalnum()]
    if not 0 < len(letters) <= LONGEST_WORD:
        return "I spell one short word at a time." if letters else None
    return f"{word[:1].upper()}{word[1:]} is spelled {', '.join(letters)}."


@rule(
    r"count(?: up| down| backwards)?(?: from (?P<start>.+?))?(?: up| down| backwards)? to (?P<end>.+)",
    r"count (?:down|backwards) from (?P<only>.+)",
)
def count(match: re.Match[str], question: Question) -> str | None:
    start, end, only = (read_integer(match[name] or "", LEXICON) for name in ("start", "end", "only"))
    if match["only"] is not None:
        start, end = only, 0 if only is None else min(1, only)
    elif match["start"] is None and end is not None:
        start = min(1, end)
    if start is None or end is None:
        return None
    if abs(end - start) >= LONGEST_COUNT:
        return f"That is too far for me. I count up to {say_number(Fraction(LONGEST_COUNT))} numbers at a time."
    step = 1 if end >= start else -1
    return sentence(", ".join(say_number(Fraction(n)) for n in range(start, end + step, step)))


# --- small talk


@rule(r"(?:good )?(?P<time>morning|afternoon|evening)(?: to you)?")
def good_morning(match: re.Match[str], question: Question) -> str:
    return f"Good {match['time']}! What can I do for you?"


@rule(r"(?:hello |hi )?(?:my name is|i am called|call me) (?P<name>[^\W\d_]+(?:[ '-][^\W\d_]+){0,2})")
def introduction(match: re.Match[str], question: Question) -> str:
    return f"Nice to meet you, {match['name'].title()}."


@rule(r"(?:tell me |do you know |say )?(?:a|another|any|some)? ?(?:good |funny |short )?jokes?", r"make me laugh")
def joke(match: re.Match[str], question: Question) -> str:
    return random.Random(question.now.timestamp()).choice(JOKES)


_GREETING = r"(?:hello|hi|hey|hiya|howdy|greetings)"

RULES = [
    says(
        "Hello! What can I do for you?",
        rf"{_GREETING}(?: {_GREETING})*(?: there| you| again| everyone)?",
        r"(?:is )?anybody there",
        r"are you there",
        r"can you hear me",
    ),
    good_morning,
    says(
        "I am fine, thank you. How can I help?",
        r"how are you(?: doing)?(?: today| now)?",
        r"how do you do",
        r"how is it going",
    ),
    says("You are welcome.", r"(?:thanks|thank you)(?: very much| so much| a lot| again)?", r"many thanks"),
    says(
        "Good-bye! It was nice talking with you.",
        r"(?:good ?-?bye|bye(?:[ -]bye)?)(?: now)?",
        r"see you(?: later| soon| tomorrow)?",
        r"have a (?:nice|good|great) (?:day|evening|night|weekend|one)",
        r"good night",
    ),
    says(
        "I am a voice agent that lives on this server, without any cloud.",
        r"what is your name",
        r"(?:who|what) are you",
        r"who (?:is this|am i talking (?:to|with))",
        r"are you (?:a|an) (?:real )?(?:robot|human|bot|ai|person|machine|computer)",
    ),
    says("I was written by hand, as part of this voice server.", r"who (?:made|built|created|wrote|programmed) you"),
    introduction,
    joke,
    says(STORY, r"(?:tell me )?(?:a|another|some|the)? ?(?:good |short |long |little |bedtime )?story"),
    says(
        HELP,
        r"help(?: me)?",
        r"what (?:can|do|could) you do(?: for me)?",
        r"what can i (?:say|ask)(?: you)?(?: for| about)?",
        r"how can you help(?: me)?",
        r"what are you able to do",
    ),
    time,
    month_or_year,
    weekday,
    day_of_month,
    say_again,
    repeat,
    spell,
    count,
    arithmetic,
]

ENGLISH = Table(
    rules=RULES,
    contractions=[
        (re.compile(r"\b(what|who|how|where|that|it|there|when)'?s\b"), r"\1 is"),
        (re.compile(r"\b(you|we|they)'re\b"), r"\1 are"),
        (re.compile(r"\bi'm\b"), "i am"),
        (re.compile(r"\b(i|you)'d\b"), r"\1 would"),
    ],
    politeness=re.compile(
        r"^(?:(?:um+|uh+|er+|ah|oh|well|so|ok|okay|now|and|yes|yeah|no|right|alright|sorry|please|also|then|hmm"
        r"|hey|hi|hello|hello there|hi there|excuse me|thanks|thank you|good (?:morning|afternoon|evening)"
        r"|(?:can|could|would|will) you(?: please)?(?: (?:tell|give|show) me)?|(?:please )?(?:tell|give) me|let us"
        r"|do you know|i (?:want|would like|need)(?: you)? to(?: know| hear)?|i would like|i want) )*"
    ),
    afterthought=re.compile(
        r"(?: (?:please|now|right now|for me|thanks|thank you|then|at the moment|currently|exactly|to me))*$"
    ),
    cannot=CANNOT,
)
