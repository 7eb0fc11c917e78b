"""The harness itself: files that say nothing sensible are refused, and dialogues that go otherwise are reported."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.dialogues.player import Moment, Record, play
from tests.dialogues.review import review
from tests.dialogues.script import Bounds, Expectation, Script, ScriptError, parse, read

HERE = Path(__file__).parent
HEAD = "# A title.\n0.0 user hello\nexpect\n"


def script(expected: str, settings: str = "") -> Script:
    return parse(f"# A title.\n{settings}\n0.0 user hello\nexpect\n{expected}", Path("some.txt"))


def record(*moments: Moment, **parts: object) -> Record:
    return dataclasses.replace(Record(list(moments)), **parts)  # type: ignore[arg-type]


def turn(time: float, name: str, **fields: object) -> Moment:
    return Moment(time, name, {"turn_id": 1} | fields)


def test_a_file_is_understood() -> None:
    found = parse(
        """# What is shown.
# And more about it.
agent   turn_detection.preset fast
agent   interruption {"min_words": 3}
model   0.1 -
bot     One two (breaks: gone)
llm first  2
tts breaks at two
watch   sound.off
ignore  turn.pause
never   error

0.5                     user  book a
+0.6                    user  (-50 dB, slowly) table
after 5 words           user  (coughs 0.3 s, -30 dB)
0.3 after bot.finished  user  (types) hello
after turn.end          stt  (guesses 0.6, eager)
9                       curtain

expect
  turn.end  turn=1  played_ms=900..1300  "hello"  (0.4..0.6 after silence)
history
  user: hello
asked
  hello
""",
        Path("a.txt"),
    )
    assert found.title == "What is shown."
    assert found.agent == {"turn_detection": {"preset": "fast"}, "interruption": {"min_words": 3}}
    assert found.verdicts == [0.1, None]
    assert [str(word) for word in found.answers[0]] == ["One", "two", "gone"]
    assert (found.knobs, found.unsayable, found.never) == ({"llm first": 2.0}, "two", {"error": 11})
    assert "sound.off" not in found.ignored
    assert "turn.pause" in found.ignored
    at, pause, words, event, guess, curtain = found.deeds
    assert (at.when.at, at.kind, at.text, at.line) == (0.5, "says", "book a", 13)
    assert (pause.when.pause, pause.level, pause.slowly) == (0.6, -50, True)
    assert (words.when.words, words.kind, words.number, words.level) == (5, "sounds", 0.3, -30)
    assert (event.when.event, event.when.later, event.kind) == ("bot.finished", 0.3, "types")
    assert (guess.kind, guess.number, guess.eager) == ("guesses", 0.6, True)
    assert (curtain.kind, curtain.when.at) == ("curtain", 9)
    (wanted,) = found.expected
    assert (wanted.name, wanted.fields, wanted.text) == ("turn.end", {"turn": "1", "played_ms": "900..1300"}, "hello")
    assert wanted.timing
    assert (wanted.timing.after, wanted.timing.bounds) == ("silence", Bounds(0.4, 0.6))
    assert (found.history, found.asked) == ([(23, "user", "hello")], [(25, "hello")])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.0 user hello\nexpect\n  turn.end\n", "x.txt:1: the first line"),
        ("# A title.\nexpect\n  turn.end\n", "x.txt:1: nothing happens"),
        ("# A title.\n0.0 user hello\n", "nothing is expected"),
        ("# A title.\n\nsoon user hello\n", "x.txt:3: neither a setting nor a moment"),
        ("# A title.\n0.0 dog barks\n", "x.txt:2: nobody can do this"),
        ("# A title.\n0.0 user (dances)\n", "x.txt:2: no user does this"),
        ("# A title.\n0.0 user (mutes) hello\n", "x.txt:2: text where there is none"),
        ("# A title.\n0.0 user\n", "x.txt:2: text where there is none"),
        ("# A title.\nmodel high\n", "x.txt:2: not a number"),
        ("# A title.\nagent language\n", "x.txt:2: language has no value"),
        ("# A title.\n  turn.end\n", "x.txt:2: an indented line"),
        (HEAD + "  turn.end soon\n", "x.txt:4: not an event"),
        (HEAD + "  turn.over\n", "x.txt:4: no such event: turn.over"),
        (HEAD + "  turn.end (..1 after turn.start)\n", "x.txt:4: no such event: turn.start"),
        ("# A title.\nnever bot.words error\n", "x.txt:2: no such event: bot.words"),
        ("# A title.\nafter bot.ends user hello\n", "x.txt:2: no such event: bot.ends"),
        (HEAD + "  turn.end (1..2)\n", "x.txt:4: a time is"),
        (HEAD + "  turn.end (.. after silence)\n", "x.txt:4: a range has at least one end"),
        (HEAD + "  turn.end\nhistory\n  somebody: hello\n", "x.txt:6: "),
    ],
)
def test_a_file_that_says_nothing_sensible(text: str, message: str) -> None:
    with pytest.raises(ScriptError) as caught:
        parse(text, Path("x.txt"))
    assert message in str(caught.value)


def test_what_is_as_expected_is_not_reported() -> None:
    wanted = script("""
  speech.started  turn=1  (..0.1 after voice)
  turn.end  turn=1  message=A  probability=0.5..1  "hel…"  (0.4..0.6 after silence)
  bot.speaking  message=B  (at 1.2)
  bot.finished  message=B  (0.5..0.7 after bot.speaking)
