"""A server from its settings to its end: start everything, serve, drain, leave nothing."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import signal
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from config.agent import AgentConfig
from config.agents import load_agents
from config.problem import SettingsError
from config.secrets import load_secrets
from config.settings import Settings
from media import opus
from media.engine import MediaEngine
from pipeline.engine import Engines
from server.app import Parts, build_app
from server.call_log import open_call_log
from server.http import Listener
from server.local_hub import Limits, LocalHub
from server.rate import open_counter
from server.threads import Threads
from server.tls import Certificate
from tokens.keys import ApiKeys
from tokens.ledger import open_ledger
from tokens.minting import TokenOffice
from tokens.origin import check_pattern

logger = logging.getLogger(__name__)

THREADS_FILE = "threads.sqlite"

LAST_SECONDS = 1.0
"""What calls get to say good-bye after the second signal."""


class StartError(Exception):
    """The server cannot start. One line for a person."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """What a started server has to tell."""

    settings: Settings
    url: str
    """Of the playground and of everything else."""
    udp_port: int
    hub: LocalHub
    engines: Engines
    declared: tuple[AgentConfig, ...]
    """The agents that are the operator's own."""
    new_api_key: str | None
    """Made at this start, to be shown once."""
    secrets_file: Path | None
    certificate: Certificate | None

    @property
    def agents(self) -> list[str]:
        return sorted(agent.id for agent in self.declared)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[RunningServer]:
    """Start every part; on leaving, end the calls and stop the parts in the opposite order.

    The engines load in the background. Raises ``SettingsError`` and ``StartError``.
    """
    secrets = load_secrets(settings)
    agents = load_agents(settings)
    if problems := origin_problems(agents):
        raise SettingsError(problems)
    certificate = _certificate(settings)
    redis_url = settings.redis_url.get_secret_value() if settings.redis_url else None
    async with AsyncExitStack() as stack:
        ledger = open_ledger(redis_url)
        stack.push_async_callback(ledger.aclose)
        counter = open_counter(redis_url)
        stack.push_async_callback(counter.aclose)
        office = TokenOffice(secrets.signing, ledger, ttl=settings.token_ttl)
        media = await _start_media(settings)
        stack.push_async_callback(media.close)
        engines = Engines(settings)
        stack.push_async_callback(engines.aclose)
        log = await stack.enter_async_context(open_call_log(settings))
        hub = LocalHub(agents, hub_limits(settings))
        await stack.enter_async_context(hub)
        threads = Threads(settings.data_dir / THREADS_FILE, days=settings.chat_thread_days)
        stack.push_async_callback(threads.aclose)
        keys = ApiKeys(secrets.api_keys, secrets.publishable_keys)
        listener = Listener(build_app(Parts(settings, keys, office, hub, media, engines, counter, threads, log)))
        await _start_listener(listener, settings, certificate)
        stack.push_async_callback(listener.close)
        stack.push_async_callback(hub.hang_up_all)  # while backends are still there to hear of it
        loading = asyncio.create_task(engines.start(), name="loading the engines")
        # What is here by then stays. Looking through it for garbage takes 100 ms and more, in which no packet is sent.
        loading.add_done_callback(lambda _: gc.freeze())
        stack.push_async_callback(_cancel, loading)
        yield RunningServer(
            settings=settings,
            url=public_base(settings, listener.port),
            udp_port=media.port,
            hub=hub,
            engines=engines,
            declared=tuple(agents),
            new_api_key=secrets.api_keys[0] if secrets.created else None,
            secrets_file=secrets.file,
            certificate=certificate,
        )


