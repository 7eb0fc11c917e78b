from __future__ import annotations

import base64
import json
import time

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokens.errors import TokenError, TokenReason
from tokens.token import LEEWAY_SECONDS, MAX_TOKEN, PREFIXES, Channel, key_id, mint, verify

OLD, NEW, FOREIGN = "o" * 40, "n" * 40, "f" * 40
TOKEN, CLAIMS = mint([NEW], "mara", Channel.WEBRTC, 3600)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n\u00e9"


def reason(token: object, channel: Channel = Channel.WEBRTC, signing: tuple[str, ...] = (NEW,)) -> TokenReason:
    with pytest.raises(TokenError) as caught:
        verify(signing, token, channel)
    return caught.value.reason


def signed(payload: dict[str, object], *, secret: str = NEW, algorithm: str = "HS256", kid: object = None) -> str:
    return "wrtc_" + jwt.encode(payload, secret, algorithm=algorithm, headers={"kid": kid or key_id(secret)})


@pytest.mark.parametrize("channel", Channel)
def test_a_minted_token_verifies_with_what_it_was_minted_for(channel: Channel) -> None:
    token, claims = mint([NEW], "mara", channel, 60)
    assert token.startswith(PREFIXES[channel])
    assert verify([NEW], token, channel) == claims
    assert (claims.agent, claims.channel) == ("mara", channel)
    assert claims.expires_at == pytest.approx(time.time() + 60, abs=5)


def test_a_token_tells_nothing_but_its_claims() -> None:
    header, payload, _ = TOKEN.removeprefix("wrtc_").split(".")
    decoded = [json.loads(base64.urlsafe_b64decode(part + "==")) for part in (header, payload)]
    assert decoded[0] == {"alg": "HS256", "typ": "JWT", "kid": key_id(NEW)}
    assert set(decoded[1]) == {"jti", "agent", "channel", "exp"}
    assert NEW not in str(decoded)


def test_two_tokens_are_never_the_same() -> None:
    assert len({mint([NEW], "mara", Channel.CHAT, 60)[1].jti for _ in range(100)}) == 100


def test_secrets_can_be_rotated() -> None:
    before = mint([OLD], "mara", Channel.CHAT, 60)[0]
    after = mint([NEW, OLD], "mara", Channel.CHAT, 60)[0]
    assert verify([NEW, OLD], before, Channel.CHAT).agent == "mara"
    assert verify([NEW], after, Channel.CHAT).agent == "mara"
    assert reason(before, Channel.CHAT, (NEW,)) is TokenReason.BAD_SIGNATURE


def test_a_foreign_secret_under_a_known_key_id_is_refused() -> None:
    payload = {"jti": "a", "agent": "mara", "channel": "webrtc", "exp": int(time.time()) + 60}
    assert reason(signed(payload, secret=FOREIGN, kid=key_id(NEW))) is TokenReason.BAD_SIGNATURE


def test_expiry_counts_with_a_small_leeway() -> None:
    now = int(time.time())
    payload = {"jti": "a", "agent": "mara", "channel": "webrtc"}
    assert reason(signed(payload | {"exp": now - int(LEEWAY_SECONDS) - 1})) is TokenReason.EXPIRED
    # As late as it can be without a race against the clock: the leeway is there at all.
    assert verify([NEW], signed(payload | {"exp": int(time.time())}), Channel.WEBRTC).jti == "a"


@pytest.mark.parametrize("channel", [Channel.CHAT, Channel.STREAM])
def test_a_token_opens_its_own_channel_only(channel: Channel) -> None:
    assert reason(TOKEN, channel) is TokenReason.WRONG_CHANNEL
    assert reason(PREFIXES[channel] + TOKEN.removeprefix("wrtc_"), channel) is TokenReason.MALFORMED


@pytest.mark.parametrize("algorithm", ["none", "HS384", "HS512"])
def test_no_other_algorithm_is_believed(algorithm: str) -> None:
    payload = {"jti": "a", "agent": "mara", "channel": "webrtc", "exp": int(time.time()) + 60}
    secret = "" if algorithm == "none" else "n" * 64
    token = "wrtc_" + jwt.encode(payload, secret, algorithm=algorithm, headers={"kid": key_id(NEW)})
    assert reason(token) is TokenReason.MALFORMED


@pytest.mark.parametrize(
    "claims",
    [
        {"jti": None},
        {"jti": 5},
        {"agent": None},
        {"agent": ["mara"]},
        {"channel": None},
        {"channel": "phone"},
        {"channel": []},
        {"channel": {}},
        {"exp": None},
        {"exp": "soon"},
        {"exp": {}},
    ],
)
def test_our_own_signature_under_other_claims_is_malformed(claims: dict[str, object]) -> None:
    payload = {"jti": "a", "agent": "mara", "channel": "webrtc", "exp": int(time.time()) + 60} | claims
    text = json.dumps({name: value for name, value in payload.items() if value is not None}).encode()
    token = jwt.api_jws.encode(text, NEW, algorithm="HS256", headers={"kid": key_id(NEW)})
    assert reason("wrtc_" + token) is TokenReason.MALFORMED


@pytest.mark.parametrize("token", [None, 5, {}, "", "wrtc_", "wrtc_a.b.c", "x" * 10_000_000, TOKEN + " ", " " + TOKEN])
def test_what_is_no_token_is_malformed(token: object) -> None:
    assert reason(token) is TokenReason.MALFORMED


def test_a_token_has_a_bound() -> None:
    payload = {"jti": "a", "agent": "m" * MAX_TOKEN, "channel": "webrtc", "exp": int(time.time()) + 60}
    assert reason(signed(payload)) is TokenReason.MALFORMED


def test_a_header_that_explodes_is_malformed() -> None:
    nested = base64.urlsafe_b64encode(b'{"kid":' + b"[" * 2500).rstrip(b"=").decode()
    assert reason(f"wrtc_{nested}.e30.{'A' * 43}") is TokenReason.MALFORMED


@given(st.integers(0, len(TOKEN) - 1), st.sampled_from(ALPHABET))
def test_no_token_with_another_character_verifies(position: int, character: str) -> None:
    if character != TOKEN[position]:
        assert reason(TOKEN[:position] + character + TOKEN[position + 1 :])


def test_no_other_last_character_verifies() -> None:
    """The bits of the last character that carry nothing are no second spelling."""
    for character in set(ALPHABET) - {TOKEN[-1]}:
        assert reason(TOKEN[:-1] + character)


@given(st.lists(st.tuples(st.sampled_from(["cut", "double", "insert", "swap"]), st.integers(0, 400)), min_size=1))
def test_no_mutated_token_verifies(edits: list[tuple[str, int]]) -> None:
    token = TOKEN
    for edit, number in edits:
        at = number % max(1, len(token))
        token = {
            "cut": token[:at] + token[at + 1 :],
            "double": token[: at + 1] + token[at:],
            "insert": token[:at] + ALPHABET[number % len(ALPHABET)] + token[at:],
            "swap": token[:at] + token[at : at + 2][::-1] + token[at + 2 :],
        }[edit]
    if token != TOKEN:
        assert reason(token)


@given(st.text(max_size=200))
def test_any_text_is_refused(text: str) -> None:
    assert reason(text) is TokenReason.MALFORMED
    assert reason("wrtc_" + text) is TokenReason.MALFORMED
