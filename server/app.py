"""The routes of the server, put together."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from config.settings import Settings
from media.engine import MediaEngine
from pipeline.engine import Engines
from server import http, playground
from server.audio import Audio
from server.call_log import CallLog
from server.chat import ChatSocket
from server.chats import Chats
from server.commands import Commands
from server.control import Control
from server.directory import Directory
from server.health import Health
from server.hub import Hub
from server.minting import Minting
from server.observing import Observing
from server.rate import Counter
from server.sdk_routes import SdkRoutes
from server.signalling import Signalling
from server.threads import Threads
from server.trials import Trials
from tokens.keys import ApiKeys
from tokens.minting import TokenOffice


@dataclass(frozen=True, slots=True)
class Parts:
    """What the routes work with."""

    settings: Settings
    keys: ApiKeys
    office: TokenOffice
    hub: Hub
    media: MediaEngine
    engines: Engines
    counter: Counter
    threads: Threads
    log: CallLog


def build_app(parts: Parts) -> web.Application:
    app = http.application()
    chats = Chats(parts.hub, parts.engines, parts.log.sink)
    commands = Commands(
        parts.hub,
        lambda agent, org: parts.engines.of(org).choose(agent).warnings,
        lambda agent, org: parts.engines.of(org).verify(agent),
        Trials(parts.hub, chats),
    )
    control = Control(parts.keys, commands)
    chat = ChatSocket(
        parts.settings, parts.office, parts.hub, chats=chats, threads=parts.threads, counter=parts.counter
    )
    audio = Audio(parts.settings, parts.keys, parts.office, parts.hub, parts.engines, counter=parts.counter)
    minting = Minting(parts.settings, parts.keys, parts.office, parts.hub, parts.counter)
    signalling = Signalling(
        parts.settings,
        parts.office,
        parts.hub,
        parts.media,
        parts.engines,
        counter=parts.counter,
        write_down=parts.log.sink,
    )
    observing = Observing(parts.settings, parts.keys, parts.office, parts.hub, parts.log)
    app.router.add_routes(
        [
            *control.routes(),
            *minting.routes(),
            *Directory(parts.settings, minting, parts.engines, parts.counter).routes(),
            *signalling.routes(),
            *chat.routes(),
            *observing.routes(),
            *SdkRoutes(parts.settings, parts.keys, parts.hub, parts.counter).routes(),
            *audio.routes(),
            *Health(parts.hub, parts.media, parts.engines).routes(),
            *playground.routes(parts.settings.public_url),
        ]
    )
    app.on_shutdown.append(lambda _: observing.close())
    app.on_shutdown.append(lambda _: control.close())
    app.on_shutdown.append(lambda _: audio.close())
    app.on_cleanup.append(lambda _: audio.aclose())
    return app
