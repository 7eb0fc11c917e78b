"""What a backend asks for over its connection, frame by frame. Source: protocol 3.2 to 3.18.

A frame is resolved to an agent or to a session of the connection's own organisation; what a session is asked is handed
to it whole. Nothing here depends on how the hub finds either.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from config.agent import AgentConfig
from config.identity import agent_slug
from config.patch import parse_patch
from config.problem import Problem
from pipeline.session import Reply
from server.backend import Backend
from server.declined import Frame, declined, echo, error
from server.hub import AgentHeldError, Hub, NotHeldError, TooManyAgentsError
from server.registry import AgentKey, Holder
from server.trials import Trials
from tokens.origin import check_pattern

logger = logging.getLogger(__name__)

MAX_AGENT_ID = 200
CHANNELS = frozenset({"webrtc", "chat"})
RETRY_SECONDS = 10
CONFLICTS = 8
"""Refusals after which a connection is told not to ask again, while the holder answers. Until then a process that is
being replaced has time to end its calls; clients give up by themselves after 90 s (protocol 3.4)."""

HISTORY = {f"history.{name}": "history.updated" for name in ("add", "set", "clear", "set_vars", "add_context")} | {
    "history.set_instructions": "history.updated",
    "history.get": "history.data",
}
"""Requests about a call, and the event that each is answered with. Something waits for that (3.13)."""

TOLD = frozenset(
    {"bot.reply", "skill.load", "skill.unload", "set_context"}
    | {"call.hold", "call.unhold", "call.mute", "call.unmute"}
)
"""Commands for a call whose sender is told when there is no such call."""

LATE = frozenset({"bot.reply.stream", "bot.cancel", "bot.clear", "call.hangup", "llm.tool_result", "llm.ready"})
"""Those that often cross the end of a call on their way: nobody is told of that."""

OF_SESSIONS = {"session.pause": "session.paused", "session.resume": "session.resumed", "session.send": "session.sent"}
"""For one session or for all of an agent, and the answers."""

Handler = Callable[[Backend, Frame], Awaitable[None]]
Warn = Callable[[AgentConfig, str], Iterable[str]]
"""What an agent asks for and would not get, as texts."""

Verify = Callable[[AgentConfig, str], Awaitable[Iterable[str]]]
"""What turns out when the providers that it asks for are reached, likewise."""


class Commands:
    """The dispatch table. ``warn`` is asked at each registration, and ``verify``, for which nobody waits."""

    def __init__(self, hub: Hub, warn: Warn, verify: Verify, trials: Trials) -> None:
        self._hub = hub
        self._warn = warn
        self._verify = verify
        self._verifying: dict[asyncio.Task[None], Backend] = {}
        self._trials = trials
        self._contests: dict[tuple[Backend, str], asyncio.Task[None]] = {}
        self._conflicts: dict[tuple[Backend, str], int] = {}
        self._table: dict[str, Handler] = {
            "ping": self._ping,
            "pong": _ignore,
            "dev.config": _ignore,
            "agent.create": self._create,
            "agent.configure": self._configure,
            "channel.add": self._channel,
            "channel.configure": self._channel,
            "channel.remove": self._channel,
            "session.configure": self._configure_session,
            "llm.chat": trials.write,
            **dict.fromkeys(OF_SESSIONS, self._of_sessions),
            **dict.fromkeys((*HISTORY, *TOLD, *LATE), self._of_call),
        }

    async def handle(self, backend: Backend, frame: Frame) -> None:
        """Do what any JSON object asks for. Waits for nobody outside of this server."""
        event = frame.get("event")
        if not isinstance(event, str):
            backend.send(error("BAD_FRAME", "expected an object with the name of an event", frame))
        elif (handler := self._table.get(event)) is not None:
            await handler(backend, frame)
        else:
            backend.send(declined(frame))

    async def leave(self, backend: Backend) -> None:
        """The connection is gone."""
        tasks = [task for (asker, _), task in self._contests.items() if asker is backend]
        tasks += [task for task, asker in self._verifying.items() if asker is backend]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._conflicts = {key: count for key, count in self._conflicts.items() if key[0] is not backend}
        await self._hub.release(backend)
        await self._trials.leave(backend)

    async def _ping(self, backend: Backend, _: Frame) -> None:
        backend.send({"event": "pong", "timestamp": round(time.time(), 3)})

    # --- registrations (3.3 to 3.5)

    async def _create(self, backend: Backend, frame: Frame) -> None:
        agent_id = frame.get("agent_id")
        if not isinstance(agent_id, str) or len(agent_id) > MAX_AGENT_ID or not agent_slug(agent_id):
            text = f"expected an agent_id with letters or digits, of at most {MAX_AGENT_ID} characters"
            backend.send(error("REGISTRATION_ERROR", text, frame))
            return
        agent, problems = AgentConfig.parse(agent_id, frame)
        problems += _origin_problems(agent)
        if contest := self._contests.pop((backend, agent.id), None):  # it asks with another configuration
            contest.cancel()
        try:
            await self._register(backend, agent_id, agent, problems)
        except AgentHeldError as held:
            contest = asyncio.create_task(
                self._contest(backend, agent_id, agent, problems, held.holder), name=f"contest for {agent.id}"
            )
            self._contests[backend, agent.id] = contest
            contest.add_done_callback(lambda done: self._forget(backend, agent.id, done))

    async def _register(
        self,
        backend: Backend,
        agent_id: str,
        agent: AgentConfig,
        problems: list[Problem],
        over: Holder | None = None,
    ) -> None:
        """Register and answer. Raises ``AgentHeldError``."""
        try:
            await self._hub.register(backend, agent_id, agent, over=over)
        except TooManyAgentsError as full:
            ids = {"agent_id": agent_id, "used": full.used, "limit": full.limit}
            backend.send({"event": "error", "code": "SERVER_AT_CAPACITY", "error": str(full), **ids})
            return
        backend.names[agent.id] = agent_id
        self._conflicts.pop((backend, agent.id), None)
        logger.info("agent %s of %s: registered by connection %s", agent.id, backend.org, backend.id)
        backend.send({"event": "agent.created", "agent_id": agent_id})
        _report(backend, agent_id, problems)
        known = list(self._warn(agent, backend.org))
        _warn_of(backend, agent_id, known)
        task = asyncio.create_task(self._check(backend, agent_id, agent, known), name=f"verifying {agent.id}")
        self._verifying[task] = backend
        task.add_done_callback(self._verified)

    async def _check(self, backend: Backend, agent_id: str, agent: AgentConfig, known: list[str]) -> None:
        """Tell what turns out only now, such as a key that is refused."""
        found = await self._verify(agent, backend.org)
        _warn_of(backend, agent_id, [warning for warning in found if warning not in known])

    def _verified(self, done: asyncio.Task[None]) -> None:
        self._verifying.pop(done, None)
        if not done.cancelled() and (failure := done.exception()):
            logger.error("%s failed", done.get_name(), exc_info=failure)

    async def _contest(
        self, backend: Backend, agent_id: str, agent: AgentConfig, problems: list[Problem], holder: Holder
    ) -> None:
        """Ask whoever holds the agent whether he is there; if not, it is free. Source: protocol 3.4."""
        try:
            if await holder.probe():
                raise AgentHeldError(holder)
            await self._register(backend, agent_id, agent, problems, over=holder)
        except AgentHeldError:
            count = self._conflicts.get((backend, agent.id), 0) + 1
            self._conflicts[backend, agent.id] = count
            text = f"Agent '{agent.id}' is held by another connection, which is alive"
            code, more = "AGENT_CONFLICT", {"holder_alive": True, "retry_after_s": RETRY_SECONDS}
            if count > CONFLICTS:
                code, more = "AGENT_CONFLICT_FATAL", {}
            backend.send({"event": "error", "code": code, "agent_id": agent_id, "error": text, **more})

    def _forget(self, backend: Backend, slug: str, done: asyncio.Task[None]) -> None:
        if self._contests.get((backend, slug)) is done:
            del self._contests[backend, slug]
        if not done.cancelled() and (failure := done.exception()):
            logger.error("a contest for agent %s failed", slug, exc_info=failure)

    # --- configuration (3.7, 3.8)

    async def _configure(self, backend: Backend, frame: Frame) -> None:
        patch, problems = parse_patch(frame)
        agent_id = echo(frame, "agent_id")
        try:
            await self._hub.configure(backend, agent_id, patch)
        except NotHeldError:
            backend.send(_not_registered(frame))
            return
        backend.send({"event": "agent.configured", "agent_id": _spelt(backend, agent_id)})
        _report(backend, _spelt(backend, agent_id), problems)

    async def _channel(self, backend: Backend, frame: Frame) -> None:
        agent_id, event = echo(frame, "agent_id"), frame["event"]
        channel = echo(frame, "type") or echo(frame, "ref")
        if channel not in CHANNELS:
            text = "this server has no channels but webrtc and chat"
            backend.send(error("CHANNEL_UNSUPPORTED", text, frame))
            return
        patch, problems = parse_patch(frame)
        try:
            match event:
                case "channel.add":
                    await self._hub.set_channel(backend, agent_id, channel, patch)
                case "channel.configure":
                    await self._hub.configure_channel(backend, agent_id, channel, patch)
                case _:
                    await self._hub.set_channel(backend, agent_id, channel, None)
        except NotHeldError:
            backend.send(_not_registered(frame))
            return
        name = _spelt(backend, agent_id)
        match event:
            case "channel.add":
                backend.send({"event": "channel.added", "agent_id": name, "type": channel, "ref": channel})
            case "channel.configure":
                backend.send({"event": "channel.configured", "agent_id": name, "ref": channel})
            case _:
                backend.send({"event": "channel.removed", "agent_id": name, "ref": channel})
        _report(backend, name, problems)

    async def _configure_session(self, backend: Backend, frame: Frame) -> None:
        session_id = echo(frame, "session_id")
        session = await self._hub.session(backend.org, session_id)
        if session is None:
            backend.send(error("SESSION_NOT_FOUND", "there is no such session", frame))
        else:
            session.command(frame, _reply(backend, session.key))

    # --- sessions (3.12 to 3.18)

    async def _of_call(self, backend: Backend, frame: Frame) -> None:
        call_id = echo(frame, "call_id")
        session = await self._hub.session(backend.org, call_id)
        if session is not None:
            session.command(frame, _reply(backend, session.key))
        elif answer := HISTORY.get(frame["event"]):
            key = await self._hub.ended(backend.org, call_id)
            # Old clients know whom an answer is for by the agent alone.
            slug = key.slug if key else next(iter(backend.names), "")
            agent_id = backend.names.get(slug, slug)
            ids = {"agent_id": agent_id, "call_id": call_id, "request_id": echo(frame, "request_id")}
            backend.send({"event": answer, **ids, "error": "call not found"})
        elif frame["event"] in TOLD or frame.get("action") == "start":
            backend.send(error("CALL_NOT_FOUND", "there is no such call", frame))

    async def _of_sessions(self, backend: Backend, frame: Frame) -> None:
        """Pause, resume, or speak for the agent: in one session, or in all of an agent when none is named."""
        event, session_id = frame["event"], echo(frame, "session_id")
        if frame.get("session_id") is not None:
            session = await self._hub.session(backend.org, session_id)
            if session is None:
                backend.send(error("SESSION_NOT_FOUND", "there is no such session", frame))
            else:
                session.command(frame, _reply(backend, session.key))
            return
        if frame.get("contact") is not None:
            backend.send(error("UNSUPPORTED", "contacts are of channels that this server does not have", frame))
            return
        registration = await self._hub.find(echo(frame, "agent_id"), backend.org)
        if registration is None:
            backend.send(_not_registered(frame))
            return
        key = registration.key
        for session in await self._hub.sessions(key):
            answer = _reply(backend, key) if event == "session.send" else _unread
            session.command({**frame, "session_id": session.id}, answer)
        if event != "session.send":
            await self._hub.pause(key, event == "session.pause")
            backend.send({"event": OF_SESSIONS[event], "agent_id": _spelt(backend, key.slug)})


def _reply(backend: Backend, key: AgentKey) -> Reply:
    """Answers of a session reach the connection that asked, with the agent as that one spells it."""

    def reply(frame: Mapping[str, Any]) -> None:
        agent_id = backend.names.get(key.slug, key.slug)
        backend.send({"event": frame["event"], "agent_id": agent_id, **frame})

    return reply


def _spelt(backend: Backend, agent_id: str) -> str:
    return backend.names.get(agent_slug(agent_id), agent_id)


def _warn_of(backend: Backend, agent_id: str, warnings: Iterable[str]) -> None:
    if text := "; ".join(warnings):
        backend.send({"event": "error", "code": "FALLBACK", "agent_id": agent_id, "error": text})


def _report(backend: Backend, agent_id: str, problems: list[Problem]) -> None:
    """Unknown keys are the log's, without their values; everything else is told in one frame. Source: protocol 7.1."""
    if unknown := [problem.key for problem in problems if problem.kind == "unknown"]:
        logger.info("agent %s of %s: unknown keys %s", agent_slug(agent_id), backend.org, ", ".join(unknown))
    if others := [str(problem) for problem in problems if problem.kind != "unknown"]:
        text = "; ".join(others)
        backend.send({"event": "error", "code": "BAD_CONFIG", "agent_id": agent_id, "error": text})


def _origin_problems(agent: AgentConfig) -> list[Problem]:
    problems = []
    for position, pattern in enumerate(agent.allowed_origins):
        try:
            check_pattern(pattern)
        except ValueError as failure:
            problems.append(Problem(f"allowed_origins[{position}]", "invalid", str(failure)))
    return problems


def _not_registered(frame: Frame) -> dict[str, Any]:
    return error("AGENT_NOT_REGISTERED", "this connection has not registered this agent", frame)


async def _ignore(_: Backend, __: Frame) -> None:
    """Understood, and nothing to do."""


def _unread(_: Mapping[str, Any]) -> None:
    """Takes answers that are given once for all."""
