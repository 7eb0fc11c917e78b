from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tokens.errors import MetadataError
from tokens.record import MAX_DEPTH, MAX_METADATA, Record, parse_metadata
from tokens.token import Channel

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_metadata_survives_the_ledger(metadata: dict[str, object]) -> None:
    try:
        parsed = parse_metadata(json.dumps(metadata))
    except MetadataError:
        assert len(json.dumps(metadata)) > MAX_METADATA or "[[[" in json.dumps(metadata)
        return
    assert parsed == metadata
    assert Record.from_json(Record("o", "a", Channel.CHAT, parsed).to_json()).metadata == metadata


@given(st.text(max_size=3000))
@example("[" * 5000)
@example('{"a":' * 400 + "1" + "}" * 400)
@example('{"a": NaN}')
@example('{"a": 1e999}')
@example('{"a": "\\ud800"}')
@example('{"a": ' + "9" * 5000 + "}")
@example("[]")
@example("null")
def test_no_text_breaks_the_parser(text: str) -> None:
    with suppress(MetadataError):
        parsed = parse_metadata(text)
        assert isinstance(parsed, dict)
        Record("o", "a", Channel.CHAT, parsed).to_json()


@pytest.mark.parametrize("text", [None, ""])
def test_no_metadata_is_empty_metadata(text: str | None) -> None:
    assert parse_metadata(text) == {}


def test_the_bounds_are_exact() -> None:
    fits = {"a": "x" * (MAX_METADATA - len('{"a":""}'))}
    assert parse_metadata(json.dumps(fits)) == fits
    with pytest.raises(MetadataError, match="larger than 2048 bytes"):
        parse_metadata(json.dumps({"a": fits["a"] + "x"}))
    assert parse_metadata('{"a":' + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1) + "}")
    with pytest.raises(MetadataError, match="levels"):
        parse_metadata('{"a":' + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1) + "}")
