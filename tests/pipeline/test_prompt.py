from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.prompt import CHAT_STYLE, VOICE_STYLE, PromptTemplate, builtin_variables, local_time, render

NOW = datetime(2026, 11, 22, 23, 5, 9, tzinfo=UTC)


def test_builtins_are_in_the_time_zone_of_the_agent() -> None:
    assert builtin_variables(NOW, "Europe/Madrid") == {
        "date": "2026-11-23",
        "time": "00:05",
        "day": "Monday",
        "datetime": "2026-11-23 00:05",
        "timestamp": "2026-11-23T00:05:09+01:00",
        "date_block": "Today is Monday, 2026-11-23. The time is 00:05 (CET).",
        "RAG_CONTEXT": "",
        "MEMORY": "",
    }
    assert builtin_variables(NOW, "UTC")["day"] == "Sunday"


@pytest.mark.parametrize("zone", ["", "Nowhere/Land", "../../etc/passwd", "/etc/passwd", "Europe", "a\0b", "x" * 5000])
def test_unknown_time_zone_is_utc(zone: str) -> None:
    assert local_time(NOW, zone) == NOW
    assert local_time(NOW, zone).tzinfo is UTC


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("Hello {{name}}!", "Hello Ana!"),
        ("{{ name }}, {{name}}", "Ana, Ana"),
        ("{{city}} on {{date}}", "Lima on 2026-11-22"),
        ("{{unknown}}.", "."),
        ("{{RAG_CONTEXT}}|{{MEMORY}}|", "||"),
        ("{name} {{}} {{a b}} {{{name}}}", "{name} {{}} {{a b}} {Ana}"),
        ("{{evil}}", "{{secret}}"),
        ("{{user.name-1}}", "dotted"),
    ],
)
def test_variables(template: str, expected: str) -> None:
    agent = {"name": "agent", "city": "Lima", "secret": "x", "user.name-1": "dotted", "time": "noon"}
    call = {"name": "Ana", "evil": "{{secret}}"}
    prompt = PromptTemplate(prompt=template, agent_variables=agent, call_variables=call, raw=True)
    assert prompt.render(template, NOW) == expected
    assert prompt.system_prompt(NOW) == expected.strip()


def test_agent_beats_builtin() -> None:
    assert PromptTemplate(prompt="", agent_variables={"time": "noon"}).render("{{time}}", NOW) == "noon"


def test_order_of_the_parts() -> None:
    prompt = PromptTemplate(
        prompt=" You are {{who}}. ",
        agent_variables={"who": "Ana"},
        context=["The caller is {{who}}.", "  "],
        ui_context={"cart": "2 items", "page": "{{who}}"},
    )
    assert prompt.system_prompt(NOW) == (
        "You are Ana.\n\nThe caller is {{who}}.\n\n## UI Context\n\n### cart\n2 items\n\n### page\n{{who}}\n\n"
        + VOICE_STYLE
    )


def test_style_is_of_the_channel_unless_raw() -> None:
    assert PromptTemplate(prompt="Hi.", channel="chat").system_prompt(NOW) == f"Hi.\n\n{CHAT_STYLE}"
    assert PromptTemplate(prompt="Hi.", raw=True).system_prompt(NOW) == "Hi."
    assert PromptTemplate(prompt="", raw=True).system_prompt(NOW) == ""


@given(st.text(alphabet="{} ab"), st.dictionaries(st.sampled_from("ab"), st.text(alphabet="{}ab")))
def test_render_never_raises_and_without_braces_changes_nothing(template: str, layer: dict[str, str]) -> None:
    result = render(template, layer)
    if "{{" not in template:
        assert result == template
