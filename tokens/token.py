"""The token that a browser carries: a prefix and a JWT with ``jti``, ``agent``, ``channel`` and ``exp``. Protocol 9.1.

Pure functions. Whatever else a token stands for (organisation, metadata, scope) is in the ledger, under ``jti``.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import jwt

from tokens.errors import TokenError, TokenReason

MAX_TOKEN = 4096
LEEWAY_SECONDS = 2.0
"""How far the clocks of two servers may differ."""

_ALGORITHM = "HS256"
# A signature of 32 bytes ends in a character with two unused bits. The last character's set leaves them zero, so that a
# token has exactly one spelling.
_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")


class Channel(StrEnum):
    WEBRTC = "webrtc"
    CHAT = "chat"
    STREAM = "stream"


PREFIXES = {Channel.WEBRTC: "wrtc_", Channel.CHAT: "cht_", Channel.STREAM: "str_"}


@dataclass(frozen=True, slots=True)
class Claims:
    """What a genuine token says. ``expires_at`` is in epoch seconds."""

    jti: str
    agent: str
    channel: Channel
    expires_at: int


def mint(signing: Sequence[str], agent: str, channel: Channel, ttl: int) -> tuple[str, Claims]:
    """A fresh token that lives ``ttl`` seconds, signed with the first of the secrets. ``agent`` is a slug."""
    claims = Claims(secrets.token_urlsafe(16), agent, channel, int(time.time()) + ttl)
    payload = {"jti": claims.jti, "agent": agent, "channel": channel.value, "exp": claims.expires_at}
    signed = jwt.encode(payload, signing[0], algorithm=_ALGORITHM, headers={"kid": key_id(signing[0])})
    return PREFIXES[channel] + signed, claims


def verify(signing: Sequence[str], token: object, channel: Channel) -> Claims:
    """The claims of a token that one of the secrets signed, that has not expired and is for this channel.

    Touches no ledger, so that forgeries cost nothing. Raises ``TokenError``.
    """
    bare = _without_prefix(token)
    try:
        key = _key_of(signing, bare)
        payload = jwt.decode(
            bare, key, algorithms=[_ALGORITHM], leeway=LEEWAY_SECONDS, options={"require": ["exp", "jti"]}
        )
    except jwt.ExpiredSignatureError:
        raise TokenError(TokenReason.EXPIRED) from None
    except jwt.InvalidSignatureError:
        raise TokenError(TokenReason.BAD_SIGNATURE) from None
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        raise TokenError(TokenReason.MALFORMED) from None
    claims = _claims(payload)
    if not str(token).startswith(PREFIXES[claims.channel]):
        raise TokenError(TokenReason.MALFORMED)
    if claims.channel is not channel:
        raise TokenError(TokenReason.WRONG_CHANNEL)
    return claims


def key_id(secret: str) -> str:
    """Names a secret in the header of a token without telling it."""
    return hashlib.sha256(b"voice-server key id\0" + secret.encode()).hexdigest()[:8]


def _without_prefix(token: object) -> str:
    if isinstance(token, str) and len(token) <= MAX_TOKEN:
        for prefix in PREFIXES.values():
            if token.startswith(prefix) and _JWT.fullmatch(token, len(prefix)):
                return token[len(prefix) :]
    raise TokenError(TokenReason.MALFORMED)


def _key_of(signing: Sequence[str], bare: str) -> str:
    kid = jwt.get_unverified_header(bare).get("kid")
    for secret in signing:
        if kid == key_id(secret):
            return secret
    raise TokenError(TokenReason.BAD_SIGNATURE)


def _claims(payload: dict[str, Any]) -> Claims:
    """Only this server signs, but an older version of it may have signed something else."""
    jti, agent, channel, exp = (payload.get(name) for name in ("jti", "agent", "channel", "exp"))
    if not (isinstance(jti, str) and isinstance(agent, str) and isinstance(exp, int) and channel in list(Channel)):
        raise TokenError(TokenReason.MALFORMED)
    return Claims(jti, agent, Channel(channel), exp)
