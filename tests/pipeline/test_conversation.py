from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.conversation import MAX_MESSAGES, Conversation, recent


def said(conversation: Conversation) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in conversation.messages()]


def tool_round(name: str = "t") -> tuple[dict[str, Any], list[dict[str, Any]]]:
    call = {"id": name, "type": "function", "function": {"name": "look", "arguments": "{}"}}
    message = {"role": "assistant", "content": "", "tool_calls": [call]}
    return message, [{"role": "tool", "tool_call_id": name, "content": "42"}]


def test_a_call() -> None:
    conversation = Conversation()
    conversation.add_assistant("g", "Hello!")
    conversation.add_user("Hi.")
    assert said(conversation) == [("assistant", "Hello!"), ("user", "Hi.")]
    assert conversation.for_model("Be kind.") == [{"role": "system", "content": "Be kind."}, *conversation.messages()]
    assert conversation.for_model("") == conversation.messages()
    assert len(conversation) == 2


def test_continuation_takes_the_answer_back() -> None:
    conversation = Conversation()
    conversation.add_user("I want")
    conversation.add_assistant("a", "What do you want?")
    conversation.remove("a")
    conversation.replace_user("I want to know the time.")
    assert said(conversation) == [("user", "I want to know the time.")]
    conversation.remove("a")
    assert len(conversation) == 1


def test_replace_user_without_one_adds_it() -> None:
    conversation = Conversation()
    conversation.replace_user("Hi.")
    assert said(conversation) == [("user", "Hi.")]


def test_tools_stay_when_their_answer_is_taken_back() -> None:
    conversation = Conversation()
    message, results = tool_round()
    conversation.add_user("Look.")
    conversation.add_tools("a", message, results)
    conversation.add_assistant("a", "It is 42.")
    conversation.remove("a")
    assert conversation.messages() == [{"role": "user", "content": "Look."}, message, *results]


def test_what_is_only_supposed_changes_nothing() -> None:
    conversation = Conversation()
    conversation.add_user("I want")
    conversation.add_assistant("a", "What?")
    before = conversation.messages()
    supposed = conversation.supposing("Nothing.", replaces=False)
    assert said(supposed) == [("user", "I want"), ("assistant", "What?"), ("user", "Nothing.")]
    conversation.remove("a")
    joined = conversation.supposing("I want tea.", replaces=True)
    assert said(joined) == [("user", "I want tea.")]
    joined.add_assistant("b", "Here it is.")
    joined.remove("b")
    joined.replace_user("changed")
    supposed.remove("a")
    assert conversation.messages() == before[:1]
    assert said(Conversation().supposing("Hi.", replaces=True)) == [("user", "Hi.")]


def test_callers_cannot_change_the_history() -> None:
    conversation = Conversation()
    conversation.add_user("Hi.")
    conversation.messages()[0]["content"] = "changed"
    assert said(conversation) == [("user", "Hi.")]


def test_the_history_is_bounded() -> None:
    conversation = Conversation()
    for i in range(2 * MAX_MESSAGES):
        conversation.add_user(str(i))
        assert len(conversation) <= MAX_MESSAGES
    assert said(conversation)[-1] == ("user", str(2 * MAX_MESSAGES - 1))


def test_the_beginning_that_a_model_sees_moves_rarely() -> None:
    messages = [{"role": "user", "content": str(i)} for i in range(200)]
    beginnings = [recent(messages[:n], 20)[0]["content"] for n in range(1, 201)]
    assert len(set(beginnings)) == 19


rounds = st.lists(st.sampled_from(["user", "assistant", "tools"]), max_size=60)


@given(rounds, st.integers(4, 30))
def test_what_a_model_sees_is_valid_and_recent(kinds: list[str], limit: int) -> None:
    conversation = Conversation()
    for i, kind in enumerate(kinds):
        if kind == "user":
            conversation.add_user(str(i))
        elif kind == "assistant":
            conversation.add_assistant(str(i), str(i))
        else:
            conversation.add_tools(str(i), *tool_round(str(i)))
    seen = conversation.for_model("", limit)
    everything = conversation.messages()
    assert seen == everything[len(everything) - len(seen) :]
    assert len(seen) <= limit
    assert len(seen) >= min(len(everything), limit // 2 - 1)
    called = {call["id"] for message in seen for call in message.get("tool_calls", ())}
    answered = {message["tool_call_id"] for message in seen if message["role"] == "tool"}
    assert answered == called