""")
    happened = record(
        turn(0.06, "speech.started"),
        Moment(0.3, "user.speaking", {"text": "hello"}),
        turn(0.7, "turn.end", message_id="m1", probability=0.9, text="hello"),
        Moment(1.22, "bot.speaking", {"message_id": "m2"}),
        Moment(1.8, "bot.finished", {"message_id": "m2"}),
        voices=[(0.0, 0.2)],
    )
    assert review(wanted, happened) == ""


@pytest.mark.parametrize(
    ("expected", "complaint"),
    [
        ("  speech.started\n", "nothing more is expected"),
        ("  speech.started\n  turn.pause\n", "something else happened"),
        ("  turn.end\n  speech.started\n", "line 6: something else happened"),
        ("  speech.started\n  turn.end\n  bot.speaking\n", "line 8: it never happened"),
        ("  speech.started turn=2\n  turn.end\n", "turn is 1, not 2"),
        ("  speech.started speed=2\n  turn.end\n", "speed is None, not 2"),
        ('  speech.started\n  turn.end "help"\n', 'the text is "hello"'),
        ('  speech.started\n  turn.end "help…"\n', 'the text is "hello"'),
        ("  speech.started message=A\n  turn.end message=A\n", "message is m2, not A"),
        ("  speech.started message=A\n  turn.end\n  bot.word message=B\n", "message is m1, not B"),
        ("  speech.started\n  turn.end (0.1..0.2 after silence)\n", "it came 0.50 s after silence, not 0.1..0.2"),
        ("  speech.started\n  turn.end (..0.6 after voice)\n", "it came 0.70 s after voice, not ..0.6"),
        ("  speech.started\n  turn.end (at 0.6)\n", "it came 0.70 s, not 0.55..0.65"),
        ("  speech.started\n  turn.end (..1 after turn.pause)\n", "there was no turn.pause before it"),
        ("  speech.started\n  turn.end probability=0.95..\n", "probability is 0.9, not 0.95.."),
    ],
)
def test_what_goes_otherwise_is_reported(expected: str, complaint: str) -> None:
    happened = record(
        turn(0.06, "speech.started", message_id="m1"),
        turn(0.7, "turn.end", message_id="m2", probability=0.9, text="hello"),
        Moment(0.9, "bot.word", {"message_id": "m1"}),
        voices=[(0.0, 0.2)],
    )
    settings = "watch bot.word" if "bot.word" in expected else ""
    assert complaint in review(script("\n" + expected, settings), happened)


def test_the_rest_of_a_script_is_compared_too() -> None:
    text = "  speech.started\nhistory\n  user: hello\n  bot: Hi.\nasked\n  hello\n"
    wanted = script(text, "never turn.pause")
    happened = record(
        turn(0.1, "speech.started"),
        history=[("user", "hello")],
        asked=["hello", "hello"],
        problems=["line 2: its moment never came"],
    )
    complaints = review(wanted, happened)
    for complaint in ("its moment never came", "line 8: the history is another", "  - bot: Hi.", "the asked is"):
        assert complaint in complaints
    assert "never" not in review(script("  turn.pause\n"), record(turn(0.1, "turn.pause")))
    assert "line 2: it happened at 0.10" in review(
        script("  turn.pause\n", "never turn.pause"), record(turn(0.1, "turn.pause"))
    )


def test_a_difference_shows_both_sides_in_their_place() -> None:
    wanted = script("  speech.started\n  turn.end  turn=1\n")
    happened = record(turn(0.1, "speech.started"), turn(0.5, "turn.pause"), turn(0.8, "turn.end"))
    assert review(wanted, happened).splitlines() == [
        "some.txt: line 6: something else happened",
        "       0.10  speech.started turn=1",
        "  -          turn.end  turn=1",
        "  +    0.50  turn.pause turn=1",
        "       0.80  turn.end turn=1",
    ]


def wrong(expectation: Expectation) -> list[Expectation | None]:
    """The same, not at all or otherwise."""
    changed = [
        dataclasses.replace(expectation, name="turn.unheard"),
        dataclasses.replace(expectation, fields={"turn": "7"}),
        dataclasses.replace(expectation, text="nobody said this"),
    ]
    return [None, *changed]


@pytest.mark.parametrize("name", ["pause_in_mid_sentence", "interrupt_in_stages", "eager_withdrawn"])
def test_no_line_of_a_real_dialogue_can_be_left_out_or_altered(name: str) -> None:
    good = read(HERE / f"{name}.txt")
    happened = play(good)
    assert review(good, happened) == ""
    for place, expectation in enumerate(good.expected):
        for other in wrong(expectation):
            lines = [*good.expected]
            lines[place : place + 1] = [other] if other else []
            assert review(dataclasses.replace(good, expected=lines), happened), f"line {expectation.line}: {other}"


def test_a_moment_that_never_comes_is_reported() -> None:
    waiting = parse(HEAD.replace("expect", "after bot.finished user bye\nexpect") + "  turn.end\n", Path("x.txt"))
    waiting.agent["llm"] = None
    assert play(waiting).problems == ["line 3: its moment never came"]
