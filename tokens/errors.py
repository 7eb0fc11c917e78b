"""Why someone may not come in. The text is fit for the client, ``code`` is for machines. Source: protocol 2.2, 2.3."""

from __future__ import annotations

from enum import StrEnum


class AccessError(Exception):
    """A request is refused. ``str(error)`` holds no secret."""

    code = "ACCESS_DENIED"


class TokenReason(StrEnum):
    MALFORMED = "malformed"
    BAD_SIGNATURE = "bad signature"
    EXPIRED = "expired"
    WRONG_CHANNEL = "wrong channel"
    USED = "used"
    """Spent before, or never in this ledger: one answer for both."""


class TokenError(AccessError):
    """A token does not open this door. ``WRONG_CHANNEL`` is a 403, everything else a 401 (protocol 2.5)."""

    def __init__(self, reason: TokenReason) -> None:
        super().__init__(_TOKEN_TEXTS[reason])
        self.reason = reason
        self.code = f"TOKEN_{reason.name}"


_TOKEN_TEXTS = {
    TokenReason.MALFORMED: "The token is malformed",
    TokenReason.BAD_SIGNATURE: "The token was not made by this server",
    TokenReason.EXPIRED: "The token has expired",
    TokenReason.WRONG_CHANNEL: "The token is for another channel",
    TokenReason.USED: "The token has been used",
}


class InvalidKey(AccessError):  # noqa: N818  it names a state, as StopIteration does
    """No key where one is needed, or one that is not known."""

    code = "INVALID_KEY"

    def __init__(self) -> None:
        super().__init__("Invalid API key")


class OriginNotAllowed(AccessError):  # noqa: N818  it names a state, as StopIteration does
    """The page's origin is not among those that the agent declared."""

    code = "ORIGIN_NOT_ALLOWED"

    def __init__(self, origin: str | None, agent: str) -> None:
        shown = "".join(character for character in origin or "null" if character.isprintable())[:256]
        super().__init__(f"Origin {shown} is not allowed for agent '{agent}'")


class MetadataError(AccessError):
    """The metadata to be sealed is no JSON object, or too large."""

    code = "BAD_METADATA"


class LedgerUnavailable(AccessError):  # noqa: N818  it names a state, as StopIteration does
    """The ledger cannot be reached, or is full: nobody is let in."""

    code = "LEDGER_UNAVAILABLE"

    def __init__(self, text: str = "The token ledger is not available") -> None:
        super().__init__(text)


class LedgerFull(LedgerUnavailable):
    """The ledger in memory holds as many tokens as it may."""

    code = "LEDGER_FULL"

    def __init__(self) -> None:
        super().__init__("Too many tokens are waiting to be used")
