"""The suite's server: the real application on a real port of loopback, with engines that cost nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Protocol

import pytest

from pipeline import instant
from pipeline.engine import TABLE
from tests.conformance.call import Call
from tests.conformance.inbox import Frame
from tests.conformance.model import Obedient
from tests.conformance.sdk import Agent, Sdk
from tests.conformance.voice import VoiceSession
from tests.server.backends import KEYS, House, house

WORD_SAID = 0.08
"""Seconds; the bot speaks faster here than it does for measurements."""

SCRIPTED = {"stt": "instant", "llm": "instant", "tts": "instant"}


@asynccontextmanager
async def calling(
    agent: Agent, *, metadata: Frame | None = None, page: Frame | None = None, config: Frame | None = None
) -> AsyncIterator[tuple[VoiceSession, Call]]:
    """A page in a call with ``agent``, and the call as its backend has it. ``metadata`` is sealed, that of the
    ``page`` is not.
    """
    provider = partial(agent.create_token, "webrtc", metadata)
    async with VoiceSession(agent.id, token_provider=provider, metadata=page, config=config) as voice:
        await agent.sdk.inbox.next("call.started", call_id=voice.call_id)
        yield voice, agent.sdk.calls[voice.call_id]


class Place:
    """A running server and who may come in."""

    def __init__(self, house: House, model: Obedient) -> None:
        self.house = house
        self.model = model
        self.url = f"http://localhost:{house.listener.port}"

    def sdk(self, org: str = "default", **options: Any) -> Sdk:
        return Sdk(self.url, KEYS[org], **options)

    calling = staticmethod(calling)


class Serve(Protocol):
    def __call__(self, **settings: Any) -> AbstractAsyncContextManager[Place]: ...


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """A function that makes a server of some settings, for ``async with``; its language model is ``Obedient``."""
    monkeypatch.setattr(instant, "WORD_SAID", WORD_SAID)
    model = Obedient()
    monkeypatch.setitem(TABLE["llm"], "instant", lambda _: model)

    @asynccontextmanager
    async def serve(**settings: Any) -> AsyncIterator[Place]:
        async with house(**{**SCRIPTED, **settings}) as running:
            yield Place(running, model)

    return serve
