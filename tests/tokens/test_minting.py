from __future__ import annotations

import asyncio

import pytest

from tests.redis_server import RedisServer
from tokens.errors import LedgerUnavailable, TokenError, TokenReason
from tokens.ledger import Ledger, MemoryLedger, RedisLedger
from tokens.minting import TokenOffice
from tokens.record import Record
from tokens.token import Channel, mint

SECRET = "s" * 40
RECORD = Record("default", "mara", Channel.WEBRTC, {"plan": "gold"})


async def test_a_token_goes_from_the_mint_to_the_door(ledger: Ledger) -> None:
    office = TokenOffice([SECRET], ledger)
    token = await office.issue(RECORD)
    claims = office.verify(token, Channel.WEBRTC)
    assert office.verify(token, Channel.WEBRTC) == claims  # looking does not use it up
    assert await office.spend(claims) == RECORD
    with pytest.raises(TokenError) as caught:
        await office.spend(claims)
    assert (caught.value.reason, caught.value.code) == (TokenReason.USED, "TOKEN_USED")


async def test_of_200_racing_offers_one_wins(ledger: Ledger) -> None:
    office = TokenOffice([SECRET], ledger)
    claims = office.verify(await office.issue(RECORD), Channel.WEBRTC)
    answers = await asyncio.gather(*(office.spend(claims) for _ in range(200)), return_exceptions=True)
    assert answers.count(RECORD) == 1
    assert {answer.reason for answer in answers if isinstance(answer, TokenError)} == {TokenReason.USED}


async def test_a_genuine_token_without_a_record_is_used() -> None:
    office = TokenOffice([SECRET], MemoryLedger())
    claims = office.verify(mint([SECRET], "mara", Channel.WEBRTC, 60)[0], Channel.WEBRTC)
    with pytest.raises(TokenError, match="used"):
        await office.spend(claims)


async def test_a_record_of_another_agent_opens_nothing() -> None:
    ledger = MemoryLedger()
    office = TokenOffice([SECRET], ledger)
    token, claims = mint([SECRET], "mara", Channel.WEBRTC, 60)
    await ledger.put(claims.jti, Record("default", "other", Channel.WEBRTC), 60)
    with pytest.raises(TokenError, match="used"):
        await office.spend(office.verify(token, Channel.WEBRTC))


async def test_without_redis_nothing_is_minted_or_spent(own_redis: RedisServer) -> None:
    ledger = RedisLedger(own_redis.url)
    office = TokenOffice([SECRET], ledger)
    claims = office.verify(await office.issue(RECORD), Channel.WEBRTC)
    own_redis.kill()
    with pytest.raises(LedgerUnavailable):
        await office.spend(claims)
    with pytest.raises(LedgerUnavailable):
        await office.issue(RECORD)
    await ledger.aclose()


@pytest.mark.parametrize("signing", [[], ["short"], [SECRET, "short"]])
def test_weak_secrets_are_refused(signing: list[str]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        TokenOffice(signing, MemoryLedger())
