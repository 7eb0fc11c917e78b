"""A ``Stream`` over a provider's socket: what all of them need, around what each of them says.

The socket is opened when the stream is, long before the first word; what is written meanwhile waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from media.audio import INPUT_RATE, Pcm
from pipeline.engine import EngineError
from pipeline.remote import hung_up, too_slow
from pipeline.stt import Transcript, TurnGuess
from pipeline.wire import Socket, Wire

logger = logging.getLogger(__name__)

FINAL_SECONDS = 1.5
"""How long a provider may take over a final before what is known already must do."""

IDLE_SECONDS = 4.0
"""Without audio for so long it is told that somebody is still there."""

MAX_HELD = 60 * INPUT_RATE
"""Samples that may wait for the socket."""

Message = Mapping[str, Any] | bytes
Result = Transcript | TurnGuess


class Dialect(Protocol):
    """What is said to one provider about one speaker, and what its answers mean. Without I/O and clock."""

    def hello(self) -> list[Message]:
        """The first messages on a new socket."""

    def audio(self, pcm: Pcm) -> list[Message]: ...

    def pause(self) -> list[Message]:
        """The speaker fell silent."""

    def flush(self) -> list[Message]:
        """The turn is over. Unless it is ``settled``, ``read`` will bring the final."""

    def discard(self) -> list[Message]:
        """Forget what was heard since the last final."""

    def idle(self) -> list[Message]:
        """Nothing was heard for a while."""

    def read(self, message: Mapping[str, Any]) -> list[Result]:
        """Raises ``ProviderError`` for what tells of a failure, ``LookupError``, ``TypeError`` or ``ValueError`` for
        what makes no sense.
        """

    @property
    def settled(self) -> bool:
        """All that was heard since the last final is understood."""

    def final(self) -> Transcript:
        """What is known since the last final, which begins anew."""


class SocketStream:
    """See ``Stream``."""

    def __init__(self, wire: Wire, connect: Callable[[], Awaitable[Socket]], dialect: Dialect) -> None:
        self._wire = wire
        self._connect = connect
        self._dialect = dialect
        self._outgoing: asyncio.Queue[list[Message]] = asyncio.Queue()
        self._held = 0
        self._socket: Socket | None = None
        self._owed: deque[asyncio.TimerHandle] = deque()
        self._results: asyncio.Queue[Result | EngineError | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._run(), name=f"transcripts of {wire.name}")

    def write(self, pcm: Pcm) -> None:
        self._held += 0 if self._socket else len(pcm)
        if self._held < MAX_HELD:
            self._say(self._dialect.audio(pcm))

    def pause(self) -> None:
        self._say(self._dialect.pause())

    def flush(self) -> None:
        messages = self._dialect.flush()
        if self._dialect.settled and not self._owed:
            self._results.put_nowait(self._dialect.final())
            return
        self._say(messages)
        self._owed.append(asyncio.get_running_loop().call_later(FINAL_SECONDS, self._make_do))

    def discard(self) -> None:
        self._say(self._dialect.discard())

    async def __aiter__(self) -> AsyncIterator[Result]:
        while (result := await self._results.get()) is not None:
            if isinstance(result, EngineError):
                raise result
            yield result

    async def aclose(self) -> None:
        for timer in self._owed:
            timer.cancel()
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._results.put_nowait(None)

    def _say(self, messages: list[Message]) -> None:
        if messages:
            self._outgoing.put_nowait(messages)

    def _make_do(self) -> None:
        """The final did not come in time."""
        self._owed.popleft()
        final = self._dialect.final()
        self._results.put_nowait(final if final.text else too_slow(self._wire.name))

    async def _run(self) -> None:
        try:
            self._socket = await self._connect()
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._speak(self._socket))
                    group.create_task(self._listen(self._socket))
            finally:
                self._wire.leave(self._socket)
        except* EngineError as errors:
            self._results.put_nowait(_first(errors))
        except* Exception:
            logger.exception("the transcripts of %s broke", self._wire.name)
            self._results.put_nowait(EngineError(f"{self._wire.name} cannot be understood"))

    async def _speak(self, socket: Socket) -> None:
        for message in self._dialect.hello():
            await socket.send(message)
        while True:
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    messages = await self._outgoing.get()
            except TimeoutError:
                messages = self._dialect.idle()
            for message in messages:
                await socket.send(message)

    async def _listen(self, socket: Socket) -> None:
        while (message := await socket.receive()) is not None:
            try:
                results = self._dialect.read(message)
            except (LookupError, TypeError, ValueError, AttributeError):
                continue  # one odd message among good ones costs nothing
            for result in results:
                if isinstance(result, Transcript) and result.final:
                    if not self._owed:
                        continue
                    self._owed.popleft().cancel()
                self._results.put_nowait(result)
        raise hung_up(self._wire.name)


def _first(errors: BaseExceptionGroup[EngineError]) -> EngineError:
    for error in errors.exceptions:
        if isinstance(error, EngineError):
            return error
        if isinstance(error, BaseExceptionGroup):
            return _first(error)
    raise AssertionError
