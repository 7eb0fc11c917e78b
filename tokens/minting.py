"""Tokens from the mint to the door: minted with a record in the ledger, verified without it, spent once."""

from __future__ import annotations

from collections.abc import Sequence

from tokens.errors import TokenError, TokenReason
from tokens.ledger import Ledger
from tokens.record import Record
from tokens.token import LEEWAY_SECONDS, Channel, Claims, mint, verify

STREAM_SECONDS = 900


class TokenOffice:
    """Issues and takes back tokens. ``signing``: the secrets, newest first; ``ttl``: seconds.

    The order of use (protocol 9.1): ``verify``, parse the request, ``read``, reserve a seat, ``spend``, answer.
    """

    def __init__(self, signing: Sequence[str], ledger: Ledger, *, ttl: int = 60) -> None:
        if not signing or any(len(secret.encode()) < 32 for secret in signing):
            raise ValueError("expected secrets of at least 32 bytes")  # RFC 7518, 3.2
        self._signing = tuple(signing)
        self._ledger = ledger
        self.ttl = ttl

    def life(self, channel: Channel) -> int:
        """Seconds that a token of this channel is good for. One for a stream is used again and again (protocol 6.2)."""
        return STREAM_SECONDS if channel is Channel.STREAM else self.ttl

    async def issue(self, record: Record) -> str:
        """A token for what the record describes. Raises ``LedgerUnavailable``, ``LedgerFull``, ``MetadataError``."""
        life = self.life(record.channel)
        token, claims = mint(self._signing, record.agent, record.channel, life)
        await self._ledger.put(claims.jti, record, life + LEEWAY_SECONDS)
        return token

    def verify(self, token: object, channel: Channel) -> Claims:
        """Whether a token is genuine, fresh and for this channel; not whether it was used. Raises ``TokenError``."""
        return verify(self._signing, token, channel)

    async def spend(self, claims: Claims) -> Record:
        """Use a token up. Of racing callers one succeeds, the others get ``TokenError`` with ``USED``.

        Raises ``LedgerUnavailable``; then nobody is to be let in.
        """
        return _checked(await self._ledger.spend(claims.jti), claims)

    async def read(self, claims: Claims) -> Record:
        """What a token stands for, without using it up: at every door before something is reserved, and for streams
        always. Raises like ``spend``.
        """
        return _checked(await self._ledger.read(claims.jti), claims)


def _checked(record: Record | None, claims: Claims) -> Record:
    if record is None or (record.agent, record.channel) != (claims.agent, claims.channel):
        raise TokenError(TokenReason.USED)
    return record