async def serve(settings: Settings, announce: Callable[[RunningServer], None]) -> None:
    """Run until SIGTERM or SIGINT, then let the calls end; a second signal ends them at once.

    ``announce`` is called once, when the server answers. Raises ``SettingsError`` and ``StartError``.
    """
    with _signals() as (first, second):
        async with running(settings) as server:
            with _renewing(server.certificate):
                announce(server)
                await first.wait()
                logger.info("leaving; calls go on for %g s at most: %d", settings.drain_seconds, server.hub.running)
                drain = asyncio.create_task(server.hub.drain(settings.drain_seconds))
                hurry = asyncio.create_task(second.wait())
                await asyncio.wait({drain, hurry}, return_when=asyncio.FIRST_COMPLETED)
                await _cancel(hurry)
                if second.is_set():
                    await _cancel(drain)
                    await server.hub.hang_up_all(LAST_SECONDS)
    logger.info("left")


def hub_limits(settings: Settings) -> Limits:
    return Limits(
        max_calls=settings.max_calls,
        agent_max_calls=settings.agent_max_calls,
        max_chats=settings.max_chats,
        max_agents=settings.max_agents,
        connection_max_agents=settings.connection_max_agents,
        grace_seconds=settings.agent_grace_seconds,
        newest_wins=settings.newest_backend_wins,
    )


def public_base(settings: Settings, port: int) -> str:
    """The address to open in a browser. Loopback is called localhost: that is the origin that shipped agents allow."""
    if settings.public_url:
        return settings.public_url
    host = settings.host
    if (settings.loopback and ":" not in host) or host in ("0.0.0.0", "::"):  # noqa: S104  only compared
        host = "localhost"
    scheme = "https" if settings.tls_cert else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def origin_problems(agents: Iterable[AgentConfig]) -> list[str]:
    """A pattern that could never match is a mistake of the operator, who should not find out from a visitor."""
    problems = []
    for agent in agents:
        for pattern in agent.allowed_origins:
            try:
                check_pattern(pattern)
            except ValueError as error:
                problems.append(f"agents.{agent.id}.allowed_origins = {pattern!r}: {error}")
    return problems


def _certificate(settings: Settings) -> Certificate | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    certificate = Certificate(settings.tls_cert, settings.tls_key)
    if not certificate.current:
        logger.warning(
            "the certificate in tls_cert is not good now: from %s to %s", certificate.begins, certificate.ends
        )
    return certificate


async def _start_media(settings: Settings) -> MediaEngine:
    try:
        opus.load()
        media = MediaEngine(
            port=settings.udp_port,
            tcp_port=settings.tcp_port,
            addresses=settings.udp_addresses or None,
            public_ips=settings.public_ip,
        )
        await media.start()
    except opus.OpusUnavailableError as error:
        raise StartError(str(error)) from None
    except OSError as error:
        ports = f"UDP port {settings.udp_port}"
        if settings.tcp_port is not None:
            ports += f" and TCP port {settings.tcp_port}"
        raise StartError(f"Media cannot use {ports}: {error.strerror or error}") from None
    return media


async def _start_listener(listener: Listener, settings: Settings, certificate: Certificate | None) -> None:
    try:
        await listener.start(settings.host, settings.port, certificate)
    except OSError as error:
        where = f"{settings.host} port {settings.port}"
        if error.errno == errno.EADDRINUSE:
            raise StartError(f"{where} is in use; choose another with --port") from None
        raise StartError(f"HTTP cannot use {where}: {error.strerror or error}") from None


async def _cancel(task: asyncio.Task[object]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@contextmanager
def _signals() -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """Two events: the first and the second SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    first, second = asyncio.Event(), asyncio.Event()

    def hear() -> None:
        (second if first.is_set() else first).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, hear)
    try:
        yield first, second
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


@contextmanager
def _renewing(certificate: Certificate | None) -> Iterator[None]:
    """SIGHUP reads the certificate again. A server without one ends at it, as any program."""
    if certificate is None:
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, _renew, certificate)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def _renew(certificate: Certificate) -> None:
    try:
        certificate.reload()
    except SettingsError as error:
        logger.error("the certificate in use stays: %s", error)
    else:
        logger.info("the certificate was read again; it ends at %s", certificate.ends)
