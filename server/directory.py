"""``GET /webrtc/agents``: whom the page that asks may call, and who would answer there."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from config.agent import AgentConfig
from config.identity import base_language
from config.settings import Settings
from pipeline.engine import LANGUAGES, Engines, Outlook
from pipeline.llm.rules import TABLES
from server.http import answer, client_address
from server.minting import Minting
from server.rate import Counter, RateLimit, network_of


class Directory:
    """An agent is listed when the same request, sent to ``/webrtc/token``, would get a token of it, and else not."""

    def __init__(self, settings: Settings, minting: Minting, engines: Engines, counter: Counter) -> None:
        self._trust_proxy = settings.trust_proxy
        self._minting = minting
        self._engines = engines
        self._limit = RateLimit(counter, "agents", settings.mint_rate, "Too many requests for the list of agents")

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/webrtc/agents", self.agents)]

    async def agents(self, request: web.Request) -> web.Response:
        """``{"agents": [{"agent", "language", "languages": [{"language", "engines", "answers", "state"}]}]}``.

        ``language`` of an agent is its own tag; its ``languages`` are base tags, those in which somebody here hears,
        answers and speaks. ``engines`` are names by kind; ``answers`` is what writes the answers: ``rules``, ``tiny``
        (the model that comes along), ``model`` or ``backend``; ``state`` is ``ready``, ``loading`` or ``unloaded``
        (until the first call that needs it).
        """
        await self._limit.check(network_of(client_address(request, trust_proxy=self._trust_proxy)))
        listed = [self._entry(name, agent) for name, agent in await self._minting.reachable(request)]
        return answer({"agents": listed}, headers={"Cache-Control": "no-store"})

    def _entry(self, name: str, agent: AgentConfig) -> dict[str, Any]:
        tags = sorted(frozenset({base_language(agent.language)}).union(*LANGUAGES.values()))
        languages = [entry for tag in tags if (entry := self._spoken(agent, tag))]
        return {"agent": name, "language": agent.language, "languages": languages}

    def _spoken(self, agent: AgentConfig, language: str) -> dict[str, Any] | None:
        """How a call in this language would be; ``None`` when it could not be held."""
        engines = self._engines.outlook(agent.model_copy(update={"language": language}))
        if engines is None:
            return None
        answers = self._answers(engines["llm"], language) if agent.generates else "backend"
        if answers is None:
            return None
        states = {engine.state for engine in engines.values()}
        return {
            "language": language,
            "engines": {kind: engine.name for kind, engine in engines.items()},
            "answers": answers,
            "state": next(state for state in ("loading", "unloaded", "ready") if state in states),
        }

    def _answers(self, engine: Outlook, language: str) -> str | None:
        """What writes the answers; ``None`` when all it could say is that it cannot."""
        speaks = self._engines.model_languages
        if engine.name == "rules" or (engine.name == "local" and speaks is not None and language not in speaks):
            return "rules" if language in TABLES else None
        return "tiny" if engine.name in ("local", "llamacpp") and speaks is not None else "model"
