from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.conversation import MAX_CHARACTERS, MAX_MESSAGES, Conversation, recent


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
    conversation.close_tools("a", message, results)
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


def test_what_the_bot_means_to_say_has_its_place_before_it_is_heard() -> None:
    conversation = Conversation()
    conversation.add_user("Book it.")
    conversation.plan("a", "One moment, please.")
    conversation.open_tools("r")
    conversation.add_user("Hurry.")
    assert [message["content"] for message in conversation.for_model("")] == [
        "Book it.",
        "One moment, please.",
        "Hurry.",
    ]
    assert said(conversation) == [("user", "Book it."), ("user", "Hurry.")]
    message, results = tool_round()
    conversation.close_tools("r", message, results)
    conversation.add_assistant("a", "One moment,")
    assert conversation.messages() == [
        {"role": "user", "content": "Book it."},
        {"role": "assistant", "content": "One moment,"},
        message,
        *results,
        {"role": "user", "content": "Hurry."},
    ]
    conversation.plan("b", "Never heard.")
    conversation.add_assistant("b", "")
    assert "Never heard." not in str(conversation.for_model(""))


def test_ephemeral_results_are_read_for_one_reply() -> None:
    conversation = Conversation()
    message, [result] = tool_round("t1")
    other, [secret] = tool_round("t2")
    both = message | {"tool_calls": message["tool_calls"] + other["tool_calls"]}
    conversation.close_tools("r", both, [result, secret], ephemeral={"t2"})
    assert conversation.for_model("") == [both, result, secret]
    assert conversation.messages() == [message, result]
    conversation.end_reply()
    assert conversation.for_model("") == [message, result]
    conversation.close_tools("q", other, [secret], ephemeral={"t2"})
    conversation.end_reply()
    assert conversation.for_model("") == conversation.messages() == [message, result]


def test_what_the_backend_says_aside_is_heard_and_not_in_the_models_history() -> None:
    conversation = Conversation()
    conversation.add_assistant("s", "Your taxi is here.", aside=True)
    assert said(conversation) == [("assistant", "Your taxi is here.")]
    assert conversation.history() == conversation.for_model("") == []
    assert len(conversation) == 0


def test_a_restored_history_comes_before_a_greeting_that_nobody_answered() -> None:
    conversation = Conversation()
    conversation.add_assistant("g", "Hello!")
    conversation.restore([{"role": "user", "content": "Before."}])
    assert said(conversation) == [("user", "Before."), ("assistant", "Hello!")]
    conversation.restore([{"role": "user", "content": "Other."}])
    assert said(conversation) == [("user", "Other."), ("assistant", "Hello!")]
    conversation.add_user("Hi!")
    conversation.restore([{"role": "user", "content": "Third."}])
    assert said(conversation) == [("user", "Third.")]
    conversation.clear()
    assert len(conversation) == 0


def test_a_restored_history_is_valid() -> None:
    message, [result] = tool_round("t")
    unanswered, _ = tool_round("u")
    conversation = Conversation()
    conversation.extend([result, unanswered, message, result | {"tool_call_id": "x"}, result, result])
    assert conversation.messages() == [message, result]


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


def test_the_history_is_bounded_by_its_size_too() -> None:
    conversation = Conversation()
    for i in range(20):
        conversation.add_user(f"{i} {'x' * (MAX_CHARACTERS // 10)}")
        conversation.open_tools(str(i))
        conversation.close_tools(str(i), *tool_round(str(i)))
        assert sum(len(message["content"]) for message in conversation.messages()) <= MAX_CHARACTERS
    assert [text.partition(" ")[0] for role, text in said(conversation) if role == "user"] == [*map(str, range(11, 20))]
    conversation.add_user("x" * 2 * MAX_CHARACTERS)
    assert len(conversation) == 1, "the last is kept whatever it is"


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
            conversation.close_tools(str(i), *tool_round(str(i)))
    seen = conversation.for_model("", limit)
    everything = conversation.messages()
    assert seen == everything[len(everything) - len(seen) :]
    assert len(seen) <= limit
    assert len(seen) >= min(len(everything), limit // 2 - 1)
    called = {call["id"] for message in seen for call in message.get("tool_calls", ())}
    answered = {message["tool_call_id"] for message in seen if message["role"] == "tool"}
    assert answered == called


def test_what_was_said_first_stands_first_whenever_it_was_planned() -> None:
    conversation = Conversation()
    conversation.add_user("Book it.")
    conversation.plan("a", "Let me see.")
    conversation.open_tools("r")
    conversation.add_assistant("m", "By the way.", aside=True)
    conversation.add_assistant("a", "Let me see.")
    conversation.plan("b", "Done.")
    conversation.add_assistant("n", "One moment.", aside=True)
    conversation.close_tools("r", *tool_round())
    conversation.add_assistant("b", "Done.")
    texts = [text for _, text in said(conversation)]
    assert texts == ["Book it.", "By the way.", "Let me see.", "", "42", "One moment.", "Done."]
